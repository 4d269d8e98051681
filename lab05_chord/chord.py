"""Chord, simplified: a ring of nodes that together are one dictionary, and lose nothing.

The ring
    Ids are the integers 0 to 2**m - 1, laid out on a circle. A node draws its id at the registry;
    a key's id is `adler32(key) % 2**m`. Node n owns the keys k of the arc (predecessor, n]: the
    first node at or after k, going clockwise, is `successor(k)`. So a node that comes or goes
    moves the keys of one arc only.

                   31 |  2                  finger i of node p is successor(p + 2**(i-1)): the
                26    |     .               next node, and then nodes ever farther away. A node
              25      |        .            asked for k that owns neither k nor hands it to its
             24 ------+------- .            successor passes it to its farthest finger that does
                .     |       .             not overstep k. Each such hop at least halves what is
                   .  |    .                left of the way: about log2(n) / 2 hops on average,
                     16                     never more than m (Chord paper, Fig. 4 and Theorem 2).

Views
    The registry alone decides who is in the ring. Every change makes a new *view*: an epoch, one
    higher than before, and the list of members. All else, the predecessor, the fingers, the owner
    and the two replicas of a key, is computed from the view. Views reach a node with the answer to
    its question each second (populate_finger_table) and, sooner, from its neighbours.

    A ring has an identity, which its registry draws at its birth. Every view and every message
    between nodes carries it. A node refuses messages of another ring, so a node that is started on
    the port of a dead node of another ring takes no keys of that ring and gives none.

Who owns a key at every instant
    A key lives with its owner and the owner's next two successors, the *holders*.
    1. A holder takes a copy only in the epoch that it is in itself. A write is acknowledged when
       all holders have taken it in the same epoch, so a view that one of them has left behind can
       acknowledge nothing any more: one holder who knows the new view seals the old one.
    2. A node whose arc grew in a view (it joined, or its predecessor left or died) serves the new
       part only when it is *settled*: both its successors are in this view, it has fetched what
       is newer with one of them, and both hold what it holds. A node whose arc shrank stops
       serving the lost part the moment it knows of the view, and who gets that part cannot settle
       before, because the old owner is one of the two that it must ask. So between two owners
       there is a moment with none, in which callers try again; never one with two.
    3. An owner that hung (SIGSTOP) does not know that it was declared dead. It therefore answers
       only while it has *leave*: an exchange with the registry begun less than LEASE seconds ago,
       which is less than the SILENCE after which the registry drops it. If no registry gives it
       leave, its next two successors confirm instead that they have none either and know no newer
       view. One of them would be the next owner, or be asked by it; so each promises to settle
       in no newer view as long as the other may serve by its word. An owner whom nobody is left
       to confirm serves on only if nobody is at the registry's address.

Which of two copies is right
    Every record has a version: the epoch it was written in, then a counter. The higher one wins.
    1. A write that not all holders took is *in doubt*: it may be on some. Its owner remembers the
       key, and before it says "False" about it, writes anew what is true, with a higher version.
    2. A new owner that finds its holders disagreeing takes the newest record and writes it anew,
       so whatever a node elsewhere kept of the old epoch can never win later.
    3. The number of an operation is stored with the record it made, until the node that asks has
       ended it. Who gets no answer repeats it under the same number, wherever the owner is by
       then: it is done once.
    4. A node that was dropped and comes back brings its records *demoted*, older than any other;
       they count only where nobody else is left who knows, as when the whole ring hung.

What if somebody dies between two messages?
    Joining node    it copies its records before it is let in. Before it settles: its successor
                    still has every record, as a replica; the view without the newcomer makes it
                    owner again. After: it is a dead owner.
    Owner           in the middle of a write: it is in doubt, and the next owner finds it or not.
    Replica         the owner can acknowledge no write until the registry has dropped the dead one
                    (SILENCE) and the next view names another; reads go on. Two deaths at once
                    leave one holder of every record, and settling makes it three again.
    Leaving node    it stops serving, brings the next three up to date, which will hold its arc,
                    and deregisters from the view in which they have all: of two that leave at
                    once the second finds the view changed, and starts over. Until then it remains
                    a source. If it dies on the way it is a dead node like any other.
    Registry        nothing moves, all nodes serve on. A new one is told the newest view by the
                    nodes. It gives no leave and lets nobody in or out before it has heard all of
                    them, but for those who are silent for SILENCE. Then it begins a new life, with
                    epochs higher than all of before, and admits nobody until all know it. The first
                    of these epochs is drawn from a wide range, so that two registries that die one
                    after the other do not give the same epoch to different views.
    The registry admits one newcomer at a time, when all whom the last change touched are settled,
    so the records of an arc are never more than one change away from where they are looked for.

Removed keys stay removed
    Removing writes a *tombstone*, a record without text, with a version of its own, so a copy
    that slept through the removal loses to it. A node drops the records of arcs that it no longer
    holds once the registry says that all are settled; a tombstone goes when the ring was settled
    at two sweeps, TOMBSTONE_LIFE apart. A node away for longer comes back empty.
"""

import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

