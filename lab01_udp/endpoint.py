"""The server's UDP socket: it answers from a request's destination address, and knows path MTUs.

A host may have several addresses. A client takes an ack only from the one to which it has sent
(RFC 1122 §4.1.3.5), but a socket on a wildcard address would answer from whichever the route back
prefers. So there the system hands over the destination address with each datagram and takes it back
with the answer, both as a struct in_pktinfo or in6_pktinfo (ip(7), ipv6(7)).
"""

import socket
import struct
import sys
from typing import NamedTuple

from messages import MAX_DATAGRAM

RECEIVE_BUFFER = 4 << 20  # bytes: one datagram each of 64 clients, where the system allows that
UNKNOWN_MTU = 1500  # bytes: Ethernet


class Family(NamedTuple):
    """What differs between IPv4 and IPv6."""

    level: int  # of the socket options
    path_mtu: int  # option, <linux/in.h> and <linux/in6.h>: of a connected socket
    headers: int  # bytes of an IP and a UDP header
    want_pktinfo: int  # option: receive the destination address
    pktinfo: int  # the type of the message that it comes in
    destination: slice  # its place there; all other bytes of an answer are 0: the system decides


IP_PKTINFO = 8 if sys.platform == "linux" else 26  # <linux/in.h>, <netinet/in.h>
FAMILIES = {
    socket.AF_INET: Family(socket.IPPROTO_IP, 14, 28, IP_PKTINFO, IP_PKTINFO, slice(4, 8)),
    socket.AF_INET6: Family(
        socket.IPPROTO_IPV6, 24, 48, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, slice(0, 16)
    ),
}
PKTINFO_SIZE = 20  # bytes, of the larger one
WILDCARDS = "0.0.0.0", "::"


class Endpoint:
    """A UDP socket; raise OSError if the address cannot be had.

    Args:
        timeout: s after which `receive` gives up.
    """

    def __init__(self, host: str, port: int, timeout: float):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        found.sort(key=lambda info: info[0] != socket.AF_INET)  # as the client does: "localhost"
        family, kind, _, _, address = found[0]
        self._family = FAMILIES[family]
        self._wildcard = address[0] in WILDCARDS
        self._sock = socket.socket(family, kind)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            # The kernel keeps this time itself; a Python timeout would cost a system call more.
            timeval = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            if self._wildcard:
                self._sock.setsockopt(self._family.level, self._family.want_pktinfo, 1)
            self._sock.bind(address)
        except OSError:
            self._sock.close()
            raise
        self.port: int = self._sock.getsockname()[1]

    def receive(self, size: int) -> tuple[bytes, tuple, bytes]:
        """Return (datagram, client's address, what `send` needs to answer from the right address).

        The datagram is cut off at `size` bytes. Raise BlockingIOError if none came.
        """
        if not self._wildcard:
            datagram, client = self._sock.recvfrom(size)
            return datagram, client, b""
        space = socket.CMSG_SPACE(PKTINFO_SIZE)
        datagram, control, _, client = self._sock.recvmsg(size, space)
        pktinfo = control[0][2] if control else b""
        answer = bytearray(len(pktinfo))
        answer[self._family.destination] = pktinfo[self._family.destination]
        return datagram, client, answer

    def send(self, datagram: bytes, client: tuple, pktinfo: bytes) -> None:
        """Answer a client; raise OSError if that cannot be done."""
        if pktinfo:
            control = [(self._family.level, self._family.pktinfo, pktinfo)]
            self._sock.sendmsg([datagram], control, 0, client)
        else:
            self._sock.sendto(datagram, client)

    def close(self) -> None:
        self._sock.close()


def path_buf_size(address: tuple) -> int:
    """Return the bytes that a datagram from `address` can carry unfragmented, as far as known."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    level, path_mtu, headers, *_ = FAMILIES[family]
    mtu = UNKNOWN_MTU
    if sys.platform == "linux":
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            mtu = probe.getsockopt(level, path_mtu)
    elif address[0] == "::1" or address[0].startswith("127."):
        return MAX_DATAGRAM
    return min(MAX_DATAGRAM, mtu - headers)
