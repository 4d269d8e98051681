"""In sync: a node and its replicas agree on every record of its arc, before it serves the arc.

A node whose arc grew in a view (it joined, or its predecessor left or died) serves the new part
only when it is in sync: both its successors are in this view, it has fetched what one of them has
newer, and both have what it has. A node whose arc shrank stops serving the lost part the moment
it knows of the view, and the new owner cannot be in sync before, because the old owner is one of
the two that it asks. Between two owners there is a moment with none, in which callers try again;
never one with two.

Which of two copies is right
    Of the part that a node serves already, its own records. Of the new part, the newest; but where
    the replicas disagree, the node writes the newest record anew, with a version of its own epoch.
    So a copy that a node elsewhere kept of the old epoch can never win later.

What if a node dies in between?
    A newcomer, before it is in sync: its successor still has every record, as a replica, and the
    view without the newcomer makes it the owner again. After: it is a dead owner.
    Two nodes at once: one copy of every record is left, and the next sync makes it three again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from chord import Node, View
from messages import Digest, DigestRequest, Host, Record, Registered, Unreachable, try_call
from place import Place
from replication import Replication
from store import MISSING, RemoteVersions, Store, version_of, versions_on
from transfer import PIECE_TIMEOUT, RETRY_INTERVAL, Transfer, in_slices


class Sync:
    """Brings a node and its replicas to the same records.

    Args:
        heartbeat: tells the registry how far this node is. heartbeat_soon: does so if it is due.
    """

    def __init__(
        self,
        host: Host,
        place: Place,
        store: Store,
        transfer: Transfer,
        replication: Replication,
        heartbeat: Callable[[], Awaitable[None]],
        heartbeat_soon: Callable[[], None],
    ):
        self.host, self.place, self.store = host, place, store
        self.transfer, self.replication = transfer, replication
        self.heartbeat, self.heartbeat_soon = heartbeat, heartbeat_soon
        self.known: dict[Node, RemoteVersions] = {}  # what the successors have
        self.copied = Store(0)  # what it copied before joining
        self.running = False
        self.swept_epoch = 0

    # --- before and after joining ---

    def start_joining(self) -> None:
        """Forget what was copied for an earlier attempt: it may have been removed since."""
        self.copied = Store(0)

    async def copy(self, reserved: Registered) -> bool:
        """Copy what this node will hold from its successors to be, which serve it meanwhile.

        Return False if the ring has changed since the registry reserved the id.
        """
        view, id = reserved.view, reserved.id
        # The registry drops an old entry with this address when it admits this node.
        others = [node for node in view.members if node.address != self.place.address]
        members = (*others, Node(id, self.place.address))
        to_be = View(view.epoch, view.m, members, view.ring)
        arc = to_be.held_after(id), id
        self.copied.m = view.m
        try:
            for source in to_be.next_nodes(id):
                versions = await self.transfer.versions(view, source, *arc, self.known)
                if versions is None:
                    return False
                have = self.copied.records
                records = await self.transfer.fetch(source, view.ring, versions, have)
                async for part in in_slices(self.host, records):
                    for record in part:
                        self.copied.put(record)
        except Unreachable:
            return False
        return True

    def rejoin(self, m: int, absence: float) -> None:
        """Take the records to a new place in a ring of 2**m ids, with those copied for it."""
        self.copied.m = m
        self.store.rejoin(absence, self.copied)
        self.copied = Store(0)
        self.replication.uncertain.clear()
        self.replication.handed_over.clear()

    # --- the owner ---

    async def run(self) -> None:
        """Get in sync, however many attempts that takes, and tell the registry."""
        if self.running:
            return
        self.running = True
        try:
            while self._is_needed():
                view = self.place.view
                try:
                    agreed = await self._agree(view) and await self.replication.resolve_uncertain()
                except Unreachable:
                    agreed = False
                if not agreed and view is self.place.view:
                    await self.host.sleep(RETRY_INTERVAL)
                    self.heartbeat_soon()
        finally:
            self.running = False
        await self.heartbeat()

    def _is_needed(self) -> bool:
        place = self.place
        complete = place.in_sync and not self.replication.uncertain
        return place.is_member() and not place.leaving and not complete

    async def _agree(self, view: View) -> bool:
        """Bring this node and its replicas to the same records, then serve the whole arc."""
        id, predecessor = self.place.id, view.predecessor(self.place.id)
        replicas = view.next_nodes(id)
        if self.place.is_bound():
            return False
        if self.place.in_sync_epoch < self.place.joined_epoch:  # the predecessor has not heard
            self.host.spawn(try_call(self.host, predecessor, "install", view))
        theirs = await self.host.gather(
            *(
                self.transfer.versions(view, node, predecessor.id, id, self.known)
                for node in replicas
            )
        )
        if None in theirs:
            return False
        newest = await self._collect(view, replicas, theirs)
        await self.host.sleep(0)  # what follows is long
        records = newest | self._served(view)
        pushes = (
            self.transfer.push(view, *replica, records)
            for replica in zip(replicas, theirs, strict=True)
        )
        if not all(await self.host.gather(*pushes)) or self._is_over(view):
            return False
        async for keys in in_slices(self.host, list(newest)):
            for key in keys:  # only now: the whole replica set has what this node serves
                self.store.put(newest[key])
        if self._is_over(view):
            return False
        self.place.serve_whole_arc()
        self.known.clear()
        self.transfer.timeout = PIECE_TIMEOUT
        return True

    def _is_over(self, view: View) -> bool:
        return view is not self.place.view or self.place.leaving

    def _served(self, view: View) -> dict[str, Record]:
        """Return the records of what this node serves, as far as a view leaves it."""
        place = self.place
        if place.served_after is None:
            return {}
        after = place.later(place.served_after, view.predecessor(place.id).id)
        return self.store.on(after, place.id)

    async def _collect(self, view: View, replicas: list[Node], theirs: list[dict]) -> dict:
        """Return the newest records of what is this node's in a view, but not yet served."""
        after, upto = view.predecessor(self.place.id).id, self.place.served_after
        if upto is None:
            upto = self.place.id
        elif self.place.later(upto, after) == after:
            return {}
        newest = self.store.on(after, upto)
        await self.host.sleep(0)  # that was long
        known = [{key: record.version for key, record in newest.items()}]
        for node, versions in zip(replicas, theirs, strict=True):
            if upto != self.place.id:
                versions = versions_on(versions, after, upto, view.m)
            known.append(versions)
            for record in await self.transfer.fetch(node, view.ring, versions, newest):
                if record.version > version_of(newest, record.key):
                    newest[record.key] = record
        await self._decide(view, newest, known)
        return newest

    async def _decide(self, view: View, newest: dict, known: list[dict]) -> None:
        """Give a new version to records on which the nodes disagree; this node's are known[0]."""
        if all(of_one == known[-1] for of_one in known[:-1]):
            return
        async for keys in in_slices(self.host, list(newest)):
            for key in keys:
                record, others = newest[key], known if key in known[0] else known[1:]
                if any(of_one.get(key, MISSING) != record.version for of_one in others):
                    version = self.replication.next_version(view)
                    newest[key] = replace(record, version=version)

    async def sweep(self) -> None:
        """Drop what is no longer of use: all nodes are in sync in this view, so others have it."""
        place, store, view = self.place, self.store, self.place.view
        if place.leaving:
            return
        if self.swept_epoch < view.epoch and place.is_member():
            self.swept_epoch = view.epoch
            held = store.on(view.held_after(place.id), place.id)
            others = [key for key in store.records if key not in held]
            await self.host.sleep(0)  # that was long
            async for keys in in_slices(self.host, others):
                if self._is_over(view):
                    return
                store.drop(set(keys) - self.replication.handed_over)
        store.sweep_tombstones(self.host.now())

    # --- the replica ---

    def digest(self, request: DigestRequest) -> Digest:
        """List what this node has on an arc, if the request is of its view."""
        place = self.place
        current = place.is_member(request.to) and request.view.epoch == place.view.epoch
        if not current or place.is_bound():
            return Digest(False, place.view)
        return self.store.digest(request.after, request.upto, request.generation, request.since)
