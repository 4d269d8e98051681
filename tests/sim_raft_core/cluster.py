"""Lab 6's core in virtual time: the class that runs in production, and a hostile network.

After every event the properties of the paper's Figure 3 are checked. In the end the faults cease:
then one leader must emerge, and everything ever acknowledged must be in every log.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

from tests.sim_raft_core.disk import write
from tests.sim_raft_core.faults import Faults
from tests.sim_raft_core.properties import History, Properties, Violation, state
from tests.support.harness import ROOT, load
from tests.support.simnet import Network, Simulation

raft = load(ROOT / "lab06_raft/raft.py")
protocol, replica = load(ROOT / "lab06_raft/protocol.py"), load(ROOT / "lab06_raft/replica.py")

METHODS = {
    protocol.RequestVoteRequest: "request_vote",
    protocol.AppendEntriesRequest: "append_entries",
    protocol.InstallSnapshotRequest: "install_snapshot",
}

FAULTY = 4.0  # s of virtual time with faults
CALM = 10.0  # s without, at most, until all must agree: slow disks and batches of one entry


class Saving(NamedTuple):
    """What waits for a save that is under way, and for the one after it."""

    now: list
    next: list


class Cluster:
    """Servers, their disks, their clients and their faults."""

    def __init__(self, seed: int, server_class=raft.Raft, amnesia=False):
        self.sim = Simulation(seed)
        self.random = self.sim.random
        self.amnesia = amnesia
        self.server_class = server_class
        self.limits = replica.Limits(
            batch_entries=self.pick(1, 1, 100),
            batch_size=self.pick(1, 4, 1000),
            waiting_entries=self.pick(3, 100),
            snapshot_after=self.pick(1, 3, 10, 100),
        )
        self.net = Network(
            self.sim,
            loss=self.pick(0, 0, 0.2),
            duplicate=self.pick(0, 0.3),
            delay=(0.001, self.pick(0.002, 0.03, 0.4)),
        )
        self.sync = self.pick(0, 0, 0.01, 0.1)  # s that a save takes at most
        self.members = range(self.pick(3, 3, 5))
        self.short_lived = self.pick(0, 0.8)  # probability of a new leader to crash at once
        self.faults = Faults(self)
        self.properties = Properties()
        self.disks = {member: raft.Saved() for member in self.members}
        self.servers: dict = {}
        self.histories: dict = {}  # server -> History after its last step
        self.saving: dict = {}  # server -> Saving, while it saves
        self.held: dict[int, list] = {}  # of a stopped server: what waits in its sockets
        self.asleep: set[int] = set()  # of those: whose timer is not looked at
        self.waiting: dict = {}  # server -> [(place, entry)] of the commands that it was given
        self.acknowledged: dict[int, object] = {}  # index -> entry
        self.written = 0
        for member in self.members:
            self.start(member)

    def pick(self, *options):
        return self.random.choice(options)

    # A server's life, as server.py lives it

    def start(self, member: int) -> None:
        if self.amnesia:
            self.disks[member] = raft.Saved()
        saved = copy.deepcopy(self.disks[member])
        new_timeout = lambda: self.random.uniform(*raft.ELECTION_TIMEOUT_RANGE)  # noqa: E731
        server = self.server_class(
            member, self.members, new_timeout, self.sim.now, saved, self.limits
        )
        self.servers[member] = server
        self.histories[server] = History(server)
        self.waiting[server] = []
        self.net.attach(member, lambda source, message: self.receive(member, source, message))
        self.wake(server)

    def crash(self, member: int) -> None:
        self.net.detach(member)
        self.held.pop(member, None)
        self.asleep.discard(member)
        self.servers.pop(member, None)

    def step(self, server, action: Callable[[], object], reply=lambda result: None):
        """Run `action` on a server; send what follows from it once that is saved.

        `reply` is called with the result when it may leave.
        """
        before = self.histories[server]
        result = action()
        if server.is_unsaved and server not in self.saving:
            self._save(server)
        if state(server) != before.state:
            self.properties.check(server, before)
        if server.leadership and not before.leads:
            self._elected(server)
        for call in server.take_outbox():
            send = lambda call=call: self._call(server, call)  # noqa: E731
            is_vote = isinstance(call.request, raft.RequestVoteRequest)
            self._when_saved(server, send) if is_vote else send()
        self._when_saved(server, lambda: reply(result))
        self._settle(server)
        server.compact()
        if state(server) != before.state:
            self.histories[server] = History(server)
        return result

    def _save(self, server) -> None:
        unsaved = server.take_unsaved()
        if not self.sync:
            write(self.disks[server.node_id], unsaved)
            server.mark_saved(unsaved)
            return
        self.saving[server] = Saving([], [])
        self.sim.after(self.random.uniform(0, self.sync), lambda: self._saved(server, unsaved))

    def _saved(self, server, unsaved) -> None:
        if self.servers.get(server.node_id) is not server:
            return  # it crashed before
        write(self.disks[server.node_id], unsaved)
        now, following = self.saving.pop(server)
        self.step(server, lambda: server.mark_saved(unsaved))
        if server in self.saving:
            self.saving[server].now.extend(following)
        for effect in now:
            effect()

    def _when_saved(self, server, effect) -> None:
        saving = self.saving.get(server)
        if not saving:
            effect()
        else:
            (saving.next if server.is_unsaved else saving.now).append(effect)

    def _call(self, server, call) -> None:
        self.net.send(server.node_id, call.peer, (call, None))
        self.sim.after(0.5, lambda: server.call_lost(call))

    def _settle(self, server) -> None:
        """Note which commands are done."""
        for place, entry in self.waiting[server]:
            if server.replica.outcome(place):
                self.acknowledged[place.index] = entry
                other = self.servers.get(self.pick(*self.members))
                if other and other is not server and other.node_id not in self.held:
                    learn = lambda it=other, at=place: self._learn(it, at)  # noqa: E731
                    self.sim.after(0.001, learn)  # as the follower that forwarded it
        self.waiting[server] = [
            (place, entry)
            for place, entry in self.waiting[server]
            if server.replica.outcome(place) is None
        ]

    def _learn(self, server, place) -> None:
        if self.servers.get(server.node_id) is server and server.node_id not in self.held:
            self.step(server, lambda: server.learn_commit(place))

    def wake(self, server) -> None:
        """Look at the timer every so often; a stopped server does not."""
        if self.servers.get(server.node_id) is not server:
            return
        if server.node_id in self.held:
            self.asleep.add(server.node_id)
            return
        now = self.sim.now
        if now >= server.deadline:
            self.step(server, lambda: server.tick(now))
        next_look = min(max(server.deadline, now + 0.001), now + raft.HEARTBEAT_INTERVAL)
        self.sim.at(next_look, lambda: self.wake(server))

    def receive(self, member: int, source: int, message) -> None:
        if member in self.held:
            self.held[member].append((source, message))
            return
        server, now = self.servers[member], self.sim.now
        call, reply = message
        if reply is None:
            answer = getattr(server, METHODS[type(call.request)])
            send = lambda reply: self.net.send(member, source, (call, reply))  # noqa: E731
            self.step(server, lambda: answer(call.request, now), send)
        else:
            take = getattr(server, METHODS[type(call.request)] + "_reply")
            self.step(server, lambda: take(call, reply, now))

    def _elected(self, server) -> None:
        """The paper's Figure 8 needs leaders that crash before all have heard of them."""
        if self.random.random() < self.short_lived:
            delay = self.random.uniform(0, self.pick(1, 8) * self.net.delay[1])
            self.sim.after(delay, lambda: self.faults.crash_or_restart(server.node_id))

    # Clients

    def write(self) -> None:
        """Give a command to a server that thinks it leads; some clients retry, some much later."""
        if leaders := self.leaders():
            leader = self.pick(*leaders)
            self.written += 1
            client_id = self.pick(0, 1, 2)
            sequence = self.written - self.pick(0, 0, 1, 5) if client_id else 0
            command = protocol.Command(
                self.pick("a", "b"), str(self.written), client_id, max(sequence, 0)
            )
            if place := leader.leadership.propose(command):
                self.waiting[leader].append((place, protocol.Entry(place.term, *command)))
                if self.random.random() < 0.7:  # otherwise with the next heartbeat
                    self.step(leader, leader.leadership.replicate)

    def read(self) -> None:
        """Read on a server that thinks it leads: all acknowledged before must then be seen."""
        if leaders := self.leaders():
            leader = self.pick(*leaders)
            read = self.step(leader, lambda: leader.start_read(self.sim.now))
            self._await_read(leader, read, max(self.acknowledged, default=0), tries=20)

    def _await_read(self, leader, read, acknowledged, tries) -> None:
        if leader.is_confirmed(read):
            if leader.commit_index < acknowledged:
                raise Violation(f"Linearizability: a read missed index {acknowledged}")
        elif tries:
            again = lambda: self._await_read(leader, read, acknowledged, tries - 1)  # noqa: E731
            self.sim.after(0.01, again)

    def leaders(self) -> list:
        leads = raft.Role.LEADER
        return [s for s in self.servers.values() if s.role is leads and s.node_id not in self.held]

    # The whole run

    def run(self) -> None:
        """Raise Violation if a property fails, or if in the end the cluster does not recover."""
        self._again(self.faults.begin_one, self.pick(0.15, 0.3, 0.6, 1.2))
        self._again(self.write, 0.04)
        self._again(self.read, 0.2)
        self.sim.run(FAULTY)
        self.net.calm()
        self.short_lived = 0
        for member in self.members:
            self.faults.restart(member)
            self.faults.resume(member)
        if not self.sim.run_until(self._agreed, FAULTY + CALM):
            raise Violation("Liveness: no leader, or no agreement, after the faults have ended")
        if self.amnesia:
            return
        applied = self.properties.applied
        if lost := [i for i, entry in self.acknowledged.items() if applied[i] != entry]:
            raise Violation(f"Acknowledged entries are lost: {lost}")

    def _again(self, action: Callable[[], None], pause: float) -> None:
        """Repeat an action at random intervals until FAULTY."""

        def once():
            if self.sim.now < FAULTY:
                action()
                self.sim.after(self.random.uniform(0, 2 * pause), once)

        self.sim.after(self.random.uniform(0, 2 * pause), once)

    def _agreed(self) -> bool:
        """One leader that all follow, all logs alike, all committed and applied."""
        servers = list(self.servers.values())
        first = servers[0]
        return len(self.leaders()) == 1 and all(
            server.current_term == first.current_term
            and server.commit_index == first.log.last_index
            and server.log.last_index == first.log.last_index
            and server.values == first.values
            and server not in self.saving
            for server in servers
        )


def violation(seed: int, server_class=raft.Raft, amnesia=False) -> str | None:
    """Run one seed; return what went wrong, if anything."""
    try:
        Cluster(seed, server_class, amnesia).run()
    except Violation as error:
        return f"seed {seed}: {error}: python -m tests.sim_raft_core 1 --first {seed}"
    return None
