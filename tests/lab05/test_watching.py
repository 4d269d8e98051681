"""What nodes and the registry of lab 5 tell the live page."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.lab05.parts import FakeHost, chord, membership, messages
from tests.lab05.ring import Ring
from tests.support.harness import ROOT, load, wait_until
from tests.support.ports import listens


def test_time_for_which_the_watcher_itself_was_stopped_makes_no_node_silent(monkeypatch):
    watching = load(ROOT / "lab05_chord/watching.py")
    times = iter([0.0, 0.1, 5.0])
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: next(times)))
    clock = watching.Clock()
    clock.tick()
    assert clock.now == 0.1
    clock.tick()
    assert clock.now - 0.1 < watching.QUIET_TIMEOUT


def test_a_node_that_is_asked_for_no_numbers_counts_no_keys(spawn, rpc):
    ring = Ring(spawn, 1)
    node = rpc.node(ring.nodes[0])
    before = node.inspect(rpc.Inspection(), timeout=5)
    assert node.save(rpc.SaveRequest(key="a", text="b"), timeout=5).success
    after = node.inspect(rpc.Inspection(), timeout=5)
    brief = node.inspect(rpc.Inspection(without_counts=True), timeout=5)
    assert (before.own_keys, after.own_keys, brief.own_keys) == (0, 1, 0)
    assert before.changes != after.changes == brief.changes


def test_a_node_that_waits_for_its_registry_says_that_it_is_not_in_the_ring(spawn, rpc):
    ring = Ring(spawn, 0)
    ring.registry.pause()
    node = ring.start_node()
    wait_until(lambda: listens(node.port))
    with pytest.raises(rpc.error, match="not in the ring yet") as refused:
        rpc.node(node).inspect(rpc.Inspection(), timeout=5)
    assert refused.value.code().name == "FAILED_PRECONDITION"


def test_the_registry_lists_a_newcomer_as_long_as_its_id_is_kept(rpc):
    host = FakeHost()
    host.book = book = membership.Membership(host, 5)
    book.open = True
    request = messages.Registration("host", 1, prepare=True)
    id = asyncio.run(book.register(request)).id
    assert book.joining() == [chord.Node(id, "host:1")]
    assert asyncio.run(book.register(replace(request, wish=id, prepare=False))).id == id
    assert book.joining() == []
    asyncio.run(book.register(replace(request, port=2)))
    host.time += membership.RESERVATION_TIMEOUT
    assert book.joining() == []


def test_a_walk_names_the_node_that_has_answered_in_the_end():
    watch = load(ROOT / "lab05_chord/watch.py")
    members = tuple(watch.Node(id, f"host:{id}") for id in (2, 16, 25))
    walk = watch.Walk(watch.View(7, 5, members), "Kazan")
    walk.steps = [{"node": 16, "next": None, "lost": False, "text": "its successor is dropped"}]
    walk.end(members[0], 25)
    assert [(step["node"], step["next"]) for step in walk.steps[1:]] == [(16, 25), (25, None)]
    assert walk.steps[-1]["text"] == "node 25 owns id 22 now"
    walk.end(members[0], 25)
    assert len(walk.steps) == 3
