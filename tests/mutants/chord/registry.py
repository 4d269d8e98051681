"""Faults planted in lab 5's registry, and in the dialogue of nodes with it."""

from tests.mutants import Mutant

STORE = "lab05_chord/store.py"
PLACE = "lab05_chord/place.py"
REPLICATION = "lab05_chord/replication.py"
SYNC = "lab05_chord/sync.py"
MEMBER = "lab05_chord/member.py"
MEMBERSHIP = "lab05_chord/membership.py"

MUTANTS = [
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
        "            if all(node in silent for node in strange):\n",
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
        "        for node in self.needed.intersection(members):  # later each",
        "        for node in ():  # later each",
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
        "            self.dropped.update(self.unheard.intersection(now_dropped))\n",
        "",
    ),
    Mutant(
        "a dropped node is never forgotten",
        MEMBERSHIP,
        "            self.views, self.dropped = [view], set()\n",
        "            pass\n",
    ),
    Mutant(
        "only the present view counts for silent nodes",
        MEMBERSHIP,
        "        self.views.append(self.view)\n",
        "        self.views = [self.view]\n",
    ),
    Mutant(
        "a silent node may be in every view that the registry remembers",
        MEMBERSHIP,
        "in self.dropped or self.in_sync.get(node.id, 0) <= view.epoch\n",
        "in self.dropped or True\n",
    ),
    Mutant(
        "a silent node is in the view that the registry knows",
        MEMBERSHIP,
        "in self.dropped or self.in_sync.get(node.id, 0) <= view.epoch\n",
        "in self.dropped or view is self.view\n",
    ),
    Mutant(
        "a dropped node that has answered still counts",
        MEMBERSHIP,
        "                self.dropped.discard(node)  # it knows now\n",
        "                pass\n",
    ),
    Mutant(
        "a node that is gone takes its leases with it",
        MEMBERSHIP,
        "        self.dead.setdefault(node, self.time + messages.LEASE_TIMEOUT)\n",
        "        self.dead.setdefault(node, self.time)\n",
    ),
    Mutant(
        "a silent node is never known to be gone",
        MEMBERSHIP,
        "        except messages.Refused:\n            self._note_dead(node)\n",
        "        except messages.Refused:\n            pass\n",
    ),
    Mutant(
        "a node that does not answer is taken for gone",
        MEMBERSHIP,
        "        except messages.Unreachable:\n            pass\n",
        "        except messages.Unreachable:\n            self._note_dead(node)\n",
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
        "                self.adopt_if_same_ring(reply.view)\n                return None\n",
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
