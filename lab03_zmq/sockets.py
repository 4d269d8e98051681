"""What the sockets of all processes have in common: limits and heartbeats."""

import zmq

HOST_HELP = "where the server is (default: %(default)s)"
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

# The first byte of what an XPUB socket receives; the topic follows.
SUBSCRIBED, UNSUBSCRIBED = b"\x01", b"\x00"
HANDSHAKES = (  # events of them: their ends, good and bad
    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
)


def is_wrong_type(before: int | None, event: int) -> bool:
    """Tell whether two successive monitor events mean that the peer's socket has the wrong type.

    When libzmq rejects the type here, DISCONNECTED comes alone. NO_DETAIL precedes it when the peer
    was silent, has gone, or has rejected our type first.
    """
    return event == zmq.EVENT_DISCONNECTED and before != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def open_context(host: str) -> zmq.Context:
    """Return a context whose sockets have these options, and IPv6 if the host is an IPv6 number."""
    context = zmq.Context()
    for option, value in OPTIONS.items():
        context.setsockopt(option, value)
    context.setsockopt(zmq.IPV6, ":" in host)
    return context


def not_the_port(address: str, name: str) -> str:
    """Return the message for a peer whose socket has the wrong type."""
    return f"{address} is not the server's {name}: are the ports in the right order?"
