"""What the members of a ring say to each other: chord.proto's messages as plain frozen values.

Names and fields are those of chord.proto. The rules see only these.
"""

import enum
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from chord import MAX_EPOCH, Node, View

EPOCH = 2**32  # versions of one epoch


class Unreachable(Exception):
    """No answer: the other is dead, hangs, or is cut off. It may have done what it was asked."""


class Refused(Unreachable):
    """Nobody listens at this address: the process is gone."""


class Stranger(Unreachable):
    """The node at this address is of another ring."""


class Host(Protocol):
    """All that the rules need of the world: threads and gRPC in the scripts, a simulation in tests.

    Between two awaits no other rule runs, so the rules need no locks.
    """

    def now(self) -> float:
        """Return monotonic time in seconds."""

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


# --- between a node and the registry ---


@dataclass(frozen=True)
class Registration:
    """Let me in; `wish` is the id I had before, if any. To prepare: only tell what it will be."""

    ipaddr: str
    port: int
    wish: int | None = None
    prepare: bool = False

    def __post_init__(self):
        if not self.ipaddr.isprintable() or not self.ipaddr or not 0 < self.port < 2**16:
            raise ValueError("nobody can be reached at such an address")


@dataclass(frozen=True)
class Registered:
    """You are, or will be, `id` of a ring of 2**m; id -1: you are not, for this reason."""

    id: int
    m: int = 0
    reason: str = ""
    view: View | None = None


@dataclass(frozen=True)
class Departure:
    """I leave, if the view is still that of `epoch`; 0: in any view."""

    id: int
    address: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class Departed:
    """Whether the registry did it; then a message, and the view since."""

    success: bool
    message: str
    view: View | None = None


@dataclass(frozen=True)
class Question:
    """What are my fingers? I am alive, in this epoch, and settled in that one."""

    id: int
    address: str = ""
    epoch: int = 0
    settled: int = 0
    ring: int = 0


@dataclass(frozen=True)
class Answer:
    """These, if you are known; the view, if you have another; whether all nodes are settled."""

    predecessor: Node | None
    finger_table: tuple[Node, ...]
    known: bool
    epoch: int
    settled: bool
    view: View | None = None


# --- between two nodes ---


class Kind(enum.IntEnum):
    FIND = 0
    GET = 1
    SAVE = 2
    REMOVE = 3


class Status(enum.IntEnum):
    DONE = 0  # by its owner, with success or not
    NEXT = 1  # not mine: ask `node`
    RETRY = 2  # nobody can say just now


@dataclass(frozen=True)
class Operation:
    """What a client wants, with a number of its own, on its way to the owner of the key."""

    kind: Kind
    key: str
    text: str = ""
    number: str = ""
    avoid: tuple[int, ...] = ()
    ring: int = 0

    def __post_init__(self):
        number_parts(self.number)


def number_parts(number: str) -> tuple[int, ...]:
    """Return the four integers of an operation's number, see records.remember; "" is nobody's."""
    id, born, counter, first = map(int, (number or "0.0.0.0").split("."))
    return id, born, counter, first


@dataclass(frozen=True)
class Outcome:
    status: Status
    success: bool = False
    node: Node | None = None
    text: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class Record:
    """The newest state of a key: a text, or None (a tombstone); and who made it so, newest last."""

    key: str
    version: int
    text: str | None = None
    operations: tuple[str, ...] = ()

    def __post_init__(self):
        if self.version >= MAX_EPOCH * EPOCH:
            raise ValueError("no ring has come so far")


@dataclass(frozen=True)
class Arc:
    """Tell me, `to`, which versions you have on (after, upto] in this view.

    Only what changed after the change `since` of your store, if that is still its generation.
    """

    to: int
    view: View
    after: int
    upto: int
    generation: int = 0
    since: int = 0


@dataclass(frozen=True)
class Versions:
    """One page of them, up to the change `since`; whether there are more."""

    accepted: bool
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
class Keys:
    keys: tuple[str, ...]
    ring: int = 0


@dataclass(frozen=True)
class Copies:
    """Keep these, `to`, if you are in the same epoch as I am."""

    to: int
    epoch: int
    records: tuple[Record, ...]
    ring: int = 0


@dataclass(frozen=True)
class Accepted:
    """Whether they are kept; if not, the view of the one who refuses."""

    accepted: bool
    view: View | None = None


@dataclass(frozen=True)
class Epoch:
    epoch: int
    ring: int = 0
