"""The messages of lab 1, as bytes and as values. An ASCII header, " | " between the parts:

    client -> server    s | seqno0 | filename | total_size      start: a session for this address
    server -> client    a | seqno0+1 | buf_size                 its ack, with the datagram limit
    client -> server    d | seqno | data_bytes                  seqno0+1, seqno0+2, ...
    server -> client    a | next_seqno                          its ack

Some implementations write the delimiter as "|". A session keeps the one of its start message, since
a payload may begin with a blank. A file name may contain the delimiter: the sequence number is cut
off from the left, the size from the right.
"""

import re
from dataclasses import dataclass

MAX_DATAGRAM = 65507  # bytes that a UDP datagram carries over IPv4
MAX_NAME = 255  # bytes in a file name
MAX_DIGITS = 18  # of any number in a header
MAX_START = 512  # bytes: more than a start message of the longest name and numbers has

DELIMITERS = (b" | ", b"|")
ACK = re.compile(rb"\s*a\s*\|\s*(\d{1,18})\s*(?:\|\s*(\d{1,18})\s*)?")


class Refused(Exception):
    """A datagram that gets no answer; the message says why."""


@dataclass(frozen=True)
class Start:
    seqno0: int
    filename: str
    total_size: int  # bytes
    delimiter: bytes = DELIMITERS[0]

    def encode(self) -> bytes:
        parts = b"s", b"%d" % self.seqno0, self.filename.encode("ascii"), b"%d" % self.total_size
        return self.delimiter.join(parts)


def decode_start(datagram: bytes) -> Start:
    """Return the start message in `datagram`; raise Refused if it is malformed."""
    delimiter = next((d for d in DELIMITERS if datagram.startswith(b"s" + d)), None)
    if delimiter is None:
        raise Refused("neither a start nor a data message")
    seqno0, found, rest = datagram[1 + len(delimiter) :].partition(delimiter)
    filename, found_too, total_size = rest.rpartition(delimiter)
    if not (found and found_too):
        raise Refused("a start message with a part missing")
    if not filename.isascii():
        raise Refused("a start message that is not ASCII")
    name = filename.decode("ascii")
    if not is_plain_name(name):
        raise Refused(f"not a plain file name: {name[:MAX_NAME]!r}")
    return Start(_number(seqno0), name, _number(total_size), delimiter)


def encode_data(seqno: int, data: bytes) -> bytes:
    """Return a data message."""
    return b"d | %d | %b" % (seqno, data)


def decode_data(datagram: bytes, delimiter: bytes) -> tuple[int, memoryview]:
    """Return (seqno, a view of the data) of a data message; raise Refused if it is malformed."""
    begin = 1 + len(delimiter)
    end = datagram.find(delimiter, begin)
    if end < 0 or datagram[1:begin] != delimiter:
        raise Refused("a data message with a part missing")
    return _number(datagram[begin:end]), memoryview(datagram)[end + len(delimiter) :]


def encode_ack(
    next_seqno: int, delimiter: bytes = DELIMITERS[0], buf_size: int | None = None
) -> bytes:
    """Return an ack, to a start message if there is a `buf_size`."""
    if buf_size is None:
        return b"a%b%d" % (delimiter, next_seqno)
    return b"a%b%d%b%d" % (delimiter, next_seqno, delimiter, buf_size)


def decode_ack(datagram: bytes) -> tuple[int, int | None]:
    """Return (next_seqno, buf_size or None) of an ack; raise Refused if it is malformed."""
    found = ACK.fullmatch(datagram)
    if not found:
        raise Refused("not an ack")
    next_seqno, buf_size = found.groups()
    return int(next_seqno), int(buf_size) if buf_size else None


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > MAX_DIGITS:
        raise Refused(f"not a number: {text[:MAX_DIGITS]!r}")
    return int(text)


def is_plain_name(name: str) -> bool:
    """Tell whether `name` can name a file in the server's folder and nothing outside it."""
    separator = "/" in name or "\\" in name
    fits = 0 < len(name) <= MAX_NAME
    return fits and not separator and name not in (".", "..") and name.isprintable()
