"""Faults planted in lab 1."""

from tests.mutants import Mutant

TESTS = [
    "tests/lab01/test_core.py",
    "tests/lab01/test_messages.py",
    "tests/lab01/test_sessions.py",
    "tests/lab01/test_client.py",
    "tests/lab01/test_network.py",
    "tests/lab01/test_disk.py",
    "tests/lab01/test_files.py",
    "tests/lab01/test_scripts.py",
    "tests/lab01/test_hostile.py",
]

CORE = "lab01_udp/stop_and_wait.py"
MESSAGES = "lab01_udp/messages.py"
ENDPOINT = "lab01_udp/endpoint.py"
FILES = "lab01_udp/files.py"
SERVER = "lab01_udp/server.py"
CLIENT = "lab01_udp/client.py"

MUTANTS = [
    # --- The protocol ---
    Mutant(
        "only awaited data is a sign of life",
        CORE,
        "            self._append(session, address, data)\n        session.heard_at",
        "            self._append(session, address, data)\n            session.heard_at",
    ),
    Mutant(
        "a duplicate start is no sign of life",
        CORE,
        "            session = self._open(start, address, now)\n        session.heard_at",
        "            session = self._open(start, address, now)\n            session.heard_at",
    ),
    Mutant(
        "a later ack changes the buf_size",
        CORE,
        "        if self.buf_size is None:\n            if buf_size is None:\n"
        "                return False\n            self.buf_size",
        "        if buf_size is None and self.buf_size is None:\n            return False\n"
        "        if buf_size is not None:\n            self.buf_size",
    ),
    Mutant(
        "the deadline drifts",
        CORE,
        "        self._deadline = now + RETRY_AFTER\n        return self._message",
        "        self._deadline += RETRY_AFTER\n        return self._message",
    ),
    Mutant(
        "an empty datagram is an ack",
        CORE,
        "self._data_ack: bytes | None = None",
        'self._data_ack: bytes | None = b""',
    ),
    Mutant(
        "a longer number gets no room",
        CORE,
        "        if self.seqno + 1 == self._longer_at:\n            self._measure_payload()\n",
        "",
    ),
    Mutant(
        "a finished session goes with the unfinished ones",
        CORE,
        "(KEEP_FINISHED if session.finished else ABANDON_AFTER)",
        "ABANDON_AFTER",
    ),
    Mutant(
        "a stale ack is taken",
        CORE,
        "if next_seqno != self.seqno + 1:",
        "if next_seqno > self.seqno + 1:",
    ),
    Mutant(
        "a finished session appends",
        CORE,
        "if seqno == session.next_seqno and not session.finished:",
        "if seqno == session.next_seqno:",
    ),
    Mutant("a blank belongs to the delimiter", MESSAGES, '(b" | ", b"|")', '(b"|", b" | ")'),
    # --- The network ---
    Mutant(
        "the answer comes from any address",
        ENDPOINT,
        "            if self._wildcard:\n",
        "            if False:\n",
    ),
    Mutant(
        "the IPv6 header counts as that of IPv4",
        ENDPOINT,
        "socket.IPPROTO_IPV6, 24, 48",
        "socket.IPPROTO_IPV6, 24, 28",
    ),
    Mutant(
        "the server takes localhost as it comes",
        ENDPOINT,
        "!= socket.AF_INET)  # as the client does",
        "!= socket.AF_INET or True)  # as the client does",
    ),
    Mutant(
        "the client takes localhost as it comes",
        CLIENT,
        "!= socket.AF_INET)  # as the server does",
        "!= socket.AF_INET or True)  # as the server does",
    ),
    Mutant(
        "a report on sending ends the upload",
        CLIENT,
        "        except OSError as error:  # of an earlier",
        "        except ConnectionRefusedError as error:  # of an earlier",
    ),
    Mutant(
        "a report on receiving ends the upload",
        CLIENT,
        "OSError as error:\n            self.trouble = error.strerror\n            return",
        "ConnectionRefusedError as error:\n            self.trouble = ''\n            return",
    ),
    Mutant(
        "the client connects once",
        CLIENT,
        "            self._connect()  # there may have been no route before\n",
        "",
    ),
    Mutant(
        "a report on an earlier datagram costs one",
        CLIENT,
        "suppress(OSError):\n                self._sock.send(message)\n",
        "suppress(OSError):\n                pass\n",
    ),
    Mutant(
        "old trouble is reported",
        CLIENT,
        '        self.trouble = ""\n        return',
        "        return",
    ),
    # --- The disk ---
    Mutant(
        "the absence of the server is silence",
        SERVER,
        "min(now - self._called_at, TICK)",
        "now - self._called_at",
    ),
    Mutant(
        "a save is silence",
        SERVER,
        "receiver.expire(clock.listened - TICK)",
        "receiver.expire(clock.listened + 0.3)",
    ),
    Mutant("a sync waits for 32 MB", FILES, "FIRST_LIMIT = 2 << 20", "FIRST_LIMIT = 32 << 20"),
    Mutant(
        "the pace never slows down",
        FILES,
        "        if taken * self.uploads > SYNC_TIME:",
        "        if False:",
    ),
    Mutant(
        "the pace never speeds up",
        FILES,
        "        elif taken * self.uploads < SYNC_TIME / 2:",
        "        elif False:",
    ),
    Mutant(
        "each upload has the disk to itself", FILES, "self._limit // self.uploads)", "self._limit)"
    ),
    Mutant("uploads are counted for ever", FILES, "        self._pace.uploads -= 1\n", ""),
    Mutant("the folder is not synced", FILES, "        os.fsync(self._folder)  # its names\n", ""),
    Mutant(
        "a file system without locks refuses",
        FILES,
        "        with contextlib.suppress(OSError):  # a file system without locks\n",
        "        if True:\n",
    ),
    Mutant(
        "a new file is not looked at again",
        FILES,
        "        if os.fstat(fd).st_nlink:\n",
        "        if True:\n",
    ),
    Mutant(
        "a folder that cannot be written is taken",
        FILES,
        "        if not os.access(",
        "        if False and not os.access(",
    ),
    Mutant(
        "remains stay",
        FILES,
        "                    os.unlink(name, dir_fd=self._fd)\n",
        "                    pass\n",
    ),
    Mutant(
        "what is locked is taken for remains",
        FILES,
        "                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "",
    ),
    Mutant(
        "the size of a small file is trusted", CLIENT, "TRUSTED_SIZE = 4096", "TRUSTED_SIZE = -1"
    ),
    Mutant(
        "an endless file of no size is read",
        CLIENT,
        "    if len(data) > MAX_UNSIZED:",
        "    if False:",
    ),
]
