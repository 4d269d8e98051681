"""TFTP programs as peers of lab 1: stop-and-wait too, with blocks of a negotiated size."""

import contextlib
import os
import pwd
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.measure import Contestant, Missing
from tests.benchmarks.processes import PEERS, duration, library, program, serving, succeed
from tests.support.harness import wait_until
from tests.support.ports import free_port
from tests.support.processes import Script, running

SIZE = 30_000_000  # bytes of the file


def rate(client: Path, *arguments, **options) -> float:
    """Return the MB/s of a client that prints its seconds."""
    return SIZE / 1e6 / duration(client, *arguments, **options)


def tftpy(stack: contextlib.ExitStack, place: Path, source: Path, blksize: int) -> Contestant:
    port = serving(stack, library("tftpy"), "tftpy-server", place)
    return lambda: rate(PEERS, "tftpy-client", port, blksize, source, "tftpy")


def py3tftp(stack: contextlib.ExitStack, place: Path) -> int:
    """Start the server and return its port."""
    port = free_port(socket.SOCK_DGRAM)
    server = running(library("py3tftp"), "py3tftp-server", port, cwd=place)
    return await_port(stack.enter_context(server), port)


def tftpd_hpa(stack: contextlib.ExitStack, place: Path) -> int:
    """Start the server and return its port."""
    port = free_port(socket.SOCK_DGRAM)
    server = running(
        program("in.tftpd"),
        *("--foreground", "--create", "--user", user()),
        *("--address", f"127.0.0.1:{port}", "--secure", place),
        interpreter=(),
    )
    return await_port(stack.enter_context(server), port)


def atftpd(stack: contextlib.ExitStack, place: Path) -> int:
    """Start the server and return its port."""
    port = free_port(socket.SOCK_DGRAM)
    server = running(
        program("atftpd"),
        *("--daemon", "--no-fork", "--user", user()),
        *("--bind-address", "127.0.0.1", "--port", port, place),
        interpreter=(),
    )
    return await_port(stack.enter_context(server), port)


def user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def await_port(server: Script, port: int) -> int:
    """Return the port when the server has bound it; raise Missing if the server ends instead."""
    wait_until(lambda: is_bound(port) or not server.running, "the server to bind its port")
    if not server.running:
        server.wait()
        raise Missing(f"{server.name.split()[0]} does not run here: {server.err.strip()}")
    return port


def is_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def curl(port: int, source: Path, blksize: int, name: str) -> Contestant:
    options = ["--silent", "--show-error", "--tftp-blksize", blksize, "--upload-file", source]
    options += ["--write-out", "in %{time_total} s\n", f"tftp://127.0.0.1:{port}/{name}"]
    path = program("curl")
    return lambda: rate(path, *options, interpreter=())


def atftp(port: int, source: Path, blksize: int, name: str) -> Contestant:
    options = ["--option", f"blksize {blksize}", "--put", "--local-file", source]
    options += ["--remote-file", name, "127.0.0.1", port]
    path = program("atftp")

    def measured() -> float:
        begun = time.perf_counter()
        with running(path, *options, interpreter=()) as process:
            succeed(process)
            return SIZE / 1e6 / (time.perf_counter() - begun)

    return measured


def pair(client: Callable, server: Callable) -> Callable[..., Contestant]:
    """Return a peer made of a client and a server of different make."""

    def start(stack: contextlib.ExitStack, place: Path, source: Path, blksize: int) -> Contestant:
        return client(server(stack, place), source, blksize, server.__name__)

    return start


TFTP = {
    "tftpy": tftpy,
    "curl to py3tftp": pair(curl, py3tftp),
    "curl to tftpd-hpa": pair(curl, tftpd_hpa),
    "atftp to tftpd-hpa": pair(atftp, tftpd_hpa),
    "atftp to atftpd": pair(atftp, atftpd),
}
