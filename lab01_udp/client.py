"""Send a file over UDP, reliably: python3 client.py localhost:12300 path/to/file name-on-server

Exit status: 0 the server has saved the file, 1 it has not, 2 wrong arguments, 130 interrupted.
The protocol is in stop_and_wait.py, its messages are in messages.py.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import contextlib
import errno
import io
import os
import select
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import BinaryIO

from messages import MAX_DATAGRAM, is_plain_name
from stop_and_wait import Sender, TransferFailed

SILENCE = 0.05  # s without a datagram, after which the time until the next retry is looked up
PROGRESS_EVERY = 0.2  # s
ACK_SIZE = 4096  # bytes: more than any ack has
READ_AHEAD = 64 << 10  # bytes read from the file at a time
TRUSTED_SIZE = 4096  # bytes: a smaller st_size may be wrong; /proc reports 0, sysfs 4096
MAX_UNSIZED = 64 << 20  # bytes of such a file


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
        percent = 100 * sent // max(1, self._total)
        self._draw(
            f"{percent} %  {sent}/{self._total} bytes  {rate / 1e6:.2f} MB/s  {left:.0f} s left"
        )

    def clear(self) -> None:
        if self._wanted:
            self._draw("")

    @staticmethod
    def _draw(line: str) -> None:
        """Draw over the last line, cut to the present width; any terminal can do that."""
        width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
        print(f"\r{line[:width]:{width}}\r{line[:width]}", end="", file=sys.stderr, flush=True)


class Wire:
    """A UDP socket that talks with the server alone; raise TransferFailed if there is no such host.

    Whatever the network reports counts as the loss of a datagram: no route, no server, a datagram
    too long for the path. `trouble` is the last such report, until a datagram comes through.
    """

    def __init__(self, host: str, port: int):
        self.name = cli.join_address(host, port)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name has such parts
            raise TransferFailed(f"{self.name}: {getattr(error, 'strerror', error)}") from error
        found.sort(key=lambda info: info[0] != socket.AF_INET)  # as the server does: "localhost"
        family, kind, _, _, self._address = found[0]
        self._sock = socket.socket(family, kind)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_DATAGRAM)
        # The kernel keeps this time itself; a Python timeout would cost one more system call each.
        timeval = struct.pack("ll", int(SILENCE), int(SILENCE % 1 * 1e6))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self.trouble = ""
        self._connect()

    def _connect(self) -> None:
        try:
            self._sock.connect(self._address)
        except OSError as error:
            self.trouble = error.strerror

    def send(self, message: bytes) -> None:
        """Send a datagram, perhaps in vain."""
        try:
            self._sock.send(message)
        except OSError as error:  # of an earlier datagram perhaps: this one was not sent
            self.trouble = error.strerror
            self._connect()  # there may have been no route before
            with contextlib.suppress(OSError):
                self._sock.send(message)

    def receive(self, timeout: Callable[[float], float]) -> bytes:
        """Return a datagram; or b"" when one is there, the network complains, or time is up.

        The caller then calls again. `timeout(now)` returns the seconds until its time is up.
        """
        try:
            datagram = self._sock.recv(ACK_SIZE)
        except BlockingIOError:
            select.select([self._sock], [], [], timeout(time.monotonic()))
            return b""
        except OSError as error:
            self.trouble = error.strerror
            return b""
        self.trouble = ""
        return datagram

    def close(self) -> None:
        self._sock.close()


def upload(wire: Wire, sender: Sender, file: BinaryIO, progress: Progress) -> None:
    """Send the whole file; raise TransferFailed if that cannot be done."""
    message = sender.start(time.monotonic())
    while True:
        wire.send(message)
        await_ack(wire, sender)
        if sender.finished:
            return
        now = time.monotonic()
        progress.show(sender.sent, now)
        data = file.read(sender.room)
        if not data:
            raise TransferFailed("the file has shrunk while it was sent")
        message = sender.data(data, now)


def await_ack(wire: Wire, sender: Sender) -> None:
    """Return when the awaited ack has come, having sent the message again as often as needed."""
    while not sender.receive(wire.receive(sender.timeout)):
        try:
            again = sender.tick(time.monotonic())
        except TransferFailed as failure:
            reason = f" ({wire.trouble})" if wire.trouble else ""
            raise TransferFailed(f"{wire.name}: {failure}{reason}; is it running?") from None
        if again is not None:
            wire.send(again)


def open_file(path: str) -> BinaryIO:
    """Open a regular file; raise ArgumentTypeError if there is none to be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would wait for a writer
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise argparse.ArgumentTypeError(f"cannot read {path}: not a regular file")
        file = open(fd, "rb", buffering=READ_AHEAD)  # noqa: SIM115
        return file if status.st_size > TRUSTED_SIZE else whole(file)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {error.strerror}") from error


def whole(file: BinaryIO) -> BinaryIO:
    """Return a copy in memory of a file that may be longer or shorter than the system says."""
    with file:
        data = file.read(MAX_UNSIZED + 1) or b""
    if len(data) > MAX_UNSIZED:
        raise OSError(errno.EFBIG, "the system does not say how long it is")
    return io.BytesIO(data)


def parse_name(text: str) -> str:
    """Return a file name that the server will take; raise ArgumentTypeError if it will not."""
    if not (text.isascii() and is_plain_name(text)):
        raise argparse.ArgumentTypeError(f"not a plain ASCII file name: {text!r}")
    return text


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(
        "Send a file over UDP, reliably.", "localhost:12300 notes.txt copy-of-notes.txt"
    )
    parser.add_argument("server", type=cli.parse_address, help="host:port of the server")
    parser.add_argument("file", type=open_file, help="the file to send")
    parser.add_argument("name", type=parse_name, help="its name on the server")
    return parser.parse_args(argv)


def transfer(args: argparse.Namespace) -> str:
    """Send the file and return the summary; raise OSError or TransferFailed."""
    args.file.seek(0, os.SEEK_END)
    size = args.file.tell()
    args.file.seek(0)
    sender = Sender(args.name, size)
    progress = Progress(size)
    started = time.monotonic()
    try:
        with args.file, contextlib.closing(Wire(*args.server)) as wire:
            upload(wire, sender, args.file, progress)
    finally:
        progress.clear()
    seconds = time.monotonic() - started
    rate = size / seconds / 1e6
    return (
        f"Sent {args.name}: {size} bytes in {seconds:.3f} s, {rate:.2f} MB/s, "
        f"{sender.retransmissions} retransmissions"
    )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with cli.interruptible("interrupted, the file is not sent"):
            summary = transfer(args)
    except (OSError, TransferFailed) as failure:
        return cli.complain(f"{failure}")
    cli.show(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
