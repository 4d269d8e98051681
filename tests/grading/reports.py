"""What a student, a teaching assistant and a machine read of the results."""

import csv
import io
import json
import os
import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tests.grading.grade import LabResult, Result, as_json

STATUS = {
    "passed": "passed",
    "unsteady": "passed, but not at the first try",
    "failed": "failed",
    "unsafe": "failed: safety was violated",
    "blocked": "not tried: the programs do not start or answer",
    "missing": "the lab was not found",
    "unjudged": "could not be judged: a fault of the grader or of its machine",
}
LOST = "failed", "unsafe"


def number(value: float) -> str:
    """Return points without needless digits."""
    return f"{value:g}"


def plain(text: str) -> str:
    """Return text of a stranger's program with control characters shown, not obeyed."""
    return re.sub(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda m: f"\\x{ord(m[0]):02x}", text)


def explain(result: Result) -> str:
    """Return what was tried, expected and seen in a test."""
    lines = [f"Assignment: {result.test.sentence}"]
    if result.status not in LOST:
        lines.append(f"Result: {STATUS[result.status]}")
        return "\n".join(lines)
    lines += [
        "Tried (the same can be done by hand):",
        *(f"  {i}. {step}" for i, step in enumerate(result.tried, 1)),
    ]
    lines += [f"Expected: {result.expected}", f"Seen: {result.seen}"]
    if result.status == "failed":
        lines.append("It was tried three times.")
    return plain("\n".join(lines))


def gradescope(name: str, results: list[LabResult], fingerprint: str) -> dict:
    """Return results.json as Gradescope's autograder harness takes it."""
    tests = []
    for lab in results:
        if lab.fault:
            text = plain(f"{lab.found}\n{lab.fault}")
            tests.append(
                {
                    "name": f"Lab {lab.lab}",
                    "score": 0,
                    "max_score": lab.most,
                    "status": "failed",
                    "output": text,
                    "visibility": "visible",
                }
            )
            continue
        for result in lab.results:
            tests.append(
                {
                    "name": f"Lab {lab.lab}: {result.test.name}",
                    "score": result.score,
                    "max_score": result.test.points,
                    "status": "passed" if result.status in ("passed", "unsteady") else "failed",
                    "output": explain(result),
                    "visibility": result.test.visibility,
                }
            )
    return {
        "score": sum(lab.score for lab in results),
        "tests": tests,
        "visibility": "visible",
        "extra_data": {"fingerprint": fingerprint, **as_json(name, results)},
    }


def markdown(name: str, results: list[LabResult]) -> str:
    """Return the report for the student."""
    score, most = sum(lab.score for lab in results), sum(lab.most for lab in results)
    lines = [f"# {plain(name)}: {number(score)} of {number(most)} points", ""]
    for lab in results:
        lines += [f"## Lab {lab.lab}: {number(lab.score)} of {number(lab.most)} points", ""]
        lines += [f"Taken for this lab: {plain(lab.found)}.", ""]
        if lab.fault:
            lines += ["Nothing else was tried. Expected and seen:", ""]
            lines += _block(lab.fault)
            continue
        lines += ["| points | test | result |", "|---|---|---|"]
        lines += [
            f"| {number(r.score)} of {number(r.test.points)} | {r.test.name} | {STATUS[r.status]} |"
            for r in lab.results
        ]
        lines.append("")
        for result in lab.results:
            if result.status in LOST:
                lines += [f"### {result.test.name}", ""]
                lines += _block(explain(result))
    return "\n".join(lines) + "\n"


def _block(text: str) -> list[str]:
    return [*(f"    {line}" for line in plain(text).splitlines()), ""]


def terminal(results: list[LabResult]) -> str:
    """Return the report for a terminal."""
    lines = []
    for lab in results:
        lines += [
            f"Lab {lab.lab}: {number(lab.score)} of {number(lab.most)} points",
            f"  {plain(lab.found)}",
        ]
        if lab.fault:
            lines += [
                "  nothing else was tried:",
                *(f"    {line}" for line in plain(lab.fault).splitlines()),
            ]
            continue
        for result in lab.results:
            points = f"{number(result.score)}/{number(result.test.points)}"
            note = "" if result.status == "passed" else f"   ({STATUS[result.status]})"
            lines.append(f"  {points:>6}  {result.test.name}{note}")
        for result in lab.results:
            if result.status in LOST:
                lines += [
                    "",
                    f"  {result.test.name}",
                    *(f"    {x}" for x in explain(result).splitlines()),
                ]
            elif result.status == "unjudged":
                lines += ["", f"  {result.test.name}: {result.seen.strip().splitlines()[-1:]}"]
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)


def write_one(out: Path, name: str, results: list[LabResult], fingerprint: str) -> None:
    """Write the reports of one submission."""
    write(out / name / "report.md", markdown(name, results))
    write(
        out / name / "results.json",
        json.dumps(gradescope(name, results, fingerprint), indent=1) + "\n",
    )


def write_all(out: Path, graded: dict[str, list[LabResult]]) -> None:
    """Write what covers all submissions."""
    write(out / "summary.csv", summary(graded))
    write(out / "junit.xml", junit(graded))


def labs_of(graded: dict[str, list[LabResult]]) -> list[int]:
    return sorted({lab.lab for results in graded.values() for lab in results})


def summary(graded: dict[str, list[LabResult]]) -> str:
    """Return a row for each submission."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    labs = labs_of(graded)
    writer.writerow(["submission", *(f"lab{lab}" for lab in labs), "points", "most", "unjudged"])
    for name, results in graded.items():
        by_lab = {lab.lab: number(lab.score) for lab in results}
        unjudged = " ".join(f"lab{lab.lab}" for lab in results if not lab.judged)
        # A spreadsheet takes a name that begins so for a formula.
        safe = f"'{name}" if name[:1] in "=+-@" else name
        writer.writerow(
            [
                safe,
                *(by_lab.get(lab, "") for lab in labs),
                number(sum(lab.score for lab in results)),
                number(sum(lab.most for lab in results)),
                unjudged,
            ]
        )
    return file.getvalue()


def junit(graded: dict[str, list[LabResult]]) -> str:
    """Return the results as JUnit's XML, which most CI systems show."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for name, results in graded.items():
        rows = [(lab, result) for lab in results for result in lab.results]
        failures = sum(
            result.status not in ("passed", "unsteady", "unjudged") for _, result in rows
        )
        errors = sum(result.status == "unjudged" for _, result in rows)
        counts = f'tests="{len(rows)}" failures="{failures}" errors="{errors}"'
        lines.append(f"<testsuite name={quoteattr(plain(name))} {counts}>")
        for lab, result in rows:
            where = f'classname="lab{lab.lab}" time="{result.seconds}"'
            lines.append(f"<testcase name={quoteattr(result.test.name)} {where}>")
            if result.status == "unjudged":
                lines.append(f"<error>{escape(plain(result.seen))}</error>")
            elif result.status not in ("passed", "unsteady"):
                text = lab.fault or explain(result)
                message = quoteattr(STATUS[result.status])
                lines.append(f"<failure message={message}>{escape(plain(text))}</failure>")
            lines.append("</testcase>")
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])
