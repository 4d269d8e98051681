"""What the explorations of lab 6 share: timers, and a run as the live page shows it."""

from typing import NamedTuple

from tests.support.harness import ROOT, load

watch = load(ROOT / "lab06_raft/watch.py")
watching = load(ROOT / "lab06_raft/watching.py")

INTERVAL = 0.5  # s on the page between two events; an exploration knows only their order


def timeout() -> float:
    """Return the span of every timer; how long it is does not matter to an exploration."""
    return 0.2


class Step(NamedTuple):
    """One event at one server.

    Args:
        server: its number. received: the message, or None for the timer and for a command.
        core: the server afterwards. sent: the messages that it then sends.
            A message is (target, call, reply or None).
    """

    server: int
    received: tuple | None
    core: object
    sent: list[tuple]


def events(steps: list[Step], cores: list) -> list[dict]:
    """Return what the page has to be told of a series of events.

    Args:
        cores: of the servers, before the first one.
    """
    numbers = {core.node_id: number for number, core in enumerate(cores)}
    timeline = watch.Timeline({n: f"server {n}" for n in range(len(cores))}, 0.0)
    cores, sent_at, now = list(cores), {}, 0.0

    def look() -> dict:
        for number, core in enumerate(cores):
            timeline.report(number, [_state(core, numbers, now)], [], now)
        return timeline.event(now)

    told = [look()]
    for step in steps:
        now += INTERVAL
        cores[step.server] = step.core
        sent_at |= {message: now for message in step.sent if message not in sent_at}
        told.append(look())
        if step.received:
            sent = {"sent": sent_at[step.received], "received": now}
            told[-1]["messages"].append({**_message(step.received, numbers), **sent})
    now += INTERVAL  # so that what the last one has led to is seen
    return [*told, look()]


def _state(core, numbers: dict, now: float) -> dict:
    return {
        "time": now,
        "role": core.role.value,
        "term": core.current_term,
        "voted_for": numbers.get(core.voted_for),
        "leader_id": numbers.get(core.leader_id),
        "timer_rest": 0.0,
        "first_index": core.log.snapshot_index + 1,
        "last_index": core.log.last_index,
        "commit_index": core.commit_index,
        "suspended": False,
    }


def _message(message: tuple, numbers: dict) -> dict:
    target, call, reply = message
    content = reply or call.request
    return {
        "kind": type(content).__name__,
        "from": numbers[call.peer if reply else watching.sender(call.request)],
        "to": numbers[target],
        "term": content.term,
        "entries": len(getattr(content, "entries", ())),
        "success": watching.is_success(content),
    }
