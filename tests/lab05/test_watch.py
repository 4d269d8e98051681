"""Lab 5's live page: what it tells of a real ring, and what it does there."""

import contextlib
import re
import socket
import time
import zlib
from pathlib import Path

import pytest

from tests.lab05.example import CLOCKWISE, FINGERS
from tests.lab05.page import Page, shows
from tests.lab05.ring import Ring
from tests.support.harness import ROOT, wait_until
from tests.support.live_page import HOSTILE, do
from tests.support.processes import processor_time, spawning

WELL = dict.fromkeys(CLOCKWISE, "in sync")


@pytest.fixture(scope="module")
def watched():
    """The assignment's ring and its page, for tests that leave its nodes alone."""
    with spawning() as spawn:
        ring = Ring(spawn, 6)
        page = Page(spawn, ring.address)
        page.wait_for(WELL)
        yield page


@pytest.fixture
def example(spawn):
    """The assignment's ring and its page, for a test that harms them."""
    ring = Ring(spawn, 6)
    page = Page(spawn, ring.address)
    page.wait_for(WELL)
    return ring, page


def owner_of(key):
    id = zlib.adler32(key.encode()) % 32
    return next((node for node in CLOCKWISE if node >= id), CLOCKWISE[0])


# --- What it tells ---


def test_it_shows_each_node_with_its_fingers_and_its_lease(watched):
    state = watched.state()
    assert (state["m"], state["registry"]["state"]) == (5, "up")
    assert {node["id"]: node["fingers"] for node in state["nodes"]} == FINGERS
    for node in state["nodes"]:
        assert node["epoch"] == state["epoch"] and 0 < node["lease"] <= 2.5


def test_it_counts_the_keys_that_a_node_owns_and_holds(watched):
    assert watched.do("save", key="Kazan", text="a city", at=2)[1]["success"]
    held = {24: (1, 1), 25: (0, 1), 26: (0, 1)}
    wait_until(
        lambda: all(
            (node["own"], node["held"]) == held.get(node["id"], (0, 0))
            for node in watched.state()["nodes"]
        )
    )
    assert watched.do("remove", key="Kazan", at=2)[1]["success"]
    wait_until(lambda: all(node["held"] == 0 for node in watched.state()["nodes"]))


def test_a_killed_node_is_seen_at_once_and_then_dropped(example):
    ring, page = example
    with page.reading() as pictures:
        ring.node(16).kill()
        assert shows(pictures, 16, "gone")  # before the registry misses it
    page.wait_for(WELL | {16: "dropped"})
    told = "node 16 was silent, so the registry has dropped it: its ids are node 24's now"
    assert told in page.texts()
    page.wait_for({id: state for id, state in WELL.items() if id != 16})
    wait_until(lambda: page.texts()[-1] == "all nodes are in sync in epoch 7")


def test_a_hung_node_is_seen_as_silent_until_it_goes_on(example):
    ring, page = example
    with page.reading() as pictures:
        ring.node(25).pause()
        assert shows(pictures, 25, "silent")
    ring.node(25).resume()
    page.wait_for(WELL)


def test_joining_and_leaving_are_told(example, rpc):
    ring, page = example
    # A newcomer that copies its keys for long, at an address that answers.
    newcomer = rpc.Registration(ipaddr="127.0.0.1", port=ring.node(2).port, prepare=True)
    id = rpc.registry(ring).register(newcomer, timeout=10).id
    page.wait_for(WELL | {id: "joining"})
    node = ring.join()
    page.wait_for(WELL | {id: "joining", node.id: "in sync"})
    node.interrupt()
    wait_until(lambda: page.states().get(node.id, "left") == "left")
    address = f"127.0.0.1:{node.port}"
    told = [text for text in page.texts() if text.startswith(f"node {node.id} ")]
    assert f"node {node.id} at {address} joined: epoch 7" in told
    assert re.fullmatch(rf"node {node.id} has left: its ids are node \d+'s now", told[-1])
    assert f"node {id} at 127.0.0.1:{newcomer.port} has an id, and copies" in "".join(page.texts())


def test_a_registry_that_goes_away_and_comes_back_takes_no_node_off_the_page(example):
    ring, page = example
    ring.registry.kill()
    wait_until(lambda: page.state()["registry"]["state"] == "gone")
    assert page.states().keys() == WELL.keys()
    page.wait_for(WELL)
    ring.start_registry()
    wait_until(lambda: page.state()["registry"]["state"] == "up")
    assert page.states().keys() == WELL.keys()
    page.wait_for(WELL)
    assert "the registry answers again" in page.texts()
    assert not any("dropped" in text or "left" in text for text in page.texts())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_ten_pages_cost_a_node_less_than_three_percent_of_a_core(example):
    ring, page = example
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(page.reading()) for _ in range(10)]
        pids = [node.pid for node in ring.nodes]
        begun, used = time.monotonic(), sum(map(processor_time, pids))
        for _ in range(20):
            for each in pages:
                next(each)
        used = sum(map(processor_time, pids)) - used
        assert used / 6 < 0.03 * (time.monotonic() - begun)


