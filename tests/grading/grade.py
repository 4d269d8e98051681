"""Grade a submission: find its labs, run the gate of each, then its tests in sandboxes."""

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.grading import finding, sandbox

HERE = Path(__file__).parent
TRIES = 3  # a failure counts when it comes every time
TEST_TIME = 240.0  # s
OURS = {1: "lab01_udp", 2: "lab02_tcp_threads", 3: "lab03_zmq"}
# Plain workers, since ours take no work before the server has subscribed to their answers.
PLAIN_WORKERS = {(3, role): HERE / f"zoo/plain/lab3/{role}.py" for role in ("prime", "gcd")}
GATE = "gate"


@dataclass
class Test:
    """A row of the rubric: a sentence of the assignment and what it is worth."""

    lab: int
    test: str
    points: float
    name: str
    sentence: str
    part: str = ""  # tests of one part fall together when safety does
    visibility: str = "visible"  # as Gradescope has it


@dataclass
class Result:
    """What became of a test."""

    test: Test
    score: float
    status: str  # passed, unsteady, failed, unsafe, blocked, missing, unjudged
    expected: str = ""
    seen: str = ""
    tried: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class LabResult:
    lab: int
    found: str  # what was taken for it and why, or that nothing was
    fault: str = ""  # why nothing but the gate was tried
    results: list[Result] = field(default_factory=list)

    @property
    def score(self) -> float:
        return sum(result.score for result in self.results)

    @property
    def most(self) -> float:
        return sum(result.test.points for result in self.results)

    @property
    def judged(self) -> bool:
        return all(result.status != "unjudged" for result in self.results)


@dataclass
class Options:
    """How to grade.

    Args:
        hidden: folders that submissions do not see. site: a folder with more packages.
    """

    labs: list[int]
    rubric: str = str(HERE / "rubric.json")
    mapped: dict = field(default_factory=dict)  # (submission, lab) -> path
    hidden: list[str] = field(default_factory=list)
    site: str = ""


