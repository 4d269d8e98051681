"""Run one test inside a sandbox: a job comes as JSON on stdin, an answer goes to stdout."""

import importlib
import json
import os
import signal
import sys
import time
import traceback

from tests.grading.sandbox import PACKAGES, Sandbox
from tests.grading.scene import Loss, Scene, Unsafe

FIRST_WITH_PROTO = 4  # lab
# All that a program inherits of the environment: nothing of it is a secret or a proxy.
INHERITED = "PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH"


def judge(job: dict) -> dict:
    """Run the named test of the job's lab; return what became of it."""
    arguments = {name: job[name] for name in ("path", "uid", "isolated", "hidden", "site")}
    with Sandbox(**arguments) as sandbox, Scene(sandbox, job) as scene:
        try:
            if job["lab"] >= FIRST_WITH_PROTO:
                scene.services = importlib.import_module("tests.grading.protos").Services(
                    scene.folder
                )
            module = importlib.import_module(f"tests.grading.lab{job['lab']:02}")
            getattr(module, job["test"])(scene)
            outcome = {"status": "passed"}
        except Loss as loss:
            status = "unsafe" if isinstance(loss, Unsafe) else "failed"
            outcome = {"status": status, "expected": loss.expected, "seen": loss.seen}
        except Exception:  # a fault of the grader, or of this machine
            outcome = {"status": "unjudged", "error": traceback.format_exc()}
        if sandbox.overrun and outcome["status"] != "unsafe":  # no program lives any more
            seen = f"they took {sandbox.overrun} and were ended\n{outcome.get('seen', '')}"
            outcome = {
                "status": "failed",
                "expected": "programs that keep within the limits",
                "seen": seen.rstrip(),
            }
        outcome |= {"tried": scene.tried, "words": scene.last_words()}
    return outcome


def main() -> int:
    job = json.load(sys.stdin)
    # A grader in the background has SIGINT ignored, and programs would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.environ.update({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    for name in set(os.environ) - {*INHERITED, "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}:
        del os.environ[name]
    if job["site"]:
        os.environ["PYTHONPATH"] = PACKAGES if job["isolated"] else job["site"]
    os.environ["HOME"] = "/tmp/home"
    begun = time.monotonic()
    answer = judge(job)
    answer["seconds"] = round(time.monotonic() - begun, 1)
    print(json.dumps(answer), flush=True)
    os._exit(0)  # threads of a library that still wait end with the namespace


if __name__ == "__main__":
    main()
