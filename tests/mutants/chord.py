"""Faults planted in lab 5: the rules by which a ring loses nothing, and its lookup."""

from tests.mutants import Mutant

TESTS = [
    "tests/lab05/test_core.py",
    "tests/lab05/test_registry.py",
    "tests/lab05/test_place.py",
    "tests/lab05/test_rules.py",
    "tests/lab05/test_node.py",
    "tests/lab05/test_simulation.py",
]

CHORD = "lab05_chord/chord.py"
STORE = "lab05_chord/store.py"
PLACE = "lab05_chord/place.py"
REPLICATION = "lab05_chord/replication.py"
SYNC = "lab05_chord/sync.py"
TRANSFER = "lab05_chord/transfer.py"
LOOKUP = "lab05_chord/lookup.py"
MEMBER = "lab05_chord/member.py"
MEMBERSHIP = "lab05_chord/membership.py"

MUTANTS = [
    # --- the ring (chord.py) ---
    Mutant(
        "an owner does not own its own id",
        CHORD,
        "        return after < k <= upto\n",
        "        return after < k < upto\n",
    ),
    Mutant(
        "the nearest finger is taken",
        CHORD,
        "    for node in reversed(list(fingers)):",
        "    for node in fingers:",
    ),
    Mutant(
        "the successor list is not used",
        CHORD,
        "    near = view.successor_list(me)\n",
        "    near = view.next_nodes(me, 1)\n",
    ),
    Mutant(
        "dead fingers are not gone around",
        CHORD,
        "        if between(node.id, me, k) and node.id not in avoid:",
        "        if between(node.id, me, k):",
    ),
    # --- leases (place.py, member.py) ---
    Mutant(
        "a node serves without a lease",
        PLACE,
        "        has_lease = self.lease_left() > 0\n",
        "        has_lease = True\n",
    ),
    Mutant(
        "the lease of a heartbeat runs from its reply",
        MEMBER,
        "            place.registry_lost = False\n            place.renew_lease(sent)\n",
        "            place.registry_lost = False\n            place.renew_lease(self.host.now())\n",
    ),
    Mutant(
        "the lease of a newcomer runs from its admission",
        MEMBER,
        "        place.enter(reply.id, reply.view, sent)\n",
        "        place.enter(reply.id, reply.view, self.host.now())\n",
    ),
    Mutant(
        "the lease of the successors runs from their answers",
        MEMBER,
        "            if grants:\n                self.place.renew_lease(sent)\n",
        "            if grants:\n                self.place.renew_lease(self.host.now())\n",
    ),
    Mutant(
        "a promise is for a quarter of a lease",
        PLACE,
        "            self.granted[request.epoch] = now + LEASE_TIMEOUT\n",
        "            self.granted[request.epoch] = now + LEASE_TIMEOUT / 4\n",
    ),
    Mutant(
        "a node gives leases although the registry answers",
        PLACE,
        "        granted = self.registry_lost and self.served_after is not None\n",
        "        granted = self.served_after is not None\n",
    ),
    Mutant(
        "a node gives leases although it was dropped",
        PLACE,
        "        granted = self.registry_lost and self.served_after is not None\n",
        "        granted = self.registry_lost\n",
    ),
    Mutant(
        "a node gives leases for a view that it has left behind",
        PLACE,
        "        granted = granted and self.view.epoch <= request.epoch\n",
        "",
    ),
    Mutant(
        "one successor is enough for a lease",
        MEMBER,
        "            if grants == REPLICAS:\n",
        "            if grants == 1:\n",
    ),
    Mutant(
        "a node agrees while a lease that it gave still runs",
        SYNC,
        "        if self.place.is_bound():\n            return False\n",
        "",
    ),
    Mutant(
        "a node lets others agree while a lease that it gave still runs",
        SYNC,
        "        if not current or place.is_bound():\n",
        "        if not current:\n",
    ),
    Mutant(
        "a node that is alone serves for a whole lease",
        MEMBER,
        "renew_lease(sent - messages.LEASE_TIMEOUT + messages.LISTEN_TIMEOUT)",
        "renew_lease(sent)",
    ),
    Mutant(
        "a node that is alone serves although the registry may be there",
        MEMBER,
        "            elif grants == 0 and isinstance(error, messages.Refused):\n",
        "            elif grants == 0:\n",
    ),
    # --- views ---
    Mutant(
        "a node serves what is another's in the new view",
        PLACE,
        "self.served_after = self.later(self.served_after, view.predecessor(self.id).id)\n",
        "pass\n",
    ),
    Mutant(
        "a node that was dropped serves on",
        PLACE,
        "            self.served_after = None\n            return True\n",
        "            return True\n",
    ),
    Mutant(
        "a node with new replicas counts as in sync",
        CHORD,
        "        return self.predecessor(id), self.next_nodes(id)\n",
        "        return self.predecessor(id), ()\n",
    ),
    Mutant(
        "an older view replaces a newer one",
        PLACE,
        "        if view.epoch <= self.view.epoch or view.m",
        "        if view.epoch == self.view.epoch or view.m",
    ),
    Mutant(
        "a node takes the messages of another ring",
        PLACE,
        "        if ring != self.view.ring and self.view.ring:\n",
        "        if False:\n",
    ),
    # --- writes (replication.py) ---
    Mutant(
        "a write that a replica has not taken is acknowledged",
        REPLICATION,
        "        if not all(kept) or view is not",
        "        if view is not",
    ),
    Mutant(
        "a write is acknowledged across a change of view",
        REPLICATION,
        " or view is not self.place.view or not self.place.serves(key):",
        " or not self.place.serves(key):",
    ),
    Mutant(
        "a write is acknowledged after the lease ran out, or while leaving",
        REPLICATION,
        " or view is not self.place.view or not self.place.serves(key):",
        " or view is not self.place.view:",
    ),
    Mutant(
        "a write that failed is forgotten",
        REPLICATION,
        "                self.uncertain.add(key)\n",
        "                pass\n",
    ),
    Mutant(
        "False is said about an uncertain key",
        REPLICATION,
        "        if key in self.uncertain and not await self._rewrite(key):\n",
        "        if False:\n",
    ),
    Mutant(
        "two writes of a key at the same time",
        REPLICATION,
        "        if key in self.writing:\n            return None\n",
        "",
    ),
    Mutant(
        "a repeated request is done again",
        REPLICATION,
        "        if request in done:\n            return True\n",
        "",
    ),
    Mutant(
        "a late message of a request that has ended is carried out",
        REPLICATION,
        "        if is_over(done, request):\n            return None\n",
        "",
    ),
    Mutant(
        "request ids are not kept with a record",
        REPLICATION,
        "            done = remember(done, request)\n",
        "            pass\n",
    ),
    Mutant(
        "uncertain keys are kept after a new joining",
        SYNC,
        "        self.replication.uncertain.clear()\n",
        "",
    ),
    Mutant(
        "a replica takes copies of another epoch",
        REPLICATION,
        " or copies.epoch != self.place.view.epoch:",
        ":",
    ),
    Mutant(
        "an owner takes copies of what it serves",
        REPLICATION,
        "            if not self.place.owns(record.key):\n                self.store.put(record)\n",
        "            self.store.put(record)\n",
    ),
    Mutant(
        "records that were handed over are dropped at a sweep",
        SYNC,
        "                store.drop(set(keys) - self.replication.handed_over)\n",
        "                store.drop(keys)\n",
    ),
    Mutant(
        "records that a node no longer holds are kept",
        SYNC,
        "                store.drop(set(keys) - self",
        "                set(set(keys) - self",
    ),
    # --- in sync (sync.py) ---
    Mutant(
        "a record on which nodes disagree keeps its version",
        SYNC,
        "        await self._decide(view, newest, known)\n",
        "",
    ),
    Mutant(
        "an older record of this node is no disagreement",
        SYNC,
        "known if key in known[0] else known[1:]",
        "known[1:]",
    ),
    Mutant(
        "what others have of a served arc counts",
        SYNC,
        (
            "            if upto != self.place.id:\n"
            "                versions = versions_on(versions, after, upto, view.m)\n"
        ),
        "",
    ),
    Mutant(
        "newer records of replicas are not taken",
        SYNC,
        "                if record.version > version_of(newest, record.key):\n",
        "                if False:\n",
    ),
    Mutant(
        "records are kept before the replicas have them",
        SYNC,
        "        records = newest | self._served(view)\n",
        (
            "        records = newest | self._served(view)\n"
            "        for record in newest.values():\n"
            "            self.store.put(record)\n"
        ),
    ),
    Mutant(
        "a node serves before its replicas have all",
        SYNC,
        "        if not all(await self.host.gather(*pushes)) or self._is_over(view):\n",
        "        await self.host.gather(*pushes)\n        if self._is_over(view):\n",
    ),
    Mutant(
        "a node serves by a view that has passed meanwhile",
        SYNC,
        "        return view is not self.place.view or self.place.leaving\n",
        "        return self.place.leaving\n",
    ),
    Mutant(
        "a node lists its records for an older view",
        SYNC,
        "is_member(request.to) and request.view.epoch == place.view.epoch\n",
        "is_member(request.to)\n",
    ),
    # --- records (store.py) ---
    Mutant(
        "an older record replaces a newer one",
        STORE,
        "        if record.version > version_of(self.records, key):\n",
        "        if True:\n",
    ),
    Mutant(
        "a node that comes back brings its records as they were",
        STORE,
        "map(demoted, self.records.values())\n",
        "self.records.values()\n",
    ),
    Mutant(
        "a node that was away for long brings its records",
        STORE,
        "        kept = () if absence > TOMBSTONE_TIMEOUT else map(",
        "        kept = map(",
    ),
    Mutant(
        "a tombstone is dropped at the first sweep",
        STORE,
        "            self.drop(record.key for record in tombstones & self._old_tombstones)\n",
        "            self.drop(record.key for record in tombstones)\n",
    ),
    Mutant(
        "tombstones are never dropped",
        STORE,
        "            self.drop(record.key for record in tombstones & self._old_tombstones)\n",
        "",
    ),
    Mutant(
        "a store that has dropped records does not say so",
        STORE,
        "            self.generation += bool(self.records.pop(key, None))\n",
        "            self.records.pop(key, None)\n",
    ),
    Mutant(
        "request ids are kept after their end",
        STORE,
        " or old.counter >= new.oldest]",
        " or True]",
    ),
    # --- leaving ---
    Mutant(
        "a node leaves before all have its records",
        TRANSFER,
        "sum(results) if sum(results) >= needed and view is self.place.view else None\n",
        "sum(results)\n",
    ),
    Mutant(
        "a leaving node gives nothing away while it serves",
        MEMBER,
        "        await self.handoff.prepare()\n",
        "",
    ),
    Mutant(
        "a sweep goes on in another view",
        SYNC,
        "                if self._is_over(view):\n                    return\n",
        "",
    ),
    Mutant(
        "a node hands over to its successor alone",
        TRANSFER,
        "        while others and len(results) <= REPLICAS:",
        "        while others and not results:",
    ),
    Mutant(
        "a dead successor ends a handoff",
        TRANSFER,
        "        except Refused:\n            return None\n",
        "        except Refused:\n            return True\n",
    ),
    Mutant(
        "a node leaves from a view that has passed",
        MEMBERSHIP,
        "        if request.epoch not in (0, self.view.epoch):\n",
        "        if False:\n",
    ),
    Mutant(
        "a node that leaves serves on",
        PLACE,
        "        return self.owns(key) and has_lease and not self.leaving\n",
        "        return self.owns(key) and has_lease\n",
    ),
    # --- lookup ---
    Mutant(
        "silent nodes are asked again and again",
        LOOKUP,
        "            self.silent[node.id] = node\n",
        "            pass\n",
    ),
    Mutant(
        "silent nodes stay silent",
        LOOKUP,
        "        self.silent.pop(node.id, None)\n",
        "",
    ),
    Mutant(
        "owners that have answered are forgotten",
        LOOKUP,
        "            self.owners.add(outcome.node.id)\n",
        "            pass\n",
    ),
    # --- the registry (membership.py) ---
    Mutant(
        "a registry that has just been started lets nodes in and out",
        MEMBERSHIP,
        "        self.open = False  #",
        "        self.open = True  #",
    ),
    Mutant(
        "a new registry begins before it has heard all",
        MEMBERSHIP,
        "            if all(node in silent for node in unheard):\n",
        "            if True:\n",
    ),
    Mutant(
        "a new registry goes on in the epochs of the last one",
        MEMBERSHIP,
        "            self._change(self.view.members, self._next_life(self.view))\n",
        "            self._change(self.view.members)\n",
    ),
    Mutant(
        "two newcomers are admitted at once",
        MEMBERSHIP,
        "        return self.all_in_sync() and not",
        "        return not",
    ),
    Mutant(
        "a registry that slept declares all dead",
        MEMBERSHIP,
        "        self.time += min(now - self.ticked, LONGEST_TICK)\n",
        "        self.time += now - self.ticked\n",
    ),
    Mutant(
        "all silent nodes are dropped",
        MEMBERSHIP,
        "        for node in self.needed.intersection(members):  # a line",
        "        for node in ():  # a line",
    ),
    Mutant(
        "nodes that fall silent one after the other are dropped",
        MEMBERSHIP,
        "        late = self._unheard_for(LATE_TIMEOUT)\n",
        "        late = self._unheard_for(messages.SILENCE_TIMEOUT)\n",
    ),
    Mutant(
        "a dropped node is forgotten at once",
        MEMBERSHIP,
        "            self.missing.update(self.lost.intersection(dropped))\n",
        "",
    ),
    Mutant(
        "a dropped node is never forgotten",
        MEMBERSHIP,
        "            self.views, self.missing = [view], set()\n",
        "            pass\n",
    ),
    Mutant(
        "only the present view counts for silent nodes",
        MEMBERSHIP,
        "        self.views.append(self.view)\n",
        "        self.views = [self.view]\n",
    ),
    Mutant(
        "a dropped node that has answered still counts",
        MEMBERSHIP,
        "                self.missing.discard(node)  # it knows now\n",
        "                pass\n",
    ),
    Mutant(
        "a node that is gone takes its leases with it",
        MEMBERSHIP,
        "        self.gone.setdefault(node, self.time + messages.LEASE_TIMEOUT)\n",
        "        self.gone.setdefault(node, self.time)\n",
    ),
    Mutant(
        "a silent node is never known to be gone",
        MEMBERSHIP,
        "        except messages.Refused:\n            self._is_gone(node)\n",
        "        except messages.Refused:\n            pass\n",
    ),
    Mutant(
        "a node that does not answer is taken for gone",
        MEMBERSHIP,
        "        except messages.Unreachable:\n            pass\n",
        "        except messages.Unreachable:\n            self._is_gone(node)\n",
    ),
    Mutant(
        "a newcomer is admitted while silent nodes may serve",
        MEMBERSHIP,
        " and not self.needed and",
        " and",
    ),
    Mutant(
        "a newcomer does not take the place of a needed node at its address",
        MEMBERSHIP,
        "            if node.address == address:  # another",
        "            if False:  # another",
    ),
    Mutant(
        "a node does not say which view it knows when it gives no lease",
        PLACE,
        "        return Ack(granted, self.view if self.view.epoch > request.epoch else None)\n",
        "        return Ack(granted)\n",
    ),
    Mutant(
        "a node that gets no lease does not learn why",
        MEMBER,
        "                self.learn(reply.view)\n                return None\n",
        "                return None\n",
    ),
    Mutant(
        "a node leaves while a lease that it gave still runs",
        MEMBER,
        "            if count is not None and not bound and await",
        "            if count is not None and await",
    ),
    Mutant(
        "a node that knows a newer view counts as heard",
        MEMBERSHIP,
        "            if request.epoch <= view.epoch:  # else",
        "            if True:  # else",
    ),
    Mutant(
        "an old registry's ring of the same epoch is taken for its own",
        MEMBERSHIP,
        "view if (request.epoch, request.ring) != (view.epoch, view.ring) else None",
        "view if request.epoch != view.epoch else None",
    ),
    # --- the dialogue with the registry (member.py, place.py, sync.py) ---
    Mutant(
        "a node that joins takes views from others",
        PLACE,
        " or self.joining:\n",
        ":\n",
    ),
    Mutant(
        "a view of another size is taken",
        PLACE,
        " or view.m != self.view.m",
        "",
    ),
    Mutant(
        "a node sweeps while it leaves",
        SYNC,
        "        if place.leaving:\n            return\n",
        "",
    ),
    Mutant(
        "a node sweeps before all are in sync",
        MEMBER,
        "            if reply.all_in_sync and reply.epoch",
        "            if reply.epoch",
    ),
    Mutant(
        "a node sweeps before it is in sync itself",
        MEMBER,
        "reply.epoch == place.view.epoch == place.in_sync_epoch:",
        "reply.epoch == place.view.epoch:",
    ),
    Mutant(
        "a node that leaves joins again when it was dropped",
        MEMBER,
        "not (place.joining or place.leaving):",
        "not place.joining:",
    ),
    Mutant(
        "a registry of another ring gives leases",
        MEMBER,
        "        if reply.known and not other:\n",
        "        if reply.known:\n",
    ),
    Mutant(
        "a restarted registry is not told of the ring",
        MEMBER,
        (
            "            await self.host.call("
            'self.registry, "restore", place.view, messages.CALL_TIMEOUT)\n'
        ),
        "",
    ),
    Mutant(
        "answers of another ring bring views",
        MEMBER,
        "        if view is not None and view.ring == self.place.view.ring:\n",
        "        if view is not None:\n",
    ),
    Mutant(
        "uncertain keys are not decided",
        SYNC,
        " and await self.replication.resolve_uncertain()\n",
        "\n",
    ),
    Mutant(
        "a node decides about the keys of others",
        REPLICATION,
        "            if not self.place.owns(key):\n                self.uncertain.discard(key)\n",
        "            if False:\n                pass\n",
    ),
    Mutant(
        "what a newcomer has copied is dropped",
        STORE,
        "        self.records, self._changes = copied.records, copied._changes\n",
        "        self.records, self._changes = {}, {}\n",
    ),
    Mutant(
        "a leaving node tells no neighbour",
        MEMBER,
        "for node in neighbours)\n",
        "for node in ())\n",
    ),
]
