"""What a watcher knows of a ring: it asks the registry and each node, and notes what happens.

One thread asks all of them every POLL_INTERVAL, whatever the number of pages is. A call without an
answer keeps no other one waiting. Each round ends with one picture of the ring: a dict that goes to
the pages as JSON.
"""

import time
from collections import deque
from collections.abc import Callable

from chord import Node, View
from rpc import grpc, is_refused, open_channel
from wire import messages, services

POLL_INTERVAL = 0.15  # s between two calls to one node
CALL_TIMEOUT = 1.0  # s
QUIET_TIMEOUT = 0.35  # s since the sending of the last call that was answered
GHOST_TIME = 4.0  # s for which a node that has left the ring is still shown
HISTORY = 100  # events kept
# A node looks at all of its keys to count them. So it is asked to after changes only, and in such
# intervals that it spends a fiftieth of its time on it at most.
COUNT_INTERVAL = 0.2  # s
COUNT_SHARE = 50
LONGEST_COUNT_INTERVAL = 10.0  # s
TROUBLE = ("gone", "silent")
LASTING = 1.0  # s of silence that are an event; less may be a busy machine
DESCRIPTIONS = {
    "gone": "is gone: no process listens at its address",
    "silent": "does not answer",
    "joining": "has an id, and copies its keys before it joins",
    "leaving": "hands its keys over, to leave",
    "no lease": "has no lease: it serves nothing",
}


class Clock:
    """The time in seconds that this process was awake: while it slept, no other one was silent."""

    def __init__(self):
        self.now = 0.0
        self._ticked = time.monotonic()

    def tick(self) -> None:
        """Let time pass; to be called in each round."""
        before, self._ticked = self._ticked, time.monotonic()
        self.now += min(self._ticked - before, 2 * POLL_INTERVAL)


class Poll:
    """Calls one RPC of a registry or node again and again, one call at a time.

    Args:
        method: of a stub. clock: of the rounds.
        take: gets each answer, its request, and how long it took in seconds.
    """

    def __init__(
        self, method: Callable, clock: Clock, take: Callable[[object, object, float], None]
    ):
        self.method, self.clock, self.take = method, clock, take
        self.heard = clock.now  # when the last call that was answered was sent
        self.refused = False  # no process listens at its address
        self._call = self._request = None
        self._sent = self._began = self._ended = 0.0  # the latter two by the real clock

    def poll(self, request: object) -> None:
        """Take the answer if there is one; call again unless a call is under way."""
        if self._call and self._call.done():
            self._end(self._call)
            self._call = None
        if not self._call:
            self._request, self._sent = request, self.clock.now
            self._began = time.monotonic()
            self._call = self.method.future(request, timeout=CALL_TIMEOUT)
            self._call.add_done_callback(self._note_end)

    def _note_end(self, call: object) -> None:
        self._ended = time.monotonic()

    def _end(self, call: grpc.Future) -> None:
        error = call.exception()
        if error is None:
            self.take(call.result(), self._request, max(0.0, self._ended - self._began))
        # FAILED_PRECONDITION: a node that is not in the ring yet.
        alive = error is None or error.code() is grpc.StatusCode.FAILED_PRECONDITION
        self.refused = not alive and is_refused(error)
        if alive:
            self.heard = self._sent

    def silence(self) -> float:
        """Return the time in seconds since it was alive for certain."""
        return self.clock.now - self.heard

    def trouble(self) -> str:
        """Return "gone", "silent", or "" if it answers."""
        return "gone" if self.refused else "silent" if self.silence() > QUIET_TIMEOUT else ""


