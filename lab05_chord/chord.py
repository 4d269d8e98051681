"""Chord: a ring of nodes that together are one dictionary, and the way to the owner of a key.

The ring
    Ids are the integers 0 to 2**m - 1, laid out on a circle. A node draws its id at the registry;
    a key's id is `adler32(key) % 2**m`. Node n owns the keys k of the arc (predecessor, n]: the
    first node at or after k, going clockwise, is `successor(k)`. So a node that comes or goes
    moves the keys of one arc only.

                   31 |  2                  Finger i of node p is successor(p + 2**(i-1)): the
                26    |     .               next node, and then nodes ever farther away. Asked
              25      |        .            for k, a node answers if it owns k. It names its
             24 ------+------- .            successor if that owns k, else its farthest finger
                .     |       .             that does not overstep k. Each hop at least halves
                   .  |    .                what is left of the way: about log2(n) / 2 hops on
                     16                     average, at most m (Fig. 4, Theorem 2).

    The *successor list* of a node, the m nodes that follow it, is the way on when fingers are dead
    or do not answer (§5.2).

    Figures and sections are those of Stoica, Morris, Karger, Kaashoek and Balakrishnan, "Chord: A
    Scalable Peer-to-peer Lookup Service for Internet Applications" (SIGCOMM 2001). Its names here:

    find_successor   next_hop below; lookup.py      join     Member.join, Membership.register
    stabilize        Member.heartbeat               notify   install, sent to the predecessor
    fix_fingers      View.fingers                   failure  Membership.tick; lookup.py

Views
    In the paper each node learns of the others by itself: `stabilize`, `notify` and `fix_fingers`
    run all the time and mend what joins and failures have broken, and until they have, two nodes
    may both believe that they own a key. In this lab a registry decides which nodes are in the
    ring. Every change makes a new *view*: an epoch, one higher than before, and the list of
    members. Predecessor, fingers, successor list, owner and replicas all follow from the view by
    bisection, so no table is ever half repaired, and "which of the two knows better" is a
    comparison of two integers. That makes it possible to promise what the paper does not: one
    owner at a time, and no acknowledged save lost. The price is one program that must be
    restarted when it fails, and a list of all members in every node.

    A ring has an identity, which its registry draws at its birth. Every view and every message
    between nodes carries it. A node refuses messages of another ring, so a node that is started on
    the port of a dead node of another ring takes no keys of that ring and gives none.

Words of this lab
    epoch            the number of a view, and of every write that was made in it
    in sync          of an owner: its replicas have all that it has, in its present view
    lease            the right of a node to serve its arc, for a short time
    tombstone        the record of a removed key
    uncertain key    one with a write that failed, which some replicas may have
    silent node      of a lookup: it did not answer, and is avoided until it answers again
    needed node      the registry may not drop it, although it does not hear it
    life             the range of epochs that one run of the registry uses
    rules            the code without I/O; a Host connects it with the world

Reading order
    For the assignment: this file, lookup.py (the walk), Registry.py, Node.py, Client.py.
    For what it takes to lose nothing: store.py (records), replication.py (writes), sync.py (changes
    of view), place.py (leases), transfer.py (handoff), member.py (a node), membership.py (the
    registry). messages.py has the messages, wire.py brings them to gRPC.
"""

import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

REPLICAS = 2  # copies of every record beside the owner's: how many nodes may die at once
LARGEST_M = 32
MAX_EPOCH = 2**30  # 4,000 restarts of the registry, and small enough for versions of 63 bits


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

    id: int = 0
    address: str = ""


@dataclass(frozen=True)
class View:
    """The members of the ring, in order of joining. All else about the ring follows from them."""

    epoch: int = 0
    m: int = 0
    members: tuple[Node, ...] = ()
    ring: int = 0  # the identity of the ring; 0: no ring yet

    def __post_init__(self):
        """Raise ValueError if it can be no view of a ring."""
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

    def replica_set(self, k: int) -> list[Node]:
        """Return the nodes that have the record of k: its owner first, then the replicas."""
        owner = self.successor(k)
        return [owner, *self.next_nodes(owner.id)]

    def held_after(self, id: int) -> int:
        """Return a such that a member holds exactly the arc (a, id], as owner or replica."""
        index = bisect_left(self.ids, id)
        return id if len(self.ids) <= REPLICAS + 1 else self._nth(index - REPLICAS - 1).id

    def neighbours(self, id: int) -> tuple:
        """Return what a member must be in sync about: where its arc begins, and its replicas."""
        return self.predecessor(id), self.next_nodes(id)

    def affected(self, old: "View") -> set[int]:
        """Return the members whose neighbours are not the same as in an older view."""
        return {
            id
            for id, node in self.by_id.items()
            if old.by_id.get(id) != node or self.neighbours(id) != old.neighbours(id)
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
