"""Fixtures of the tests of lab 6."""

import asyncio
import contextlib

import pytest

from tests.lab06.cluster import Cluster
from tests.lab06.driven import Driven, protocol
from tests.lab06.page import watch
from tests.support.relays import TcpRelay


@pytest.fixture
def start(spawn, tmp_path):
    return lambda size, *options, **more: Cluster(spawn, tmp_path, size, *options, **more)


@pytest.fixture
def relay():
    with contextlib.ExitStack() as relays:
        yield lambda port: relays.enter_context(TcpRelay(port))


@pytest.fixture
def play():
    """Play a scene with a leader; `write` and `read` begin with requests and return their tasks."""

    async def run(scene, leads, arguments) -> None:
        node, tasks = Driven(**arguments), []
        if leads:
            node.lead()

        def begin(*requests) -> list[asyncio.Task]:
            tasks.extend(map(asyncio.create_task, requests))
            return tasks[-len(requests) :]

        commit, confirm = node.waiting.commit, node.waiting.confirm_read
        node.write = lambda *keys: begin(*(commit(protocol.Command(key, "1")) for key in keys))
        node.read = lambda count: begin(*(confirm() for _ in range(count)))
        try:
            await scene(node)
        finally:
            tasks.extend(node._tasks)
            await asyncio.sleep(0)  # each begins: what is never awaited is an error
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return lambda scene, leads=True, **arguments: asyncio.run(run(scene, leads, arguments))


@pytest.fixture
def watched(spawn, tmp_path):
    """Start a cluster and its watch.py; return both, and the page's port."""

    def start(size=3, **options):
        cluster = Cluster(spawn, tmp_path, size, **options)
        return cluster, *watch(spawn, cluster)

    return start