def test_it_waits_for_a_registry_that_is_not_there_yet(spawn):
    ring = Ring(spawn, 1)
    ring.registry.kill()
    page = Page(spawn, ring.address)
    wait_until(lambda: page.state()["registry"]["state"] == "gone")
    assert page.states() == {}
    ring.start_registry()
    page.wait_for({24: "in sync"})


# --- What it does ---


@pytest.mark.parametrize("start", CLOCKWISE)
def test_a_walk_ends_at_the_keys_owner_in_at_most_m_hops(watched, start):
    for key in ("Kazan", "Minsk", "Moscow", "é", "", HOSTILE):
        status, answer = watched.do("find", key=key or "0", at=start)
        steps = answer["steps"]
        assert status == 200 and not answer["success"]
        assert steps[0]["node"] == start and steps[-1]["next"] is None and len(steps) <= 6
        assert steps[-1]["node"] == answer["owner"] == owner_of(key or "0")
        for step, following in zip(steps, steps[1:], strict=False):
            assert step["next"] == following["node"] in FINGERS[step["node"]]


def test_a_walk_goes_around_a_dead_finger(example):
    ring, page = example
    ring.node(16).kill()
    _, answer = page.do("find", key="Kazan", at=2)  # id 22, on 24
    assert [(step["node"], step["next"], step["lost"]) for step in answer["steps"]] == [
        (2, 16, True),
        (2, 24, False),
        (24, None, False),
    ]
    _, answer = page.do("find", key="Kazan", at=24)
    assert [step["node"] for step in answer["steps"]] == [24]


def test_a_dead_node_that_is_asked_is_named(example):
    ring, page = example
    ring.node(16).kill()
    _, answer = page.do("find", key="Kazan", at=16)
    assert [step["text"] for step in answer["steps"]] == ["node 16 does not answer"]
    assert answer["message"] == "False, node 16 is unavailable"


def test_keys_are_saved_found_and_removed_and_text_stays_as_it_is(watched):
    for key, text in (("Minsk", "a\ncity"), (HOSTILE, HOSTILE), ("Москва", "…")):
        node = owner_of(key)
        _, saved = watched.do("save", key=key, text=text, at=16)
        assert saved["message"] == f"True, {key} is saved in node {node}"
        _, again = watched.do("save", key=key, text=text, at=25)
        assert again["message"] == f"False, {key} is already exist in node {node}"
        _, found = watched.do("find", key=key, at=31)
        assert (found["message"], found["text"]) == (saved["message"], text)
        _, removed = watched.do("remove", key=key, at=2)
        assert removed["message"] == f"True, {key} is removed from node {node}"


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"key": "", "at": 2}, "a key of"),
        ({"at": 2}, "a key of"),
        ({"key": 5, "at": 2}, "a key of"),
        ({"key": "x" * 201, "at": 2}, "a key of"),
        ({"key": "\ud800", "at": 2}, "surrogates"),
        ({"key": "x", "at": 3}, "no such node"),
        ({"key": "x", "at": "2"}, "no such node"),
        ({"key": "x"}, "no such node"),
    ],
)
@pytest.mark.parametrize("action", ["find", "remove"])
def test_wrong_arguments_are_refused_with_a_reason(watched, action, arguments, reason):
    status, answer = watched.do(action, **arguments)
    assert status == 400 and reason in answer["error"]


@pytest.mark.parametrize("text", ["", None, 5, "x" * 1001])
def test_a_save_needs_a_text(watched, text):
    status, answer = watched.do("save", key="x", at=2, text=text)
    assert status == 400 and "a text of" in answer["error"]


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_another_sites_page_can_remove_nothing(watched, header):
    assert watched.do("save", key="mine", text="x", at=2)[1]["success"]
    status, _ = do(watched.port, "remove", {"key": "mine", "at": 2}, **header)
    assert status == 403
    assert watched.do("remove", key="mine", at=2)[1]["success"]


# --- The script ---


def test_a_taken_port_is_one_line_and_a_signal_ends_it_at_once(spawn, watched):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        second = spawn("lab05_chord/watch.py", "127.0.0.1:1", "--port", port)
        assert second.wait() == 1
    assert second.err.count("\n") == 1 and f"127.0.0.1:{port}" in second.err
    page = Page(spawn, "127.0.0.1:1")
    page.state()
    page.script.interrupt()
    assert page.script.wait(2) == 0 and page.script.err == ""


def test_the_page_takes_text_as_text_only():
    page = (ROOT / "lab05_chord/watch.html").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)  # nothing comes from elsewhere
