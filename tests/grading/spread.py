"""Spread submissions over the workers of a Dask cluster, one task each.

A task carries the submission as an archive, so that workers need no common disk. It is retried when
its worker dies; a submission that ends several workers is reported as unjudged, not tried for ever.
"""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dask.distributed import Client, as_completed

from tests.grading import sandbox
from tests.grading.grade import (
    HERE,
    LabResult,
    Options,
    Result,
    as_json,
    from_json,
    grade_safely,
    read_rubric,
)

RETRIES = 3


def over_a_cluster(
    work: dict[str, Path], options: Options, scheduler: str
) -> Iterator[tuple[str, list[LabResult]]]:
    """Grade submissions on the cluster's workers; yield the results as they come."""
    rubric = Path(options.rubric).read_bytes()
    with Client(scheduler, timeout=20) as client:
        tasks = {
            client.submit(
                task,
                name,
                pack(path),
                rubric,
                options,
                retries=RETRIES,
                pure=False,
                key=f"grade-{name}",
            ): name
            for name, path in work.items()
        }
        for done in as_completed(tasks):
            name = tasks[done]
            if done.status == "finished":
                yield name, from_json(done.result())
            else:
                yield name, unjudged(options, f"no worker has come to an end: {done.exception()}")


def pack(path: Path) -> tuple[str, bytes]:
    """Return a submission as one piece of data, and the name of its file."""
    if path.is_file():
        return path.name, path.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in sorted(path.iterdir()):
            if part.name not in sandbox.NOT_SENT:
                archive.add(part, part.name)
    return f"{path.name}.tar.gz", buffer.getvalue()


def task(name: str, packed: tuple[str, bytes], rubric: bytes, options: Options) -> dict:
    """Grade a submission on a worker."""
    with tempfile.TemporaryDirectory(prefix="task-") as folder:
        place = Path(folder)
        (place / "rubric.json").write_bytes(rubric)
        archive = place / packed[0]
        archive.write_bytes(packed[1])
        here = replace(options, rubric=str(place / "rubric.json"), hidden=[str(HERE.parent.parent)])
        return as_json(name, grade_safely(name, archive, here))


def unjudged(options: Options, why: str) -> list[LabResult]:
    """Return results for a submission that no worker could grade."""
    tests = read_rubric(Path(options.rubric))
    return [
        LabResult(
            lab, why, why, [Result(t, 0, "unjudged", seen=why) for t in tests if t.lab == lab]
        )
        for lab in options.labs
    ]