def read_rubric(path: Path) -> list[Test]:
    """Return the tests of a rubric; raise Unusable if one is not complete."""
    try:
        rows = json.loads(Path(path).read_text())
        return [Test(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise finding.Unusable(f"the rubric {path} cannot be read: {error}") from error


def grade(name: str, path: Path, options: Options) -> list[LabResult]:
    """Grade a submission; return a result for each lab that was asked for."""
    with tempfile.TemporaryDirectory(prefix="unpacked-") as unpacked:
        top = finding.unpack(path, Path(unpacked))
        mapped = {lab: where for (owner, lab), where in options.mapped.items() if owner == name}
        found = finding.find(top.resolve(), mapped)
        return [grade_lab(lab, found.get(lab), top.resolve(), options) for lab in options.labs]


def grade_safely(name: str, path: Path, options: Options) -> list[LabResult]:
    """Grade a submission; one that cannot be unpacked has no points, and the others go on."""
    try:
        return grade(name, path, options)
    except (finding.Unusable, OSError) as error:
        results = [grade_lab(lab, None, path, options) for lab in options.labs]
        for lab in results:
            lab.found = lab.fault = f"the submission cannot be read: {error}"
        return results


def grade_lab(lab: int, found: finding.Found | None, top: Path, options: Options) -> LabResult:
    """Grade one lab of a submission."""
    tests = [test for test in read_rubric(Path(options.rubric)) if test.lab == lab]
    if not found:
        signs = "neither a folder with its name and programs nor a source that speaks of it"
        missing = [
            Result(test, 0, "missing", test.sentence, "the lab was not found") for test in tests
        ]
        return LabResult(
            lab, f"not found: {signs}", f"Lab {lab} was not found in the submission.", missing
        )
    result = LabResult(lab, describe(found, top))
    answer = attempt(found, GATE, options)
    if answer["status"] != "passed":
        kind = "unjudged" if answer["status"] == "unjudged" else "blocked"
        result.fault = f"{answer['expected']}\n{answer['seen']}"
        result.results = [Result(test, 0, kind, tried=answer["tried"]) for test in tests]
        return result
    pace = answer["seconds"]
    result.results = [judge(found, test, options, pace) for test in tests]
    drop_unsafe_parts(result)
    return result


def describe(found: finding.Found, top: Path) -> str:
    """Return what was taken for a lab, and why."""
    where = os.path.relpath(found.folder, top)
    text = f"{where}: {', '.join(found.scripts.values())} (by {found.why})"
    absent = set(finding.LABS[found.lab].roles) - set(found.scripts)
    if absent:
        text += f"; no program for: {', '.join(sorted(absent))}"
    if found.others:
        others = ", ".join(os.path.relpath(other, top) for other in found.others)
        text += f"; would fit as well: {others}"
    return text


def attempt(found: finding.Found, test: str, options: Options, pace: float = 0.0) -> dict:
    """Run a test until it passes, three times at the most; return the last answer.

    Args:
        pace: the seconds that the gate took, for tests which wait for what takes as long.
    """
    answer = run(found, test, options, pace)
    for _ in range(TRIES - 1):
        if answer["status"] not in ("failed", "unjudged"):
            break
        answer = run(found, test, options, pace)
        if answer["status"] == "passed" and test != GATE:
            answer["status"] = "unsteady"
    return answer


def run(found: finding.Found, test: str, options: Options, pace: float) -> dict:
    """Run a test once, in a sandbox."""
    ours = (
        {
            role: str(
                PLAIN_WORKERS.get((found.lab, role))
                or sandbox.ROOT / OURS[found.lab] / f"{role}.py"
            )
            for role in finding.LABS[found.lab].roles
        }
        if found.lab in OURS
        else {}
    )
    job = {
        "path": str(found.folder),
        "lab": found.lab,
        "test": test,
        "scripts": found.scripts,
        "ours": ours,
        "hidden": options.hidden,
        "site": options.site,
        "pace": pace,
    }
    answer = sandbox.run(job, TEST_TIME)
    if "late" in answer:
        return {
            "status": "failed",
            "expected": "an end of the test",
            "seen": answer["error"],
            "tried": [],
            "seconds": TEST_TIME,
        }
    if "status" not in answer:
        answer = {"status": "unjudged", "error": answer["error"], "tried": [], "seconds": 0}
    if answer["status"] == "unjudged":
        print(answer["error"], file=sys.stderr)  # for the grader's user, not for the student
        answer["expected"] = "a fault of the grader or of its machine, not of the submission:"
        answer["seen"] = answer["error"].strip().splitlines()[-1]
    return answer


def judge(found: finding.Found, test: Test, options: Options, pace: float) -> Result:
    """Judge one test of the rubric."""
    answer = attempt(found, test.test, options, pace)
    passed = answer["status"] in ("passed", "unsteady")
    return Result(
        test,
        test.points if passed else 0,
        answer["status"],
        answer.get("expected", ""),
        "" if passed else answer.get("seen", ""),
        answer["tried"],
        answer["seconds"],
    )


def drop_unsafe_parts(result: LabResult) -> None:
    """Take all points of a part in which safety was violated."""
    unsafe = {r.test.part: r for r in result.results if r.status == "unsafe" and r.test.part}
    for other in result.results:
        cause = unsafe.get(other.test.part)
        if cause and other.status in ("passed", "unsteady"):
            other.score, other.status = 0, "unsafe"
            other.expected, other.seen = (
                cause.expected,
                f"{cause.seen} (in the test: {cause.test.name})",
            )


def as_json(name: str, results: list[LabResult]) -> dict:
    """Return the results of a submission as plain data."""
    return {"name": name, "labs": [asdict(result) for result in results]}


def from_json(data: dict) -> list[LabResult]:
    """Return what `as_json` was given."""
    return [
        LabResult(
            lab["lab"],
            lab["found"],
            lab["fault"],
            [Result(**{**result, "test": Test(**result["test"])}) for result in lab["results"]],
        )
        for lab in data["labs"]
    ]
