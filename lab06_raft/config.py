"""The configuration file: a line `id address port` for each server of the cluster."""

import argparse
from pathlib import Path

import cli


def read_config(path: Path) -> dict[int, tuple[str, int]]:
    """Return {id: (host, port)}; raise OSError, or ValueError naming the line that is wrong."""
    members: dict[int, tuple[str, int]] = {}
    # As any editor leaves it: with a byte order mark or not, and what is no text is a bad line.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            node_id, host, port = words
            member, address = parse_id(node_id), (host.strip("[]"), cli.parse_port(port))
        except (ValueError, argparse.ArgumentTypeError):
            raise ValueError(f"{path}:{number}: not `id address port`: {line.strip()}") from None
        if member in members:
            raise ValueError(f"{path}:{number}: id {member} is there twice")
        if address in members.values():
            raise ValueError(f"{path}:{number}: {cli.join_address(*address)} is there twice")
        members[member] = address
    return members


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option --config; members_of() gets its value."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="lines `id address port` (default: config.conf here, else beside the script)",
    )


def members_of(parser: argparse.ArgumentParser, path: Path) -> dict[int, tuple[str, int]]:
    """Return what read_config() does; end the script with one line if that fails."""
    try:
        return read_config(path)
    except (OSError, ValueError) as error:
        return parser.error(str(error))


def parse_id(text: str) -> int:
    """Return a server's id, 0 or more; raise ArgumentTypeError if it is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"expected an id such as 0, not {text!r}")
    return int(text)


def find_config() -> Path:
    """Return config.conf of the current directory, else the one beside this file."""
    here = Path("config.conf")
    return here if here.exists() else Path(__file__).parent / "config.conf"
