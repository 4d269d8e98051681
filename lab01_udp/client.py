"""Send a file over UDP, reliably: python3 client.py localhost:12300 path/to/file name-on-server

Exit status: 0 the server has saved the file, 1 it has not, 2 wrong arguments, 130 interrupted.
The protocol is in stop_and_wait.py, its messages are in messages.py.
"""

import argparse
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from typing import BinaryIO

from messages import MAX_DATAGRAM, is_plain_name
from stop_and_wait import Sender, TransferFailed

SILENCE = 0.05  # s without a datagram, after which the time until the next retry is looked up
PROGRESS_EVERY = 0.2  # s
ACK_SIZE = 4096  # bytes: more than any ack has
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Progress:
    """A line on stderr that says how far the upload is, if stderr is a terminal."""

    def __init__(self, total_size: int):
        self._total = total_size
        self._started = self._shown = time.monotonic()
        self._wanted = sys.stderr.isatty()

    def show(self, sent: int, now: float) -> None:
        if not self._wanted or now - self._shown < PROGRESS_EVERY:
            return
        self._shown = now
        rate = max(1.0, sent / (now - self._started))
        left = (self._total - sent) / rate
        line = f"{sent}/{self._total} bytes  {rate / 1e6:.2f} MB/s  {left:.0f} s left"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._wanted:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def connect(host: str, port: int) -> socket.socket:
    """Return a UDP socket that talks with the server alone; raise OSError if there is no way.

    Raises TransferFailed if there is no such host.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name has such parts
        raise TransferFailed(f"{host}: {getattr(error, 'strerror', error)}") from error
    found.sort(key=lambda info: info[0] != socket.AF_INET)  # "localhost" is the server's 127.0.0.1
    family, kind, _, _, address = found[0]
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_DATAGRAM)
    # The kernel keeps this time itself; a Python timeout would cost one more system call each.
    timeval = struct.pack("ll", int(SILENCE), int(SILENCE % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    sock.connect(address)
    return sock


def upload(sock: socket.socket, sender: Sender, file: BinaryIO, progress: Progress) -> None:
    """Send the whole file; raise TransferFailed if that cannot be done."""
    message = sender.start(time.monotonic())
    while True:
        send(sock, message)
        await_ack(sock, sender)
        if sender.finished:
            return
        now = time.monotonic()
        progress.show(sender.sent, now)
        data = file.read(sender.room)
        if not data:
            raise TransferFailed("the file has shrunk while it was sent")
        message = sender.data(data, now)


def send(sock: socket.socket, message: bytes) -> None:
    """Send a datagram; a report that an earlier one found nobody takes the place of a send."""
    try:
        sock.send(message)
    except ConnectionRefusedError:
        sock.send(message)


def await_ack(sock: socket.socket, sender: Sender) -> None:
    """Return when the awaited ack has come, having sent the message again as often as needed."""
    while True:
        try:
            if sender.receive(sock.recv(ACK_SIZE)):
                return
        except BlockingIOError:
            select.select([sock], [], [], sender.patience(time.monotonic()))
        except ConnectionRefusedError:
            pass  # nobody is there yet
        again = sender.tick(time.monotonic())
        if again is not None:
            send(sock, again)


def open_file(path: str) -> BinaryIO:
    """Open a regular file; raise ArgumentTypeError if there is none to be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would wait for a writer
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise argparse.ArgumentTypeError(f"cannot read {path}: not a regular file")
    return open(fd, "rb")


def parse_name(text: str) -> str:
    """Return a file name that the server will take; raise ArgumentTypeError if it will not."""
    if not (text.isascii() and is_plain_name(text)):
        raise argparse.ArgumentTypeError(f"not a plain ASCII file name: {text!r}")
    return text


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


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Send a file over UDP, reliably.",
        epilog="example: python3 client.py localhost:12300 notes.txt copy-of-notes.txt",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    parser.add_argument("server", type=parse_address, help="host:port of the server")
    parser.add_argument("file", type=open_file, help="the file to send")
    parser.add_argument("name", type=parse_name, help="its name on the server")
    return parser.parse_args(argv)


def transfer(args: argparse.Namespace) -> str:
    """Send the file and return the summary; raise OSError or TransferFailed."""
    size = os.fstat(args.file.fileno()).st_size
    sender = Sender(args.name, size)
    progress = Progress(size)
    started = time.monotonic()
    try:
        with args.file, connect(*args.server) as sock:
            upload(sock, sender, args.file, progress)
    finally:
        progress.clear()
    seconds = time.monotonic() - started
    rate = size / seconds / 1e6
    return (
        f"Sent {args.name}: {size} bytes in {seconds:.3f} s, {rate:.2f} MB/s, "
        f"{sender.retransmissions} retransmissions"
    )


def say(line: str) -> None:
    """Write a line to stdout, if it can be written: the file is sent all the same."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stop(signum, frame) -> None:
    """Raise KeyboardInterrupt, once: what then ends us is not to be interrupted again."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    # Without a stderr, print() would take stdout instead.
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for signum in STOP_SIGNALS:
        signal.signal(signum, stop)
    try:
        args = parse_args(argv)
        summary = transfer(args)
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)  # too late for them
        say(summary)
    except KeyboardInterrupt:
        print("client.py: interrupted, the file is not sent", file=sys.stderr)
        return 130
    except (OSError, TransferFailed) as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
