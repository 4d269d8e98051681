"""A node of the ring: stores a part of all keys and finds the others.

    python3 Node.py 127.0.0.1:5000 127.0.0.1:5001

The first address is the registry's, the second the one on which this node listens and by which
the others reach it. Where they reach it by another, as behind NAT or in a container, it is told by

    python3 Node.py 10.0.0.1:5000 0.0.0.0:5001 --announce 10.0.0.2:5001
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import ipaddress
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

from member import Member
from messages import CALL_TIMEOUT, Kind, Outcome, Status, Unreachable
from rpc import bind, grpc
from wire import (
    OPERATIONS,
    ROUTES,
    Threads,
    assigned,
    messages,
    new_server,
    receiver,
    services,
    to_message,
)

REGISTRY_TIMEOUT = 2.5  # s for the registry to be there
LEAVE_SILENCE = 0.8  # s of leaving without a word
LAST_ANSWERS = 0.2  # s for what clients are still waiting for


def rule(name: str):
    """Return a gRPC method that carries out the member's rule of the same name."""
    return receiver(lambda servicer, value: servicer.do(getattr(servicer.member, name), value))


class Servicer(services.NodeServiceServicer):
    """Every call is one of the rules of a Member."""

    def __init__(self, threads: Threads, member: Member):
        self.do = threads.do
        self.member = member
        self.operations = threading.Semaphore(OPERATIONS)
        self.routes = threading.Semaphore(ROUTES)

    # --- for clients ---

    def save(self, request, context):
        """Store a text under a key that is free."""
        return self._operate(context, Kind.SAVE, request.key, request.text)

    def remove(self, request, context):
        """Free a key."""
        return self._operate(context, Kind.REMOVE, request.key)

    def find(self, request, context):
        """Tell which node has a key."""
        return self._operate(context, Kind.FIND, request.key)

    def get(self, request, context):
        """Tell which node has a key, and the text."""
        return self._operate(context, Kind.GET, request.key)

    def _operate(self, context, kind: Kind, key: str, text: str = ""):
        if not key:
            return messages.Result(success=False, node_id=-1, message="the key is empty")
        if not self.operations.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many operations at a time")
        try:
            outcome = self.do(self.member.operate, kind, key, text)
        finally:
            self.operations.release()
        if outcome is None:
            reason = f"the owner of {key} cannot be reached, or cannot reach its replicas"
            context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        id, message = outcome.node.id, ""
        cli.log("%s: %s %s: %s", context.peer, kind.name.lower, key, outcome.success)
        if not outcome.success:
            problem = "is already exist" if kind is Kind.SAVE else "does not exist"
            message = f"{key} {problem} in node {id}"
        return messages.Result(
            success=outcome.success, node_id=id, message=message, text=outcome.text
        )

    def get_finger_table(self, request, context):
        """Tell this node's id and fingers."""
        id, view = self.member.place.id, self.member.place.view
        fingers = view.fingers(id) if id in view.by_id else []
        table = [to_message(node) for node in fingers]
        return messages.FingerTable(id=id, finger_table=table, process=self.member.identity)

    def inspect(self, request, context):
        """Tell where this node stands and how many keys it has, or also which it owns."""
        place, store = self.member.place, self.member.store
        id, view = place.id, place.view
        if id not in view.by_id:
            reason = "this node is not in the ring yet"
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
        predecessor = view.predecessor(id)
        state = messages.NodeState(
            id=id,
            predecessor=to_message(predecessor),
            epoch=view.epoch,
            finger_table=map(to_message, view.fingers(id)),
            in_sync=place.in_sync,
            leaving=place.leaving,
            lease=place.lease_left(),
            changes=store.count + store.generation,
        )
        if not request.without_counts:  # they take long: all keys are looked at
            records, owned = self.do(lambda: (dict(store.records), store.on(predecessor.id, id)))
            own = [key for key, record in owned.items() if record.text is not None]
            count = sum(record.text is not None for record in records.values())
            state.own_keys, state.replicas = len(own), count - len(own)
            state.keys.extend(sorted(own) if request.with_keys else ())
        return state

    # --- for nodes ---

    @receiver
    def route(self, operation):
        """Carry an operation out, or tell where it should go."""
        if not self.routes.acquire(blocking=False):
            return Outcome(Status.RETRY)
        try:
            return self.do(self.member.route, operation)
        finally:
            self.routes.release()

    digest, fetch, replicate, install, grant_lease = map(
        rule, ("digest", "fetch", "replicate", "install", "grant_lease")
    )


def join(threads: Threads, member: Member) -> str | None:
    """Join the ring; return why that is not possible, if so."""
    if is_taken(threads, member.place.address, member.identity):
        return f"another node answers at {member.place.address}: announce an address of this one"
    try:
        threads.find_registry(member.registry, REGISTRY_TIMEOUT)
        reply = threads.do(member.join)
    except Unreachable:
        return f"no registry answers at {member.registry}"
    return reply.reason if reply.id < 0 else None


