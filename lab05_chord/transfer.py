"""Records on their way between two nodes: page by page, batch by batch, as many as there are.

No time limit is for a whole transfer, only for each piece of it.

Handoff
    A node that leaves stops serving, brings the next three nodes up to date, which will hold its
    arc, and deregisters from the view in which they have all. Of two that leave at the same time
    the second finds the view changed, and starts over. Until then it remains a source of its
    records. If it dies on the way, it is a dead node like any other.
"""

from collections.abc import AsyncIterator, Callable, Sequence

from chord import REPLICAS, Node, View
from messages import Copies, DigestRequest, FetchRequest, Host, Record, Refused, Unreachable
from place import Place
from store import MISSING, RemoteVersions, Store, batches, version_of

RETRY_INTERVAL = 0.1  # s between two attempts to bring others up to date
PIECE_TIMEOUT = 2.0  # s for one message of records
LONGEST_PIECE_TIMEOUT = 30.0  # s for it, after attempts that were too short
FETCHED = 5_000  # keys asked for in one message
SLICE = 5_000  # keys gone through before others may run
TRANSFER_RATE = 5_000_000  # characters/s that a node takes, at the least


def transfer_time(*texts: str | None) -> float:
    """Return how long texts are under way, at the most, in seconds."""
    return sum(len(text or "") for text in texts) / TRANSFER_RATE


async def in_slices(host: Host, keys: Sequence) -> AsyncIterator[Sequence]:
    """Yield parts of a long sequence, between which others may run."""
    for start in range(0, len(keys), SLICE):
        if start:
            await host.sleep(0)
        yield keys[start : start + SLICE]


class Transfer:
    """Compares the records of this node with those of others, gets them and gives them.

    Args:
        learn: is given each view that comes with an answer.
    """

    def __init__(self, host: Host, learn: Callable[[View | None], None]):
        self.host, self.learn = host, learn
        self.timeout = PIECE_TIMEOUT
        self.unfinished: dict[int, int] = {}  # node id -> records of a handoff it has yet to get

    async def versions(
        self, view: View, node: Node, after: int, upto: int, known: dict[Node, RemoteVersions]
    ) -> dict[str, int] | None:
        """Return what a node has on an arc, once it is in this view; None if the view is old.

        Only what is not yet known is asked for, page by page.
        """
        remote = known.get(node)
        if remote is None or not remote.covers(after, upto, view.m):
            remote = known[node] = RemoteVersions(after, upto)
        more = True
        while more:
            arc = remote.after, remote.upto
            request = DigestRequest(node.id, view, *arc, remote.generation, remote.since)
            reply = await self._call(node, "digest", request)
            self.learn(reply.view)
            if not reply.accepted:
                return None
            remote.add(reply)
            more = reply.more
            await self.host.sleep(0)  # with many keys this was long, and so is what follows
        return remote.on(after, upto, view.m)

    async def _call(self, node: Node, method: str, request: object) -> object:
        """Call for one piece of a transfer; after a failure the next one is given more time."""
        try:
            return await self.host.call(node.address, method, request, self.timeout)
        except Unreachable:
            self.timeout = min(2 * self.timeout, LONGEST_PIECE_TIMEOUT)
            raise

    async def fetch(self, node: Node, ring: int, versions: dict, have: dict) -> list[Record]:
        """Return the records of another node that are newer than those at hand."""
        records: list[Record] = []
        wanted = [key for key, version in versions.items() if version > version_of(have, key)]
        while wanted:
            request = FetchRequest(tuple(wanted[:FETCHED]), ring)
            copies = await self._call(node, "fetch", request)
            records += copies.records
            got = {record.key for record in copies.records}
            if not got:
                raise Unreachable("it no longer has what it listed")
            wanted = [key for key in wanted[:FETCHED] if key not in got] + wanted[FETCHED:]
        return records

    async def push(self, view: View, node: Node, versions: dict, records: dict) -> bool:
        """Send a node the records that it lacks; return False if it is in another view."""
        lacking = []
        async for part in in_slices(self.host, list(records.values())):
            lacking += [r for r in part if r.version > versions.get(r.key, MISSING)]
        left = len(lacking)
        for batch in batches(lacking):
            if node.id in self.unfinished:
                self.unfinished[node.id] = left
            copies = Copies(node.id, view.epoch, batch, view.ring)
            timeout = PIECE_TIMEOUT + transfer_time(*(record.text for record in batch))
            reply = await self.host.call(node.address, "replicate", copies, timeout)
            self.learn(reply.view)
            if not reply.accepted:
                return False
            left -= len(batch)
        return True


class Handoff:
    """Gives the records of a node that leaves to the nodes that will hold them."""

    def __init__(self, host: Host, place: Place, store: Store, transfer: Transfer):
        self.host, self.place, self.store, self.transfer = host, place, store, transfer
        self.known: dict[Node, RemoteVersions] = {}  # what the successors have

    async def prepare(self) -> None:
        """Bring the successors up to date while this node still serves, to be done sooner then."""
        view = self.place.view
        successors = view.next_nodes(self.place.id, REPLICAS + 1)
        await self.host.gather(*(self._give(view, node) for node in successors))

    async def hand_over(self, view: View) -> int | None:
        """Give the next three living nodes what they lack; return how many have all.

        None: one that lives has not. One that hangs is waited for, until the registry drops it;
        without a registry two are enough.
        """
        self.transfer.unfinished.clear()
        others, results = view.next_nodes(self.place.id, len(view.members)), []
        while others and len(results) <= REPLICAS:  # the next one takes the place of a dead one
            missing = REPLICAS + 1 - len(results)
            successors, others = others[:missing], others[missing:]
            have = await self.host.gather(*(self._give(view, node) for node in successors))
            results += [result for result in have if result is not None]
        needed = min(len(results), REPLICAS) if self.place.registry_lost else len(results)
        return sum(results) if sum(results) >= needed and view is self.place.view else None

    async def _give(self, view: View, node: Node) -> bool | None:
        """Give one node what it lacks; False: it has not got all; None: it is dead."""
        id, records = self.place.id, self.store.records
        self.transfer.unfinished[node.id] = len(records)
        try:
            theirs = await self.transfer.versions(view, node, id, id, self.known)
            if theirs is None or not await self.transfer.push(view, node, theirs, records):
                return False
        except Refused:
            return None
        except Unreachable:
            return False
        self.transfer.unfinished.pop(node.id, None)
        return True
