"""What Linux has for a sandbox: mounts, namespaces, a loopback that is up; by the C library."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Collection
from pathlib import Path

CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000  # <linux/sched.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
KEPT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "relatime": 1 << 21}
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def expose(path: Path) -> None:
    """Make a folder reachable for every user, with nothing else of a private folder above it."""
    private = [
        parent for parent in reversed((path, *path.parents)) if not parent.stat().st_mode & 1
    ]
    if private:
        fd = os.open(path, os.O_RDONLY)
        mount("tmpfs", str(private[0]), "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
        path.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", str(path), None, MS_BIND | MS_REC)


def bring_loopback_up() -> None:
    """Let this network namespace reach itself at 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def make_read_only(kept: Collection[str]) -> None:
    """Make every mount read-only, but those at the places that are kept."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        place = fields[4].encode().decode("unicode_escape")
        if place in kept or place == "/proc" or place.startswith("/proc/"):
            continue
        flags = sum(KEPT_FLAGS.get(option, 0) for option in fields[5].split(","))
        with contextlib.suppress(OSError) if place != "/" else contextlib.nullcontext():
            mount(None, place, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def is_below(path: Path, *places: str) -> bool:
    """Tell whether a path lies in one of these folders."""
    return any(path.resolve().is_relative_to(os.path.realpath(place)) for place in places)


def mount(source, target: str, kind, flags: int, data: str | None = None) -> None:
    """Call mount(2); raise OSError if it fails."""
    encoded = [
        value.encode() if isinstance(value, str) else value for value in (source, target, kind)
    ]
    libc("mount", *encoded, ctypes.c_ulong(flags), data.encode() if data else None)


def libc(name: str, *args) -> None:
    """Call a function of the C library; raise OSError if it fails."""
    call: Callable = getattr(ctypes.CDLL(None, use_errno=True), name)
    if call(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name} {args}: {os.strerror(error)}")
