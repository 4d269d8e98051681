"""What the tests of lab 1 share: peers that speak the protocol by hand, and the server's folder."""

import contextlib
import random
import re
import socket
import time

from tests.support.harness import LOSSY, wait_until

SERVER, CLIENT = "lab01_udp/server.py", "lab01_udp/client.py"
AGAIN = 0.2 if LOSSY else 1.0  # s after which a message that has no answer is sent again
CONTENT = random.Random(1).randbytes(300_000)  # of a file


class RawClient:
    """Speaks the protocol by hand, from one address."""

    def __init__(self, port, host="127.0.0.1"):
        self.sock = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.sock.connect((host, port))

    def ask(self, message, timeout=20):
        """Return the ack to a message, sent again every now and then, or None."""
        self.sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:  # acks to what was sent a second time before
                self.sock.recv(65535)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(min(left, AGAIN))
            try:
                self.sock.send(message)
                return self.sock.recv(65535)
            except ConnectionRefusedError:
                break  # there is no server
            except TimeoutError:
                pass
        return None

    def is_refused(self, message, server, reason):
        """Tell whether a message gets a line in the server's log and no ack."""
        log = rf"127\.0\.0\.1:\d+: refused: .*{reason}"
        wait_until(lambda: self.ask(message, timeout=0.1) or re.search(log, server.err), reason)
        return self.ask(message, timeout=0.1) is None

    def start(self, name, size, seqno0=0):
        """Send the start message until the server has started; return the buf_size."""
        message = b"s | %d | %b | %d" % (seqno0, name, size)
        ack = wait_until(lambda: self.ask(message, timeout=1.0), "an ack to start")
        match = re.fullmatch(rb"a \| (\d+) \| (\d+)", ack)
        assert match, ack
        assert int(match[1]) == seqno0 + 1
        return int(match[2])

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class RawServer:
    """Answers by hand, from one address; what was answered is answered again if it comes again."""

    def __init__(self, port=0):
        self.answers = {}
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", port))
        self.sock.settimeout(20)
        self.port = self.sock.getsockname()[1]

    def receive(self):
        """Return the next datagram that has no answer yet."""
        while True:
            self.received, self.client = self.sock.recvfrom(65535)
            if self.received not in self.answers:
                return self.received
            self.send(self.answers[self.received])

    def answer(self, ack):
        """Answer the datagram that was received last."""
        self.answers[self.received] = ack
        self.send(ack)

    def send(self, datagram):
        self.sock.sendto(datagram, self.client)

    def collect(self, client):
        """Return all datagrams that come without an answer until the client has ended."""
        self.sock.settimeout(0.05)
        datagrams = []
        while client.running:
            with contextlib.suppress(TimeoutError):
                datagrams.append(self.receive())
        return datagrams

    def end(self, client):
        """Return the exit status of the client, to which all is answered."""
        assert self.collect(client) == []
        return client.wait()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def saved(path):
    """Return the content of a file once it is there, or None."""
    return path.read_bytes() if path.exists() else None


def unfinished(folder):
    return [path.name for path in folder.glob(".upload-*")]
