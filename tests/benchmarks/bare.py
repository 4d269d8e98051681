"""The least that a lab could be: bare programs of the same kind, as limits to compare with.

    python3 bare.py udp-server
    python3 bare.py udp-client PORT COUNT SIZE

A server prints a line with its port when it is ready, a client its seconds at the end.
"""

import contextlib
import socket
import sys
import threading
import time

HOST = "127.0.0.1"
PROGRAMS = {}


def program(function):
    """Make a function one of the programs; its arguments are integers or paths."""
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


@program
def udp_file_server(path: str) -> None:
    """The same, and write them to a file, which an empty datagram begins anew."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        ready(sock.getsockname()[1])
        file = None
        while True:
            datagram, address = sock.recvfrom(65536)
            if datagram:
                file.write(datagram)
            else:
                file = open(path, "wb")  # noqa: SIM115
            sock.sendto(b"a | 1", address)


@program
def udp_file_client(port: int, size: int, path: str) -> None:
    """Send a file in datagrams, each when the one before is acknowledged."""
    server = (HOST, port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, open(path, "rb") as file:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        begun = time.perf_counter()
        sock.sendto(b"", server)
        while sock.recvfrom(4096) and (data := file.read(size)):
            sock.sendto(data, server)
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


@program
def tcp_queue_echo() -> None:
    """The same with eight threads, which take the connections from a multiprocessing.Queue."""
    import multiprocessing

    queue = multiprocessing.get_context("fork").Queue()

    def work() -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                _echo(socket.socket(fileno=queue.get()))

    for _ in range(8):
        threading.Thread(target=work, daemon=True).start()
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready(listener.getsockname()[1])
        while True:
            queue.put(listener.accept()[0].detach())


def _echo(sock: socket.socket) -> None:
    with sock:
        while data := sock.recv(1024):
            sock.sendall(data)


# --- Lab 3 ---


@program
def zmq_echo() -> None:
    """Send every request back: a REP socket and nothing else."""
    replies = _zmq().socket(zmq.REP)
    ready(replies.bind_to_random_port(f"tcp://{HOST}"))
    while True:
        replies.send(replies.recv())


@program
def zmq_broker(*ports: int) -> None:
    """Route like lab 3's server, and confirm, but care for nothing else."""
    context = _zmq()
    kinds = zmq.REP, zmq.PUB, zmq.PUB, zmq.SUB
    sockets = [context.socket(kind) for kind in kinds]
    for end, port in zip(sockets, ports, strict=True):
        end.bind(f"tcp://{HOST}:{port}")
    client_inputs, client_outputs, worker_inputs, worker_outputs = sockets
    worker_outputs.subscribe(b"")
    poller = zmq.Poller()
    poller.register(client_inputs, zmq.POLLIN)
    poller.register(worker_outputs, zmq.POLLIN)
    ready(ports[0])
    while True:
        for end, _ in poller.poll():
            message = end.recv()
            if end is client_inputs:
                worker_inputs.send(message)
                end.send(b"accepted")
            else:
                client_outputs.send(message)


@program
def zmq_worker(inputs: int, outputs: int) -> None:
    """Answer every line with itself."""
    context = _zmq()
    publisher, subscriber = context.socket(zmq.PUB), context.socket(zmq.SUB)
    publisher.connect(f"tcp://{HOST}:{outputs}")
    subscriber.subscribe(b"")
    subscriber.connect(f"tcp://{HOST}:{inputs}")
    ready(inputs)
    while True:
        publisher.send(subscriber.recv())


@program
def zmq_proxy(inputs: int) -> None:
    """libzmq's own broker between REQ clients and one REP worker, which echoes."""
    context = _zmq()
    frontend, backend, worker = (context.socket(k) for k in (zmq.ROUTER, zmq.DEALER, zmq.REP))
    frontend.bind(f"tcp://{HOST}:{inputs}")
    port = backend.bind_to_random_port(f"tcp://{HOST}")
    worker.connect(f"tcp://{HOST}:{port}")
    threading.Thread(target=zmq.proxy, args=(frontend, backend), daemon=True).start()
    ready(inputs)
    while True:
        worker.send(worker.recv())


def _zmq():
    """Import zmq for this process only, and return its context."""
    global zmq
    import zmq

    return zmq.Context()


def main() -> None:
    name, *arguments = sys.argv[1:]
    PROGRAMS[name](*(int(text) if text.isdigit() else text for text in arguments))


if __name__ == "__main__":
    main()
