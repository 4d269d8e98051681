"""A sandbox for programs of strangers: one test runs in it, and all that it started ends with it.

    answer = run({"path": ..., "lab": 1, ...}, seconds=60)         # outside: a process of its own
    with Sandbox(path, uid, isolated, hidden) as sandbox:          # inside it: inside.py
        Script(path, *args, interpreter=sandbox.interpreter)

On Linux a test has its own network, process and mount namespace. The network is a loopback and
nothing else, so the assignment's own ports are free. /tmp is private; everything else is read-only;
the project, the submissions and the results are not there for the programs under test. These run
one process namespace further in, as a user of their own, without privileges: they cannot see,
signal or trace the judge. Elsewhere a test runs in plain processes, on free ports.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from tests.grading.mounts import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    bring_loopback_up,
    expose,
    is_below,
    libc,
    make_read_only,
    mount,
)

ROOT = Path(__file__).parent.parent.parent
FIRST_UID = 1_000_000
WRITABLE = "/tmp", "/var/tmp", "/dev/shm"  # a private one each
HOME = "/tmp/home"  # of the programs under test
PYTHON = "/tmp/python"  # where they find Python and the packages of the labs
PACKAGES = "/tmp/packages"  # and others
MAX_PROCESSES = 300
MAX_THREADS = 600  # of all processes together; a fork bomb goes on until it is noticed
MAX_MEMORY = 2 << 30  # bytes, of all processes together
MAX_ADDRESSES = 6 << 30  # bytes of address space, of one process
MAX_WRITTEN = 256 << 20  # bytes in files
MAX_OPEN_FILES = 2048
MAX_COPY = 64 << 20  # bytes of a submission's folder
WATCH_INTERVAL = 0.5  # s
TOOLS = "unshare", "nsenter", "setpriv", "prlimit", "env"
NOT_SENT = ".git", ".venv", "venv", "node_modules", "__pycache__", ".idea"
NOT_COPIED = shutil.ignore_patterns(*NOT_SENT)


@cache
def isolated() -> bool:
    """Tell whether this machine has what a sandbox needs."""
    if not all(map(shutil.which, TOOLS)):
        return False
    probe = [*_unshare(), sys.executable, "-c", "pass"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _unshare() -> list[str]:
    """Return the command that starts another one in namespaces of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    names = ["--net", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # When the grader ends in whatever way, so does all that it has started.
    return ["setpriv", "--pdeathsig", "KILL", "--", "unshare", *user, *names, "--"]


_runs = iter(range(1 << 60))
_running: set[subprocess.Popen] = set()


def stop_all() -> None:
    """End every sandbox at once."""
    for process in list(_running):
        process.kill()


def run(job: dict, seconds: float) -> dict:
    """Run a job in a new sandbox; return its answer, or {"error": ...} if it gave none in time."""
    job = {**job, "isolated": isolated(), "uid": FIRST_UID + os.getpid() * 100 + next(_runs) % 100}
    command = [
        *(_unshare() if job["isolated"] else []),
        sys.executable,
        "-m",
        "tests.grading.inside",
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    _running.add(process)
    try:
        out, err = process.communicate(json.dumps(job).encode(), seconds)
        return json.loads(out.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"late": True, "error": f"not done within {seconds:g} s"}
    except (IndexError, ValueError):
        return {"error": err.decode("utf-8", "replace")[-3000:] or f"exit {process.returncode}"}
    finally:
        if process.poll() is None:
            process.kill()  # --kill-child: the namespace ends with it
        process.communicate()
        _running.discard(process)


class Sandbox:
    """What a judge has inside: the copy of a submission, and how to start its programs.

    Args:
        path: the lab's folder in the submission. hidden: folders that are not there for programs.
        uid: the user that programs run as. isolated: whether this process has its own namespaces.
    """

    def __init__(self, path: str, uid: int, isolated: bool, hidden: list[str], site: str = ""):
        self.isolated = isolated
        self.uid = uid
        self.site = site
        self.overrun = ""  # what the programs took too much of
        self._stack = contextlib.ExitStack()
        if isolated:
            bring_loopback_up()
            self.folder = self._enter(Path(path), hidden)
        else:
            home = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="grading-"))
            self.folder = Path(home) / "submission"
            _copy(Path(path), self.folder)
            self.interpreter = (sys.executable,)
            self.home = home

    def _enter(self, path: Path, hidden: list[str]) -> Path:
        kept = [place for place in (ROOT, Path(sys.prefix)) if is_below(place, *WRITABLE)]
        source = os.open(path, os.O_RDONLY)
        packages = os.open(self.site, os.O_RDONLY) if self.site else None
        hold = {place: os.open(place, os.O_RDONLY) for place in kept}
        for place in WRITABLE:
            if os.path.isdir(place):
                mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "size=1g,mode=1777")
        for place, fd in hold.items():
            place.mkdir(parents=True, exist_ok=True)
            mount(f"/proc/self/fd/{fd}", str(place), None, MS_BIND | MS_REC)
        make_read_only(WRITABLE)
        self.home = HOME
        folder = Path(HOME) / "submission"
        _copy(Path(f"/proc/self/fd/{source}"), folder)
        os.close(source)
        os.mkdir(PYTHON)
        self._own(Path(HOME))
        if packages is not None:
            os.mkdir(PACKAGES)
            mount(f"/proc/self/fd/{packages}", PACKAGES, None, MS_BIND)
        self._start_init(hidden)
        return folder

    def _own(self, top: Path) -> None:
        if self.private_user:
            for path in (top, *top.rglob("*")):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)

    @property
    def private_user(self) -> bool:
        """Whether programs run as a user of their own; our own user namespace has one user only."""
        return int(Path("/proc/self/uid_map").read_text().split()[2]) > self.uid

    def _start_init(self, hidden: list[str]) -> None:
        """Make the namespaces that the programs live in, one further in than the judge's own."""
        self._outer = os.open("/proc/self/ns/pid", os.O_RDONLY)
        libc("unshare", CLONE_NEWPID)
        ready, told = os.pipe()
        self.init = os.fork()  # the first child is the namespace's init: all end with it
        if self.init == 0:
            with contextlib.suppress(BaseException):
                _become_init(hidden)
                os.write(told, b"ready")
            os.close(told)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that orphans leave no zombies
            while True:
                signal.pause()
        os.close(told)
        if os.read(ready, 5) != b"ready":
            raise OSError("the inner namespace could not be made")
        self._inner = os.open(f"/proc/{self.init}/ns/pid", os.O_RDONLY)
        libc("setns", self._outer, CLONE_NEWPID)
        user = (
            ["--reuid", self.uid, "--regid", self.uid, "--clear-groups"]
            if self.private_user
            else []
        )
        limits = {
            "nproc": MAX_THREADS,
            "as": MAX_ADDRESSES,
            "fsize": MAX_WRITTEN,
            "nofile": MAX_OPEN_FILES,
            "core": 0,
        }
        self.interpreter = tuple(
            map(
                str,
                [
                    *("nsenter", f"--mount=/proc/{self.init}/ns/mnt", "--"),
                    *("setpriv", *user, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
                    *("prlimit", *(f"--{name}={limit}" for name, limit in limits.items())),
                    *("env", "-C", "{cwd}", f"{PYTHON}/bin/{Path(sys.executable).name}"),
                ],
            )
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def popen(self, *args, **options) -> subprocess.Popen:
        """Start a process in the inner namespace; threads can only be started outside of it."""
        if not self.isolated:
            return subprocess.Popen(*args, **options)
        libc("setns", self._inner, CLONE_NEWPID)
        try:
            return subprocess.Popen(*args, **options)
        finally:
            libc("setns", self._outer, CLONE_NEWPID)

    def in_folder(self, cwd: Path) -> tuple[str, ...]:
        """Return the interpreter of a script that runs in this working directory."""
        return tuple(part.format(cwd=cwd) for part in self.interpreter)

    def _watch(self) -> None:
        """End the programs when they take more than a machine can give."""
        page = os.sysconf("SC_PAGESIZE")
        while not self.overrun:
            time.sleep(WATCH_INTERVAL)
            count = memory = 0
            for entry in Path("/proc").glob("[0-9]*/statm"):
                with contextlib.suppress(OSError, IndexError, ValueError):
                    memory += int(entry.read_text().split()[1]) * page
                    count += 1
            if count > MAX_PROCESSES:
                self.overrun = f"more than {MAX_PROCESSES} processes"
            elif memory > MAX_MEMORY:
                self.overrun = f"more than {MAX_MEMORY >> 30} GB of memory"
        os.kill(self.init, signal.SIGKILL)

    def close(self) -> None:
        """End every program, also those that ignore signals or have left their parent."""
        if self.isolated:
            with contextlib.suppress(OSError):
                os.kill(self.init, signal.SIGKILL)
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _become_init(hidden: list[str]) -> None:
    """In the first process of the inner namespace: see no process but those of the submission."""
    libc("unshare", CLONE_NEWNS)
    prefix = os.open(sys.prefix, os.O_RDONLY)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV)
    mount(f"/proc/self/fd/{prefix}", PYTHON, None, MS_BIND | MS_REC)
    expose(Path(sys.base_prefix))
    for place in hidden:
        if os.path.isdir(place) and not is_below(Path(sys.base_prefix), place):
            mount("tmpfs", place, "tmpfs", MS_RDONLY, "size=4k")
    os.chdir("/")


def _copy(source: Path, target: Path) -> None:
    """Copy a lab's folder, without what no test needs; big files stay behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = MAX_COPY

    def copy(path: str, to: str) -> None:
        nonlocal left
        size = os.path.getsize(path)
        if os.path.isfile(path) and size <= left:
            left -= size
            shutil.copy(path, to)

    with contextlib.suppress(shutil.Error):  # a name that cannot be read stays behind too
        shutil.copytree(source, target, ignore=NOT_COPIED, copy_function=copy, symlinks=True)
