"""Random changes of one line, as cosmic-ray makes them, with the same answers for the same seed."""

import ast
import difflib
import random
from collections import Counter, defaultdict
from typing import NamedTuple

from tests.mutants import Mutant
from tests.mutants.explained import EXPLAINED
from tests.support.harness import ROOT


class Change(NamedTuple):
    """A place in a file, and what cosmic-ray can do there.

    Args:
        operators: (name, occurrence in this file) of each.
    """

    file: str
    place: tuple
    operators: tuple


def sample(files: list[str], count: int, seed: int) -> list[Mutant]:
    """Return random changes, each in another place; fewer if there are no more.

    Each place is as likely as any other, however many operators fit it.
    """
    rng = random.Random(seed)
    changes = [change for file in files for change in _changes(file)]
    rng.shuffle(changes)
    mutants: list[Mutant] = []
    for change in changes:
        if len(mutants) == count:
            break
        mutant = _mutant(change, rng)
        if mutant:
            mutants.append(mutant)
    return mutants


def _changes(file: str) -> list[Change]:
    from cosmic_ray import ast as parsed
    from cosmic_ray import plugins

    nodes = list(parsed.ast_nodes(parsed.get_ast((ROOT / file).read_text())))
    places = defaultdict(list)
    for name in plugins.operator_names():
        if plugins.get_operator(name).arguments():
            continue  # it has to be told the name of a variable
        operator = plugins.get_operator(name)()
        found = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, place in enumerate(found):
            places[tuple(map(tuple, place))].append((name, occurrence))
    return [Change(file, place, tuple(places[place])) for place in sorted(places)]


def _mutant(change: Change, rng: random.Random) -> Mutant | None:
    """Return one of the changes of a place; None if the program stays what it was."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    name, occurrence = rng.choice(change.operators)
    before = (ROOT / change.file).read_text()
    try:
        after = mutate_code(before, plugins.get_operator(name)(), occurrence)
    except AttributeError:  # its operators do not know every expression
        return None
    if after is None or _meaning(after) == _meaning(before):
        return None
    operator = name.rpartition("/")[2]
    return Mutant(f"{change.file}:{change.place[0][0]} {operator}", change.file, before, after)


def _meaning(source: str) -> str:
    """Return what a program does: without its annotations and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    return ast.dump(tree)


def own_files(lab: int) -> list[str]:
    """Return the programs of a lab, without those that stand in other labs as well."""
    copies = Counter(path.read_text() for path in ROOT.glob("lab0*/*.py"))
    paths = sorted(ROOT.glob(f"lab0{lab}_*/*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if copies[path.read_text()] == 1]


def diff(mutant: Mutant) -> list[str]:
    """Return the lines that a change takes away, with "-", and those that it puts there."""
    old, new = mutant.old.splitlines(), mutant.new.splitlines()
    return [line for line in difflib.unified_diff(old, new, n=0, lineterm="")][3:]


def difference(mutant: Mutant) -> tuple[str, str]:
    """Return what a change takes away, and what it puts there."""
    lines = diff(mutant)
    return tuple(
        "\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
    )


def explanation(mutant: Mutant) -> str:
    """Return why no test can notice a change; "" if nothing is known."""
    old, new = difference(mutant)
    for known in EXPLAINED:
        if (known.file, known.old, known.new) == (mutant.file, old, new):
            return known.why
    return ""


def stale() -> list[str]:
    """Return the explanations of lines that are no longer there."""
    return [
        f"{known.file} has no line {known.old!r}"
        for known in EXPLAINED
        if known.old not in map(str.strip, (ROOT / known.file).read_text().splitlines())
    ]
