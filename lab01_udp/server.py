"""Receive files over UDP, reliably: python3 server.py 12300

Each file appears in the current directory (or --dir) under the name that its client gave it, and
only when it is complete and on disk: files.py. The protocol is in stop_and_wait.py, its messages
are in messages.py.
"""

import argparse
import contextlib
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TextIO

from files import Folder
from messages import MAX_DATAGRAM, Refused
from stop_and_wait import MAX_SESSIONS, Receiver

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
TICK = 0.2  # s: how late a session may be found to have expired
RECEIVE_BUFFER = 4 << 20  # bytes: one datagram each of 64 clients, where the system allows that
UNKNOWN_MTU = 1500  # bytes: Ethernet
IPV4_UDP_HEADERS = 28  # bytes
IPV6_UDP_HEADERS = 48  # bytes
LINUX_IP_MTU, LINUX_IPV6_MTU = 14, 24  # <linux/in.h>, <linux/in6.h>


def path_buf_size(address: tuple) -> int:
    """Return the bytes that a datagram from `address` can carry unfragmented, as far as known."""
    ipv6 = ":" in address[0]
    mtu = UNKNOWN_MTU
    if sys.platform == "linux":
        with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            level, option = (
                (socket.IPPROTO_IPV6, LINUX_IPV6_MTU) if ipv6 else (socket.IPPROTO_IP, LINUX_IP_MTU)
            )
            mtu = probe.getsockopt(level, option)
    elif address[0] == "::1" or address[0].startswith("127."):
        return MAX_DATAGRAM
    return min(MAX_DATAGRAM, mtu - (IPV6_UDP_HEADERS if ipv6 else IPV4_UDP_HEADERS))


def say(line: str, file: TextIO | None = None) -> None:
    """Write a line to stdout or `file`, if that takes it now: we do not stop for one."""
    file = file or sys.stdout
    with contextlib.suppress(OSError):
        if select.select([], [file], [], 0)[1]:
            os.write(file.fileno(), f"{line}\n".encode())


def serve(sock: socket.socket, receiver: Receiver, signals: list[int]) -> None:
    """Answer datagrams until there is something in `signals`."""
    # The kernel keeps this time itself; a Python timeout would cost one more system call each.
    timeval = struct.pack("ll", int(TICK), int(TICK % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    expired_at = 0.0  # when that was last looked into
    while not signals:
        try:
            datagram, address = sock.recvfrom(MAX_DATAGRAM + 1)
            sock.sendto(receiver.receive(datagram, address, time.monotonic()), address)
        except BlockingIOError:
            pass  # nothing came for TICK seconds
        except Refused as reason:
            say(f"{address[0]}:{address[1]}: refused: {reason}", sys.stderr)
        except OSError as error:  # of the answer: a client that cannot be reached
            say(f"cannot answer: {error}", sys.stderr)
        if (now := time.monotonic()) - expired_at >= TICK:
            expired_at = now
            for session in receiver.expire(now):
                say(f"{session.start.filename}: abandoned, the client is silent", sys.stderr)


def bind(host: str, port: int) -> socket.socket:
    """Return a UDP socket bound there; raise OSError if the address cannot be had."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def allow_open_files(count: int) -> None:
    """Ask for so many file descriptors, where a process gets fewer (macOS: 256)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        count = min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_folder(text: str) -> Path:
    """Return a folder that can be written to; raise ArgumentTypeError if it is none."""
    if not os.path.isdir(text) or not os.access(text, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"not a folder that can be written to: {text!r}")
    return Path(text)


def parse_buf_size(text: str) -> int:
    """Return a datagram size in bytes; raise ArgumentTypeError if no datagram has it."""
    if not (
        text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_DATAGRAM
    ):
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_DATAGRAM}, not {text!r}")
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Receive files over UDP, reliably.",
        epilog="example: python3 server.py 12300",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("port", type=parse_port, help="to listen on; 0 picks a free one")
    parser.add_argument("--dir", type=parse_folder, default=".", help="where the files go")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    parser.add_argument("--buf-size", type=parse_buf_size, help="datagram size in bytes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    for name in ("stdout", "stderr"):  # closed by who has started us
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))  # noqa: SIM115
    args = parse_args(argv)
    signals = []  # an exception instead could come between a file and its session

    def stop(signum, frame) -> None:
        signals.append(signum)
        for other in STOP_SIGNALS:  # each further one would have recvfrom wait anew
            signal.signal(other, signal.SIG_IGN)

    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    allow_open_files(MAX_SESSIONS + 100)
    host = f"[{args.host}]" if ":" in args.host else args.host
    try:
        sock = bind(args.host, args.port)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a host name
        print(f"server.py: cannot listen on {host}:{args.port}: {error}", file=sys.stderr)
        return 1
    fixed = args.buf_size
    folder = Folder(args.dir, lambda name, size: say(f"Saved {name}: {size} bytes"))
    receiver = Receiver(folder.create, (lambda address: fixed) if fixed else path_buf_size)
    with sock:
        say(f"Listening on {host}:{sock.getsockname()[1]}")
        serve(sock, receiver, signals)
    receiver.abandon_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
