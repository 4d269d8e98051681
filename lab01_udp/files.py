"""Where the server's files go: whole and on disk under their names, or not at all."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

SYNC_EVERY = 32 << 20  # bytes: so that the last fsync, before the last ack, is short for any size
WRITE_BACK_EVERY = 8 << 20  # bytes: so that the disk works while we receive
WRITE_BUFFER = 32 << 10  # bytes: what is larger goes straight through it
TEMPORARY = ".upload-"  # prefix of an unfinished file's name

Saved = Callable[[str, int], None]  # is told the name and the bytes of each file that is there


class FileUpload:
    """An Upload into a folder, under a temporary name until it is whole.

    The temporary file stays locked while its server lives: so the next start knows what kill -9
    has left behind from what another server in the same folder is just receiving.
    """

    def __init__(self, folder: Path, filename: str, mode: int, saved: Saved):
        fd, name = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
        self._file = open(fd, "wb", buffering=WRITE_BUFFER)  # noqa: SIM115
        self._temporary = Path(name)
        self._final = folder / filename
        self._saved = saved
        self._size = self._begun = self._synced = 0  # bytes: written, on their way to disk, on it
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.fchmod(fd, mode)

    def write(self, data: bytes) -> None:
        self._size += self._file.write(data)
        if self._size - self._synced >= SYNC_EVERY:
            self._sync()
        elif self._size - self._begun >= WRITE_BACK_EVERY:
            self._begin_write_back()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._begun = self._synced = self._size

    def _begin_write_back(self) -> None:
        """Have the system begin to write to disk; the fsync in the end then finds little left."""
        if hasattr(os, "posix_fadvise"):  # not on macOS
            unwanted = self._begun, self._size - self._begun, os.POSIX_FADV_DONTNEED
            os.posix_fadvise(self._file.fileno(), *unwanted)
        self._begun = self._size

    def save(self) -> None:
        self._sync()
        os.replace(self._temporary, self._final)
        self._file.close()
        sync_folder(self._final.parent)
        self._saved(self._final.name, self._size)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # the folder is not ours any more
            self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk: what is buffered goes nowhere
            self._file.close()


class Folder:
    """A folder for uploads."""

    def __init__(self, path: Path, saved: Saved):
        self._path = path
        self._saved = saved
        umask = os.umask(0)
        os.umask(umask)
        self._mode = 0o666 & ~umask
        self._remove_remains()

    def _remove_remains(self) -> None:
        """Remove the unfinished files of servers that were killed."""
        for path in filter(Path.is_file, self._path.glob(TEMPORARY + "*")):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def create(self, filename: str, total_size: int) -> FileUpload:
        """Begin an upload; raise OSError if it could not end well."""
        if filename.startswith(TEMPORARY):
            raise OSError(errno.EPERM, "the name is reserved")
        if (self._path / filename).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if total_size > shutil.disk_usage(self._path).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return FileUpload(self._path, filename, self._mode, self._saved)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on disk too."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
