"""An owner and its replicas: a write counts only when the whole replica set has it.

The replica set of a key is its owner and the owner's next two successors.

1. A replica takes a copy only in the epoch that it is in itself, and a write is acknowledged only
   when the whole set has taken it in one epoch. So as soon as one replica knows a newer view, no
   write of the older view can be acknowledged any more: that replica seals the older view.
2. A write that not all have taken is *uncertain*: some may have it. Its owner remembers the key.
   Before it answers "False" about it, it writes the true state anew, with a higher version.
   The next owner finds the record or not, and decides for all (see sync.py).
3. A dead replica holds up the writes of an owner until the registry has dropped it
   (SILENCE_TIMEOUT) and the next view names another. Reads go on.
"""

from collections.abc import Callable

import messages
from chord import Node, View
from place import Place
from store import Store, is_over, remember
from transfer import transfer_time


class Replication:
    """What a node does as the owner of keys, and as a replica of others'.

    Args:
        learn: is given each view that comes with an answer.
        repair: is called when a write has failed: the ring may have changed.
    """

    def __init__(
        self,
        host: messages.Host,
        place: Place,
        store: Store,
        learn: Callable[[View | None], None],
        repair: Callable[[], None],
    ):
        self.host, self.place, self.store = host, place, store
        self.learn, self.repair = learn, repair
        self.counter = 0  # of versions
        self.writing: set[str] = set()  # keys of which the replicas are being asked
        self.uncertain: set[str] = set()  # keys of which a replica may have a write that failed
        self.handed_over: set[str] = set()  # keys of the next view, got from a node that leaves

    # --- the owner ---

    async def execute(self, operation: messages.Operation) -> messages.Outcome:
        """Carry out an operation on a key that this node serves."""
        record = self.store.records.get(operation.key)
        success = record is not None and record.text is not None
        text = record.text if operation.kind == messages.Kind.GET and success else ""
        if operation.kind in (messages.Kind.SAVE, messages.Kind.REMOVE):
            success = await self._change(operation, record)
            if success is None:
                return messages.Outcome(messages.Status.RETRY)
        return messages.Outcome(
            messages.Status.DONE, success, Node(self.place.id, self.place.address), text
        )

    async def _change(
        self, operation: messages.Operation, record: messages.Record | None
    ) -> bool | None:
        """Save or remove a key, once; None: nothing is decided, the request must be repeated."""
        key, request = operation.key, operation.request_id
        done = record.request_ids if record else ()
        if key in self.writing:
            return None
        if request in done:
            return True
        if is_over(done, request):
            return None
        present = record is not None and record.text is not None
        if present == (operation.kind == messages.Kind.REMOVE):
            text = operation.text if operation.kind == messages.Kind.SAVE else None
            return await self._write(key, text, request) or None
        if key in self.uncertain and not await self._rewrite(key):
            return None  # what failed may have been this very operation
        return False

    async def _write(
        self, key: str, text: str | None, request: messages.RequestId | None = None
    ) -> bool:
        """Have the whole replica set take a new record of a key in this epoch."""
        view, old = self.place.view, self.store.records.get(key)
        done = old.request_ids if old else ()
        if request:
            done = remember(done, request)
        record = messages.Record(key, self.next_version(view), text, done)
        self.writing.add(key)
        try:
            replicas = view.next_nodes(self.place.id)
            kept = await self.host.gather(*(self._copy_to(node, record, view) for node in replicas))
        finally:
            self.writing.discard(key)
        if not all(kept) or view is not self.place.view or not self.place.serves(key):
            if self.place.owns(key):
                self.uncertain.add(key)
            self.repair()
            return False
        self.uncertain.discard(key)
        self.store.put(record)
        return True

    async def _rewrite(self, key: str) -> bool:
        """Write the present state of a key anew."""
        old = self.store.records.get(key)
        return await self._write(key, old.text if old else None)

    async def _copy_to(self, node: Node, record: messages.Record, view: View) -> bool:
        copies = messages.Copies(node.id, view.epoch, (record,), view.ring)
        timeout = messages.CALL_TIMEOUT + transfer_time(record.text)
        reply = await messages.try_call(self.host, node, "replicate", copies, timeout)
        if reply is None or reply.accepted:
            return reply is not None
        self.learn(reply.view)
        if reply.view.epoch < view.epoch:
            await messages.try_call(self.host, node, "install", view)
        return False

    async def resolve_uncertain(self) -> bool:
        """Write uncertain keys anew, so that a write that failed stays without effect.

        Return whether none is left.
        """
        for key in sorted(self.uncertain):  # in one order, so that a simulated run can be repeated
            if not self.place.owns(key):
                self.uncertain.discard(key)
            elif key in self.writing or not await self._rewrite(key):
                return False
        return True

    def next_version(self, view: View) -> int:
        """Return a version that is higher than all before, in this epoch or an earlier one."""
        self.counter += 1
        return view.epoch * messages.VERSIONS_PER_EPOCH + self.counter

    # --- the replica ---

    def replicate(self, copies: messages.Copies) -> messages.Ack:
        """Keep copies, if the sender is in the same epoch.

        Of what this node serves, its own records are right: a node that leaves may hand over a
        write that failed.
        """
        if not self.place.is_member(copies.to) or copies.epoch != self.place.view.epoch:
            return messages.Ack(False, self.place.view)
        for record in copies.records:
            if not self.place.owns(record.key):
                self.store.put(record)
            if not self.place.holds(record.key):
                self.handed_over.add(record.key)
        return messages.Ack(True)
