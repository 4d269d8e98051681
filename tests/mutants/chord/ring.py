"""Faults planted in lab 5's ring: which node owns what and until when, lookup, leaving."""

from tests.mutants import Mutant

CHORD = "lab05_chord/chord.py"
PLACE = "lab05_chord/place.py"
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
    # --- before it is in the ring ---
    Mutant(
        "nodes that have yet to join give one id to two requests",
        LOOKUP,
        "messages.RequestId(self.process, ",
        "messages.RequestId(self.place.id, ",
    ),
    Mutant(
        "a node that has yet to join sends heartbeats",
        MEMBER,
        "        if self.place.joining or self.place.id < 0:\n",
        "        if self.place.joining:\n",
    ),
    Mutant(
        "what was copied for an attempt to join that failed counts",
        MEMBER,
        "        self.sync.start_joining()\n",
        "",
    ),
    Mutant(
        "a get has as little time for a long text in each attempt",
        LOOKUP,
        "timeout = min(2 * timeout, OPERATION_TIMEOUT)",
        "pass",
    ),
    Mutant(
        "a lease lasts while the machine sleeps",
        "lab05_chord/wire.py",
        'time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))',
        "time.monotonic()",
    ),
]
