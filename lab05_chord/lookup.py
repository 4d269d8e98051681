"""How a node finds the owner of a key: hop by hop, around nodes that do not answer.

The node that a client has asked walks (Chord §6.1, the iterative style): it asks one node after the
other, each of which carries the operation out or names the next one (chord.next_hop). A node on the
way waits for no other, so however many operations are under way, none waits for another that waits
for it. What the walking node learns it keeps: which nodes are silent, and which have answered as
the owner of their arc in this view, so that the next operation there takes one hop.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import messages
from chord import Node, key_id, next_hop
from place import Place
from transfer import transfer_time

HOP_TIMEOUT = 2.0  # s for an answer of an owner, which may have to wait for its replicas
FORWARD_TIMEOUT = 0.3  # s for an answer of a node that only names the next one
OPERATION_TIMEOUT = 8.0  # s in which a node begins another walk; the last one may take longer
LISTEN_INTERVAL = 0.1  # s between two attempts to hear from a silent node
RETRY_INTERVALS = (0.01, 0.1)  # s before the second attempt; then doubled, up to the other value


class Lookup:
    """Finds owners, for the clients of this node and for other nodes.

    Args:
        execute: carries out an operation on a key that this node serves.
        heartbeat_soon: is called at signs that the ring has changed.
        process: the identity of this node's process, for the ids of its requests.
    """

    def __init__(
        self,
        host: messages.Host,
        place: Place,
        execute: Callable[[messages.Operation], Awaitable[messages.Outcome]],
        heartbeat_soon: Callable[[], None],
        process: int,
    ):
        self.host, self.place, self.process = host, place, process
        self.execute, self.heartbeat_soon = execute, heartbeat_soon
        self.counter = 0  # of operations
        self.under_way: dict[str, list[int]] = {}  # key -> counters of operations, in order
        self.silent: dict[int, Node] = {}  # nodes to avoid, until they answer again
        self.owners: set[int] = set()  # nodes that have answered for their arc in this view

    # --- the node that a client has asked ---

    async def operate(
        self, kind: messages.Kind, key: str, text: str = ""
    ) -> messages.Outcome | None:
        """Carry out an operation at the owner of the key; None if that has failed."""
        self.counter += 1
        counter, under_way = self.counter, self.under_way.setdefault(key, [])
        under_way.append(counter)
        request_id = messages.RequestId(self.process, counter, under_way[0])
        try:
            return await self._insist(messages.Operation(kind, key, text, request_id))
        finally:
            under_way.remove(counter)
            if not under_way:
                del self.under_way[key]

    async def _insist(self, operation: messages.Operation) -> messages.Outcome | None:
        deadline = self.host.now() + OPERATION_TIMEOUT
        pause, longest = RETRY_INTERVALS
        timeout = HOP_TIMEOUT + transfer_time(operation.text)
        while self.host.now() < deadline:
            silent_before = set(self.silent)
            outcome = await self._walk(operation, timeout)
            if outcome is not None:
                return outcome
            if operation.kind == messages.Kind.GET and self.silent.keys() - silent_before:
                # The text may be too long for this timeout: only the owner knows.
                timeout = min(2 * timeout, OPERATION_TIMEOUT)
            self.heartbeat_soon()
            await self.host.sleep(pause)
            pause = min(2 * pause, longest)
        return None

    async def _walk(self, operation: messages.Operation, timeout: float) -> messages.Outcome | None:
        """Go from hop to hop until the owner answers; None: try again. `timeout`: of the owner.

        1. Ask the owner if it is known, else this node itself.
        2. NEXT: ask the node that is named.
        3. A node that does not answer is avoided from now on: begin again at this node.
        4. DONE ends the walk. So does RETRY, while the ring changes; and so does a walk that is too
           long: this node, m hops, and as many again for ways around silent nodes.
        """
        operation = replace(operation, avoid=tuple(self.silent))
        node = self._known_owner(operation.key)
        for _ in range(2 * self.place.view.m + 2):
            if node is None or node.id == self.place.id:
                outcome = await self.route(operation)
            else:
                try:
                    outcome = await self._hop(node, operation, timeout)
                except messages.Unreachable:
                    self._avoid_until_heard(node)
                    operation = replace(operation, avoid=(*operation.avoid, node.id))
                    node = None
                    continue
            if outcome.epoch > self.place.view.epoch:
                self.heartbeat_soon()
            if outcome.status != messages.Status.NEXT:
                return self._end(outcome)
            node = outcome.node
        return None

    def _known_owner(self, key: str) -> Node | None:
        """Return the owner of a key, if it has answered for its arc in this view before."""
        if not self.place.is_member():
            return None
        owner = self.place.view.successor(key_id(key, self.place.view.m))
        return owner if owner.id in self.owners and owner.id not in self.silent else None

    async def _hop(
        self, node: Node, operation: messages.Operation, timeout: float
    ) -> messages.Outcome:
        """Ask one node. One that only names the next needs no time: it is silent sooner."""
        view = self.place.view
        is_owner = view.members and view.successor(key_id(operation.key, view.m)).id == node.id
        if not is_owner:
            timeout = FORWARD_TIMEOUT + transfer_time(operation.text)
        hop = replace(operation, ring=view.ring)
        return await self.host.call(node.address, "route", hop, timeout)

    def _end(self, outcome: messages.Outcome) -> messages.Outcome | None:
        if outcome.status != messages.Status.DONE:
            return None
        if outcome.node.id in self.place.view.by_id:
            self.owners.add(outcome.node.id)
        return outcome

    def _avoid_until_heard(self, node: Node) -> None:
        """Avoid a silent node from now on, until it is heard again."""
        self.heartbeat_soon()
        if node.id not in self.silent:
            self.silent[node.id] = node
            self.host.spawn(self._listen(node))

    async def _listen(self, node: Node) -> None:
        """Wait until a silent node answers, or is no longer in the ring."""
        while self.place.view.by_id.get(node.id) == node:
            if await messages.try_call(self.host, node, "install", self.place.view) is not None:
                break
            await self.host.sleep(LISTEN_INTERVAL)
        self.silent.pop(node.id, None)

    # --- a node on the way ---

    async def route(self, operation: messages.Operation) -> messages.Outcome:
        """Carry an operation out, if this node serves the key; else name the next node."""
        place, view = self.place, self.place.view
        if place.leaving or not place.is_member():
            return messages.Outcome(messages.Status.RETRY, epoch=view.epoch)
        if place.serves(operation.key):
            return await self.execute(operation)
        k = key_id(operation.key, view.m)
        node = next_hop(view, place.id, k, {*operation.avoid, *self.silent})
        if node is None or node.id == place.id:  # no way, or this node's own but not in sync
            return messages.Outcome(messages.Status.RETRY, epoch=view.epoch)
        return messages.Outcome(messages.Status.NEXT, node=node, epoch=view.epoch)
