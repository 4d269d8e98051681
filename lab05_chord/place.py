"""A node's place in the ring: how it joins, asks the registry, moves from view to view, and leaves.

Why it is as it is stands at the top of chord.py.
"""

from dataclasses import replace

from chord import BEAT, LEASE, REPLICAS, Node, View, between, key_id
from membership import GRACE, NODE_RETRY
from messages import (
    Accepted,
    Departure,
    Epoch,
    Host,
    Question,
    Refused,
    Registered,
    Registration,
    Stranger,
    Unreachable,
)

CALL_TIMEOUT = 1.0  # s for an answer that needs nobody else
CONFIRM_TIMEOUT = 0.5  # s: the next question to the registry must not be late because of it
REGISTER_TIMEOUT = 15.0  # s: a newcomer waits for those before it, and for a death to be noticed
PREPARATIONS = 3  # times that a newcomer begins to copy, as the ring changes, before it is let in
SOONEST_BEAT = 0.05  # s between two questions out of turn


class Place:
    """Where a node stands. What it holds there is the matter of Holder, which builds on this.

    Args:
        host: the world, see messages.Host. ipaddr, port: where others reach this node.
        registry: the registry's address.
    """

    def __init__(self, host: Host, ipaddr: str, port: int, registry: str):
        self.host = host
        self.registry = registry
        self.ipaddr, self.port = ipaddr, port
        self.address = f"{ipaddr}:{port}"
        # the place
        self.id = -1
        self.born = 0  # the epoch in which it joined
        self.name = "0.0"  # id and epoch of its first joining, which no other node has
        self.view = View()
        self.served_after: int | None = None  # it serves (served_after, id]; None: nothing yet
        self.settled = 0  # the last epoch in which it and its successors agreed on its arc
        self.joining = self.leaving = False
        # what it knows of the registry
        self.leave_since = self.asked = -LEASE
        self.orphan = False  # no registry has given me leave last time
        self.promises: dict[int, float] = {}  # epoch -> until when I settle in no later one

    async def prepare(self, place: Registered) -> bool:
        """Get ready for a place; return False if the registry has to tell of it anew."""
        raise NotImplementedError

    def come_back(self, absence: float, m: int) -> None:
        """Hear that there is a new place, so many seconds after the last leave to serve."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Hear that the view asks something new of this node."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Hear that all nodes are settled in this view."""
        raise NotImplementedError

    # --- joining, asking, leaving ---

    async def join(self) -> Registered:
        """Get a place in the ring: the one that this node had before, if it is free.

        It copies what it will hold before it asks to be let in: so it serves soon afterwards.
        """
        request = Registration(self.ipaddr, self.port, self.id if self.id >= 0 else None, True)
        self.joining, self.served_after = True, None
        try:
            for _ in range(PREPARATIONS):
                reply = await self.host.call(self.registry, "register", request, REGISTER_TIMEOUT)
                if reply.id < 0:
                    return reply
                request = replace(request, wish=reply.id)
                if await self.prepare(reply):
                    break
            sent = self.host.now()
            request = replace(request, prepare=False)
            reply = await self.host.call(self.registry, "register", request, REGISTER_TIMEOUT)
        finally:
            self.joining = False
        if reply.id < 0:
            return reply
        self.come_back(sent - self.leave_since, reply.m)
        if self.id < 0:
            self.name = f"{reply.id}.{reply.view.epoch}"
        self.id, self.view, self.born = reply.id, reply.view, reply.view.epoch
        self.served_after, self.settled = None, 0
        self.leave_since = sent
        self.host.joined(self.id, self.view)
        self.host.spawn(self.settle())
        return reply

    async def run(self) -> None:
        """Ask the registry every second, as long as the node lives."""
        while True:
            await self.ask()
            await self.host.sleep(NODE_RETRY if self.orphan else BEAT)

    def ask_soon(self) -> None:
        """Ask the registry now: there are signs that the ring has changed."""
        if self.host.now() - self.asked >= SOONEST_BEAT:
            self.host.spawn(self.ask())

    async def ask(self) -> None:
        """Tell the registry that I am alive, and hear where I stand."""
        if self.joining:
            return
        self.asked = sent = self.host.now()
        view = self.view
        question = Question(self.id, self.address, view.epoch, self.settled, view.ring)
        try:
            answer = await self.host.call(
                self.registry, "populate_finger_table", question, CALL_TIMEOUT
            )
            if answer.epoch < self.view.epoch:  # it was started again: it gives no leave yet
                self._step_into(answer.view)
                await self.host.call(self.registry, "restore", self.view, CALL_TIMEOUT)
                raise Unreachable
            # A registry without memory may have reached the same epoch in a ring of its own.
            other = answer.epoch == view.epoch and answer.view and answer.view.ring != view.ring
            if answer.known and not other:
                self.orphan = False
                self.leave_since = max(self.leave_since, sent)
                self._step_into(answer.view)
                if answer.settled and answer.epoch == self.view.epoch == self.settled:
                    self.sweep()
            elif question.epoch == self.view.epoch and not (self.joining or self.leaving):
                await self.join()  # it dropped me
        except Unreachable as error:
            self.orphan = True
            witnesses = await self.neighbours_agree()
            if witnesses:
                self.leave_since = max(self.leave_since, sent)
            elif witnesses == 0 and isinstance(error, Refused):
                # I am alone, and nobody can be admitted before a new registry has listened.
                self.leave_since = max(self.leave_since, sent - LEASE + GRACE)

    async def neighbours_agree(self) -> int | None:
        """Ask my successors, who would own my arc without me, whether I am still its owner.

        Return how many have confirmed it: the next two that are not gone. None: somebody has not.
        """
        witnesses = 0
        for node in self.view.next_nodes(self.id, len(self.view.members)):
            try:
                request = Epoch(self.view.epoch, self.view.ring)
                reply = await self.host.call(node.address, "confirm", request, CONFIRM_TIMEOUT)
            except Refused:
                continue  # who is gone owns nothing
            except Unreachable:
                return None
            if not reply.accepted:
                return None
            witnesses += 1
            if witnesses == REPLICAS:
                break
        return witnesses

    def confirm(self, request: Epoch) -> Accepted:
        """Confirm that no registry gives me leave either, and that I know no newer view.

        It is a promise: while the other may serve because of it, I settle in no newer one.
        """
        self.check_ring(request.ring)
        accepted = self.orphan and self.served_after is not None
        accepted = accepted and self.view.epoch <= request.epoch
        if accepted:
            now = self.host.now()
            self.promises = {epoch: end for epoch, end in self.promises.items() if end > now}
            self.promises[request.epoch] = now + LEASE
        return Accepted(accepted)

    def is_bound(self) -> bool:
        """Tell whether a neighbour may still serve by a view before mine, as I have promised."""
        now = self.host.now()
        return any(epoch < self.view.epoch and now < end for epoch, end in self.promises.items())

    async def deregister(self, view: View) -> bool:
        """Leave the ring if it is still this one; return False if it is not, or nobody can say.

        Two neighbours that leave at the same time do so one after the other: the second finds the
        view changed, and hands over to the nodes that follow it now.
        """
        departure = Departure(self.id, self.address, view.epoch)
        try:
            reply = await self.host.call(self.registry, "deregister", departure, CALL_TIMEOUT)
        except Refused:
            self.orphan = True
            return True  # the next registry misses this node
        except Unreachable:
            return False
        if reply.view and not self.has_place_in(reply.view):
            nearby = dict.fromkeys([view.predecessor(self.id), *view.next_nodes(self.id)])
            await self.host.gather(*(self._try(n, "install", reply.view) for n in nearby))
            return True
        self._step_into(reply.view)
        return False

    async def _try(
        self, node: Node, method: str, request: object, timeout: float = CALL_TIMEOUT
    ) -> object | None:
        try:
            return await self.host.call(node.address, method, request, timeout)
        except Unreachable:
            return None

    # --- views ---

    def install(self, view: View) -> Accepted:
        """Step into a newer view that another node knows; the answer is a sign of life."""
        self.check_ring(view.ring)
        self._step_into(view)
        return Accepted(True)

    def learn(self, view: View | None) -> None:
        """Step into a newer view of my ring that came with an answer."""
        if view is not None and view.ring == self.view.ring:
            self._step_into(view)

    def check_ring(self, ring: int) -> None:
        """Raise Stranger if a message is of another ring than mine; before I join, none is."""
        if ring != self.view.ring and self.view.ring:
            raise Stranger("a node of another ring")

    def _step_into(self, view: View | None) -> None:
        """Step into a newer view; stop serving at once what is not mine in it.

        The registry may give a view of another ring: it has been restarted, and let nodes in
        before it learned of their ring.
        """
        if view is None or view.epoch <= self.view.epoch or view.m != self.view.m or self.joining:
            return
        old, self.view = self.view, view
        if not self.has_place_in(view):
            self.served_after = None
            self.ask_soon()
            return
        if self.served_after is not None and view.predecessor(self.id).id != self.id:
            self.served_after = self._later(self.served_after, view.predecessor(self.id).id)
        if self.settled == old.epoch and view.surroundings(self.id) == old.surroundings(self.id):
            self.settled = view.epoch
            return
        self.host.spawn(self.settle())
        # Who is before me may have new surroundings too; it tells the one before it.
        self.host.spawn(self._try(view.predecessor(self.id), "install", view))

    def _later(self, one: int, other: int) -> int:
        """Return which of two ids I come to last, clockwise, on the way to my own."""
        return other if between(other, one, self.id) else one

    # --- state ---

    def is_member(self, id: int | None = None) -> bool:
        """Tell whether I am in the ring, under this id. While I leave I still am a source."""
        return not self.joining and id in (None, self.id) and self.has_place_in(self.view)

    def has_place_in(self, view: View) -> bool:
        """Tell whether it is me who has my id in a view: a node that was dropped may lose it."""
        node = view.by_id.get(self.id)
        return node is not None and node.address == self.address

    def owns(self, key: str) -> bool:
        """Tell whether a key is on the arc that I am settled on."""
        k = key_id(key, self.view.m)
        return self.served_after is not None and between(k, self.served_after, self.id)

    def holds(self, key: str) -> bool:
        """Tell whether I am the owner or a replica of a key in this view."""
        return between(key_id(key, self.view.m), self.view.held_after(self.id), self.id)

    def serves(self, key: str) -> bool:
        """Tell whether I may answer for a key now: it is mine, and nobody thinks me dead."""
        in_time = self.host.now() - self.leave_since < LEASE
        return self.owns(key) and in_time and not self.leaving
