"""A node's rules at the top: how it carries out operations on keys, its own and others'."""

from dataclasses import replace

from chord import Node, View, key_id, next_hop
from holder import Holder
from messages import Host, Kind, Operation, Outcome, Status, Unreachable
from store import is_over
from transfer import transfer_time

HOP_TIMEOUT = 2.0  # s for an answer of an owner, which may have to wait for its replicas
OPERATION_TIMEOUT = 8.0  # s in which a node carries out what a client wants, or gives up
FORWARD_TIMEOUT = 0.3  # s for an answer of a node that can only tell the next one
LISTEN_PAUSE = 0.1  # s between two attempts to hear from a silent node
RETRY_PAUSE = (0.01, 0.1)  # s before the second attempt, and before all late ones


class Member(Holder):
    """One node of the ring: place.py is where it stands, holder.py what it holds."""

    def __init__(self, host: Host, ipaddr: str, port: int, registry: str):
        super().__init__(host, ipaddr, port, registry)
        self.under_way: dict[str, list[int]] = {}  # key -> counters of operations, in order
        self.silent: dict[int, Node] = {}  # nodes gone around, until they answer again
        self.owners: set[int] = set()  # nodes that answered for their arc in this view

    def _step_into(self, view: View | None) -> None:
        """Step into a newer view, in which others may own the keys."""
        before = self.view
        super()._step_into(view)
        if self.view is not before:
            self.owners.clear()

    async def operate(self, kind: Kind, key: str, text: str = "") -> Outcome | None:
        """Carry out what a client wants of whichever node owns the key; None: in vain.

        This node itself asks one hop after the other. A hop answers without asking anyone (but
        for the owner of a write, which asks its replicas, who ask nobody), so however many
        operations are under way, none waits for another that waits for it.
        """
        self.counter += 1
        counter, under_way = self.counter, self.under_way.setdefault(key, [])
        under_way.append(counter)
        number = f"{self.name}.{counter}.{under_way[0]}"
        try:
            return await self._insist(Operation(kind, key, text, number))
        finally:
            under_way.remove(counter)
            if not under_way:
                del self.under_way[key]

    async def _insist(self, operation: Operation) -> Outcome | None:
        deadline = self.host.now() + OPERATION_TIMEOUT
        pause = RETRY_PAUSE[0]
        while self.host.now() < deadline:
            outcome = await self._walk(operation)
            if outcome is not None:
                return outcome
            self.ask_soon()
            await self.host.sleep(pause)
            pause = min(2 * pause, RETRY_PAUSE[1])
        return None

    async def _walk(self, operation: Operation) -> Outcome | None:
        """Go from hop to hop, around silent ones, until the owner answers; None: try again."""
        operation = replace(operation, avoid=tuple(self.silent))
        node = self._known_owner(operation.key)
        for _ in range(2 * self.view.m + 2):
            if node is None or node.id == self.id:
                outcome = await self._route(operation)
            else:
                try:
                    outcome = await self._hop(node, operation)
                except Unreachable:
                    self._hear_nothing(node)
                    operation = replace(operation, avoid=(*operation.avoid, node.id))
                    node = None
                    continue
            if outcome.epoch > self.view.epoch:
                self.ask_soon()
            if outcome.status is not Status.NEXT:
                return self._end(outcome)
            node = outcome.node
        return None

    def _known_owner(self, key: str) -> Node | None:
        """Return the owner of a key, if it has answered for its arc in this view before."""
        if not self.is_member():
            return None
        owner = self.view.successor(key_id(key, self.view.m))
        return owner if owner.id in self.owners and owner.id not in self.silent else None

    async def _hop(self, node: Node, operation: Operation) -> Outcome:
        """Ask one node. One that only passes the key on needs no time: it is silent sooner."""
        view = self.view
        is_owner = view.members and view.successor(key_id(operation.key, view.m)).id == node.id
        timeout = HOP_TIMEOUT if is_owner else FORWARD_TIMEOUT
        timeout += transfer_time(operation.text)
        hop = replace(operation, ring=view.ring)
        return await self.host.call(node.address, "route", hop, timeout)

    def _end(self, outcome: Outcome) -> Outcome | None:
        if outcome.status is not Status.DONE:
            return None
        if outcome.node.id in self.view.by_id:
            self.owners.add(outcome.node.id)
        return outcome

    def _hear_nothing(self, node: Node) -> None:
        """Go around a node from now on, until it is heard again."""
        self.ask_soon()
        if node.id not in self.silent:
            self.silent[node.id] = node
            self.host.spawn(self._listen(node))

    async def _listen(self, node: Node) -> None:
        """Wait until a silent node answers, or is no longer in the ring."""
        while self.view.by_id.get(node.id) == node:
            if await self._try(node, "install", self.view) is not None:
                break
            await self.host.sleep(LISTEN_PAUSE)
        self.silent.pop(node.id, None)

    async def route(self, operation: Operation) -> Outcome:
        """Carry an operation out, if the key is mine; else say which node is nearer to its owner.

        Raise Stranger if it comes from another ring.
        """
        self.check_ring(operation.ring)
        return await self._route(operation)

    async def _route(self, operation: Operation) -> Outcome:
        epoch = self.view.epoch
        if self.leaving or not self.is_member():
            return Outcome(Status.RETRY, epoch=epoch)
        if self.serves(operation.key):
            return await self._execute(operation)
        k = key_id(operation.key, self.view.m)
        node = next_hop(self.view, self.id, k, {*operation.avoid, *self.silent})
        if node is None or node.id == self.id:  # no way, or mine but not settled
            return Outcome(Status.RETRY, epoch=epoch)
        return Outcome(Status.NEXT, node=node, epoch=epoch)

    async def _execute(self, operation: Operation) -> Outcome:
        kind, key = operation.kind, operation.key
        record = self.records.get(key)
        present = record is not None and record.text is not None
        success = present
        if kind in (Kind.SAVE, Kind.REMOVE):
            if key in self.writing:
                return Outcome(Status.RETRY)
            done = record.operations if record else ()
            success = operation.number in done
            if not success and is_over(done, operation.number):
                return Outcome(Status.RETRY)
            if not success and present == (kind is Kind.REMOVE):
                text = operation.text if kind is Kind.SAVE else None
                success = await self._write(key, text, operation.number)
                if not success:
                    return Outcome(Status.RETRY)
            elif not success and key in self.doubts and not await self._rewrite(key):
                # What failed may have been this very operation: no "False" before it is undone.
                return Outcome(Status.RETRY)
        text = record.text if kind is Kind.GET and present else ""
        return Outcome(Status.DONE, success, Node(self.id, self.address), text)
