"""Records on their way between two nodes: page by page, batch by batch, as many as there are."""

from collections.abc import AsyncIterator, Callable, Sequence

from chord import Node, View
from messages import Arc, Copies, Host, Keys, Record, Unreachable
from store import MISSING, Listing, batches, version_of

PIECE_TIMEOUT = 2.0  # s for one message of records
LONGEST_PIECE = 30.0  # s for it, after attempts that were too short
FETCHED = 5_000  # keys asked for in one message
SLICE = 5_000  # keys gone through before others may run
TRANSFER = 5_000_000  # characters/s that a node takes, at the least


def transfer_time(*texts: str | None) -> float:
    """Return how long texts are under way, at the most, in seconds."""
    return sum(len(text or "") for text in texts) / TRANSFER


async def in_slices(host: Host, keys: Sequence) -> AsyncIterator[Sequence]:
    """Yield parts of a long sequence, between which others may run."""
    for start in range(0, len(keys), SLICE):
        if start:
            await host.sleep(0)
        yield keys[start : start + SLICE]


class Transfer:
    """What a node does to compare its records with those of others, to get and to give them.

    Args:
        host: the world, see messages.Host. learn: hears the views that come with answers.
    """

    def __init__(self, host: Host, learn: Callable[[View | None], None]):
        self.host, self.learn = host, learn
        self.timeout = PIECE_TIMEOUT
        self.unfinished: dict[int, int] = {}  # node -> records that it has yet to be given

    def all_is_well(self) -> None:
        """Hear that all has arrived: pieces need no longer than usual."""
        self.timeout = PIECE_TIMEOUT

    async def versions(
        self, view: View, node: Node, after: int, upto: int, listings: dict[Node, Listing]
    ) -> dict | None:
        """Return what a node has on an arc, once it is in this view; None if that is old.

        Only what is not yet known is asked for, page by page.
        """
        listing = listings.get(node)
        if listing is None or not listing.covers(after, upto, view.m):
            listing = listings[node] = Listing(after, upto)
        more = True
        while more:
            arc = Arc(node.id, view, listing.after, listing.upto, listing.generation, listing.since)
            reply = await self._piece(node, "digest", arc)
            self.learn(reply.view)
            if not reply.accepted:
                return None
            listing.add(reply)
            more = reply.more
        return listing.on(after, upto, view.m)

    async def _piece(self, node: Node, method: str, request: object) -> object:
        """Call for one piece of a transfer; after a failure the next one is given more time."""
        try:
            return await self.host.call(node.address, method, request, self.timeout)
        except Unreachable:
            self.timeout = min(2 * self.timeout, LONGEST_PIECE)
            raise

    async def fetch(self, node: Node, ring: int, versions: dict, have: dict) -> list[Record]:
        """Return the records of another node that are newer than those at hand."""
        records: list[Record] = []
        wanted = [key for key, version in versions.items() if version > version_of(have, key)]
        while wanted:
            keys = Keys(tuple(wanted[:FETCHED]), ring)
            copies = await self._piece(node, "fetch", keys)
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
