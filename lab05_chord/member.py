"""A node's rules: which keys it serves, how it settles after a change, how it carries out
operations. Why they are as they are stands at the top of chord.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from chord import (
    BEAT,
    LEASE,
    TOMBSTONE_LIFE,
    Node,
    View,
    between,
    key_id,
    next_hop,
)
from membership import NODE_RETRY
from messages import (
    Accepted,
    Arc,
    Copies,
    Departure,
    Epoch,
    Host,
    Keys,
    Kind,
    Operation,
    Outcome,
    Question,
    Record,
    Refused,
    Registered,
    Registration,
    Status,
    Unreachable,
    Version,
    Versions,
)

CALL_TIMEOUT = 1.0  # s for an answer that needs nobody else
GOODBYE_TIMEOUT = 0.2  # s
HOP_TIMEOUT = 2.0  # s for an answer of an owner, who may have to wait for its replicas
REGISTER_TIMEOUT = 15.0  # s: a newcomer waits for those before it, and for a death to be noticed
OPERATION_TIMEOUT = 8.0  # s in which a node carries out what a client wants, or gives up
RETRY_PAUSE = (0.01, 0.1)  # s before the second attempt, and before all late ones
SOONEST_BEAT = 0.05  # s between two questions out of turn
BATCH_BYTES = 1_000_000  # about so much goes into one message, or else one record
OPERATIONS_KEPT = 8  # operation numbers stored with a record
EPOCH = 2**32  # versions of one epoch
DEMOTION = 2**62  # more than any version
MISSING = -(2**63)  # the version of no record


class Member:
    """One node of the ring.

    Args:
        host: the world, see messages.Host. ipaddr, port: where others reach this node.
        registry: the registry's address.
    """

    def __init__(self, host: Host, ipaddr: str, port: int, registry: str):
        self.host = host
        self.registry = registry
        self.ipaddr, self.port = ipaddr, port
        self.address = f"{ipaddr}:{port}"
        # where it stands
        self.id = -1
        self.born = 0  # the epoch in which it joined
        self.view = View()
        self.served_after: int | None = None  # it serves (served_after, id]; None: nothing yet
        self.settled = 0  # the last epoch in which it and its successors agreed on its arc
        self.settling = False
        self.joining = self.leaving = False
        # what it stores
        self.records: dict[str, Record] = {}
        self.counter = 0  # of versions and of operations
        self.writing: set[str] = set()  # keys for which holders are being asked
        self.doubts: set[str] = set()  # keys for which a holder may have a write that failed
        self.bequests: set[str] = set()  # keys held for the next view, from one about to leave
        self.swept = host.now()
        self.swept_epoch = 0
        self.old_tombstones: set[Record] = set()
        # what it knows of the registry
        self.leave_since = self.asked = -LEASE
        self.orphan = False  # the registry did not answer last time

    # --- the ring: joining, asking, leaving ---

    async def join(self) -> Registered:
        """Get a place in the ring: the one that this node had before, if it is free."""
        wish = self.id if self.id >= 0 else None
        sent = self.host.now()
        request = Registration(self.ipaddr, self.port, wish)
        self.joining, self.served_after = True, None
        try:
            reply = await self.host.call(self.registry, "register", request, REGISTER_TIMEOUT)
        finally:
            self.joining = False
        if reply.id < 0:
            return reply
        if sent - self.leave_since > TOMBSTONE_LIFE:
            self.records.clear()
        self.records = {key: _demoted(record) for key, record in self.records.items()}
        self.doubts.clear()
        self.id, self.view, self.born = reply.id, reply.view, reply.view.epoch
        self.served_after, self.settled = None, 0
        self.leave_since = sent
        self.host.joined(self.id, self.view)
        self.host.spawn(self.settle())
        return reply

    async def run(self) -> None:
        """Ask the registry every second, as long as the node lives."""
        while not self.leaving:
            await self.ask()
            await self.host.sleep(NODE_RETRY if self.orphan else BEAT)

    def ask_soon(self) -> None:
        """Ask the registry now: there are signs that the ring has changed."""
        if self.host.now() - self.asked >= SOONEST_BEAT:
            self.host.spawn(self.ask())

    async def ask(self) -> None:
        """Tell the registry that I am alive, and hear where I stand."""
        if self.joining or self.leaving:
            return
        self.asked = sent = self.host.now()
        question = Question(self.id, self.address, self.view.epoch, self.settled)
        try:
            answer = await self.host.call(
                self.registry, "populate_finger_table", question, CALL_TIMEOUT
            )
            if answer.epoch < self.view.epoch:  # it was started again and knows less than I do
                self.orphan = True  # until it knows me
                reply = await self.host.call(self.registry, "restore", self.view, CALL_TIMEOUT)
                if not reply.success:
                    raise Unreachable(reply.message)
            elif answer.known:
                self.orphan = False
                self.leave_since = max(self.leave_since, sent)
                self.install(answer.view)
                if answer.settled and answer.epoch == self.view.epoch == self.settled:
                    self.sweep()
            elif question.epoch == self.view.epoch and not self.joining:  # it dropped me
                await self.join()
        except Unreachable:
            self.orphan = True
            if await self.neighbours_agree():
                self.leave_since = max(self.leave_since, sent)

    async def neighbours_agree(self) -> bool:
        """Ask my successors, who would own my arc without me, whether I am still its owner."""
        others = self.view.next_nodes(self.id)
        return all(await self.host.gather(*(self._agrees(node) for node in others)))

    async def _agrees(self, node: Node) -> bool:
        try:
            request = Epoch(self.view.epoch)
            reply = await self.host.call(node.address, "confirm", request, CALL_TIMEOUT)
            return reply.accepted
        except Refused:
            return True  # who is gone owns nothing
        except Unreachable:
            return False

    def confirm(self, request: Epoch) -> Accepted:
        """Confirm that no registry talks to me either, and that I know no newer view."""
        return Accepted(self.orphan and self.view.epoch <= request.epoch)

    async def _try(self, node: Node, method: str, request: object) -> object | None:
        try:
            return await self.host.call(node.address, method, request, CALL_TIMEOUT)
        except Unreachable:
            return None

    async def leave(self) -> None:
        """Give my records to my successors, deregister, tell the neighbours."""
        self.leaving = True  # from now on I serve nothing and keep nothing for others
        for _ in range(3):
            view = self.view
            if self.id not in view.by_id:
                return
            heirs = view.next_nodes(self.id)
            if all(await self.host.gather(*(self._bequeath(view, heir) for heir in heirs))):
                break
        await self.deregister()

    async def deregister(self) -> None:
        """Tell the registry that I am gone, and my neighbours what it makes of it."""
        self.leaving, view = True, self.view
        departure = Departure(self.id, self.address)
        try:
            reply = await self.host.call(self.registry, "deregister", departure, GOODBYE_TIMEOUT)
        except Unreachable:
            return
        if reply.view:
            nearby = dict.fromkeys([view.predecessor(self.id), *view.next_nodes(self.id)])
            await self.host.gather(*(self._try(n, "install", reply.view) for n in nearby))

    async def _bequeath(self, view: View, heir: Node) -> bool:
        """Give a successor all that I have and it has not; False: there is a newer view."""
        try:
            theirs = await self._versions(view, heir, self.id, self.id)
            return theirs is not None and await self._push(view, heir, theirs, self.records)
        except Unreachable:
            return True  # there is nothing to be done, and another heir

    # --- views ---

    def install(self, view: View | None) -> None:
        """Step into a newer view; stop serving at once what is not mine in it."""
        if view is None or view.epoch <= self.view.epoch or self.id < 0 or self.joining:
            return
        old, self.view = self.view, view
        self.bequests.clear()
        if view.by_id.get(self.id, None) != Node(self.id, self.address):
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

    async def settle(self) -> None:
        """Agree with my successors on every record of my arc, then serve it."""
        if self.settling:
            return
        self.settling = True
        try:
            while self.is_member() and (self.doubts or self.settled < self.view.epoch):
                view = self.view
                try:
                    agreed = await self._agree(view) and await self._resolve_doubts()
                except Unreachable:
                    agreed = False
                if not agreed and view is self.view:
                    await self.host.sleep(RETRY_PAUSE[1])
                    self.ask_soon()
        finally:
            self.settling = False
        await self.ask()  # tells the registry that I am settled

    async def _agree(self, view: View) -> bool:
        """Bring my successors and me to the same records of my arc.

        Of what I serve, my own records are right. Of the rest the newest are; those on which we
        do not agree are written anew, so that no copy left elsewhere is ever newer.
        """
        predecessor, heirs = view.predecessor(self.id), view.next_nodes(self.id)
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
            _merge(self.records, record)
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
                _merge(newest, record)
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

    def _next_version(self, view: View) -> int:
        self.counter += 1
        return view.epoch * EPOCH + self.counter

    async def _versions(self, view: View, node: Node, after: int, upto: int) -> dict | None:
        """Return what a node has on an arc, once it is in this view; None if that is old."""
        reply = await self.host.call(
            node.address, "digest", Arc(node.id, view, after, upto), HOP_TIMEOUT
        )
        self.install(reply.view)
        return {v.key: v.version for v in reply.versions} if reply.accepted else None

    async def _fetch(self, node: Node, versions: dict[str, int], have: dict) -> list[Record]:
        """Return the records of another node that are newer than those at hand."""
        records: list[Record] = []
        wanted = [key for key, version in versions.items() if version > _version(have, key)]
        while wanted:
            copies = await self.host.call(node.address, "fetch", Keys(tuple(wanted)), HOP_TIMEOUT)
            records += copies.records
            got = {record.key for record in copies.records}
            if not got:
                raise Unreachable("it no longer has what it listed")
            wanted = [key for key in wanted if key not in got]
        return records

    async def _push(self, view: View, node: Node, versions: dict, records: dict) -> bool:
        """Send a node the records that it lacks; return False if it is in another view."""
        lacking = [r for r in list(records.values()) if r.version > versions.get(r.key, MISSING)]
        for batch in batches(lacking):
            copies = Copies(node.id, view.epoch, batch)
            reply = await self.host.call(node.address, "replicate", copies, HOP_TIMEOUT)
            self.install(reply.view)
            if not reply.accepted:
                return False
        return True

    # --- what other nodes ask ---

    def digest(self, arc: Arc) -> Versions:
        """Step into the caller's view, if it is the newest, and list what I have on an arc."""
        self.install(arc.view)
        if not self.is_member(arc.to) or arc.view.epoch < self.view.epoch:
            return Versions(False, self.view)
        here = self.records_on(arc.after, arc.upto)
        return Versions(True, versions=tuple(Version(r.key, r.version) for r in here))

    def fetch(self, request: Keys) -> Copies:
        """Return the first of the records asked for, as many as go into one message."""
        records = (self.records[key] for key in request.keys if key in self.records)
        return Copies(self.id, self.view.epoch, next(batches(records), ()))

    def replicate(self, copies: Copies) -> Accepted:
        """Keep copies, if the sender is in the same epoch."""
        if not self.is_member(copies.to) or copies.epoch != self.view.epoch:
            return Accepted(False, self.view)
        for record in copies.records:
            _merge(self.records, record)
            if not self.holds(record.key):
                self.bequests.add(record.key)
        return Accepted(True)

    # --- operations ---

    async def operate(self, kind: Kind, key: str, text: str = "") -> Outcome | None:
        """Carry out what a client wants of whichever node owns the key; None: in vain.

        This node itself asks one hop after the other. A hop answers without asking anyone (but
        for the owner of a write, which asks its replicas, who ask nobody), so however many
        operations are under way, none waits for another that waits for it.
        """
        self.counter += 1
        number = f"{self.id}.{self.born}.{self.counter}"
        deadline = self.host.now() + OPERATION_TIMEOUT
        pause = RETRY_PAUSE[0]
        while self.host.now() < deadline:
            outcome = await self._walk(Operation(kind, key, text, number))
            if outcome is not None:
                return outcome
            self.ask_soon()
            await self.host.sleep(pause)
            pause = min(2 * pause, RETRY_PAUSE[1])
        return None

    async def _walk(self, operation: Operation) -> Outcome | None:
        """Go from hop to hop, around dead ones, until the owner answers; None: try again."""
        node: Node | None = None  # None: myself
        for _ in range(2 * self.view.m + 2):
            try:
                if node is None:
                    outcome = await self.route(operation)
                else:
                    outcome = await self.host.call(node.address, "route", operation, HOP_TIMEOUT)
            except Unreachable:
                operation = replace(operation, avoid=(*operation.avoid, node.id))
                node = None
                self.ask_soon()
                continue
            if outcome.epoch > self.view.epoch:
                self.ask_soon()
            if outcome.status is not Status.NEXT:
                return outcome if outcome.status is Status.DONE else None
            node = outcome.node
        return None

    async def route(self, operation: Operation) -> Outcome:
        """Carry an operation out, if the key is mine; else say who is nearer to its owner."""
        epoch = self.view.epoch
        if self.leaving or not self.is_member():
            return Outcome(Status.RETRY, epoch=epoch)
        if self.serves(operation.key):
            return await self._execute(operation)
        k = key_id(operation.key, self.view.m)
        node = next_hop(self.view, self.id, k, operation.avoid)
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
            success = record is not None and operation.number in record.operations
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

    async def _rewrite(self, key: str) -> bool:
        old = self.records.get(key)
        return await self._write(key, old.text if old else None)

    async def _write(self, key: str, text: str | None, *number: str) -> bool:
        """Have all holders take a new record of a key in this epoch; only then it counts."""
        view, old = self.view, self.records.get(key)
        numbers = (*(old.operations if old else ()), *number)[-OPERATIONS_KEPT:]
        record = Record(key, self._next_version(view), text, numbers)
        self.writing.add(key)
        try:
            heirs = view.next_nodes(self.id)
            kept = await self.host.gather(*(self._replicate(view, n, record) for n in heirs))
        finally:
            self.writing.discard(key)
        if not all(kept) or view is not self.view or self.leaving:
            if self.owns(key):
                self.doubts.add(key)
            self.ask_soon()
            self.host.spawn(self.settle())
            return False
        self.doubts.discard(key)
        _merge(self.records, record)
        return True

    async def _replicate(self, view: View, node: Node, record: Record) -> bool:
        reply = await self._try(node, "replicate", Copies(node.id, view.epoch, (record,)))
        if reply is None or reply.accepted:
            return reply is not None
        self.install(reply.view)
        if reply.view.epoch < view.epoch:
            await self._try(node, "install", view)
        return False

    # --- state ---

    def is_member(self, id: int | None = None) -> bool:
        """Tell whether I am in the ring, under this id, and neither coming nor going."""
        passing = self.joining or self.leaving
        return not passing and id in (None, self.id) and self.id in self.view.by_id

    def owns(self, key: str) -> bool:
        """Tell whether a key is on the arc that I am settled on."""
        k = key_id(key, self.view.m)
        return self.served_after is not None and between(k, self.served_after, self.id)

    def holds(self, key: str) -> bool:
        """Tell whether I am the owner or a replica of a key in this view."""
        return between(key_id(key, self.view.m), self.view.held_after(self.id), self.id)

    def serves(self, key: str) -> bool:
        """Tell whether I may answer for a key now: it is mine, and nobody thinks me dead."""
        return self.owns(key) and self.host.now() - self.leave_since < LEASE

    def records_on(self, after: int, upto: int) -> list[Record]:
        """Return my records of the keys on an arc."""
        m = self.view.m
        return [r for key, r in self.records.items() if between(key_id(key, m), after, upto)]

    def sweep(self) -> None:
        """All are settled in this view: drop what I do not hold, and tombstones long known."""
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


def batches(records: Iterable[Record]) -> Iterator[tuple[Record, ...]]:
    """Cut records into messages of bounded size."""
    batch: list[Record] = []
    size = 0
    for record in records:
        weight = 100 + len(record.key) + len(record.text or "")
        if batch and size + weight > BATCH_BYTES:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(record)
        size += weight
    if batch:
        yield tuple(batch)


def _demoted(record: Record) -> Record:
    """Return a record as a node brings it back that was dropped: older than any in the ring.

    It counts only where no holder is left who knows better, as when all nodes hung for a while.
    """
    return record if record.version < 0 else replace(record, version=record.version - DEMOTION)


def _version(records: dict[str, Record], key: str) -> int:
    return records[key].version if key in records else MISSING


def _merge(records: dict[str, Record], record: Record) -> None:
    """Keep the newer of two records of a key."""
    if record.version > _version(records, record.key):
        records[record.key] = record
