"""What servers say to each other and keep: raft.proto's messages and the disk's content as values.

Names and fields are those of raft.proto and of Figure 2 of the Raft paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    term: int
    key: str = ""  # empty: a new leader's no-op (§8)
    value: str = ""


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
    conflict_index: int = 0


class Call(NamedTuple):
    """A request to send to a peer; its reply goes to `request_vote_reply` or the other."""

    peer: int
    request: RequestVoteRequest | AppendEntriesRequest
    round: int = 0  # the leader's round of AppendEntries that it belongs to


class Read(NamedTuple):
    """What must come true before the leader may answer a read (§8)."""

    term: int
    round: int
    index: int


class Unsaved(NamedTuple):
    """What has to be on disk: all of term and vote, and the log from `index` on."""

    current_term: int
    voted_for: int | None
    index: int
    entries: Sequence[Entry]


@dataclass
class Saved:
    """What a server finds on its disk when it starts."""

    current_term: int = 0
    voted_for: int | None = None
    log: list[Entry] = field(default_factory=list)  # from index 1 on
