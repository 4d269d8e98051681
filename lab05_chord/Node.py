"""A node of the ring: stores a part of all keys and finds the others.

    python3 Node.py 127.0.0.1:5000 127.0.0.1:5001

The first address is the registry's, the second the one on which this node listens and by which
the others reach it.
"""

import argparse
import asyncio
import contextlib
import signal
import sys

import grpc
from rpc import bind, block_stop_signals, join_address, parse_address
from wire import Loop, assigned, from_message, messages, new_server, say, services, to_message

from member import Member
from messages import Accepted, Kind, Unreachable

REGISTRY_PATIENCE = 2.5  # s for the registry to be there
LEAVE_TIMEOUT = 0.6  # s for leaving in good order
LAST_ANSWERS = 0.2  # s for what clients are still waiting for


class Servicer(services.NodeServiceServicer):
    """Every call is one of the rules in member.py."""

    def __init__(self, member: Member):
        self.member = member

    # --- for clients ---

    async def save(self, request, context):
        """Store a text under a key that is free."""
        return await self._operate(context, Kind.SAVE, request.key, request.text)

    async def remove(self, request, context):
        """Free a key."""
        return await self._operate(context, Kind.REMOVE, request.key)

    async def find(self, request, context):
        """Tell which node has a key."""
        return await self._operate(context, Kind.FIND, request.key)

    async def get(self, request, context):
        """Tell which node has a key, and the text."""
        return await self._operate(context, Kind.GET, request.key)

    async def _operate(self, context, kind: Kind, key: str, text: str = ""):
        if not key:
            return messages.Result(success=False, node_id=-1, message="the key is empty")
        outcome = await self.member.operate(kind, key, text)
        if outcome is None:
            reason = f"the owner of {key} cannot be reached, or cannot reach its replicas"
            await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        id, message = outcome.node.id, ""
        if not outcome.success:
            problem = "is already exist" if kind is Kind.SAVE else "does not exist"
            message = f"{key} {problem} in node {id}"
        return messages.Result(
            success=outcome.success, node_id=id, message=message, text=outcome.text
        )

    async def get_finger_table(self, request, context):
        """Tell this node's id and fingers."""
        id, view = self.member.id, self.member.view
        fingers = view.fingers(id) if id in view.by_id else []
        return messages.FingerTable(id=id, finger_table=[to_message(n) for n in fingers])

    # --- for nodes ---

    async def route(self, request, context):
        """Carry an operation out, or tell where it should go."""
        try:
            operation = from_message(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return to_message(await self.member.route(operation))

    async def digest(self, request, context):
        """Tell which versions there are on an arc."""
        return to_message(self.member.digest(from_message(request)))

    async def fetch(self, request, context):
        """Hand out records."""
        return to_message(self.member.fetch(from_message(request)))

    async def replicate(self, request, context):
        """Keep copies."""
        return to_message(self.member.replicate(from_message(request)))

    async def install(self, request, context):
        """Hear of a new view."""
        self.member.install(from_message(request))
        return to_message(Accepted(True))

    async def confirm(self, request, context):
        """Tell a neighbour whether the registry is away for me too."""
        return to_message(self.member.confirm(from_message(request)))


async def serve(registry: str, host: str, port: int, stop_signals: set[signal.Signals]) -> int:
    """Run the node until a stop signal comes; return the exit status."""
    stop = asyncio.Event()
    for number in stop_signals:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
    server = new_server()
    try:
        bound = bind(server, host, port)
    except OSError as error:
        say(f"Node.py: {error}", file=sys.stderr)
        return 1
    loop = Loop(joined=lambda id, view: say(assigned(id, view)))
    member = Member(loop, f"[{host}]" if ":" in host else host, bound, registry)
    services.add_NodeServiceServicer_to_server(Servicer(member), server)
    await server.start()
    if port == 0:
        say(f"Node listens on {join_address(host, bound)}")
    stopped = asyncio.ensure_future(stop.wait())
    joined = asyncio.ensure_future(join(loop, member))
    await asyncio.wait([stopped, joined], return_when=asyncio.FIRST_COMPLETED)
    problem = joined.result() if joined.done() else None
    if problem:
        say(f"Node.py: {problem}", file=sys.stderr)
    elif joined.done():
        loop.spawn(member.run())
        await stopped
    joined.cancel()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(member.leave(), LEAVE_TIMEOUT)
    await server.stop(LAST_ANSWERS)
    return 1 if problem else 0


async def join(loop: Loop, member: Member) -> str | None:
    """Get a place in the ring; return why there is none, if so."""
    try:
        await loop.find_registry(member.registry, REGISTRY_PATIENCE)
        reply = await member.join()
    except Unreachable:
        return f"no registry answers at {member.registry}"
    return reply.reason if reply.id < 0 else None


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="Node.py",
        description="Run a node of a Chord ring.",
        epilog="example: python3 Node.py 127.0.0.1:5000 127.0.0.1:5001",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("registry", type=parse_address, metavar="registry-ip:port")
    parser.add_argument(
        "address", type=parse_address, metavar="ip:port", help="where to listen; port 0: any"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    stop_signals = block_stop_signals()
    return asyncio.run(serve(join_address(*args.registry), *args.address, stop_signals))


if __name__ == "__main__":
    sys.exit(main())