def is_taken(threads: Threads, address: str, identity: int) -> bool:
    """Tell whether another process than the one of this identity answers as a node.

    The registry would take the other one for dead, and each of the two would throw the other out.
    """
    try:
        node = threads.channels.to(address).node
        return node.get_finger_table(messages.Empty(), timeout=CALL_TIMEOUT).process != identity
    except grpc.RpcError:  # as behind a router that leads no packet back
        return False


class Heartbeats(threading.Thread):
    """Joins, then sends a heartbeat every second; or wakes the main thread with a `problem`."""

    def __init__(self, threads: Threads, member: Member):
        super().__init__(daemon=True)
        self.threads, self.member = threads, member
        self.problem: str | None = None

    def run(self) -> None:
        self.problem = join(self.threads, self.member)
        if self.problem:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.threads.do(self.member.run)


def leave(threads: Threads, member: Member) -> None:
    """Leave the ring in good order, however long that takes; a second signal ends it at once."""

    def end() -> None:
        signal.sigwait(cli.STOP_SIGNALS)
        if member.store.records:
            cli.complain(f"ended while {unfinished(member)}")
        os._exit(1 if member.store.records else 0)

    threading.Thread(target=end, daemon=True).start()
    with ThreadPoolExecutor(1) as executor:
        leaving = executor.submit(threads.do, member.leave)
        if leaving not in wait([leaving], LEAVE_SILENCE).done:
            cli.complain(f"still {unfinished(member)}; Ctrl-C ends it at once")
    keys = count_keys(threads, member)
    if not leaving.result():
        if keys:
            cli.complain(f"the last node of the ring; {keys} keys go with it")
    elif member.place.registry_lost:
        reason = f"no registry answers at {member.registry}: the ring misses this node later"
        cli.complain(f"{reason}; its keys are with its successors")


def count_keys(threads: Threads, member: Member) -> int:
    """Return how many keys a node holds; others may still send it copies."""
    records = threads.do(lambda: list(member.store.records.values()))
    return sum(record.text is not None for record in records)


def unfinished(member: Member) -> str:
    """Return what a leaving node is doing, in words."""
    waiting = [
        f"{count} keys to node {id}" for id, count in sorted(member.transfer.unfinished.items())
    ]
    return "handing over " + ", ".join(waiting) if waiting else "waiting for the registry"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Run a node of a Chord ring.", "127.0.0.1:5000 127.0.0.1:5001")
    parser.add_argument(
        "registry", type=cli.parse_address, metavar="registry-ip:port", help="where it listens"
    )
    parser.add_argument(
        "address", type=cli.parse_address, metavar="ip:port", help="where to listen; port 0: any"
    )
    parser.add_argument(
        "--announce",
        type=cli.parse_address,
        metavar="ip:port",
        help="where others reach this node (default: where it listens); port 0: the port it has",
    )
    cli.add_verbose(parser, "each command, and each call to another node that fails")
    args = parser.parse_args(argv)
    host, port = args.announce = args.announce or args.address
    if is_wildcard(host):
        others = f"other nodes cannot reach {cli.join_address(host, port)}"
        parser.error(f"{others}: tell an address that they can by --announce ip:port")
    return args


def is_wildcard(host: str) -> bool:
    """Tell whether a host stands for all addresses of a machine, in any notation of it."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):  # a name
        return False
    numbers = {int(ipaddress.ip_address(address[0])) for *_, address in found}
    return bool(numbers & {0, 0xFFFF_0000_0000})  # 0.0.0.0 and ::, and ::ffff:0.0.0.0


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cli.start_log(args.verbose)
    host, port = args.address
    server = new_server()
    try:
        bound = bind(server, host, port)
    except OSError as error:
        sys.exit(cli.complain(str(error)))
    first = iter([cli.report_ready])  # it may join again much later
    threads = Threads(joined=lambda id, view: next(first, cli.say)(assigned(id, view)))
    announced, announced_port = args.announce
    ipaddr = f"[{announced}]" if ":" in announced else announced
    member = Member(threads, ipaddr, announced_port or bound, cli.join_address(*args.registry))
    servicer = Servicer(threads, member)
    services.add_NodeServiceServicer_to_server(servicer, server)
    server.start()
    if port == 0:
        cli.report_ready(f"Node listens on {cli.join_address(host, bound)}")
    heartbeats = Heartbeats(threads, member)
    heartbeats.start()
    signal.sigwait(cli.STOP_SIGNALS)
    if heartbeats.problem:
        cli.complain(cli.printable(heartbeats.problem))
    if not heartbeats.problem:
        leave(threads, member)
    server.stop(LAST_ANSWERS).wait()
    # Not sys.exit: it would wait for threads that still carry out what clients no longer await.
    os._exit(1 if heartbeats.problem else 0)


if __name__ == "__main__":
    main()
