"""What the tests of lab 2 share: clients by hand, and what the server answers them."""

import socket
import struct

SERVER, CLIENT = "lab02_tcp_threads/server.py", "lab02_tcp_threads/client.py"
# Factored by hand; the client's list, in its order.
ANSWERS = """\
15492781 is prime
15492787 is prime
15492803 is prime
15492811 is prime
15492810 is not prime
15492833 is prime
15492859 is prime
15502547 is prime
15520301 is prime
15527509 is prime
15522343 is not prime
1550784 is not prime
"""
PRIME_1000 = b"1" + b"0" * 998 + b"7"  # the least prime of 1000 digits
PRIME_24, PRIME_150, PRIME_200 = (b"%d\n" % n for n in (10**23 + 117, 10**149 + 183, 10**199 + 153))


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def receive(sock, lines=1):
    """Return so many lines, or what comes before the end of the connection."""
    text = b""
    while text.count(b"\n") < lines and (data := sock.recv(65536)):
        text += data
    return text


def reset(sock):
    """Close with a reset instead of a farewell."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
