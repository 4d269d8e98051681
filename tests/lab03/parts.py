"""The parts of a lab 3 pipeline as processes, and sockets of our own on the wire."""

import zmq

from tests.support.harness import wait_until
from tests.support.ports import free_port, listens

SERVER, PRIME, GCD, CLIENT = (
    f"lab03_zmq/{name}.py" for name in ("server", "prime", "gcd", "client")
)
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL".ljust(64, b"\0")  # of ZMTP 3.0
RECOVERY = 10.0  # s: how long the parts may take to find each other again


class Parts:
    """Starts the parts of one pipeline, each on the ports that concern it."""

    def __init__(self, spawn):
        self.spawn = spawn
        self.ports = [free_port() for _ in range(4)]

    def server(self):
        script = self.spawn(SERVER, *self.ports)
        wait_until(lambda: all(map(listens, self.ports)), "the server to listen")
        return script

    def prime(self):
        return self.spawn(PRIME, *self.ports[2:])

    def gcd(self):
        return self.spawn(GCD, *self.ports[2:])

    def client(self, **options):
        return self.spawn(CLIENT, *self.ports[:2], **options)

    def start_all(self):
        """Start a server and both workers; return when they answer."""
        self.broker = self.server()
        self.prime_worker, self.gcd_worker = self.prime(), self.gcd()
        with Hand() as hand:
            outputs = hand.connect(zmq.SUB, self.ports[1])
            for line, answer in ((b"isprime 7", b"7 is prime"), (b"gcd 4 6", b"gcd for 4 6 is 2")):

                def answered(line=line, answer=answer):
                    hand.ask(self.ports[0], line)
                    return outputs.poll(200) and outputs.recv() == answer

                wait_until(answered, "the workers to answer")
        return self


class Hand:
    """Sockets of our own, as any author's parts have them on the wire."""

    def __init__(self):
        self.context = zmq.Context()
        self.sockets = []  # keeps them alive

    def socket(self, kind, mark=1000):
        """Return a socket with this high-water mark; 0: none."""
        sock = self.context.socket(kind)
        sock.linger = 0
        sock.sndhwm = sock.rcvhwm = mark
        self.sockets.append(sock)
        return sock

    def connect(self, kind, port, topic=b"", mark=1000):
        sock = self.socket(kind, mark)
        if kind == zmq.SUB:
            sock.subscribe(topic)
        sock.connect(f"tcp://127.0.0.1:{port}")
        return sock

    def bind(self, kind):
        sock = self.socket(kind)
        sock.bind("tcp://127.0.0.1:*")
        return sock, int(sock.last_endpoint.rpartition(b":")[2])

    def ask(self, port, line):
        """Send a line as a client does and return the confirmation."""
        with self.connect(zmq.REQ, port) as requests:
            requests.send(line)
            assert requests.poll(20_000), "no confirmation"
            return requests.recv()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.context.destroy(linger=0)
