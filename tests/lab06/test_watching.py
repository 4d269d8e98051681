"""What a watcher of a lab 6 server is told."""

import asyncio

from tests.lab06.driven import Driven, protocol
from tests.support.harness import ROOT, load

watching = load(ROOT / "lab06_raft/watching.py")


def test_a_watcher_is_told_each_state_and_message_between_two_reports():
    async def scene():
        node = Driven()
        watcher = watching.Watcher(node)
        node.watchers = (watcher,)
        watcher.report()
        node.lead()
        node.suspend(9)
        report = watcher.report()
        roles = [(state.role, state.suspended) for state in report.states]
        assert roles == [
            ("candidate", False),
            ("leader", False),
            ("leader", True),
            ("leader", True),  # of now
        ]
        asked = [(record.kind, record.to) for record in report.traffic]
        assert asked[:2] == [("RequestVoteRequest", 1), ("RequestVoteRequest", 2)]
        assert not any(record.received for record in report.traffic)
        again = watcher.report()
        assert len(again.states) == 1 and not again.traffic

    asyncio.run(scene())


def test_a_watcher_that_does_not_read_costs_bounded_memory():
    async def scene():
        node = Driven()
        watcher = watching.Watcher(node)
        node.watchers = (watcher,)
        request = protocol.AppendEntriesRequest(1, 1, 0, 0, (), 0)
        for _ in range(watching.MAX_RECORDS + 10):
            await node.answer(node.raft.append_entries, request)
        assert len(watcher.report().traffic) == watching.MAX_RECORDS

    asyncio.run(scene())