REPLICAS = 2  # copies of every record beside the owner's: how many may die at once
BEAT = 1.0  # s between two questions to the registry
SILENCE = 3.0  # s without a question after which the registry drops a node
LEASE = 2.5  # s after a question was sent, for which its answer lets a node serve
TOMBSTONE_LIFE = 300.0  # s
LARGEST_M = 32
MAX_EPOCH = 2**29  # far beyond any ring's, and small enough for all that is counted from it


def key_id(key: str, m: int) -> int:
    """Return the id of a key."""
    return zlib.adler32(key.encode()) % 2**m


def between(k: int, after: int, upto: int) -> bool:
    """Tell whether k lies on the arc (after, upto], clockwise; (n, n] is the whole ring."""
    if after < upto:
        return after < k <= upto
    return k > after or k <= upto


@dataclass(frozen=True)
class Node:
    """A member of the ring; address is "ip:port"."""

    id: int
    address: str


@dataclass(frozen=True)
class View:
    """Who is in the ring, in order of joining. Everything about the ring follows from it."""

    epoch: int = 0
    m: int = 0
    members: tuple[Node, ...] = ()
    ring: int = 0  # the identity of the ring; 0: no ring yet

    def __post_init__(self):
        """Raise ValueError if it can be nobody's view of a ring."""
        ids = {node.id for node in self.members}
        addresses = {node.address for node in self.members}
        within = 0 <= self.epoch <= MAX_EPOCH and 0 <= self.m <= LARGEST_M and self.ring >= 0
        if not within or not all(0 <= id < 2**self.m for id in ids):
            raise ValueError("the epoch, m, the ring or an id is out of range")
        if not len(ids) == len(addresses) == len(self.members) or "" in addresses:
            raise ValueError("two members have one id or address, or one has none")

    @cached_property
    def by_id(self) -> dict[int, Node]:
        return {node.id: node for node in self.members}

    @cached_property
    def ids(self) -> list[int]:
        return sorted(self.by_id)

    @cached_property
    def _fingers(self) -> dict[int, list[Node]]:
        return {}

    def _nth(self, index: int) -> Node:
        return self.by_id[self.ids[index % len(self.ids)]]

    def successor(self, k: int) -> Node:
        """Return the owner of k: the first node at or after it."""
        return self._nth(bisect_left(self.ids, k % 2**self.m))

    def predecessor(self, id: int) -> Node:
        """Return the node before a member; alone, it is its own."""
        return self._nth(bisect_left(self.ids, id) - 1)

    def next_nodes(self, id: int, count: int = REPLICAS) -> list[Node]:
        """Return up to `count` different nodes that follow a member."""
        start = bisect_left(self.ids, id)
        return [self._nth(start + i) for i in range(1, min(count, len(self.ids) - 1) + 1)]

    def successor_list(self, id: int) -> list[Node]:
        """Return the m nodes that follow a member: the way on when fingers are dead or hung."""
        return self.next_nodes(id, self.m)

    def fingers(self, id: int) -> list[Node]:
        """Return the finger table of a member, nearest first, each node once, without itself."""
        if id not in self._fingers:
            table = [self.successor(id + 2**i) for i in range(self.m)]
            self._fingers[id] = [node for node in dict.fromkeys(table) if node.id != id]
        return self._fingers[id]

    def holders(self, k: int) -> list[Node]:
        """Return where the record of k lives: its owner first, then the replicas."""
        owner = self.successor(k)
        return [owner, *self.next_nodes(owner.id)]

    def held_after(self, id: int) -> int:
        """Return a such that a member holds exactly the arc (a, id], as owner or replica."""
        index = bisect_left(self.ids, id)
        return id if len(self.ids) <= REPLICAS + 1 else self._nth(index - REPLICAS - 1).id

    def surroundings(self, id: int) -> tuple:
        """Return all that a member has to settle about: where its arc begins, and its replicas."""
        return self.predecessor(id), self.next_nodes(id)

    def touched(self, other: "View") -> set[int]:
        """Return the members whose surroundings are not the same in another view."""
        return {
            id
            for id, node in self.by_id.items()
            if other.by_id.get(id) != node or self.surroundings(id) != other.surroundings(id)
        }


def next_hop(view: View, me: int, k: int, avoid: Collection[int] = ()) -> Node | None:
    """Decide, at node `me`, where k goes next; `me` itself if it owns k (Chord Fig. 4).

    Nodes to `avoid` are gone around. Where no finger before k is left, the successor list still
    knows the owner, or nodes on the way (Chord §5.2). None: the way ends at nodes to avoid.
    """
    if between(k, view.predecessor(me).id, me):
        return view.by_id[me]
    owner = view.successor(k)
    fingers = view.fingers(me)
    if owner != fingers[0]:  # the first finger is the successor
        node = closest_preceding_finger(fingers, me, k, avoid)
        if node is not None:
            return node
    near = view.successor_list(me)
    if owner in near:
        return None if owner.id in avoid else owner
    return closest_preceding_finger(near, me, k, avoid)


def closest_preceding_finger(
    fingers: Iterable[Node], me: int, k: int, avoid: Collection[int] = ()
) -> Node | None:
    """Return the farthest finger that does not overstep k."""
    for node in reversed(list(fingers)):
        if between(node.id, me, k) and node.id not in avoid:
            return node
    return None
