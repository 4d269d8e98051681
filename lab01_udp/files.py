"""Where the server's files go: whole and on disk under their names, or not at all."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable

TEMPORARY = ".upload-"  # prefix of an unfinished file's name
WRITE_BUFFER = 32 << 10  # bytes: what is larger goes straight through it
WRITE_BACK_EVERY = 1 << 20  # bytes: so that the disk works while the server receives
FIRST_LIMIT = 2 << 20  # bytes that may be unsynced, until the disk is known
MIN_LIMIT, MAX_LIMIT = 128 << 10, 32 << 20  # bytes
SYNC_TIME = 0.2  # s that the syncs of all uploads may take together: a client gives up after 3 s

Saved = Callable[[str, int], None]  # is told the name and the bytes of each file that is there


class Pace:
    """How much may be written before it must be on disk, learned from what the disk can do.

    An upload is acknowledged only when it is on disk, and its client waits three seconds for that.
    So the server never has more to sync than the disk takes in SYNC_TIME, of all uploads together:
    their last messages may all come at the same time.
    """

    def __init__(self):
        self.uploads = 0  # open ones
        self._limit = FIRST_LIMIT  # bytes, of all uploads together

    @property
    def sync_every(self) -> int:
        """The bytes after which an upload is to be synced."""
        return max(MIN_LIMIT, self._limit // self.uploads)

    def learn(self, taken: float) -> None:
        """Adapt to a sync that took so many seconds: each of the other uploads may need one too."""
        if taken * self.uploads > SYNC_TIME:
            self._limit = max(MIN_LIMIT, self._limit // 2)
        elif taken * self.uploads < SYNC_TIME / 2:
            self._limit = min(MAX_LIMIT, self._limit * 2)


class FileUpload:
    """An Upload into a folder, under a temporary name until it is whole.

    The temporary file stays locked while its server lives. So the next start can tell what kill -9
    has left behind from what another server in the same folder is receiving.
    """

    def __init__(self, folder: int, filename: str, pace: Pace, saved: Saved):
        self._folder = folder  # its file descriptor
        self._final = filename
        self._pace = pace
        self._saved = saved
        self._size = self._synced = 0  # bytes written, bytes on disk
        fd, self._temporary = _create_locked(folder)
        self._file = open(fd, "wb", buffering=WRITE_BUFFER)  # noqa: SIM115
        pace.uploads += 1
        self._plan_write_back()

    def write(self, data: bytes) -> None:
        self._size += self._file.write(data)
        if self._size >= self._write_back_at:
            self._write_back()

    def _write_back(self) -> None:
        """Start to write to disk what is not there yet; wait for it if that is too much."""
        if self._size - self._synced >= self._pace.sync_every:
            begun = time.monotonic()
            self._sync()
            self._pace.learn(time.monotonic() - begun)
        elif hasattr(os, "posix_fadvise"):  # not on macOS
            # Linux then begins to write these bytes to disk, and does not wait for that.
            unsynced = self._synced, self._size - self._synced, os.POSIX_FADV_DONTNEED
            os.posix_fadvise(self._file.fileno(), *unsynced)
        self._plan_write_back()

    def _plan_write_back(self) -> None:
        self._write_back_at = self._size + min(WRITE_BACK_EVERY, self._pace.sync_every)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = self._size

    def save(self) -> None:
        self._sync()
        os.replace(self._temporary, self._final, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)  # its names
        self._close()
        self._saved(self._final, self._size)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # it was removed from outside
            os.unlink(self._temporary, dir_fd=self._folder)
        self._close()

    def _close(self) -> None:
        self._pace.uploads -= 1
        with contextlib.suppress(OSError):  # a full disk: what is buffered goes nowhere
            self._file.close()


def _create_locked(folder: int) -> tuple[int, str]:
    """Return the descriptor and the name of a new file, with a lock on it."""
    while True:
        name = TEMPORARY + secrets.token_hex(8)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd, name
        os.close(fd)  # another server was faster, and has taken it for remains


class Folder:
    """A folder for uploads; raise OSError if it cannot be read and written.

    It stays the same folder when it is renamed or something else takes its name.
    """

    def __init__(self, path: str, saved: Saved):
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._fd):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self._pace = Pace()
        self._saved = saved
        for name in os.listdir(self._fd):
            if name.startswith(TEMPORARY):
                self._remove_remains(name)

    def _remove_remains(self, name: str) -> None:
        """Remove an unfinished file if its server was killed."""
        with contextlib.suppress(OSError):
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=self._fd)
            with open(fd):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    os.unlink(name, dir_fd=self._fd)

    def create(self, filename: str, total_size: int) -> FileUpload:
        """Begin an upload; raise OSError if it could not end well."""
        if filename.startswith(TEMPORARY):
            raise OSError(errno.EPERM, "the name is reserved")
        if self._is_folder(filename):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if total_size > shutil.disk_usage(self._fd).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return FileUpload(self._fd, filename, self._pace, self._saved)

    def _is_folder(self, filename: str) -> bool:
        with contextlib.suppress(OSError):  # there is nothing of this name
            return stat.S_ISDIR(os.stat(filename, dir_fd=self._fd).st_mode)
        return False
