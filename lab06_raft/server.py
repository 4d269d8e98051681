"""One server of a Raft cluster.

usage: server.py [-h] [--config FILE] [--data-dir DIR] id

    python3 server.py 0

The algorithm is in raft.py; node.py drives it; this file has its RPCs and printed lines.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import asyncio
import os
import queue
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import protocol
import rpc
from config import add_config, find_config, members_of, parse_id
from node import Announced, Node
from peers import (
    SERVER_OPTIONS,
    Peer,
    append_request,
    messages,
    services,
    snapshot_request,
    to_message,
    vote_request,
)
from raft import ELECTION_TIMEOUT_RANGE, Raft, Role
from rpc import grpc
from storage import Disk, Memory, StorageError
from waiting import COMMIT_TIMEOUT
from watching import watch

COPY_TIMEOUT = 0.2  # s that a follower waits for the entry it forwarded; heartbeats bring it
MAX_INDEX = 2**62  # of an entry: SQLite can hold it
MAX_COMMAND = 1_000_000  # bytes of key and value; gRPC refuses messages of 4 MB


def announcements(before: Announced, after: Announced) -> Iterator[str]:
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
    """Prints lines from a thread of its own: a reader that stops reading stops nothing else."""

    def __init__(self):
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def print(self, *lines: str) -> None:
        for line in lines:
            self._lines.put(line)

    def announce(self, before: Announced, after: Announced) -> None:
        self.print(*announcements(before, after))
        role, term, voted_for = after
        cli.log("%s, term %d, voted for %s", role.name.lower, term, voted_for)

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join(0.2)

    def _run(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                data = f"{line}\n".encode()
                while data:
                    data = data[os.write(sys.stdout.fileno(), data) :]
        except (OSError, AttributeError):  # no reader is left, as after `| head -1`
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

    async def _check(self, context) -> None:
        """Abort the call if this server is suspended."""
        if self.node.suspended:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "suspended")

    async def _check_peer(
        self, context, sender: int, term: int, log_terms: list[int], index: int = 0
    ) -> None:
        """Abort the call also if no other server can have sent it; nothing has changed then."""
        await self._check(context)
        reason = ""
        if sender not in self.node.peers:
            reason = f"no other server has the id {sender}"
        elif not self.node.is_plausible(term):
            reason = f"no election can have reached the term {term}"
        elif max(log_terms) > term:
            reason = f"an entry of the term {max(log_terms)}, which is later than its sender's"
        elif log_terms != sorted(log_terms):
            reason = "entries whose terms decrease"
        elif index > MAX_INDEX:
            reason = f"no log can have reached the index {index}"
        if reason:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)

    async def RequestVote(self, request, context):
        await self._check_peer(context, request.candidate_id, request.term, [request.last_log_term])
        return await self._answer(context, self.raft.request_vote, vote_request(request))

    async def AppendEntries(self, request, context):
        terms = [request.prev_log_term, *(entry.term for entry in request.entries)]
        await self._check_peer(context, request.leader_id, request.term, terms)
        return await self._answer(context, self.raft.append_entries, append_request(request))

    async def InstallSnapshot(self, request, context):
        index, terms = request.last_included_index, [request.last_included_term]
        await self._check_peer(context, request.leader_id, request.term, terms, index)
        snapshot = snapshot_request(request)
        return await self._answer(context, self.raft.install_snapshot, snapshot)

    async def _answer(self, context, receive, request):
        reply = await self.node.answer(receive, request)
        await self._check(context)
        return to_message(reply)

    async def GetLeader(self, request, context):
        await self._check(context)
        cli.log("%s: getleader", context.peer)
        self.printer.print("Command from client: getleader")
        leader_id = self.raft.known_leader()
        if leader_id is None:
            return messages.GetLeaderReply()
        self.printer.print(f"{leader_id} {self.addresses[leader_id]}")
        return messages.GetLeaderReply(leader_id=leader_id, address=self.addresses[leader_id])

    async def Suspend(self, request, context):
        await self._check(context)
        if request.period < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a negative period")
        cli.log("%s: suspend %d", context.peer, request.period)
        self.printer.print(
            f"Command from client: suspend {request.period}",
            f"Sleeping for {request.period} seconds",
        )
        self.node.suspend(request.period)
        return messages.SuspendReply()  # still goes out

    async def SetVal(self, request, context):
        await self._check(context)
        if not request.key or protocol.text_size(request.key, request.value) > MAX_COMMAND:
            reason = f"a key and its value together have 1 to {MAX_COMMAND} bytes"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        if request.client_id and request.sequence < 1:
            reason = "the commands of a session are numbered 1, 2, 3, ..."
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        reply = await self._set(request)
        cli.log("%s: setval %s: %s", context.peer, request.key, reply.success)
        await self._check(context)
        return reply

    async def _set(self, request):
        """Have a command committed here if this server leads, or else by the leader.

        A command with a session goes on to the next leader if the first one does not answer;
        without a session it might be done twice.
        """
        deadline = self.node.loop.time() + COMMIT_TIMEOUT
        while (left := deadline - self.node.loop.time()) > 0:
            if self.raft.leadership:
                return await self._commit(request)
            if request.forwarded or self.raft.leader_id is None:
                break
            term = self.raft.current_term
            if reply := await self._ask_leader(request, left):
                return await self._copied(reply)
            if not request.client_id:
                break
            await self._await_leader(term, deadline - self.node.loop.time())
        return messages.SetValReply(success=False)

    async def _await_leader(self, term: int, timeout: float) -> None:
        """Wait until this server knows the leader of a term after `term`, or for `timeout`."""
        await self.node.waiting.until(
            lambda: self.raft.current_term > term and self.raft.leader_id is not None, timeout
        )

    async def _commit(self, request):
        """Have this leader commit a command, unless its session shows that it is done already."""
        last = self.raft.replica.machine.sessions.get(request.client_id, 0)
        if request.client_id and last >= request.sequence:
            place = self.raft.replica.last_place() if last == request.sequence else None
        else:
            command = (request.key, request.value, request.client_id, request.sequence)
            place = await self.node.waiting.commit(protocol.Command(*command))
        return messages.SetValReply(success=bool(place), **place._asdict() if place else {})

    async def _ask_leader(self, request, timeout: float):
        """Pass a command on; return the reply, or None if none has come before the next leader."""
        leader = self.node.peers[self.raft.leader_id]
        asked = asyncio.ensure_future(leader.set_value(request, timeout))
        moved = asyncio.ensure_future(self._await_leader(self.raft.current_term, timeout))
        try:
            await asyncio.wait((asked, moved), return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else None
        finally:  # also if the client goes away
            for task in (asked, moved):
                task.cancel()

    async def _copied(self, reply):
        """Return the leader's reply when the entry is here too: a client reads what it wrote."""
        place = protocol.Place(reply.index, reply.term)
        is_here = partial(self.raft.log.holds, *place)
        if reply.success and await self.node.waiting.until(is_here, COPY_TIMEOUT):
            self.node.step(self.raft.learn_commit, place)
        return reply

    async def GetVal(self, request, context):
        await self._check(context)
        cli.log("%s: getval %s", context.peer, request.key)
        confirmed = bool(self.raft.leadership) and await self.node.waiting.confirm_read()
        await self._check(context)
        value = self.raft.values.get(request.key)
        return messages.GetValReply(success=value is not None, value=value, confirmed=confirmed)

    async def Watch(self, request, context):
        await watch(self.node, context)


