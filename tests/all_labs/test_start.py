"""A ring, a cluster, or both and their pages in one terminal, as `make watch` starts them."""

import re
import signal
import socket
import subprocess
import urllib.request

import pytest

from tests.lab05.example import EXAMPLE
from tests.support.harness import ROOT, wait_until
from tests.support.ports import free_port, listens
from tests.support.processes import leftovers


@pytest.fixture
def start(spawn):
    """Start a ring or a cluster on free ports; the first port is `start.port`."""

    def start(what, count, *options, **files):
        start.port = free_port(count=count + 6)
        arguments = [what, "-n", count, "--port", start.port, *options]
        started.append(spawn(ROOT / "tests/start.py", *arguments, **files))
        return started[-1]

    started = []
    yield start
    for process in started:  # kill -9 would leave its children
        process.interrupt()
        process.wait()


def children() -> set[str]:
    return {command for command in leftovers() if "lab0" in command}


def test_a_ring_shows_each_line_with_its_name_and_ctrl_c_leaves_nothing_behind(start):
    before = children()
    ring = start("ring", 6, "-m", 5)
    for number, id in enumerate(EXAMPLE, 1):
        ring.expect(rf"^ *node {start.port + number} \| assigned node_id={id}, ")
    assert f"  registry | Registry listens on 127.0.0.1:{start.port}" in ring.lines
    assert len(children() - before) == 7
    ring.interrupt()
    assert ring.wait() == 0, ring.transcript()
    assert not children() - before
    assert "no registry answers" not in ring.out and "exit status" not in ring.out


def test_a_cluster_elects_a_leader_that_a_client_finds(spawn, start):
    cluster = start("cluster", 3)
    cluster.expect(r"^ *server \d \| I am a leader\. Term: \d")
    client = spawn(
        "lab06_raft/client.py", "-c", f"connect 127.0.0.1:{start.port}", "-c", "getleader"
    )
    assert client.wait() == 0
    named = re.search(r"^(\d) 127\.0\.0\.1:\d+$", client.out, re.M)[1]
    assert f"server {named} | I am a leader" in cluster.out
    cluster.interrupt()
    assert cluster.wait() == 0
    assert not listens(start.port)


def test_a_ring_a_cluster_and_their_pages_start_and_end_together(start):
    before = children()
    both = start("watch", 2)
    pages = [both.expect(rf"^ *{lab} page \| Open (http://\S+)$")[1] for lab in ("ring", "raft")]
    for page, port in zip(pages, (start.port + 6, start.port + 7), strict=True):
        assert page == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(page, timeout=10) as answer:
            assert b"<svg" in answer.read()
    assert len(children() - before) == 8
    both.interrupt()
    assert both.wait() == 0, both.transcript()
    assert not children() - before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("what", ["ring", "cluster"])
def test_a_signal_at_any_moment_of_the_start_ends_all(start, what, signum):
    before = children()
    for moment in (None, r"registry \| |server 0 \| ", r"node \d+ \| |server 1 \| "):
        process = start(what, 3)
        if moment:
            process.expect(moment)
        else:
            wait_until(lambda: children() - before)
        process.signal(signum)
        assert process.wait() == 0, process.transcript()
        assert process.err == "" and not children() - before


def test_a_child_that_ends_by_itself_is_named_and_the_others_go_on(start):
    cluster = start("cluster", 3)
    cluster.expect("I am a leader")
    kill(r"lab06_raft/server\.py 1 --config \S+", cluster)
    cluster.expect(r"^ *server 1 \| ended with exit status -9$")
    assert cluster.running
    cluster.interrupt()
    assert cluster.wait() == 0


def kill(pattern: str, parent) -> None:
    """kill -9 of the one child of a process whose command line matches."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True
    )
    (pid,) = [int(pid) for pid, ppid, *args in map(str.split, listing.stdout.splitlines())
              if int(ppid) == parent.pid and re.search(pattern, " ".join(args))]  # fmt: skip
    subprocess.run(["kill", "-9", str(pid)], check=True)


@pytest.mark.parametrize("what, taken, name", [("ring", 0, "registry"), ("cluster", 1, "server 1")])
def test_a_taken_port_ends_the_others_with_exit_1(spawn, what, taken, name):
    before = children()
    port = free_port(count=4)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port + taken))
        holder.listen()
        process = spawn(ROOT / "tests/start.py", what, "-n", 3, "--port", port)
        assert process.wait() == 1
    assert f"{name} | ended with exit status 1" in process.out
    assert f"cannot listen on 127.0.0.1:{port + taken}" in process.out
    assert not children() - before


def test_a_terminal_that_has_gone_ends_all(start):
    before = children()
    cluster = start("cluster", 3, head=True)
    assert cluster.wait() == 0
    assert cluster.err == "" and not children() - before


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["rings"], "invalid choice"),
        (["ring", "-n", "0"], "-n"),
        (["ring", "-n", "9", "-m", "3"], "too many"),
        (["ring", "-m", "33"], "from 1 to 32"),
        (["cluster", "--port", "65535"], "--port"),
        (["watch", "--port", "65525"], "from 1 to 65524"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(spawn, arguments, reason):
    process = spawn(ROOT / "tests/start.py", *arguments)
    assert process.wait() == 2
    assert process.err.count("\n") == 1 and reason in process.err


@pytest.mark.parametrize(
    "target, command",
    [
        (["ring", "N=6", "M=5"], "start.py ring -n 6 -m 5"),
        (["cluster", "N=3"], "start.py cluster -n 3"),
        (["cluster"], "start.py cluster"),
        (["watch"], "start.py watch"),
    ],
)
def test_make_starts_it(target, command):
    command_line = ["make", "--no-print-directory", "-n", *target]
    made = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0 and made.stdout.rstrip().endswith(command)
