"""Find the labs in a submission: by the assignment's names, else by what the source says."""

import csv
import re
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

MAX_UNPACKED = 1 << 30  # bytes
MAX_SOURCE = 400_000  # bytes of a file that are looked at
ARCHIVES = ".zip", ".tar.gz", ".tgz", ".tar"
IGNORED = {
    ".git",
    "venv",
    ".venv",
    "node_modules",
    "__pycache__",
    "__MACOSX",
    ".idea",
    "site-packages",
}


@dataclass(frozen=True)
class Lab:
    """What a lab looks like.

    Args:
        roles: its programs, each with the names it goes by, the assignment's first.
        topic: words in names of folders. signs: patterns of which each is in the source.
    """

    roles: dict[str, tuple[str, ...]]
    topic: str
    signs: tuple[str, ...]


SERVER = {"server": ("server", "srv", "main_server")}
CLIENT = {"client": ("client", "cli", "main_client", "cl")}
LABS = {
    1: Lab({**SERVER, **CLIENT}, r"udp|reliable|file.?transfer|datagram", (r"SOCK_DGRAM", r"\|")),
    2: Lab(
        {**SERVER, **CLIENT},
        r"tcp|thread",
        (r"SOCK_STREAM|create_server|create_connection|socket\(\)", r"prime|1549278"),
    ),
    3: Lab(
        {
            **SERVER,
            "prime": ("prime", "primer", "isprime", "is_prime", "primes", "worker_prime"),
            "gcd": ("gcd", "gcder", "worker_gcd", "gcd_worker"),
            **CLIENT,
        },
        r"zmq|zeromq|zero_mq|0mq",
        (r"\bzmq\b", r"\bgcd\b"),
    ),
    4: Lab({**SERVER, **CLIENT}, r"grpc|rpc", (r"grpc", r"revers", r"split")),
    5: Lab(
        {"registry": ("registry", "register", "reg"), "node": ("node", "chord_node"), **CLIENT},
        r"chord|dht",
        (r"grpc|chord", r"finger|successor"),
    ),
    6: Lab(
        {**SERVER, **CLIENT}, r"raft|election", (r"request_?vote", r"append_?entries|heartbeat")
    ),
}
NEEDED = {
    5: ("registry", "node")
}  # of the others, a server; a program that is missing costs its tests


@dataclass
class Found:
    """A lab in a submission.

    Args:
        folder: where. scripts: the programs by role, relative to it. why: what spoke for it.
    """

    lab: int
    folder: Path
    scripts: dict[str, str]
    why: str
    score: int = 0
    others: list[Path] = field(default_factory=list)  # folders that would fit as well


class Unusable(Exception):
    """A path that cannot be graded; the message says why."""


def unpack(path: Path, target: Path) -> Path:
    """Return the folder of a submission, unpacked below `target` if it is an archive."""
    if path.is_dir():
        return path
    folder = target / path.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_size(sum(item.file_size for item in archive.infolist()))
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                _check_size(sum(member.size for member in archive))
                archive.extractall(folder, filter="data")
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile, RuntimeError) as error:
        raise Unusable(f"{path.name} cannot be unpacked: {error}") from error
    return folder


def _check_size(size: int) -> None:
    if size > MAX_UNPACKED:
        raise Unusable(f"it unpacks to {size >> 20} MB")


def submissions(top: Path) -> dict[str, Path]:
    """Return the submissions in a folder by name: its folders and archives."""
    if not top.is_dir():
        raise Unusable(f"{top} is not a folder")
    found = {}
    for path in sorted(top.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            found[path.name] = path
        elif path.name.lower().endswith(ARCHIVES):
            found[re.sub(r"(\.tar)?\.\w+$", "", path.name)] = path
    if not found:
        raise Unusable(f"there is no submission in {top}: neither a folder nor a .zip or .tar.gz")
    return found


def read_map(path: Path) -> dict[tuple[str, int], str]:
    """Read lines `submission, lab, path`; raise Unusable if one is not so."""
    found = {}
    with path.open(newline="") as file:
        for row in csv.reader(file):
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0] == "submission":
                continue
            if len(cells) != 3 or not cells[1].isdigit() or int(cells[1]) not in LABS:
                raise Unusable(f"{path}: expected `submission, lab, path`, not {','.join(row)!r}")
            found[cells[0], int(cells[1])] = cells[2]
    return found


