"""What the sockets of all parts have in common: limits, heartbeats, ports and hosts."""

import argparse
import re

import process  # noqa: F401  (before all other packages)

# isort: split
import zmq

MAX_LINE = 1 << 16  # bytes, of a line and of a subscription
MAX_ANSWER = 1 << 17  # bytes; a worker may repeat the line in its answer
HIGH_WATER_MARK = 1000  # messages that wait for one peer; zmq has as many again on their way

# A connection that dies without a word (a power cut, a firewall that lost its state) looks idle,
# and a SUB socket, which only listens, would be deaf for ever. So each side asks the other for a
# sign of life, and connects again if there is none.
HEARTBEAT_INTERVAL = 1000  # ms
HEARTBEAT_TIMEOUT = 3000  # ms
CONNECT_TIMEOUT = 2000  # ms for one attempt; the system alone would wait longer and longer
HANDSHAKE_TIMEOUT = 3000  # ms

OPTIONS = {
    zmq.HEARTBEAT_IVL: HEARTBEAT_INTERVAL,
    zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT,
    zmq.HEARTBEAT_TTL: HEARTBEAT_TIMEOUT,  # the other side, which may have none of this, notices
    zmq.CONNECT_TIMEOUT: CONNECT_TIMEOUT,
    zmq.HANDSHAKE_IVL: HANDSHAKE_TIMEOUT,
    zmq.MAXMSGSIZE: MAX_ANSWER,  # a larger message ends its connection
    zmq.SNDHWM: HIGH_WATER_MARK,
    zmq.RCVHWM: HIGH_WATER_MARK,
    zmq.LINGER: 0,
}


def open_context(host: str) -> zmq.Context:
    """Return a context whose sockets have these options and reach a host by IPv4 or IPv6."""
    context = zmq.Context()
    for option, value in OPTIONS.items():
        context.setsockopt(option, value)
    context.setsockopt(zmq.IPV6, ":" in host)
    return context


def join_address(host: str, port: int) -> str:
    """Return "host:port", with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_port(text: str) -> int:
    """Return the port number in `text`, 0 to 65535; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a port number, not {text!r}")
    return int(text)


def parse_host(text: str) -> str:
    """Return the host, "[::1]" without brackets; raise ArgumentTypeError if it cannot be one."""
    host = text.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[\w.:%-]+", host, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected a host, not {text!r}")
    return host
