"""The registry's rules: which nodes are in the ring, one change at a time.

Changes
    A newcomer first gets an id reserved and copies its records. It is admitted when all nodes that
    the last change affected are in sync. So the records of an arc are never more than one change
    away from where they are looked for. A node that leaves names the epoch in which it has handed
    over; if the ring has changed since, it has to hand over again. A node that is silent for
    SILENCE_TIMEOUT is dropped, when its lease has run out.

Silent nodes that are not dropped
    A cut link makes nodes as silent as death does. Nodes that cannot reach the registry may serve
    on by leases that they give each other (see place.py). A node and the two that give it leases
    are a replica set. If the registry dropped all three, another node would own the same keys, and
    keys that no other node has would be lost. So it drops a node only while it hears at least one
    node of each of its replica sets. The nodes of a set of which it hears none are *needed*: it
    admits no node until it hears one of them, or no process listens at the address of one. A
    dropped node counts as silent until all members know a view without it, and a dead one until
    the leases that it gave have run out. In the code such nodes, and members without a heartbeat
    for LATE_TIMEOUT, are *unheard*.

A registry that is restarted
    Nodes serve on without it (see place.py) and tell a new one the newest view. It gives no lease
    and changes nothing before it has heard all members, but for those that are silent for
    SILENCE_TIMEOUT. Then it begins a new *life*, a range of epochs higher than all earlier ones,
    and admits no node until all know it. The first of these epochs is drawn at random, so that two
    registries that die one after the other do not give the same epoch to different views.
"""

from collections.abc import Iterable
from dataclasses import replace

import messages
from chord import MAX_EPOCH, Node, View

RESERVATION_TIMEOUT = 60.0  # s for which an id is kept for a newcomer that copies its records
QUEUE_TIMEOUT = 14.0  # s in the queue of newcomers; after 15 s a node asks anew
QUEUE_INTERVAL = 0.01  # s between two looks whether the ring is ready for the next
# s without a heartbeat. Of nodes that are cut off at once the last heartbeats came at most one
# interval apart: when the first of them is silent, all are late; half an interval is slack.
LATE_TIMEOUT = messages.SILENCE_TIMEOUT - 1.5 * messages.HEARTBEAT_INTERVAL
LONGEST_TICK = 0.5  # s: time beyond is time that the registry itself slept through
LIFE = 2**18  # epochs of one registry; the next one's are all higher


