"""The least that a lab could be: bare programs of the same kind, as limits to compare with.

    python3 bare.py udp-server
    python3 bare.py udp-client PORT COUNT SIZE

A server prints a line with its port when it is ready, a client its seconds at the end.
"""

import socket
import sys
import threading
import time

HOST = "127.0.0.1"
PROGRAMS = {}


def program(function):
    """Make a function one of the programs; its arguments are integers."""
    PROGRAMS[function.__name__.replace("_", "-")] = function
    return function


def ready(port: int) -> None:
    print(f"Listening on {HOST}:{port}", flush=True)


# --- Lab 1 ---


@program
def udp_server() -> None:
    """Acknowledge every datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        ready(sock.getsockname()[1])
        while True:
            _, address = sock.recvfrom(65536)
            sock.sendto(b"a | 1", address)


@program
def udp_client(port: int, count: int, size: int) -> None:
    """Send datagrams, each when the one before is acknowledged."""
    datagram, server = bytes(size), (HOST, port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        begun = time.perf_counter()
        for _ in range(count):
            sock.sendto(datagram, server)
            sock.recvfrom(4096)
        print(f"in {time.perf_counter() - begun:.6f} s", flush=True)


# --- Lab 2 ---


@program
def tcp_echo() -> None:
    """Send back what comes, with a thread for each connection."""
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        ready(listener.getsockname()[1])
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_echo, args=(sock,), daemon=True).start()


def _echo(sock: socket.socket) -> None:
    with sock:
        while data := sock.recv(1024):
            sock.sendall(data)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    PROGRAMS[name](*map(int, arguments))
