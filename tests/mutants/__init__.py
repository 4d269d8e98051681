"""Planted faults: small edits to a lab that its tests must notice."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One edit: in `file`, relative to the repository, `old` becomes `new`.

    The text `old` occurs there exactly once. The name says what the edited program does.
    """

    name: str
    file: str
    old: str
    new: str