class WatchedNode:
    """A node: where it is, what it said last, how many keys it has."""

    def __init__(self, id: int, address: str, clock: Clock):
        self.id, self.address = id, address
        self.channel = open_channel(address)
        self.poll = Poll(services.NodeServiceStub(self.channel).inspect, clock, self._take)
        self.is_member = False
        self.ended = ""  # "left" or "dropped"
        self.ended_at = 0.0
        self.seen = ""  # its state in the last round
        self.last = messages.NodeState()
        self.own = self.replicas = 0
        self._counted: tuple | None = None  # what was counted
        self._next_count = 0.0

    def ask(self) -> None:
        """Ask it for its state, and for the numbers of its keys if they may have changed."""
        counted = self._counted == self._version(self.last)
        counts = not counted and time.monotonic() >= self._next_count
        self.poll.poll(messages.Inspection(without_counts=not counts))

    @staticmethod
    def _version(state: messages.NodeState) -> tuple:
        return state.changes, state.epoch

    def _take(self, state: messages.NodeState, request: messages.Inspection, took: float) -> None:
        self.last = state
        if not request.without_counts:
            self.own, self.replicas = state.own_keys, state.replicas
            self._counted = self._version(state)
            pause = max(COUNT_INTERVAL, COUNT_SHARE * took)
            self._next_count = time.monotonic() + min(pause, LONGEST_COUNT_INTERVAL)

    def state(self) -> str:
        """Return what it is doing."""
        trouble = self.poll.trouble()
        if self.ended or not self.is_member:
            return self.ended or ("lost" if trouble else "joining")
        if trouble:
            return trouble
        if self.last.leaving:
            return "leaving"
        if not self.last.in_sync:
            return "syncing"
        return "in sync" if self.last.lease > 0 else "no lease"

    def picture(self) -> dict:
        """Return what the pages show of it."""
        last, heard_ago = self.last, self.poll.silence()
        return {
            "id": self.id,
            "address": self.address,
            "state": self.state(),
            "silent": round(heard_ago, 1),
            "epoch": last.epoch,
            "own": self.own,
            "held": self.own + self.replicas,
            "lease": round(max(0.0, last.lease - heard_ago), 1),
            "fingers": [finger.id for finger in last.finger_table],
        }


