"""The other servers: their channels, and the core's values as messages of raft.proto and back."""

import contextlib

import cli
import protocol
import rpc
from raft import ELECTION_TIMEOUT_RANGE
from rpc import grpc  # not `import grpc`: rpc first silences its log

messages, services = rpc.compile_proto("raft.proto")

VOTE_TIMEOUT = ELECTION_TIMEOUT_RANGE[1]  # s: a later vote does not count any more
APPEND_TIMEOUT = 0.5  # s for a heartbeat and its reply, and more for what it carries:
SLOWEST_LINK = 200_000  # bytes/s

LARGE = 32_000  # bytes: such messages have a connection of their own, and delay no heartbeat
LARGE_OPTIONS = [
    *rpc.CHANNEL_OPTIONS,
    ("grpc.enable_retries", 0),  # the core itself asks again, with what is true then
    ("grpc.use_local_subchannel_pool", 1),  # each channel has a connection of its own
]
PING_INTERVAL = 200  # ms without a byte from the peer, then a ping asks for one
PING_TIMEOUT = 350  # ms
# The connection for heartbeats is given up that soon when it has died without a word: a leader that
# can send but not hear must fall silent, for the others to elect a new one. One between followers,
# which is idle, is given up as soon: the next candidate asks for votes over it.
SMALL_OPTIONS = {
    **dict(LARGE_OPTIONS),
    "grpc.keepalive_time_ms": PING_INTERVAL,
    "grpc.keepalive_timeout_ms": PING_TIMEOUT,
    "grpc.http2.ping_timeout_ms": PING_TIMEOUT,
    "grpc.http2.min_time_between_pings_ms": PING_INTERVAL // 2,
    "grpc.http2.bdp_probe": 0,  # more pings, to adapt the window to messages that are large
}
SERVER_OPTIONS = {
    **dict(rpc.SERVER_OPTIONS),
    # A client that pings more often than this would lose its connection.
    "grpc.http2.min_ping_interval_without_data_ms": PING_INTERVAL // 2,
    "grpc.http2.max_ping_strikes": 0,
}


class Peer:
    """The two channels to another server: for small messages, and for large ones."""

    def __init__(self, address: str):
        small = grpc.aio.insecure_channel(address, options=[*SMALL_OPTIONS.items()])
        large = grpc.aio.insecure_channel(address, options=LARGE_OPTIONS)
        self._address = address
        self._answers = True  # it did so the last time
        self._small, self._large = services.RaftStub(small), services.RaftStub(large)

    def ask(self, request):
        """Send a request of the core; return an awaitable of its reply, None if none has come."""
        message = to_message(request)
        size = message.ByteSize()
        stub = self._large if size > LARGE else self._small
        if isinstance(request, protocol.RequestVoteRequest):
            return self._answer(stub.RequestVote(message, timeout=VOTE_TIMEOUT), vote_reply)
        timeout = APPEND_TIMEOUT + size / SLOWEST_LINK
        if isinstance(request, protocol.AppendEntriesRequest):
            return self._answer(stub.AppendEntries(message, timeout=timeout), append_reply)
        return self._answer(stub.InstallSnapshot(message, timeout=timeout), snapshot_reply)

    async def set_value(self, request, timeout: float):
        """Pass a client's SetValRequest on; return the SetValReply, or None."""
        message = messages.SetValRequest(forwarded=True)
        message.MergeFrom(request)
        stub = self._large if message.ByteSize() > LARGE else self._small
        return await self._answer(stub.SetVal(message, timeout=timeout))

    async def _answer(self, call, convert=lambda reply: reply):
        """Return the reply of a call, or None if there is none."""
        reply = None
        with contextlib.suppress(grpc.aio.AioRpcError):
            reply = convert(await call)
        if self._answers != (reply is not None):
            self._answers = reply is not None
            cli.log("%s %s", self._address, "answers" if self._answers else "does not answer")
        return reply


def to_message(value):
    """Return the message of raft.proto for a request or reply of the core."""
    fields = value._asdict()
    if isinstance(value, protocol.AppendEntriesRequest):
        fields["entries"] = [messages.Entry(**entry._asdict()) for entry in value.entries]
    elif isinstance(value, protocol.InstallSnapshotRequest):
        fields["values"] = [messages.Value(key=k, value=v) for k, v in value.values]
        fields["sessions"] = [messages.Session(client_id=c, sequence=s) for c, s in value.sessions]
    return getattr(messages, type(value).__name__)(**fields)


def vote_request(message) -> protocol.RequestVoteRequest:
    return protocol.RequestVoteRequest(
        message.term, message.candidate_id, message.last_log_index, message.last_log_term
    )


def append_request(message) -> protocol.AppendEntriesRequest:
    return protocol.AppendEntriesRequest(
        message.term,
        message.leader_id,
        message.prev_log_index,
        message.prev_log_term,
        tuple(
            protocol.Entry(entry.term, entry.key, entry.value, entry.client_id, entry.sequence)
            for entry in message.entries
        ),
        message.leader_commit,
    )


def snapshot_request(message) -> protocol.InstallSnapshotRequest:
    return protocol.InstallSnapshotRequest(
        message.term,
        message.leader_id,
        message.last_included_index,
        message.last_included_term,
        message.offset,
        tuple((value.key, value.value) for value in message.values),
        tuple((session.client_id, session.sequence) for session in message.sessions),
        message.done,
    )


def vote_reply(message) -> protocol.RequestVoteReply:
    return protocol.RequestVoteReply(message.term, message.result)


def append_reply(message) -> protocol.AppendEntriesReply:
    return protocol.AppendEntriesReply(message.term, message.success, message.conflict_index)


def snapshot_reply(message) -> protocol.InstallSnapshotReply:
    return protocol.InstallSnapshotReply(message.term, message.offset, message.installed)
