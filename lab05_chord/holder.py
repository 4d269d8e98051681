"""What a node holds: its records, kept the same on all their holders, and handed over.

Why it is as it is stands at the top of chord.py.
"""

import contextlib
from dataclasses import replace

from chord import REPLICAS, TOMBSTONE_LIFE, Node, View
from messages import (
    EPOCH,
    Accepted,
    Arc,
    Copies,
    Host,
    Keys,
    Record,
    Refused,
    Registered,
    Unreachable,
    Versions,
)
from place import CALL_TIMEOUT, Place
from store import MISSING, Listing, Store, batches, demoted, remember, version_of
from transfer import Transfer, in_slices, transfer_time

SETTLE_PAUSE = 0.1  # s between two attempts


class Holder(Place):
    """A node with its records. What it answers to clients is the matter of Member."""

    def __init__(self, host: Host, ipaddr: str, port: int, registry: str):
        super().__init__(host, ipaddr, port, registry)
        self.store = Store(host.draw_identity())
        self.listings: dict[Node, Listing] = {}  # what others have, while I settle
        self.estate: dict[Node, Listing] = {}  # what others have, while I leave
        self.prepared: list[Record] = []  # copied before I was in the ring
        self.transfer = Transfer(host, self.learn)
        self.counter = 0  # of versions and of operations
        self.settling = False
        self.writing: set[str] = set()  # keys for which holders are being asked
        self.doubts: set[str] = set()  # keys for which a holder may have a write that failed
        self.bequests: set[str] = set()  # keys held for the next view, from one about to leave
        self.swept = host.now()
        self.swept_epoch = 0
        self.old_tombstones: set[Record] = set()

    @property
    def records(self) -> dict[str, Record]:
        return self.store.records

    # --- changes of place ---

    async def prepare(self, place: Registered) -> bool:
        """Copy what I shall hold from the nodes that will follow me, which serve it meanwhile.

        Return False if the ring has changed since the registry told me of it.
        """
        view, id = place.view, place.id
        # An entry with my address is one of mine that the registry drops when it lets me in.
        others = [node for node in view.members if node.address != self.address]
        to_be = View(view.epoch, view.m, (*others, Node(id, self.address)), view.ring)
        arc = to_be.held_after(id), id
        try:
            for source in to_be.next_nodes(id):
                versions = await self.transfer.versions(view, source, *arc, self.listings)
                if versions is None:
                    return False
                have = {record.key: record for record in self.prepared}
                self.prepared += await self.transfer.fetch(source, view.ring, versions, have)
        except Unreachable:
            return False
        return True

    def come_back(self, absence: float, m: int) -> None:
        """Take my records to a new place: they are old, or too old."""
        kept = () if absence > TOMBSTONE_LIFE else self.records.values()
        self.store.replace(map(demoted, list(kept)), m)
        for record in self.prepared:
            self.store.put(record)
        self.prepared = []
        self.doubts.clear()
        self.bequests.clear()

    def _step_into(self, view: View | None) -> None:
        """Step into a newer view, for which bequests were kept until now."""
        before = self.view
        super()._step_into(view)
        if self.view is not before:
            self.bequests.clear()

    async def leave(self) -> bool:
        """Hand my records over to the nodes that will hold them, then leave the ring.

        No time limit decides about data: until all is handed over I remain a source of it.

        Return False if there is no other node that could have them.
        """
        heirs = self.view.next_nodes(self.id, REPLICAS + 1)
        await self.host.gather(*(self._look(heir) for heir in heirs))
        self.leaving = True
        while self.has_place_in(self.view):
            view = self.view
            count = await self._hand_over(view)
            if count is not None and await self.deregister(view):
                return count > 0
            await self.host.sleep(SETTLE_PAUSE)
            self.ask_soon()
        return True  # dropped, and so are my copies

    async def _look(self, heir: Node) -> None:
        """Learn what a node has while I still serve, so that the hand-over is short."""
        self.transfer.unfinished[heir.id] = len(self.records)
        with contextlib.suppress(Unreachable):
            await self.transfer.versions(self.view, heir, self.id, self.id, self.estate)

    async def _hand_over(self, view: View) -> int | None:
        """Give the nodes that hold my arc without me what they lack; return how many have all.

        None: some that live have not. One that hangs is waited for, until the registry drops it;
        without a registry two are enough.
        """
        self.transfer.unfinished.clear()
        others, living = view.next_nodes(self.id, len(view.members)), []
        while others and len(living) <= REPLICAS:  # one that is gone, another comes for it
            missing = REPLICAS + 1 - len(living)
            heirs, others = others[:missing], others[missing:]
            results = await self.host.gather(*(self._bequeath(view, heir) for heir in heirs))
            living += [result for result in results if result is not None]
        needed = min(len(living), REPLICAS) if self.orphan else len(living)
        return sum(living) if sum(living) >= needed and view is self.view else None

    async def _bequeath(self, view: View, heir: Node) -> bool | None:
        """Give a node what I have and it has not; False: it has not got all; None: it is gone."""
        self.transfer.unfinished[heir.id] = len(self.records)
        try:
            theirs = await self.transfer.versions(view, heir, self.id, self.id, self.estate)
            if theirs is None or not await self.transfer.push(view, heir, theirs, self.records):
                return False
        except Refused:
            return None
        except Unreachable:
            return False
        self.transfer.unfinished.pop(heir.id, None)
        return True

    # --- settling: the holders of my arc agree on its records ---

    async def settle(self) -> None:
        """Agree with my successors on every record of my arc, then serve it."""
        if self.settling:
            return
        self.settling = True
        try:
            while self.is_member() and not self.leaving and self._is_unsettled():
                view = self.view
                try:
                    agreed = await self._agree(view) and await self._resolve_doubts()
                except Unreachable:
                    agreed = False
                if not agreed and view is self.view:
                    await self.host.sleep(SETTLE_PAUSE)
                    self.ask_soon()
        finally:
            self.settling = False
        await self.ask()  # tells the registry that I am settled

    def _is_unsettled(self) -> bool:
        return bool(self.doubts) or self.settled < self.view.epoch

    async def _agree(self, view: View) -> bool:
        """Bring my successors and me to the same records of my arc.

        Of what I serve, my own records are right. Of the rest the newest are; those on which we
        do not agree are written anew, so that no copy left elsewhere is ever newer.
        """
        predecessor, heirs = view.predecessor(self.id), view.next_nodes(self.id)
        if self.is_bound():
            return False
        if self.settled < self.born:  # a newcomer: who is before me has a new successor
            self.host.spawn(self._try(predecessor, "install", view))
        arc = predecessor.id, self.id
        theirs = await self.host.gather(
            *(self.transfer.versions(view, heir, *arc, self.listings) for heir in heirs)
        )
        if None in theirs:
            return False
        newest = await self._collect(view, heirs, theirs)
        records = newest | self._served(view)
        pushes = (
            self.transfer.push(view, *its, records) for its in zip(heirs, theirs, strict=True)
        )
        if not all(await self.host.gather(*pushes)) or view is not self.view or self.leaving:
            return False
        async for keys in in_slices(self.host, list(newest)):
            for key in keys:  # only now: what I serve, all holders have
                self.store.put(newest[key])
        if view is not self.view or self.leaving:
            return False
        self.served_after, self.settled = predecessor.id, view.epoch
        self.listings.clear()
        self.transfer.all_is_well()
        return True

    def _served(self, view: View) -> dict[str, Record]:
        """Return my records of what I serve already, as far as it is mine in a view."""
        if self.served_after is None:
            return {}
        return self.store.on(self._later(self.served_after, view.predecessor(self.id).id), self.id)

    async def _collect(self, view: View, heirs: list[Node], theirs: list[dict]) -> dict:
        """Return the newest records of what is mine in this view, but not yet served."""
        after, upto = view.predecessor(self.id).id, self.served_after
        if upto is None:
            upto = self.id
        elif self._later(upto, after) == after:
            return {}
        newest = self.store.on(after, upto)
        known = [{key: record.version for key, record in newest.items()}]
        for heir, versions in zip(heirs, theirs, strict=True):
            on_arc = Listing(view.predecessor(self.id).id, self.id, versions=versions)
            known.append(on_arc.on(after, upto, view.m))
            for record in await self.transfer.fetch(heir, view.ring, known[-1], newest):
                if record.version > version_of(newest, record.key):
                    newest[record.key] = record
        await self._settle_disputes(view, newest, known)
        return newest

    async def _settle_disputes(self, view: View, newest: dict, known: list[dict]) -> None:
        """Give a new version to the records on which holders do not agree; mine is known[0]."""
        if all(of_one == known[-1] for of_one in known[:-1]):
            return
        async for keys in in_slices(self.host, list(newest)):
            for key in keys:
                record, others = newest[key], known if key in known[0] else known[1:]
                if any(of_one.get(key, MISSING) != record.version for of_one in others):
                    newest[key] = replace(record, version=self._next_version(view))

    async def _resolve_doubts(self) -> bool:
        """Write anew what is true of keys in doubt, so that a write that failed stays so."""
        for key in tuple(self.doubts):
            if not self.owns(key):
                self.doubts.discard(key)
            elif key not in self.writing and not await self._rewrite(key):
                return False
        return True

    # --- writing: all holders take a record, in one epoch ---

    async def _write(self, key: str, text: str | None, number: str = "") -> bool:
        """Have all holders take a new record of a key in this epoch; only then it counts."""
        view, old = self.view, self.records.get(key)
        numbers = old.operations if old else ()
        if number:
            numbers = remember(numbers, number)
        record = Record(key, self._next_version(view), text, numbers)
        self.writing.add(key)
        try:
            heirs = view.next_nodes(self.id)
            kept = await self.host.gather(*(self._replicate(view, n, record) for n in heirs))
        finally:
            self.writing.discard(key)
        if not all(kept) or view is not self.view or self.leaving or not self.serves(key):
            if self.owns(key):
                self.doubts.add(key)
            self.ask_soon()
            self.host.spawn(self.settle())
            return False
        self.doubts.discard(key)
        self.store.put(record)
        return True

    async def _rewrite(self, key: str) -> bool:
        old = self.records.get(key)
        return await self._write(key, old.text if old else None)

    async def _replicate(self, view: View, node: Node, record: Record) -> bool:
        copies = Copies(node.id, view.epoch, (record,), view.ring)
        timeout = CALL_TIMEOUT + transfer_time(record.text)
        reply = await self._try(node, "replicate", copies, timeout)
        if reply is None or reply.accepted:
            return reply is not None
        self.learn(reply.view)
        if reply.view.epoch < view.epoch:
            await self._try(node, "install", view)
        return False

    def _next_version(self, view: View) -> int:
        self.counter += 1
        return view.epoch * EPOCH + self.counter

    # --- what other nodes ask ---

    def digest(self, arc: Arc) -> Versions:
        """Step into the caller's view, if it is the newest, and list what I have on an arc."""
        self.install(arc.view)
        if not self.is_member(arc.to) or arc.view.epoch < self.view.epoch or self.is_bound():
            return Versions(False, self.view)
        return self.store.listing(arc.after, arc.upto, arc.generation, arc.since)

    def fetch(self, request: Keys) -> Copies:
        """Return the first of the records asked for, as many as go into one message."""
        self.check_ring(request.ring)
        records = (self.records[key] for key in request.keys if key in self.records)
        return Copies(self.id, self.view.epoch, next(batches(records), ()))

    def replicate(self, copies: Copies) -> Accepted:
        """Keep copies, if the sender is in the same epoch.

        Of what I serve, my own records are right: what a neighbour bequeaths of it may be in doubt.
        """
        self.check_ring(copies.ring)
        if not self.is_member(copies.to) or copies.epoch != self.view.epoch:
            return Accepted(False, self.view)
        for record in copies.records:
            if not self.owns(record.key):
                self.store.put(record)
            if not self.holds(record.key):
                self.bequests.add(record.key)
        return Accepted(True)

    # --- state ---

    def sweep(self) -> None:
        """All are settled in this view: drop what I do not hold, and tombstones long known."""
        if self.leaving:
            return
        if self.swept_epoch < self.view.epoch and self.is_member():
            self.swept_epoch = self.view.epoch
            held = self.store.on(self.view.held_after(self.id), self.id)
            self.store.drop(self.records.keys() - held.keys() - self.bequests)
        if self.host.now() - self.swept > TOMBSTONE_LIFE:
            self.swept = self.host.now()
            tombstones = {r for r in self.records.values() if r.text is None}
            self.store.drop(record.key for record in tombstones & self.old_tombstones)
            self.old_tombstones = tombstones - self.old_tombstones
