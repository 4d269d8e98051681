"""What every gRPC lab needs of gRPC: compile the .proto beside it, open a channel, bind a port.

This file stands in lab04_grpc, lab05_chord and lab06_raft alike, so that each folder runs alone;
a test keeps the copies identical.
"""

import argparse
import contextlib
import os
import socket
import sys
from pathlib import Path

# Read once, when grpc is imported: its own log would add lines to the one that we print. So the
# scripts take grpc from here.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402
from google.protobuf import descriptor_pb2  # noqa: E402, F401  (imports all a compiled .proto does)
from grpc_tools import protoc  # noqa: E402

SERVER_OPTIONS = [
    # Without it a second server on the same port starts silently and answers half the calls.
    ("grpc.so_reuseport", 0),
]
CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # A restarted server is found again in 0.1 s; by default it takes 1 s, then up to 120.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    # In spite of its name this is how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 500),
]


def compile_proto(filename: str) -> tuple:
    """Return (messages, services), compiled from the .proto that stands beside this file.

    The compiler goes first among the importers, so that no `*_pb2.py` generated earlier is taken
    for it, and searches "." alone, because grpc_tools accepts only ASCII paths.
    """
    importers, path, cwd = sys.meta_path[:], sys.path[:], os.getcwd()
    sys.meta_path.sort(key=lambda importer: not isinstance(importer, protoc.ProtoFinder))
    sys.path[:] = ["."]
    os.chdir(Path(__file__).parent)
    try:
        return grpc.protos_and_services(filename)
    finally:
        os.chdir(cwd)
        sys.path[:] = path
        sys.meta_path[:] = importers


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port" ("[::1]:port" for IPv6); raise ArgumentTypeError if it is not that."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(f"expected host:port, not {text!r}")
    return host.strip("[]"), parse_port(port)


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def join_address(host: str, port: int) -> str:
    """Return "host:port", with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_channel(address: str) -> grpc.Channel:
    """Return a channel to "host:port"; it connects on first use and again after every loss."""
    return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)


def bind(server: grpc.Server, host: str, port: int) -> int:
    """Bind the server and return its real port; raise OSError if the address cannot be had."""
    address = join_address(host, port)
    bound = 0  # how older releases of grpcio say no
    with contextlib.suppress(RuntimeError):
        bound = server.add_insecure_port(address)
    if not bound:
        raise OSError(f"cannot listen on {address}: {why_not(host, port)}")
    return bound


def why_not(host: str, port: int) -> str:
    """Return what the system says to binding there, which gRPC keeps to itself."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a host name
        return getattr(error, "strerror", str(error))
    return "is the port taken?"
