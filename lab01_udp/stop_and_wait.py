"""Stop-and-wait file transfer over UDP: the protocol alone, without a socket, a file or a clock.

The client has at most one message unacknowledged; the server acknowledges by naming the sequence
number that it waits for next. Three rules make that reliable over a network which loses,
duplicates, delays and reorders datagrams:

1. The client sends the next message only when the awaited ack has come, and the same message again
   only when none has for RETRY_AFTER: never because of a stale or duplicate ack, or one duplicate
   would double all that follow (the "sorcerer's apprentice", RFC 1123 §4.2.3.1).
2. The server appends a data message only if it carries exactly the awaited number, and answers
   every other one of the session with the number it still awaits.
3. The server sends the last ack only when the file is safe: acknowledged means saved.

A session of the server:

    none --start--> unfinished --last byte saved--> finished --KEEP_FINISHED of silence--> none
                        |
                        +-- ABANDON_AFTER of silence, another start, too many bytes, a disk error,
                            or eviction --> none, and its file is removed

`Sender` is the client's side of one session, `Receiver` the server's side of all; what they say to
each other is in messages.py. Time is an argument, `now`, in seconds of any monotonic clock.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from messages import (
    MAX_DATAGRAM,
    MAX_START,
    Refused,
    Start,
    decode_ack,
    decode_data,
    decode_start,
    encode_ack,
    encode_data,
)

RETRY_AFTER = 0.5  # s without the awaited ack, after which the client sends the message again
MAX_RETRIES = 5  # after which the client takes the server to be malfunctioning
ABANDON_AFTER = 3.0  # s of silence, after which the server gives an unfinished session up
KEEP_FINISHED = 1.0  # s of silence, for which a finished session still answers duplicates
EVICT_AFTER = 1.0  # s of silence, after which a session makes way when there are too many
MAX_SESSIONS = 500  # each unfinished one holds a file open


class TransferFailed(Exception):
    """The upload cannot succeed; the message says why."""


# --- The client's side ---


class Sender:
    """The client's side of one session.

    `start`, then `data` for each piece of at most `room` bytes until `finished`; after each of the
    two, `receive` every datagram until one is the awaited ack, and `tick` in between. After
    TransferFailed it is of no further use.
    """

    def __init__(self, filename: str, total_size: int, seqno0: int = 0):
        self.filename = filename
        self.total_size = total_size  # bytes
        self.sent = 0  # bytes acknowledged
        self.seqno = seqno0  # of the message in flight
        self.buf_size: int | None = None  # bytes, once the server has named it
        self.retransmissions = 0
        self._message: bytes | None = None  # in flight: sent, and not acknowledged yet
        self._data_ack: bytes | None = None  # of the data message in flight, in our spelling
        self._in_flight = 0  # bytes of the file in the message in flight
        self._retries = 0
        self._deadline = 0.0
        self._payload = 0  # bytes that fit into the next data message
        self._longer_at = 0  # the seqno whose header is one digit longer

    @property
    def finished(self) -> bool:
        """Whether the server has acknowledged everything."""
        return self.buf_size is not None and self.sent == self.total_size

    @property
    def room(self) -> int:
        """How many bytes of the file the next data message takes."""
        return min(self._payload, self.total_size - self.sent)

    def start(self, now: float) -> bytes:
        """Return the start message to send."""
        return self._send(Start(self.seqno, self.filename, self.total_size).encode(), now)

    def data(self, data: bytes, now: float) -> bytes:
        """Return the next data message to send."""
        self.seqno += 1
        self._data_ack = encode_ack(self.seqno + 1)
        self._in_flight = len(data)
        return self._send(encode_data(self.seqno, data), now)

    def _send(self, message: bytes, now: float) -> bytes:
        self._message = message
        self._retries = 0
        self._deadline = now + RETRY_AFTER
        return message

    def receive(self, datagram: bytes) -> bool:
        """Take a datagram from the server; tell whether it is the awaited ack (rule 1).

        Raise TransferFailed if the server's buf_size leaves no room for data.
        """
        if self._message is None:
            return False
        if datagram != self._data_ack and not self._accept(datagram):
            return False
        self._message = None
        self.sent += self._in_flight
        self._in_flight = 0
        if self.seqno + 1 == self._longer_at:
            self._measure_payload()
        return True

    def _accept(self, datagram: bytes) -> bool:
        """Take the ack of a start message, or of data in another spelling than ours, as "a|2"."""
        try:
            next_seqno, buf_size = decode_ack(datagram)
        except Refused:
            return False
        if next_seqno != self.seqno + 1:
            return False
        if self.buf_size is None:
            if buf_size is None:
                return False
            self.buf_size = buf_size
            self._measure_payload()
        return True

    def _measure_payload(self) -> None:
        """Compute what fits beside the next header, which grows with the number in it."""
        header = encode_data(self.seqno + 1, b"")
        self._longer_at = 10 ** len(str(self.seqno + 1))
        self._payload = min(self.buf_size, MAX_DATAGRAM) - len(header)
        if self._payload < 1 and not self.finished:
            raise TransferFailed(f"the server's buf_size of {self.buf_size} is too small for data")

    def timeout(self, now: float) -> float:
        """Return the seconds until the message in flight is due to be sent again."""
        return max(0.0, self._deadline - now)

    def tick(self, now: float) -> bytes | None:
        """Return the message to send again if it is time; raise TransferFailed after the last."""
        if self._message is None or now < self._deadline:
            return None
        if self._retries == MAX_RETRIES:
            raise TransferFailed("the server is malfunctioning: it does not acknowledge")
        self._retries += 1
        self.retransmissions += 1
        self._deadline = now + RETRY_AFTER
        return self._message


# --- The server's side ---


class Upload(Protocol):
    """A file being received. `write` and `save` may raise OSError."""

    def write(self, data: bytes) -> object: ...

    def save(self) -> None:
        """Make it appear, whole and on disk, under its final name."""

    def discard(self) -> None:
        """Remove every trace of it, as far as the system allows."""


@dataclass
class Session:
    """What the server knows of one upload."""

    start: Start
    buf_size: int  # bytes in a datagram
    upload: Upload
    next_seqno: int
    heard_at: float
    received: int = 0  # bytes
    finished: bool = False  # the file is saved


class Receiver:
    """All sessions of the server, by client address.

    Args:
        create: makes the Upload for a file name and size, or raises OSError.
        buf_size: the largest datagram, in bytes, that the client at an address should send; raises
            OSError if there is no route to it.
    """

    def __init__(
        self,
        create: Callable[[str, int], Upload],
        buf_size: Callable[[Hashable], int] = lambda address: MAX_DATAGRAM,
    ):
        self._create = create
        self._buf_size = buf_size
        self.sessions: dict[Hashable, Session] = {}
        self.largest = MAX_START  # bytes in the largest datagram that a session may send

    def receive(self, datagram: bytes, address: Hashable, now: float) -> bytes:
        """Take a datagram from a client; return the ack to send, or raise Refused."""
        if datagram[:1] == b"d":
            return self._receive_data(datagram, address, now)
        return self._receive_start(decode_start(datagram), address, now)

    def _receive_start(self, start: Start, address: Hashable, now: float) -> bytes:
        session = self.sessions.get(address)
        # A start that equals that of a finished session counts as its duplicate: nothing tells a
        # new upload of the same name and size from it.
        if session is None or session.start != start:
            self.abandon(address)
            self._make_room(now)
            session = self._open(start, address, now)
        session.heard_at = now
        return encode_ack(start.seqno0 + 1, start.delimiter, session.buf_size)

    def _open(self, start: Start, address: Hashable, now: float) -> Session:
        try:
            buf_size = self._buf_size(address)
            upload = self._create(start.filename, start.total_size)
        except OSError as error:
            raise Refused(f"{start.filename}: {error.strerror or error}") from error
        self.largest = max(self.largest, buf_size)
        session = Session(start, buf_size, upload, start.seqno0 + 1, now)
        self.sessions[address] = session
        if start.total_size == 0:
            self._save(session, address)
        return session

    def _make_room(self, now: float) -> None:
        """If there are too many, abandon the longest silent session, or raise Refused."""
        if len(self.sessions) < MAX_SESSIONS:
            return
        address = min(self.sessions, key=lambda address: self.sessions[address].heard_at)
        if now - self.sessions[address].heard_at < EVICT_AFTER:
            raise Refused(f"more than {MAX_SESSIONS} sessions")
        self.abandon(address)

    def _receive_data(self, datagram: bytes, address: Hashable, now: float) -> bytes:
        session = self.sessions.get(address)
        if session is None:
            raise Refused("a data message without a session")
        seqno, data = decode_data(datagram, session.start.delimiter)
        if len(datagram) > session.buf_size:
            raise Refused(f"a datagram longer than the buf_size of {session.buf_size}")
        if seqno == session.next_seqno and not session.finished:
            self._append(session, address, data)
        session.heard_at = now
        return encode_ack(session.next_seqno, session.start.delimiter)

    def _append(self, session: Session, address: Hashable, data: bytes) -> None:
        session.received += len(data)
        if session.received > session.start.total_size:
            self.abandon(address)
            raise Refused(f"{session.start.filename}: more bytes than announced")
        try:
            session.upload.write(data)
        except OSError as error:
            self._give_up(session, address, error)
        if session.received == session.start.total_size:
            self._save(session, address)
        session.next_seqno += 1

    def _save(self, session: Session, address: Hashable) -> None:
        try:
            session.upload.save()
        except OSError as error:
            self._give_up(session, address, error)
        session.finished = True

    def _give_up(self, session: Session, address: Hashable, error: OSError) -> NoReturn:
        """Abandon the session and raise Refused: the disk does not take its file."""
        self.abandon(address)
        raise Refused(f"{session.start.filename}: {error.strerror or error}") from error

    def abandon(self, address: Hashable) -> None:
        """Forget the session of this client, if any, and remove an unfinished file."""
        session = self.sessions.pop(address, None)
        if session and not session.finished:
            session.upload.discard()

    def expire(self, now: float) -> list[Session]:
        """Remove every session that was silent for too long; return those that were unfinished."""
        expired = {
            address: session
            for address, session in self.sessions.items()
            if now - session.heard_at > (KEEP_FINISHED if session.finished else ABANDON_AFTER)
        }
        for address in expired:
            self.abandon(address)
        return [session for session in expired.values() if not session.finished]

    def abandon_all(self) -> None:
        """Remove every session and unfinished file, as the server stops."""
        for address in list(self.sessions):
            self.abandon(address)
