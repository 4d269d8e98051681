"""The values that servers exchange and keep: raft.proto's messages and the content of the disk.

Names and fields are those of raft.proto and of Figures 2 and 13 of the Raft paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Command(NamedTuple):
    """Set a key to a value. A client that may retry numbers its commands: 1, 2, 3, ..."""

    key: str
    value: str
    client_id: int = 0  # 0: the client has no session
    sequence: int = 0


def text_size(key: str, value: str) -> int:
    """Return how many bytes a command takes, as UTF-8."""
    return len(key.encode()) + len(value.encode())


class Entry(NamedTuple):
    """One command in the log. An empty key is the no-op of a new leader (§8)."""

    term: int
    key: str = ""
    value: str = ""
    client_id: int = 0
    sequence: int = 0


class RequestVoteRequest(NamedTuple):
    term: int
    candidate_id: int
    last_log_index: int
    last_log_term: int


class RequestVoteReply(NamedTuple):
    term: int
    result: bool


class AppendEntriesRequest(NamedTuple):
    term: int
    leader_id: int
    prev_log_index: int
    prev_log_term: int
    entries: tuple[Entry, ...]
    leader_commit: int


class AppendEntriesReply(NamedTuple):
    term: int
    success: bool
    conflict_index: int = 0  # after a mismatch: the index that the leader should try next


class InstallSnapshotRequest(NamedTuple):
    """One piece of a snapshot (Figure 13). The last piece also carries the sessions."""

    term: int
    leader_id: int
    last_included_index: int
    last_included_term: int
    offset: int  # values in the pieces before this one
    values: tuple[tuple[str, str], ...]
    sessions: tuple[tuple[int, int], ...]  # (client id, last sequence number)
    done: bool


class InstallSnapshotReply(NamedTuple):
    term: int
    offset: int  # values of this snapshot that the follower holds: where the next piece begins
    installed: bool = False


class Call(NamedTuple):
    """A request for a peer."""

    peer: int
    request: RequestVoteRequest | AppendEntriesRequest | InstallSnapshotRequest
    round: int = 0  # the leader's round of heartbeats that the request belongs to


class Place(NamedTuple):
    """The place of a command in the log. What stands there in another term is another command."""

    index: int
    term: int


class Read(NamedTuple):
    """A read at the leader (ReadIndex: §8; §6.4 of Ongaro's dissertation).

    It may be answered when a majority has answered `round` in `term`, and `index` is applied.
    """

    term: int
    round: int
    index: int


@dataclass
class Snapshot:
    """The state machine after the entry at `index`, which is of the term `term` (§7)."""

    index: int = 0
    term: int = 0
    values: dict[str, str] = field(default_factory=dict)
    sessions: dict[int, int] = field(default_factory=dict)  # least recently used first


class Unsaved(NamedTuple):
    """A change of the persistent state: what to write, in the order of the fields."""

    current_term: int
    voted_for: int | None
    installed: Snapshot | None  # replaces the whole snapshot and log
    first_index: int  # the log from here on is replaced by `entries`
    entries: Sequence[Entry]
    # Only what has changed in the snapshot on disk; the log up to its index goes.
    compacted: Snapshot | None


@dataclass
class Saved:
    """The persistent state that a server finds on its disk at the start."""

    current_term: int = 0
    voted_for: int | None = None
    snapshot: Snapshot = field(default_factory=Snapshot)
    log: list[Entry] = field(default_factory=list)  # from snapshot.index + 1 on
