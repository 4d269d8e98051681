"""Lab 5, what clients and faults may do to a node before it is in the ring."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from tests.lab05.parts import FOUR, ScriptedHost, member, messages, serving_node, view_of
from tests.lab05.ring import Ring
from tests.support.harness import ROOT, load, pass_time, wait_until
from tests.support.ports import free_port, listens

wire = load(ROOT / "lab05_chord/wire.py")


def test_writes_at_nodes_that_have_yet_to_join_are_told_apart(spawn, rpc):
    ring = Ring(spawn, 1)
    ring.registry.kill()
    newcomers = [ring.start_node(free_port()) for _ in range(2)]
    wait_until(lambda: all(listens(node.port) for node in newcomers))
    with ThreadPoolExecutor() as pool:
        saves = [
            pool.submit(
                rpc.node(node).save, rpc.SaveRequest(key="k", text=str(node.port)), timeout=20
            )
            for node in newcomers
        ]
        pass_time(0.3)  # both are under way
        ring.start_registry()
        saved = [save.result().success for save in saves]
    assert sorted(saved) == [False, True]
    text = rpc.node(ring.nodes[0]).get(rpc.KeyRequest(key="k"), timeout=10).text
    assert text == str(newcomers[saved.index(True)].port)


def test_an_operation_before_the_node_joins_sends_no_heartbeat():
    """The registry would not know it, and the node would join a second time."""
    node = member.Member(ScriptedHost(), "host", 1, "registry")
    node.host.limit = 1000
    node.host.book = SimpleNamespace(tick=lambda: None, view=view_of([]))
    assert asyncio.run(node.operate(messages.Kind.FIND, "k")) is None
    asyncio.run(node.heartbeat())
    assert node.host.asked == []


def test_what_was_copied_for_an_attempt_to_join_that_failed_does_not_count():
    """A key may have been removed since, and its tombstone swept."""
    node = serving_node()
    node.sync.copied.put(messages.Record("Kazan", 2**40, "x"))
    reply = messages.Registered(2, 5, view=view_of(FOUR[1:]))
    admitted = messages.Registered(2, 5, view=view_of([*FOUR[1:], 2], epoch=2))
    node.host.answers = {
        "register": lambda address: reply if node.host.request.prepare else admitted,
        "digest": lambda address: messages.Digest(True),
    }
    assert asyncio.run(node.join()).id == 2
    assert "Kazan" not in node.store.records


def test_the_clock_goes_on_while_the_machine_sleeps(monkeypatch):
    clocks = {getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC): 7.0}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)
    assert wire.Threads.now() == 7.0


def test_a_leaving_node_counts_its_keys_while_no_rule_runs():
    threads = wire.Threads()

    class Records(dict):
        def values(self):
            assert threads._lock.locked()
            return super().values()

    store = SimpleNamespace(records=Records(a=messages.Record("a", 1, "x")))
    count_keys = load(ROOT / "lab05_chord/Node.py").count_keys
    assert count_keys(threads, SimpleNamespace(store=store)) == 1
