"""One server of a Raft cluster.

usage: server.py [-h] [--config FILE] [--data-dir DIR] id

    python3 server.py 0

The algorithm is in raft.py; node.py drives it; here is what others see of it: RPCs and lines.
"""

import argparse
import asyncio
import os
import queue
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import process
import protocol
import rpc
from config import find_config, parse_id, read_config
from node import FORWARD_DEADLINE, MAX_TERM, Node, Peer, View, messages, services
from raft import Role
from rpc import grpc
from storage import Disk, Memory

COPY_DEADLINE = 0.2  # s: a follower waits for what it forwarded; the next heartbeats bring it
MAX_COMMAND = 1_000_000  # bytes of key and value; gRPC refuses messages of 4 MB


def announcements(before: View, after: View) -> Iterator[str]:
    """Say in the lab's words what a step has changed; a cluster of one does it all in one step."""
    new_term = after.term != before.term
    if after.role is Role.FOLLOWER:
        if new_term or before.role is not Role.FOLLOWER:
            yield f"I am a follower. Term: {after.term}"
    elif new_term:
        yield "The leader is dead"
        yield f"I am a candidate. Term: {after.term}"
    if after.voted_for is not None and (new_term or before.voted_for is None):
        yield f"Voted for node {after.voted_for}"
    if after.role is Role.LEADER is not before.role:
        yield "Votes received"
        yield f"I am a leader. Term: {after.term}"


class Printer:
    """Prints lines from a thread of its own: a reader who stops reading stops nothing else."""

    def __init__(self):
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def print(self, *lines: str) -> None:
        for line in lines:
            self._lines.put(line)

    def announce(self, before: View, after: View) -> None:
        self.print(*announcements(before, after))

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join(0.2)

    def _run(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                data = f"{line}\n".encode()
                while data:
                    data = data[os.write(sys.stdout.fileno(), data) :]
        except (OSError, AttributeError):  # nobody reads (any more), as after `| head -1`
            while self._lines.get() is not None:
                pass


class RaftServicer(services.RaftServicer):
    """The RPC methods: each is a step of the core, or a wait for one.

    They run on grpc.aio. Measured against a pool of threads, the chain from a client over the
    leader to the first of two followers takes 1.06 ms instead of 1.13, because no reply has to
    wake a thread; and calls that wait cost no thread either.
    """

    def __init__(self, node: Node, addresses: dict[int, str], printer: Printer):
        self.node = node
        self.raft = node.raft
        self.addresses = addresses
        self.printer = printer

    async def _check(self, context, term: int = 0) -> None:
        """Abort the call if this server sleeps, or if the term is beyond reason."""
        if self.node.suspended:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "suspended")
        if term > MAX_TERM:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a term of {term}")

    async def RequestVote(self, request, context):
        await self._check(context, request.term)
        vote = protocol.RequestVoteRequest(
            request.term, request.candidate_id, request.last_log_index, request.last_log_term
        )
        reply = self.node.step(self.raft.request_vote, vote, self.node.loop.time())
        return messages.RequestVoteReply(**reply._asdict())

    async def AppendEntries(self, request, context):
        await self._check(context, request.term)
        if any(entry.term > request.term for entry in request.entries):
            reason = "an entry of a later term than its leader's"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        append = protocol.AppendEntriesRequest(
            request.term,
            request.leader_id,
            request.prev_log_index,
            request.prev_log_term,
            tuple(protocol.Entry(entry.term, entry.key, entry.value) for entry in request.entries),
            request.leader_commit,
        )
        reply = self.node.step(self.raft.append_entries, append, self.node.loop.time())
        return messages.AppendEntriesReply(**reply._asdict())

    async def GetLeader(self, request, context):
        await self._check(context)
        self.printer.print("Command from client: getleader")
        leader_id = self.raft.known_leader()
        if leader_id not in self.addresses:
            return messages.GetLeaderReply()
        self.printer.print(f"{leader_id} {self.addresses[leader_id]}")
        return messages.GetLeaderReply(leader_id=leader_id, address=self.addresses[leader_id])

    async def Suspend(self, request, context):
        await self._check(context)
        if request.period < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a negative period")
        self.printer.print(
            f"Command from client: suspend {request.period}",
            f"Sleeping for {request.period} seconds",
        )
        self.node.suspend(request.period)
        return messages.SuspendReply()  # goes out still

    async def SetVal(self, request, context):
        await self._check(context)
        if not request.key or len((request.key + request.value).encode()) > MAX_COMMAND:
            reason = f"a key and its value together have 1 to {MAX_COMMAND} bytes"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        if self.raft.role is Role.LEADER:
            place = await self.node.commit(request.key, request.value)
            reply = messages.SetValReply(success=bool(place), **place._asdict() if place else {})
        elif self.raft.leader_id in self.node.peers and not request.forwarded:
            reply = await self._forward(self.node.peers[self.raft.leader_id], request)
        else:
            reply = messages.SetValReply(success=False)
        await self._check(context)
        return reply

    async def _forward(self, leader: Peer, request):
        """Pass the command on, and answer when it is here too: a client reads what it wrote."""
        message = messages.SetValRequest(key=request.key, value=request.value, forwarded=True)
        reply = await leader.ask("SetVal", message, FORWARD_DEADLINE)
        if not reply:
            return messages.SetValReply(success=False)
        here = lambda: self.raft.holds(reply.index, reply.term)  # noqa: E731
        if reply.success and await self.node.until(here, COPY_DEADLINE):
            self.node.step(self.raft.learn_commit, reply.index, reply.term)
        return reply

    async def GetVal(self, request, context):
        await self._check(context)
        confirmed = self.raft.role is Role.LEADER and await self.node.confirm_read()
        await self._check(context)
        value = self.raft.values.get(request.key)
        return messages.GetValReply(success=value is not None, value=value, confirmed=confirmed)


async def serve(args: argparse.Namespace, printer: Printer) -> None:
    """Run the server until a stop signal comes; raise OSError or sqlite3.Error if it cannot."""
    host, port = args.members[args.id]
    addresses = {member: rpc.join_address(*args.members[member]) for member in args.members}
    server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
    port = rpc.bind(server, host, port)
    store = Disk(args.data_dir, args.id) if args.data_dir else Memory()
    node = Node(args.id, addresses, store, printer.announce)
    services.add_RaftServicer_to_server(RaftServicer(node, addresses, printer), server)
    await server.start()
    printer.print(f"The server starts at {rpc.join_address(host, port)}")
    node.start()
    await asyncio.to_thread(signal.sigwait, process.STOP_SIGNALS)
    await server.stop(0)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description="One server of a Raft cluster.",
        epilog="example: python3 server.py 0",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("id", type=parse_id, help="its id in config.conf, such as 0")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="lines `id address port` (default: config.conf here, else beside the script)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="keep term, vote and log there, so that they outlive the process (default: nowhere)",
    )
    args = parser.parse_args(argv)
    path = args.config or find_config()
    try:
        args.members = read_config(path)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.id not in args.members:
        parser.error(f"{path} has no server with the id {args.id}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    printer = Printer()
    try:
        asyncio.run(serve(args, printer))
    except OSError as error:
        print(f"server.py: {error}", file=sys.stderr)
        return 1
    except sqlite3.Error as error:
        print(f"server.py: {args.data_dir}: {error}", file=sys.stderr)
        return 1
    finally:
        printer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
