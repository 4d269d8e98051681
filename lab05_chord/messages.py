"""What nodes and the registry say to each other, and what the rules need of the world.

A value here and its message in chord.proto have the same name and the same fields in one order, so
wire.py converts all of them in the same few lines. An optional field that is not set is None. A
value checks itself: a message that makes no sense is a ValueError before any rule sees it.
"""

import enum
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chord import MAX_EPOCH, Node, View

HEARTBEAT_INTERVAL = 1.0  # s between two heartbeats of a node
LEASE_TIMEOUT = 2.5  # s that a lease lasts, from the sending of the heartbeat
SILENCE_TIMEOUT = 3.0  # s without a heartbeat, more than a lease: then the registry drops the node
LISTEN_TIMEOUT = 1.0  # s after its start in which a registry only listens and changes nothing
CALL_TIMEOUT = 1.0  # s for the reply to a call that needs no further call
VERSIONS_PER_EPOCH = 2**32


class Unreachable(Exception):
    """No answer: the other is dead, hangs, or is cut off. It may have done what it was asked."""


class Refused(Unreachable):
    """No process listens at this address: the node is gone."""


class WrongRing(Unreachable):
    """The node at this address is of another ring."""


class Host(Protocol):
    """All that the rules need of the world: threads and gRPC in the scripts, a simulation in tests.

    Between two awaits no other rule runs, so the rules need no locks.
    """

    def now(self) -> float:
        """Return the time in seconds; it goes on while the machine sleeps, and never back."""

    def draw(self, low: int, high: int) -> int:
        """Return a random integer, both ends included."""

    def draw_identity(self) -> int:
        """Return a positive integer of 62 bits that no other process draws."""

    async def sleep(self, seconds: float) -> None:
        """Let others run."""

    async def call(self, address: str, method: str, request: Any, timeout: float) -> Any:
        """Call a method of chord.proto; raise Unreachable after `timeout` seconds at the latest."""

    async def gather(self, *awaitables: Awaitable) -> list:
        """Await all at the same time; raise what the first to fail raised."""

    def spawn(self, awaitable: Awaitable) -> None:
        """Run beside everything else."""

    def joined(self, id: int, view: View) -> None:
        """Hear that this node has got its place in the ring."""


async def try_call(
    host: Host, node: Node, method: str, request: Any, timeout: float = CALL_TIMEOUT
) -> Any:
    """Call a node; return None if it cannot be reached."""
    try:
        return await host.call(node.address, method, request, timeout)
    except Unreachable:
        return None


# --- between a node and the registry ---


@dataclass(frozen=True)
class Registration:
    """Admit this node, under the id `wish` if it is free; `prepare`: only reserve an id for it."""

    ipaddr: str = ""
    port: int = 0
    wish: int | None = None
    prepare: bool = False

    def __post_init__(self):
        if not self.ipaddr.isprintable() or not self.ipaddr or not 0 < self.port < 2**16:
            raise ValueError("no node can be reached at such an address")


@dataclass(frozen=True)
class Registered:
    """The node's id in a ring of 2**m ids, now or when it is admitted; -1: refused, see reason."""

    id: int = 0
    m: int = 0
    reason: str = ""
    view: View | None = None


@dataclass(frozen=True)
class Departure:
    """Take a node out of the ring, if the view is still that of `epoch`; 0: in any view."""

    id: int = 0
    address: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class Departed:
    """Whether the registry did it; then a message for people, and the view since."""

    success: bool = False
    message: str = ""
    view: View | None = None


@dataclass(frozen=True)
class Heartbeat:
    """Sign of life: the sender's epoch, and the last epoch in which it was in sync."""

    id: int = 0
    address: str = ""
    epoch: int = 0
    in_sync_epoch: int = 0
    ring: int = 0


@dataclass(frozen=True)
class HeartbeatReply:
    """Predecessor and fingers of a node that is `known`; the view, if the node has another one.

    The first two fields are the assignment's; nodes use the view.
    """

    predecessor: Node | None = None
    finger_table: tuple[Node, ...] = ()
    known: bool = False
    epoch: int = 0
    all_in_sync: bool = False
    view: View | None = None


# --- between two nodes ---


class Kind(enum.IntEnum):
    FIND = 0
    GET = 1
    SAVE = 2
    REMOVE = 3


class Status(enum.IntEnum):
    DONE = 0  # by its owner, with success or not
    NEXT = 1  # the key is not mine: ask `node`
    RETRY = 2  # no node can tell just now


class RequestId(NamedTuple):
    """The identity of one operation, under which a node may ask for it again; done once.

    process: drawn at the start of the node that asks, so that no other process has it.
    counter: its operations. oldest: its oldest one on this key that is still under way.
    """

    process: int
    counter: int
    oldest: int


@dataclass(frozen=True)
class Operation:
    """What a client wants, on its way to the owner of the key; nodes to `avoid` do not answer."""

    kind: int = Kind.FIND
    key: str = ""
    text: str = ""
    request_id: RequestId | None = None
    avoid: tuple[int, ...] = ()
    ring: int = 0

    def __post_init__(self):
        if Kind(self.kind) in (Kind.SAVE, Kind.REMOVE) and self.request_id is None:
            raise ValueError("a write without a request id")


@dataclass(frozen=True)
class Outcome:
    """The owner's answer, or the next node to ask; the epoch of the node that answers."""

    status: int = Status.DONE
    success: bool = False
    node: Node | None = None
    text: str = ""
    epoch: int = 0

    def __post_init__(self):
        if Status(self.status) is not Status.RETRY and self.node is None:
            raise ValueError("an outcome without a node")


@dataclass(frozen=True, slots=True)  # there are as many as keys
class Record:
    """The newest state of a key: a text or None (a tombstone), and the requests that made it."""

    key: str = ""
    version: int = 0
    text: str | None = None
    request_ids: tuple[RequestId, ...] = ()  # newest last

    def __post_init__(self):
        if self.version >= MAX_EPOCH * VERSIONS_PER_EPOCH:
            raise ValueError("the version is out of range")


@dataclass(frozen=True)
class DigestRequest:
    """Which versions has node `to`, in this view, on the arc (after, upto]?

    Only those that changed after change number `since`, if the store is still of `generation`.
    """

    to: int = 0
    view: View | None = None
    after: int = 0
    upto: int = 0
    generation: int = 0
    since: int = 0

    def __post_init__(self):
        if self.view is None:
            raise ValueError("a digest request without a view")


@dataclass(frozen=True)
class Digest:
    """One page of versions, up to change number `since`; whether there are more."""

    accepted: bool = False
    view: View | None = None
    keys: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    generation: int = 0
    since: int = 0
    more: bool = False

    def __post_init__(self):
        if len(self.keys) != len(self.versions):
            raise ValueError("not one version for each key")


@dataclass(frozen=True)
class FetchRequest:
    keys: tuple[str, ...] = ()
    ring: int = 0


@dataclass(frozen=True)
class Copies:
    """Records for node `to` to keep, if it is in the sender's epoch."""

    to: int = 0
    epoch: int = 0
    records: tuple[Record, ...] = ()
    ring: int = 0


@dataclass(frozen=True)
class Ack:
    """Whether the request was accepted; if not, the view of the node that refused."""

    accepted: bool = False
    view: View | None = None


@dataclass(frozen=True)
class LeaseRequest:
    """May the sender, which cannot reach the registry, serve by the view of this epoch?"""

    epoch: int = 0
    ring: int = 0