async def serve(args: argparse.Namespace, printer: Printer) -> None:
    """Run the server; raise OSError or StorageError if it cannot."""
    host, port = args.members[args.id]
    addresses = {member: cli.join_address(*args.members[member]) for member in args.members}
    server = grpc.aio.server(options=[*SERVER_OPTIONS.items()])
    port = rpc.bind(server, host, port)
    store = Disk(args.data_dir, args.id, addresses) if args.data_dir else Memory()
    now = asyncio.get_running_loop().time()
    new_timeout = partial(random.uniform, *ELECTION_TIMEOUT_RANGE)
    raft = Raft(args.id, addresses, new_timeout, now, store.load())
    others = {peer: Peer(addresses[peer]) for peer in raft.peers}
    saver = ThreadPoolExecutor(1) if args.data_dir else None
    node = Node(raft, others, store.save, saver, printer.announce)
    services.add_RaftServicer_to_server(RaftServicer(node, addresses, printer), server)
    await server.start()
    cli.report_ready(f"The server starts at {cli.join_address(host, port)}")
    node.start()
    await server.wait_for_termination()


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("One server of a Raft cluster.", "0")
    parser.add_argument("id", type=parse_id, help="its id in config.conf, such as 0")
    add_config(parser)
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="keep term, vote and log there, so that they outlive the process (default: nowhere)",
    )
    cli.add_verbose(parser, "each command, change of state, and server that is lost or regained")
    args = parser.parse_args(argv)
    path = args.config or find_config()
    args.members = members_of(parser, path)
    if args.id not in args.members:
        parser.error(f"{path} has no server with the id {args.id}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    cli.start_log(args.verbose)
    printer = Printer()
    # It ends at once, as kill -9 would: a call that is cancelled prints a traceback, and a save may
    # take long.
    cli.end_on_signal(tidy=printer.close)
    try:
        asyncio.run(serve(args, printer))
    except OSError as error:
        return cli.complain(str(error))
    except StorageError as error:
        return cli.complain(f"{args.data_dir}: {error}")
    finally:
        printer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
