"""The registry's rules: who is in the ring, one change at a time (see chord.py, "Views")."""

from collections.abc import Iterable

from chord import MAX_EPOCH, SILENCE, Node, View
from messages import Answer, Departed, Departure, Host, Question, Registered, Registration

GRACE = 1.0  # s after its start in which a registry only listens: nodes may know a ring of before
NODE_RETRY = 0.2  # s between two attempts of a node to reach a registry that is away
RESERVATION = 60.0  # s for which an id is kept for a newcomer that copies its records
WAIT_LIMIT = 14.0  # s in the queue of newcomers; after 15 s a node asks anew
LONGEST_TICK = 0.5  # s: time beyond is time that the registry itself slept through
LIFE = 2**20  # epochs of one registry; the next one's are all higher


class Membership:
    """The members of the ring, and what is known of each.

    Args:
        host: the world, see messages.Host. m: ids have this many bits.
    """

    def __init__(self, host: Host, m: int):
        self.host = host
        self.view = View(0, m, ring=host.draw_identity())
        self.waiting: list[tuple[str, object]] = []  # newcomers, in the order they came
        self.reserved: dict[int, tuple[str, float]] = {}  # id -> the newcomer to be, until when
        self.heard: dict[int, float] = {}  # id -> when it last asked, in self.time
        self.touched: dict[int, int] = {}  # id -> the last epoch that changed its surroundings
        self.settled: dict[int, int] = {}  # id -> the epoch in which it says it is settled
        self.time = 0.0  # s that the registry was awake
        self.ticked = host.now()
        self.open = False  # until then nothing changes but by what nodes know of before

    # --- time ---

    def tick(self) -> list[Node]:
        """Let time pass; return the nodes dropped for their silence."""
        now = self.host.now()
        self.time += min(now - self.ticked, LONGEST_TICK)
        self.ticked = now
        silent = [n for n in self.view.members if self.time - self.heard[n.id] > SILENCE]
        if not self.open and self.time >= GRACE:
            waiting = [n for n in self.view.members if n.id not in self.settled]
            if all(node in silent for node in waiting):
                self._open()
        if not self.open:
            return []
        if silent:
            self._change(node for node in self.view.members if node not in silent)
        return silent

    def _open(self) -> None:
        self.open = True
        if self.view.members:  # a ring of before: no epoch of mine may meet one of then
            self._change(self.view.members, self._next_life(self.view))
            self.touched = dict.fromkeys(self.view.ids, self.view.epoch)  # until all know it

    # --- receivers ---

    async def register(self, request: Registration) -> Registered:
        """Admit a node, after all who came before it, into a ring that is settled."""
        address = f"{request.ipaddr}:{request.port}"
        if request.prepare:
            return await self._prepare(address, request.wish)
        ticket, began = (address, object()), self.host.now()
        self.waiting = [other for other in self.waiting if other[0] != address] + [ticket]
        try:
            while not (self.open and self.waiting[0] is ticket and self._has_room_for(address)):
                await self.host.sleep(0.01)
                # It asked anew, or has given up by now: nobody would take the place.
                if ticket not in self.waiting or self.host.now() - began > WAIT_LIMIT:
                    return Registered(-1, reason="the ring is too busy to admit a node")
            return self._admit(address, request.wish)
        finally:
            self.waiting = [other for other in self.waiting if other is not ticket]

    def _has_room_for(self, address: str) -> bool:
        """Tell whether the ring is ready for one more, at an address that only one can have."""
        if any(node.address == address for node in self.view.members):
            # Its port is bound by somebody else: who had it is dead, and not yet missed.
            self._change(node for node in self.view.members if node.address != address)
        return self.all_settled()

    async def _prepare(self, address: str, wish: int | None) -> Registered:
        """Tell a newcomer its id to come, and the ring from which it can copy its records."""
        while not self.open:
            await self.host.sleep(0.01)
        id = self._draw(address, wish)
        if id is None:
            return self._full()
        self.reserved[id] = address, self.host.now() + RESERVATION
        return Registered(id, self.view.m, view=self.view)

    def _admit(self, address: str, wish: int | None) -> Registered:
        id = self._draw(address, wish)
        if id is None:
            return self._full()
        self.reserved.pop(id, None)
        self._change([*self.view.members, Node(id, address)])
        return Registered(id, self.view.m, view=self.view)

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

    def _full(self) -> Registered:
        return Registered(-1, reason=f"the ring is full: it has {2**self.view.m} nodes")

    def deregister(self, request: Departure) -> Departed:
        """Take a node that leaves out of the ring."""
        node = self.view.by_id.get(request.id)
        if node is None or request.address not in ("", node.address):
            return Departed(False, f"there is no node {request.id}", self.view)
        if not self.open:
            return Departed(False, "this registry has just been started")
        if request.epoch not in (0, self.view.epoch):
            return Departed(False, "the ring has changed meanwhile", self.view)
        self._change(node for node in self.view.members if node.id != request.id)
        return Departed(True, f"node {request.id} has left", self.view)

    def populate_finger_table(self, question: Question) -> Answer:
        """Answer where a node stands; if the node itself asks, it is alive."""
        view, id = self.view, question.id
        node = view.by_id.get(id)
        known = node is not None and question.address in ("", node.address)
        if known and question.address:
            self.heard[id] = self.time
            if question.epoch <= view.epoch:  # else I have to hear its view first
                self.settled[id] = max(self.settled.get(id, 0), question.settled)
        return Answer(
            predecessor=view.predecessor(id) if known else None,
            finger_table=tuple(view.fingers(id)) if known else (),
            known=known,
            epoch=view.epoch if self.open else -1,  # which asks for the newest view
            settled=self.all_settled(),
            view=view if (question.epoch, question.ring) != (view.epoch, view.ring) else None,
        )

    def restore(self, offered: View) -> Departed:
        """Take a newer view than mine from a node: I am a registry that was started again."""
        if offered.m != self.view.m:
            return Departed(False, f"this registry runs a ring with m={self.view.m}")
        if offered.epoch > MAX_EPOCH - 2 * LIFE:
            return Departed(False, "no ring has come so far")
        if offered.epoch > self.view.epoch:
            ids = offered.by_id.keys()
            addresses = {node.address for node in offered.members}
            mine = [n for n in self.view.members if n.id not in ids and n.address not in addresses]
            if self.open:  # came too late: who joined meanwhile stays, at the end
                self._change([*offered.members, *mine], self._next_life(offered), offered.ring)
            else:
                self._change(offered.members, offered.epoch, offered.ring)
        return Departed(True, "restored", self.view)

    # --- transitions ---

    def all_settled(self) -> bool:
        """Tell whether every node has done what the changes so far ask of it."""
        return all(self.settled.get(id, 0) >= epoch for id, epoch in self.touched.items())

    def _change(
        self, members: Iterable[Node], epoch: int | None = None, ring: int | None = None
    ) -> None:
        old = self.view
        ring = old.ring if ring is None else ring
        self.view = View(epoch or old.epoch + 1, old.m, tuple(members), ring)
        gone = [n.id for n in old.members if self.view.by_id.get(n.id) != n]
        for known in (self.heard, self.touched, self.settled):
            for id in gone:
                known.pop(id, None)
        for id in self.view.touched(old):
            self.touched[id] = self.view.epoch
            self.heard.setdefault(id, self.time)

    def _next_life(self, view: View) -> int:
        """Return a first epoch that no registry before or beside this one has used."""
        return (view.epoch // LIFE + 1) * LIFE + self.host.draw_identity() % (LIFE // 2)
