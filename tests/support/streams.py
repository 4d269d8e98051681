"""What a process writes: read as it comes, kept, and searched for what a test expects."""

import codecs
import contextlib
import os
import re
import threading
import time


class Stream:
    """What a process has written to one file descriptor, read by a thread of its own.

    With `head`, the stream is closed after the first line; later writes of the process fail.
    """

    limit: int | None = None  # characters that are kept; what follows is read and dropped

    def __init__(self, fd: int, head: bool = False):
        self.text = ""
        self.fd = fd
        self.head = head
        self.closed = False
        self.cursor = 0  # expect() searches from here
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._read, daemon=True)

    def join(self, timeout: float) -> None:
        """Return when the process has closed its side and all of it is read."""
        if self.thread.ident is None:
            self.thread.start()
        self.thread.join(timeout)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with contextlib.suppress(OSError):  # a terminal whose other side has gone gives EIO
            while data := os.read(self.fd, 65536):
                if self.limit and len(self.text) > self.limit:
                    continue
                with self.changed:
                    self.text += decoder.decode(data).replace("\r\n", "\n")
                    self.changed.notify_all()
                if self.head and "\n" in self.text:
                    break
        os.close(self.fd)
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def expect(self, pattern: str, timeout: float, whole_lines: bool) -> re.Match | None:
        """Return the next match of `pattern`, or None if it does not come."""
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                end = len(self.text)
                if whole_lines and not self.closed:
                    end = self.text.rfind("\n") + 1
                if match := regex.search(self.text, self.cursor, max(end, self.cursor)):
                    self.cursor = match.end()
                    return match
                if self.closed or not self.changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
