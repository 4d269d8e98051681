"""Changes that no test can notice, each with its reason."""

from typing import NamedTuple


class Explained(NamedTuple):
    """A change of one line.

    Args:
        old, new: the line, without the white space around it.
    """

    file: str
    old: str
    new: str
    why: str


EXPLAINED: list[Explained] = []