class Watcher:
    """Watches a ring: its registry, and the nodes that the registry has named last."""

    def __init__(self, registry: str):
        self.registry = registry
        self.run_id = str(time.time_ns())
        stub = services.RegistryServiceStub(open_channel(registry))
        self.clock = Clock()
        self.poll = Poll(stub.get_chord_info, self.clock, self._take)
        self.ring = messages.Nodes()  # m is 0 before the first answer
        self.listening = False  # the registry was started again, and asks the nodes for their ring
        self.nodes: dict[tuple[int, str], WatchedNode] = {}
        self.events: deque[dict] = deque(maxlen=HISTORY)
        self.count = 0  # of all events so far
        self.seen = "unknown"  # the registry's state in the last round
        self.synced_epoch = 0  # the last one in which all nodes were seen in sync

    # --- rounds ---

    def run(self, publish: Callable[[dict], None]) -> None:
        """Ask all of them for ever; give each round's picture to `publish`."""
        due = time.monotonic()
        while True:
            self.look()
            publish(self.picture())
            now = time.monotonic()
            due = max(due + POLL_INTERVAL, now)
            time.sleep(due - now)

    def look(self) -> None:
        """Take the answers that have come, note what is new, and ask again."""
        self.clock.tick()
        self.poll.poll(messages.Empty())
        self._note_registry()
        for key, node in list(self.nodes.items()):
            if not node.ended:
                node.ask()
                self._note_node(node)
            elif time.monotonic() - node.ended_at > GHOST_TIME:
                del self.nodes[key]
        self._note_sync()

    def picture(self) -> dict:
        """Return what the pages show."""
        nodes = [node.picture() for node in self.nodes.values()]
        return {
            "run": self.run_id,
            "registry": {"address": self.registry, "state": self.registry_state()},
            "epoch": self.ring.epoch,
            "m": self.ring.m,
            # A newcomer that has died keeps its id for a while, but will not come.
            "nodes": [node for node in nodes if node["state"] != "lost"],
            "events": list(self.events),
        }

    def view(self) -> View:
        """Return the ring as the registry knows it."""
        members = tuple(Node(node.id, node.address) for node in self.members())
        return View(self.ring.epoch, self.ring.m, members)

    def members(self) -> list[WatchedNode]:
        """Return the nodes of the ring, by id."""
        known = list(self.nodes.values())  # at once: the asking thread may change them
        found = [node for node in known if node.is_member and not node.ended]
        return sorted(found, key=lambda node: node.id)

    def registry_state(self) -> str:
        """Return "gone", "silent", "unknown" (before its first answer), "listening" or "up"."""
        if trouble := self.poll.trouble():
            return trouble
        return "listening" if self.listening else "up" if self.ring.m else "unknown"

    # --- who is in the ring ---

    def _take(self, ring: messages.Nodes, request: object, took: float) -> None:
        self.listening = ring.listening
        if ring.listening:
            return  # the registry may not know its ring yet
        is_first, self.ring = not self.ring.m, ring
        members = {(node.id, node.address) for node in ring.nodes}
        joining = {(node.id, node.address) for node in ring.joining} - members
        for key, node in self.nodes.items():
            if not node.ended and key not in members | joining:
                self._end(node)
        for key in members | joining:
            if key not in self.nodes or self.nodes[key].ended:
                self.nodes[key] = WatchedNode(*key, self.clock)
        for key in members:
            node = self.nodes[key]
            if not (node.is_member or is_first):
                self.note(f"node {node.id} at {node.address} joined: epoch {ring.epoch}", "good")
            node.is_member = True
        if is_first:
            nodes = "1 node" if len(members) == 1 else f"{len(members)} nodes"
            self.note(f"the ring has {nodes}, in epoch {ring.epoch}")

    def _end(self, node: WatchedNode) -> None:
        """Take a node out that the registry no longer names."""
        trouble = node.poll.trouble()
        node.ended, node.ended_at = ("dropped" if trouble else "left"), time.monotonic()
        node.channel.close()
        if not node.is_member:
            return
        how = "was silent, so the registry has dropped it" if trouble else "has left"
        others = sorted(other.id for other in self.ring.nodes)
        heir = next((id for id in others if id > node.id), others[0] if others else None)
        then = "the ring is empty" if heir is None else f"its ids are node {heir}'s now"
        self.note(f"node {node.id} {how}: {then}", "bad" if trouble else "")

    # --- what happened ---

    def note(self, text: str, kind: str = "") -> None:
        """Add an event. Kinds: "good", "bad", or "" for what is neither."""
        self.count += 1
        event = {"number": self.count, "time": time.time(), "text": text, "kind": kind}
        self.events.append(event)

    def _note_registry(self) -> None:
        state, seen = self.registry_state(), self.seen
        if state == "silent" and self.poll.silence() < LASTING:
            return
        self.seen = state
        if state in TROUBLE and seen not in TROUBLE:
            self.note(f"the registry at {self.registry} {DESCRIPTIONS[state]}", "bad")
        elif state == "listening" and seen != state:
            self.note("the registry was started again: it asks the nodes for their ring")
        elif state == "up" and seen in (*TROUBLE, "listening"):
            self.note("the registry answers again", "good")

    def _note_node(self, node: WatchedNode) -> None:
        state, seen = node.state(), node.seen
        if state == "silent" and node.poll.silence() < LASTING:
            return
        node.seen = state
        if state == seen:
            return
        if state in DESCRIPTIONS:
            kind = "" if state in ("joining", "leaving") else "bad"
            name = f"{node.id} at {node.address}" if state == "joining" else node.id
            self.note(f"node {name} {DESCRIPTIONS[state]}", kind)
        elif seen in TROUBLE:
            self.note(f"node {node.id} answers again", "good")

    def _note_sync(self) -> None:
        """Note that a change of the ring has been dealt with."""
        nodes, epoch = self.members(), self.ring.epoch
        synced = all(node.state() == "in sync" and node.last.epoch == epoch for node in nodes)
        if nodes and synced and epoch != self.synced_epoch:
            self.synced_epoch = epoch
            self.note(f"all nodes are in sync in epoch {epoch}", "good")