def find(top: Path, mapped: dict[int, str] | None = None) -> dict[int, Found]:
    """Return the labs of a submission.

    Args:
        mapped: folders, relative to `top`, that are this lab whatever they look like.
    """
    folders = [
        path for path in (top, *sorted(top.rglob("*"))) if path.is_dir() and not _ignored(path, top)
    ]
    looked = {folder: _Look(folder, top) for folder in folders}
    found = {}
    for number in LABS:
        if folder := (mapped or {}).get(number):
            look = _Look((top / folder).resolve(), top)
            found[number] = Found(number, look.folder, look.scripts(number), "the map says so")
            continue
        fitting = [hit for look in looked.values() if (hit := look.as_lab(number))]
        if fitting:
            best = max(
                fitting, key=lambda hit: (hit.score, -len(hit.folder.parts), -len(str(hit.folder)))
            )
            best.others = [
                hit.folder for hit in fitting if hit is not best and hit.score >= best.score - 2
            ]
            found[number] = best
    return found


def _ignored(path: Path, top: Path) -> bool:
    return bool(IGNORED & set(path.relative_to(top).parts)) or path.is_symlink()


class _Look:
    """What a folder has in itself, not in folders below."""

    def __init__(self, folder: Path, top: Path):
        self.folder = folder
        self.name = str(folder.relative_to(top)) if folder.is_relative_to(top) else folder.name
        self.sources: dict[str, str] = {}
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix in (".py", ".proto") and path.is_file() and "_pb2" not in path.name:
                    self.sources[path.name] = path.read_bytes()[:MAX_SOURCE].decode(
                        "utf-8", "replace"
                    )

    def has_signs(self, number: int, names=None) -> bool:
        """Tell whether these files, or all, speak of a lab."""
        text = "\n".join(self.sources[name] for name in (names or self.sources))
        return all(re.search(sign, text, re.I) for sign in LABS[number].signs)

    def scripts(self, number: int) -> dict[str, str]:
        """Return the lab's programs by role: by exact name, other case, alias, part of a name."""
        found = {}
        for role, aliases in LABS[number].roles.items():
            names = [name for name in self.sources if name.endswith(".py")]
            ranked = sorted(
                (rank, name)
                for name in names
                if (rank := self._rank(name, role, aliases, number)) is not None
            )
            if ranked:
                found[role] = ranked[0][1]
        return found

    def _rank(self, name: str, role: str, aliases: tuple[str, ...], number: int) -> tuple | None:
        """Return how well a file's name fits a role, the smaller the better, or None."""
        stem = name[:-3]
        other_lab = re.search(r"(\d)", stem)
        foreign = bool(
            other_lab and other_lab[1] != str(number) and stem[:3].lower() in ("lab", "wee")
        )
        if stem in (role, role.capitalize()):
            return (0, foreign)
        if stem.lower() in aliases:
            return (1 + aliases.index(stem.lower()), foreign)
        plain = re.sub(r"[^a-z]", "", stem.lower())
        if any(len(alias) > 2 and alias.replace("_", "") in plain for alias in aliases):
            return (20 + len(stem), foreign)
        return None

    def as_lab(self, number: int) -> Found | None:
        """Return this folder as a lab, if enough speaks for it."""
        lab, scripts = LABS[number], self.scripts(number)
        if not all(role in scripts for role in NEEDED.get(number, ("server",))):
            return None
        signs = self.has_signs(number)
        if not signs and any(self.has_signs(other) for other in LABS if other != number):
            return None
        last = self.name.lower().split("/")
        # The nearest folder that says a number; "week" and "lab" are counted alike.
        numbered = [
            m[1]
            for part in last
            if (m := re.search(r"(?:lab|week|assignment|hw|task|ex)\D{0,3}0*(\d)", part))
        ]
        named = bool(numbered) and numbered[-1] == str(number)
        topic = any(re.search(lab.topic, part) for part in last)
        exact = all(
            scripts.get(role, "").lower() in (f"{role}.py", f"{aliases[1 % len(aliases)]}.py")
            for role, aliases in lab.roles.items()
        )
        score = 5 * signs + 3 * named + 2 * topic + 2 * exact + (len(scripts) == len(lab.roles))
        reasons = [
            text
            for true, text in (
                (signs, "what the source says"),
                (named, "the number in the folder's name"),
                (topic, "a word in the folder's name"),
                (exact, "the names of the programs"),
            )
            if true
        ]
        if not signs and not (named and exact):
            return None
        return Found(number, self.folder, scripts, ", ".join(reasons), score)
