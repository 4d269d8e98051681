"""What a node holds: its records, kept the same on all their holders, and handed over.

Why it is as it is stands at the top of chord.py.
"""

from dataclasses import replace

from chord import REPLICAS, TOMBSTONE_LIFE, Node, View, between, key_id
from messages import (
    EPOCH,
    Accepted,
    Arc,
    Copies,
    Host,
    Keys,
    Record,
    Refused,
    Unreachable,
    Version,
    Versions,
)
from place import Place
from records import MISSING, batches, demoted, merge, remember, version_of

HOP_TIMEOUT = 2.0  # s for an answer of an owner, who may have to wait for its replicas
SETTLE_PAUSE = 0.1  # s between two attempts
LISTING = 20_000  # records/s that a node lists, at the least
TRANSFER = 5_000_000  # characters/s that a node takes, at the least


class Holder(Place):
    """A node with its records. What it answers to clients is the matter of Member."""

    def __init__(self, host: Host, ipaddr: str, port: int, registry: str):
        super().__init__(host, ipaddr, port, registry)
        self.records: dict[str, Record] = {}
        self.counter = 0  # of versions and of operations
        self.settling = False
        self.writing: set[str] = set()  # keys for which holders are being asked
        self.doubts: set[str] = set()  # keys for which a holder may have a write that failed
        self.bequests: set[str] = set()  # keys held for the next view, from one about to leave
        self.unfinished: dict[int, int] = {}  # node -> records that I have yet to hand over to it
        self.swept = host.now()
        self.swept_epoch = 0
        self.old_tombstones: set[Record] = set()

    # --- changes of place ---

    def come_back(self, absence: float) -> None:
        """Take my records to a new place: they are old, or too old."""
        if absence > TOMBSTONE_LIFE:
            self.records.clear()
        self.records = {key: demoted(record) for key, record in self.records.items()}
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
        self.leaving = True
        while self.has_place_in(self.view):
            view = self.view
            heirs = await self._hand_over(view)
            if heirs is not None and await self.deregister(view):
                return heirs > 0
            await self.host.sleep(SETTLE_PAUSE)
            self.ask_soon()
        return True  # dropped, and so are my copies

    async def _hand_over(self, view: View) -> int | None:
        """Give the nodes that hold my arc without me what they lack; return how many have all.

        None: some that live have not. One that hangs is waited for, until the registry drops it;
        without a registry two are enough.
        """
        self.unfinished.clear()
        heirs = view.next_nodes(self.id, REPLICAS + 1)
        results = await self.host.gather(*(self._bequeath(view, heir) for heir in heirs))
        living = [result for result in results if result is not None]
        needed = min(len(living), REPLICAS) if self.orphan else len(living)
        return sum(living) if sum(living) >= needed and view is self.view else None

    async def _bequeath(self, view: View, heir: Node) -> bool | None:
        """Give a node what I have and it has not; False: it has not got all; None: it is gone."""
        self.unfinished[heir.id] = len(self.records)
        try:
            theirs = await self._versions(view, heir, self.id, self.id)
            if theirs is None or not await self._push(view, heir, theirs, self.records):
                return False
        except Refused:
            return None
        except Unreachable:
            return False
        self.unfinished.pop(heir.id, None)
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
        theirs = await self.host.gather(*(self._versions(view, heir, *arc) for heir in heirs))
        if None in theirs:
            return False
        newest = await self._collect(view, heirs, theirs)
        own = {record.key: record for record in self.records_on(*arc) if self.owns(record.key)}
        for heir, versions in zip(heirs, theirs, strict=True):
            if not await self._push(view, heir, versions, newest | own):
                return False
        if view is not self.view or self.leaving:
            return False
        for record in newest.values():  # only now: what I serve, all holders have
            merge(self.records, record)
        self.served_after, self.settled = predecessor.id, view.epoch
        return True

    async def _collect(self, view: View, heirs: list[Node], theirs: list[dict]) -> dict:
        """Return the newest records of what is mine in this view, but not yet served."""
        arc = view.predecessor(self.id).id, self.id
        newest = {r.key: r for r in self.records_on(*arc) if not self.owns(r.key)}
        known = [{key: record.version for key, record in newest.items()}, *theirs]
        for heir, versions in zip(heirs, theirs, strict=True):
            versions = {k: version for k, version in versions.items() if not self.owns(k)}
            for record in await self._fetch(heir, versions, newest):
                merge(newest, record)
        for key, record in newest.items():
            versions = {of_one.get(key, MISSING) for of_one in known[key not in known[0] :]}
            if len(versions) > 1:
                newest[key] = replace(record, version=self._next_version(view))
        return newest

    async def _resolve_doubts(self) -> bool:
        """Write anew what is true of keys in doubt, so that a write that failed stays so."""
        for key in tuple(self.doubts):
            if not self.owns(key):
                self.doubts.discard(key)
            elif key not in self.writing and not await self._rewrite(key):
                return False
        return True

    async def _versions(self, view: View, node: Node, after: int, upto: int) -> dict | None:
        """Return what a node has on an arc, once it is in this view; None if that is old."""
        arc, timeout = Arc(node.id, view, after, upto), HOP_TIMEOUT + len(self.records) / LISTING
        reply = await self.host.call(node.address, "digest", arc, timeout)
        self.learn(reply.view)
        return {v.key: v.version for v in reply.versions} if reply.accepted else None

    async def _fetch(self, node: Node, versions: dict[str, int], have: dict) -> list[Record]:
        """Return the records of another node that are newer than those at hand."""
        records: list[Record] = []
        wanted = [key for key, version in versions.items() if version > version_of(have, key)]
        while wanted:
            keys = Keys(tuple(wanted), self.view.ring)
            copies = await self.host.call(node.address, "fetch", keys, HOP_TIMEOUT)
            records += copies.records
            got = {record.key for record in copies.records}
            if not got:
                raise Unreachable("it no longer has what it listed")
            wanted = [key for key in wanted if key not in got]
        return records

    async def _push(self, view: View, node: Node, versions: dict, records: dict) -> bool:
        """Send a node the records that it lacks; return False if it is in another view."""
        lacking = [r for r in list(records.values()) if r.version > versions.get(r.key, MISSING)]
        left = len(lacking)
        for batch in batches(lacking):
            if node.id in self.unfinished:
                self.unfinished[node.id] = left
            copies = Copies(node.id, view.epoch, batch, view.ring)
            timeout = HOP_TIMEOUT + sum(len(record.text or "") for record in batch) / TRANSFER
            reply = await self.host.call(node.address, "replicate", copies, timeout)
            self.learn(reply.view)
            if not reply.accepted:
                return False
            left -= len(batch)
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
        merge(self.records, record)
        return True

    async def _rewrite(self, key: str) -> bool:
        old = self.records.get(key)
        return await self._write(key, old.text if old else None)

    async def _replicate(self, view: View, node: Node, record: Record) -> bool:
        copies = Copies(node.id, view.epoch, (record,), view.ring)
        reply = await self._try(node, "replicate", copies)
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
        here = self.records_on(arc.after, arc.upto)
        return Versions(True, versions=tuple(Version(r.key, r.version) for r in here))

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
                merge(self.records, record)
            if not self.holds(record.key):
                self.bequests.add(record.key)
        return Accepted(True)

    # --- state ---

    def records_on(self, after: int, upto: int) -> list[Record]:
        """Return my records of the keys on an arc."""
        m = self.view.m
        return [r for key, r in self.records.items() if between(key_id(key, m), after, upto)]

    def sweep(self) -> None:
        """All are settled in this view: drop what I do not hold, and tombstones long known."""
        if self.leaving:
            return
        if self.swept_epoch < self.view.epoch and self.is_member():
            self.swept_epoch = self.view.epoch
            kept = [key for key in self.records if self.holds(key) or key in self.bequests]
            self.records = {key: self.records[key] for key in kept}
        if self.host.now() - self.swept > TOMBSTONE_LIFE:
            self.swept = self.host.now()
            tombstones = {r for r in self.records.values() if r.text is None}
            for record in tombstones & self.old_tombstones:
                del self.records[record.key]
            self.old_tombstones = tombstones - self.old_tombstones
