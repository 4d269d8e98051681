"""What every gRPC lab needs of gRPC: compile the .proto beside it, open a channel, bind a port.

Labs 4 to 6 have a copy of this file each, so that each folder runs alone; a test keeps the copies
identical.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Read once, when grpc is imported: its own log would add lines to the one that we print. So the
# scripts take grpc from here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402
from cli import cannot_listen, join_address  # noqa: E402
from google.protobuf import descriptor_pb2  # noqa: E402, F401  (imports all a compiled .proto does)
from grpc_tools import protoc  # noqa: E402

KEEPALIVE_INTERVAL = 2000  # ms without a byte from the peer, then a ping asks for one
KEEPALIVE_TIMEOUT = 2000  # ms from the ping until the connection counts as dead
RECONNECT_INTERVAL = 0.05  # s

# A power cut, or a firewall that lost its state, ends a connection without a word, and TCP alone
# notices after minutes or never. So both sides ping, also between calls. Any byte that arrives is a
# sign of life: a large message on a slow link is no silence. The interval suits servers of other
# authors too: gRPC's default policy closes a connection at the third ping without data, which here
# comes after 6 s of silence. See doc/keepalive.md of grpc/grpc.
KEEPALIVE_OPTIONS = [
    ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # any number
]
SERVER_OPTIONS = [
    # Without it a second server on the same port starts silently and answers half the calls.
    ("grpc.so_reuseport", 0),
    *KEEPALIVE_OPTIONS,
    # A client that pings more often gets ENHANCE_YOUR_CALM and loses its connection.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_INTERVAL // 2),
]
CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # A restarted server is found again in 0.1 s; by default it takes 1 s, then up to 120.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    # In spite of its name this is how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 500),
    *KEEPALIVE_OPTIONS,
]


def compile_proto(filename: str) -> tuple:
    """Return (messages, services), compiled from the .proto that stands beside this file.

    The importer of grpc_tools goes first, so that an older `*_pb2.py` is not imported instead. It
    searches "." alone, because grpc_tools accepts only ASCII paths.
    """
    importers, path = sys.meta_path[:], sys.path[:]
    cwd = os.open(".", os.O_RDONLY)  # the way back, also into a folder that has been deleted
    sys.meta_path.sort(key=lambda importer: not isinstance(importer, protoc.ProtoFinder))
    sys.path[:] = ["."]
    os.chdir(Path(__file__).parent)
    try:
        return grpc.protos_and_services(filename)
    finally:
        os.fchdir(cwd)
        os.close(cwd)
        sys.path[:] = path
        sys.meta_path[:] = importers


def open_channel(address: str) -> grpc.Channel:
    """Return a channel to "host:port"; it connects on first use and again after every loss."""
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)


def is_refused(error: grpc.RpcError) -> bool:
    """Tell whether a call failed because no process listens at its address."""
    return "refused" in (error.details() or "").lower()


def insist(method: Callable, request, timeout: float):
    """Call a method of a new channel; repeat the call while the attempt to connect fails.

    One attempt is shorter than the time after which TCP sends a lost SYN again, so one lost packet
    makes it fail.

    Raises:
        grpc.RpcError: no answer came within the timeout, in seconds, or no process listens there.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return method(request, timeout=max(0.0, deadline - time.monotonic()))
        except grpc.RpcError as error:
            is_lost = "failed to connect" in (error.details() or "").lower()
            if not is_lost or is_refused(error) or time.monotonic() > deadline:
                raise
        time.sleep(RECONNECT_INTERVAL)


def bind(server: grpc.Server, host: str, port: int) -> int:
    """Bind the server to all addresses of a host and return its real port.

    A name may have several: localhost is often both ::1 and 127.0.0.1. gRPC itself is content with
    one of them, and clients that use the other reach no server, or a different one.

    Raises:
        OSError: an address cannot be had; the message names host, port and cause.
    """
    bound = port
    try:
        for address in own_addresses(host):
            bound = bind_address(server, address, bound)
    except (OSError, UnicodeError) as error:
        raise OSError(cannot_listen(host, port, error)) from None
    return bound


def own_addresses(host: str) -> list[tuple]:
    """Return the addresses of a host that this machine has, as sockets take them, with port 0.

    Where IPv6 is off, localhost may still resolve to ::1 too. Raise OSError if none is left.
    """
    own, problem = {}, None
    for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind) as probe:
                probe.bind(address)
            own[address] = None
        except OSError as error:
            problem = error
    if not own and problem:
        raise problem
    return list(own)


def bind_address(server: grpc.Server, address: tuple, port: int) -> int:
    """Bind the server to one address and return its real port; raise OSError with the cause."""
    ip, _, *ipv6_fields = address
    bound = 0  # which older releases of grpcio return instead of raising
    with contextlib.suppress(RuntimeError):
        bound = server.add_insecure_port(join_address(ip, port))
    if bound:
        return bound
    with socket.socket(socket.AF_INET6 if ipv6_fields else socket.AF_INET) as probe:
        # It raises what the system says, which gRPC keeps to itself.
        probe.bind((ip, port, *ipv6_fields))
    raise OSError("is the port taken?")