class Membership:
    """The members of the ring, and what is known of each.

    Args:
        host: the world, see messages.Host. m: ids have this many bits.
    """

    def __init__(self, host: messages.Host, m: int):
        self.host = host
        self.view = View(0, m, ring=host.draw_identity())
        self.waiting: list[tuple[str, object]] = []  # newcomers, in the order they came
        self.reserved: dict[int, tuple[str, float]] = {}  # id -> the newcomer's address, until when
        self.heard: dict[int, float] = {}  # id -> its last heartbeat, in self.time
        self.affected: dict[int, int] = {}  # id -> the last epoch that changed its neighbours
        self.in_sync: dict[int, int] = {}  # id -> the epoch in which it says it is in sync
        self.views = [self.view]  # those that a node may still be in
        self.dropped: set[Node] = set()  # dropped for their silence; they may not know it
        self.dead: dict[Node, float] = {}  # unheard nodes without a process -> end of their leases
        self.unheard: set[Node] = set()  # nodes that are not heard, and may yet serve
        self.needed: set[Node] = set()  # those of them that may give each other leases
        self.being_called: set[Node] = set()
        self.time = 0.0  # s that the registry was awake
        self.ticked = host.now()
        self.open = False  # it only listens yet, for nodes of an earlier ring

    # --- time ---

    def tick(self) -> list[Node]:
        """Let time pass; return the nodes dropped for their silence."""
        now = self.host.now()
        self.time += min(now - self.ticked, LONGEST_TICK)
        self.ticked = now
        members = self.view.members
        late = self._unheard_for(LATE_TIMEOUT)
        self._update_unheard(late)
        if not self.open and self.time >= messages.LISTEN_TIMEOUT:
            strange = [node for node in members if node.id not in self.in_sync]
            silent = self._unheard_for(messages.SILENCE_TIMEOUT)
            if all(node in silent for node in strange):
                self._open()
        if not self.open:
            return []
        for node in self.needed.intersection(members):  # later each has time for a heartbeat
            self.heard[node.id] = max(self.heard[node.id], self.time - LATE_TIMEOUT)
        silent = self._unheard_for(messages.SILENCE_TIMEOUT)
        now_dropped = [node for node in late if node in silent or node not in self.unheard]
        if now_dropped:
            self.dropped.update(self.unheard.intersection(now_dropped))
            self._change(node for node in self.view.members if node not in now_dropped)
        for node in in_order(self.needed - self.being_called):
            self.being_called.add(node)
            self.host.spawn(self._call(node))
        return now_dropped

    def _unheard_for(self, seconds: float) -> list[Node]:
        return [node for node in self.view.members if self.time - self.heard[node.id] > seconds]

    def _update_unheard(self, late: list[Node]) -> None:
        """Find out which nodes are unheard, and which of them are needed."""
        view = self.view
        if view.members and all(self.in_sync.get(id, 0) >= view.epoch for id in view.ids):
            self.views, self.dropped = [view], set()
        self.unheard = self.dropped.union(late)
        self.dead = {node: end for node, end in self.dead.items() if node in self.unheard}
        ended = {node for node, end in self.dead.items() if end < self.time}
        self.dropped -= ended
        self.unheard -= ended
        self.needed = set()
        alive = {*view.members, *self.unheard} - ended
        for old in self.views if self.unheard else ():
            rest = replace(old, members=tuple(node for node in old.members if node in alive))
            for node in rest.members:
                replica_set = rest.replica_set(node.id)
                if self.unheard.issuperset(replica_set) and self._may_be_in(old, node):
                    self.needed.update(replica_set)

    def _may_be_in(self, view: View, node: Node) -> bool:
        """Tell whether a node may still serve by a view: it has confirmed no later one."""
        return node in self.dropped or self.in_sync.get(node.id, 0) <= view.epoch

    async def _call(self, node: Node) -> None:
        """Find out whether a node that is not heard is dead; if it is not, tell it the view."""
        view = self.view
        try:
            await self.host.call(node.address, "install", view, messages.CALL_TIMEOUT)
            if view.by_id.get(node.id) != node:
                self.dropped.discard(node)  # it knows now
        except messages.Refused:
            self._note_dead(node)
        except messages.Unreachable:
            pass
        await self.host.sleep(messages.HEARTBEAT_INTERVAL)
        self.being_called.discard(node)

    def _note_dead(self, node: Node) -> None:
        """Note that a node is dead: only the leases that it gave have to run out."""
        self.dead.setdefault(node, self.time + messages.LEASE_TIMEOUT)

    def _open(self) -> None:
        self.open = True
        if self.view.members:  # of an earlier ring: its epochs must not be used again
            self._change(self.view.members, self._next_life(self.view))
            self.affected = dict.fromkeys(self.view.ids, self.view.epoch)  # until all know it

    # --- receivers ---

    async def register(self, request: messages.Registration) -> messages.Registered:
        """Admit a node, after all that came before it, into a ring that is in sync."""
        address = f"{request.ipaddr}:{request.port}"
        if request.prepare:
            return await self._reserve(address, request.wish)
        ticket, began = (address, object()), self.host.now()
        self.waiting = [other for other in self.waiting if other[0] != address] + [ticket]
        try:
            while not (self.open and self.waiting[0] is ticket and self._make_room_for(address)):
                await self.host.sleep(QUEUE_INTERVAL)
                # It has asked anew, or has given up by now: it would not take the place.
                if ticket not in self.waiting or self.host.now() - began > QUEUE_TIMEOUT:
                    return messages.Registered(-1, reason=self._why_not())
            return self._admit(address, request.wish)
        finally:
            self.waiting = [other for other in self.waiting if other is not ticket]

    def _make_room_for(self, address: str) -> bool:
        """Take out the node that had an address before; tell whether the ring is ready for one."""
        others = [node for node in self.view.members if node.address != address]
        for node in self.unheard:
            if node.address == address:  # another process has bound its port
                self._note_dead(node)
        # Its old node is dead, but not late yet.
        if not self.unheard and len(others) < len(self.view.members):
            self._change(others)
        return self.all_in_sync() and not self.needed and len(others) == len(self.view.members)

    def _why_not(self) -> str:
        if not self.needed:
            return "the ring is too busy to admit a node"
        nodes = ", ".join(f"{node.id} at {node.address}" for node in in_order(self.needed))
        return f"the ring waits for nodes that do not answer: {nodes}"

    async def _reserve(self, address: str, wish: int | None) -> messages.Registered:
        """Reserve an id for a newcomer, and tell it from which ring it can copy its records."""
        while not self.open:
            await self.host.sleep(QUEUE_INTERVAL)
        earlier = [id for id, (other, _) in self.reserved.items() if other == address]
        for id in earlier:  # of an attempt that was given up
            del self.reserved[id]
        id = self._draw(address, earlier[0] if wish is None and earlier else wish)
        if id is None:
            return self._full()
        self.reserved[id] = address, self.host.now() + RESERVATION_TIMEOUT
        return messages.Registered(id, self.view.m, view=self.view)

    def _admit(self, address: str, wish: int | None) -> messages.Registered:
        id = self._draw(address, wish)
        if id is None:
            return self._full()
        self.reserved.pop(id, None)
        self._change([*self.view.members, Node(id, address)])
        return messages.Registered(id, self.view.m, view=self.view)

    def joining(self) -> list[Node]:
        """Return the newcomers that have an id and copy their records."""
        now = self.host.now()
        return [Node(id, address) for id, (address, end) in self.reserved.items() if end > now]

    def _draw(self, address: str, wish: int | None) -> int | None:
        """Return an id that is free for this address, the one it wishes if it can be."""
        now, size = self.host.now(), 2**self.view.m
        for id, (_, end) in tuple(self.reserved.items()):
            if end < now or id in self.view.by_id:
                del self.reserved[id]
        others = {id for id, (other, _) in self.reserved.items() if other != address}
        taken = self.view.by_id.keys() | others
        if len(taken) >= size:
            return None
        free = wish is not None and 0 <= wish < size and wish not in taken
        id = wish if free else self.host.draw(0, size - 1)
        while id in taken:
            id = self.host.draw(0, size - 1)
        return id

    def _full(self) -> messages.Registered:
        reason = f"the ring is full: all {2**self.view.m} ids are taken"
        return messages.Registered(-1, reason=reason)

    def deregister(self, request: messages.Departure) -> messages.Departed:
        """Take a node that leaves out of the ring."""
        node = self.view.by_id.get(request.id)
        if node is None or request.address not in ("", node.address):
            return messages.Departed(False, f"there is no node {request.id}", self.view)
        if not self.open:
            return messages.Departed(False, "this registry has just been started")
        if request.epoch not in (0, self.view.epoch):
            return messages.Departed(False, "the ring has changed meanwhile", self.view)
        self._change(node for node in self.view.members if node.id != request.id)
        return messages.Departed(True, f"node {request.id} has left", self.view)

    def populate_finger_table(self, request: messages.Heartbeat) -> messages.HeartbeatReply:
        """Answer where a node stands; if the node itself asks, it is alive and gets a lease."""
        view, id = self.view, request.id
        node = view.by_id.get(id)
        known = node is not None and request.address in ("", node.address)
        if known and request.address:
            self.heard[id] = self.time
            if request.epoch <= view.epoch:  # else this registry has to hear its view first
                self.in_sync[id] = max(self.in_sync.get(id, 0), request.in_sync_epoch)
        return messages.HeartbeatReply(
            predecessor=view.predecessor(id) if known else None,
            finger_table=tuple(view.fingers(id)) if known else (),
            known=known,
            epoch=view.epoch if self.open else -1,  # which asks for the newest view
            all_in_sync=self.all_in_sync(),
            view=view if (request.epoch, request.ring) != (view.epoch, view.ring) else None,
        )

    def restore(self, offered: View) -> messages.Departed:
        """Take a newer view from a node: this registry was started again."""
        if offered.m != self.view.m:
            return messages.Departed(False, f"this registry runs a ring with m={self.view.m}")
        if offered.epoch > MAX_EPOCH - 2 * LIFE:
            return messages.Departed(False, "the epoch is out of range")
        if offered.epoch > self.view.epoch:
            ids = offered.by_id.keys()
            addresses = {node.address for node in offered.members}
            own = [n for n in self.view.members if n.id not in ids and n.address not in addresses]
            if self.open:  # it came too late: a node that joined meanwhile stays, at the end
                self._change([*offered.members, *own], self._next_life(offered), offered.ring)
            else:
                self._change(offered.members, offered.epoch, offered.ring)
        return messages.Departed(True, "restored", self.view)

    # --- transitions ---

    def all_in_sync(self) -> bool:
        """Tell whether every node has done what the changes so far ask of it."""
        return all(self.in_sync.get(id, 0) >= epoch for id, epoch in self.affected.items())

    def _change(
        self, members: Iterable[Node], epoch: int | None = None, ring: int | None = None
    ) -> None:
        old = self.view
        ring = old.ring if ring is None else ring
        self.view = View(epoch or old.epoch + 1, old.m, tuple(members), ring)
        removed = [node.id for node in old.members if self.view.by_id.get(node.id) != node]
        for known in (self.heard, self.affected, self.in_sync):
            for id in removed:
                known.pop(id, None)
        self.views.append(self.view)
        addresses = {node.address for node in self.view.members}
        self.dropped = {node for node in self.dropped if node.address not in addresses}
        for id in self.view.affected(old):
            self.affected[id] = self.view.epoch
            self.heard.setdefault(id, self.time)

    def _next_life(self, view: View) -> int:
        """Return a first epoch above all earlier ones; hardly any registry beside draws it too."""
        return (view.epoch // LIFE + 1) * LIFE + self.host.draw_identity() % (LIFE // 2)


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """Return nodes by their ids."""
    return sorted(nodes, key=lambda node: node.id)
