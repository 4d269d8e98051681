"""A ring in virtual time: a registry, nodes and clients, and what must hold after every event."""

import math

from tests.sim_chord import chord, member, membership, messages, store
from tests.sim_chord.oracle import WRITES, Operation
from tests.sim_chord.processes import Process, start
from tests.support.linearizability import search
from tests.support.simnet import Network, Simulation


class World:
    """A registry, nodes and clients; `history` holds what the clients saw.

    Args:
        beside: another ring in the same network, if there is one.
        delay_of_each: s by which each record or key in a message makes it slower.
    """

    def __init__(self, seed, m=5, beside=None, delay_of_each=0.0, **network):
        self.seed = seed
        self.sim = beside.sim if beside else Simulation(seed)
        self.random = self.sim.random
        self.net = beside.net if beside else Network(self.sim, **network)
        self.processes: dict[str, Process] = beside.processes if beside else {}
        self.rings: list[World] = beside.rings if beside else []
        self.rings.append(self)
        self.name = "" if beside is None else f" {len(self.rings)}"
        self.delay_of_each = delay_of_each
        self.started_nodes: list[Process] = []
        self.told_to_leave: set[Process] = set()
        self.history: list[Operation] = []
        self.spawned = []
        self.at_work: Process | None = None
        self.claims: dict[Process, tuple | None] = {}
        self.copies_lost: set[str] = set()  # nodes gone since the ring was last whole
        self.beyond = False  # more of them than the ring promises to bear
        self.members = ()
        self.left_behind = {}  # address of a node that is no member any more -> the others then
        self.m = m
        self.key_of = {chord.key_id(str(i), m): str(i) for i in range(500)}  # one key for each id
        self.arcs: dict[tuple, int] = {}
        self.ports = 0
        self.registry = None
        self.start_registry()

    def start_registry(self):
        """Start the registry, for the first time or again, if there is none."""
        if self.registry and self.registry.alive:
            return
        self.registry = Process(self, f"registry{self.name}")
        rules = self.registry.rules = membership.Membership(self.registry, self.m)

        async def run():
            while True:
                await self.registry.sleep(0.1)
                rules.tick()

        start(run())

    def start_node(self, address=None):
        """Start a node, at an address where no other one lives."""
        self.ports += 1
        process = Process(self, address or f"node{self.name}:{self.ports}")
        ipaddr, port = process.address.split(":")
        process.rules = member.Member(process, ipaddr, int(port), self.registry.address)
        self.started_nodes.append(process)

        async def run():
            while True:
                try:
                    if (await process.rules.join()).id >= 0:
                        break
                except messages.Unreachable:
                    pass
                await process.sleep(0.5)
            await process.rules.run()

        start(run())
        return process

    def stop_node(self, process):
        """Tell a node to leave, if it has not been told."""
        if process in self.told_to_leave:
            return
        self.told_to_leave.add(process)

        async def leave():
            if not await process.rules.leave():  # no other node is left: the records go with it
                known = process.rules.place.view.members
                members = self.left_behind.get(process.address, known)
                others = [node for node in members if node.address != process.address]
                living = [node.id for node in others if self.processes[node.address].alive]
                assert not living, (
                    f"seed {self.seed}: it left as if it were the last one; {living} still lived"
                )
                self.beyond = True
            process.kill()

        start(leave())

    def nodes(self, paused=False):
        """The nodes that live, are in the ring as far as they know, and do not leave."""
        living = (p for p in self.started_nodes if p.alive and p.paused <= paused)
        return [p for p in living if p.rules.place.is_member() and not p.rules.place.leaving]

    def client(self, keys, pause, until):
        """Run a client that does one random thing after the other."""
        process = Process(self, f"client:{len(self.processes)}")

        async def run():
            while self.sim.now < until:
                await process.sleep(self.random.uniform(0, pause))
                kind = self.random.choice(list(messages.Kind))
                await self.operate(process, kind, self.random.choice(keys))

        start(run())

    async def operate(self, process, kind, key):
        nodes = self.nodes()
        if not nodes:
            return
        entry = self.random.choice(nodes)
        self.ports += 1
        operation = Operation(kind, key, f"text {self.ports}", self.sim.now)
        self.history.append(operation)
        try:
            request = (kind, key, operation.text)
            outcome = await process.call(entry.address, "operate", request, 10)
        except messages.Unreachable:
            return
        if outcome is not None:
            operation.answer(outcome, self.sim.now)

    def run(self, until):
        """Let time pass, checking after every event that no key has two owners."""
        for ring in self.rings:
            ring.claims = {process: process.claim() for process in ring.started_nodes}
            ring.check_owners()
        while self.sim._events and self.sim._events[0][0] <= until:
            for ring in self.rings:
                ring.at_work = None
            self.sim.step()
            for ring in self.rings:
                ring.watch_members()
                ring.watch_owners()
        self.sim.now = max(self.sim.now, until)

    # what the ring promises to bear: that two nodes are gone before it is whole again

    def watch_members(self):
        """Count the nodes that are dropped, and see whether the ring is whole again."""
        rules = self.registry.rules
        if not (self.registry.alive and rules.open):
            return
        if rules.view.members != self.members:
            for node in set(self.members) - set(rules.view.members):
                self.lost(self.processes[node.address])
                self.left_behind[node.address] = rules.view.members
            for node in set(rules.view.members) - set(self.members):
                self.left_behind.pop(node.address, None)
            self.members = rules.view.members
        if self.copies_lost and rules.all_in_sync():
            processes = [self.processes[node.address] for node in self.members]
            if all(process.alive and not process.paused for process in processes):
                self.copies_lost.clear()

    def lost(self, process):
        """Take note that a process, if it is a node, is gone with all its copies."""
        addresses = {node.address for node in self.members}
        if process.address in addresses:
            if not self.handed_over(process.rules):
                self.copies_lost.add(process.address)
            self.beyond |= len(self.copies_lost) > chord.REPLICAS
            self.beyond |= self.copies_lost >= addresses  # a ring of two has no third copy

    def handed_over(self, leaver):
        """Tell whether a node that leaves has given all it had to three others."""
        living = (p.rules for p in self.started_nodes if p.alive and p.rules is not leaver)
        others = [rules for rules in living if rules.place.is_member()]
        enough = min(len(others), chord.REPLICAS + 1)
        return leaver.place.leaving and all(
            sum(store.version_of(o.store.records, key) >= record.version for o in others) >= enough
            for key, record in leaver.store.records.items()
            if leaver.place.holds(key)
        )

    def watch_owners(self):
        """Check that no key has two owners, if the process at work claims something else now."""
        process = self.at_work  # no event changes another process
        if process and self.claims.get(process) != (claim := process.claim()):
            self.claims[process] = claim
            self.check_owners()

    def check_owners(self):
        owned = 0
        for place in (p.rules.place for p in self.nodes(paused=True)):
            if place.serves(self.key_of[place.id]):  # its own id lies on any arc that it serves
                arc = self.owned_by(place)
                both = [k for k in self.key_of if owned & arc & 1 << k]
                assert not both, f"seed {self.seed}: two own {both} at {self.sim.now}"
                owned |= arc

    def owned_by(self, place):
        """Return the ids of all keys that a node owns, as the bits of an integer."""
        state = place.id, place.served_after
        if state not in self.arcs:
            self.arcs[state] = sum(1 << k for k, key in self.key_of.items() if place.owns(key))
        return self.arcs[state]

    def close(self):
        """Give up what was spawned and has not begun, as at the death of its process."""
        for coroutine in self.spawned:
            coroutine.close()
        self.spawned.clear()

    def calm_down(self, peace):
        """End all faults, wait until the ring is whole again, and let more time pass in peace."""
        self.net.calm()
        for process in self.processes.values():
            if process.paused:
                process.resume()
        for ring in self.rings:
            ring.start_registry()
        limit = self.sim.now + 90  # s: a lost piece of a transfer may be noticed only after 30 s
        while not all(ring.is_whole() for ring in self.rings) and self.sim.now < limit:
            self.run(self.sim.now + 1)
        self.run(self.sim.now + peace)

    def is_whole(self):
        """Tell whether all nodes that live are in the ring, in sync in its newest view."""
        rules, living = self.registry.rules, [p for p in self.started_nodes if p.alive]
        if {p.address for p in living} != {node.address for node in rules.view.members}:
            return False
        return rules.all_in_sync() and all(p.rules.place.view == rules.view for p in living)

    def check_ring(self):
        """In peace: one view, all in sync, and every record on exactly its replica set."""
        where = f"seed {self.seed}"
        view = self.registry.rules.view
        members = [p.rules for p in self.nodes()]
        assert {r.place.id for r in members} == set(view.ids), where
        assert self.registry.rules.all_in_sync(), where
        for rules in members:
            place = rules.place
            assert place.view == view, where
            for k, key in self.key_of.items():
                assert place.serves(key) == (view.successor(k).id == place.id), where
            for key, record in rules.store.records.items():
                nodes = [node.id for node in view.replica_set(chord.key_id(key, self.m))]
                assert place.id in nodes, f"{where}: {key} is also on {place.id}"
                for other in members:
                    if (id := other.place.id) in nodes:
                        assert other.store.records.get(key) == record, f"{where}: {key} on {id}"

    def check_history(self, keys):
        """Ask for every key three times, at random nodes, then compare all with a dictionary."""
        process = Process(self, f"checker{self.name}")

        async def ask():
            for key in keys:
                for _ in range(3):
                    before = len(self.history)
                    await self.operate(process, messages.Kind.GET, key)
                    assert self.history[before].returned < math.inf, f"seed {self.seed}: no answer"

        done = start(ask())
        self.run(self.sim.now + 30)
        assert done.done, f"seed {self.seed}: the last questions were not answered"
        for key in keys:
            operations = [o for o in self.history if o.key == key]
            # A question without an answer says nothing.
            told = [o for o in operations if o.success is not None or o.kind in WRITES]
            assert search(told, Operation.apply), (
                f"seed {self.seed}: no dictionary would answer so about {key}:\n"
                + "\n".join(map(str, operations))
            )
