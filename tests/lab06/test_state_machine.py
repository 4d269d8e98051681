"""Lab 6, the state machine: sessions of clients (§8), each command of which counts once."""

from tests.lab06.core import Entry
from tests.support.harness import ROOT, load

state_machine = load(ROOT / "lab06_raft/state_machine.py")


def apply(machine, *commands):
    for index, command in enumerate(commands, 1):
        machine.apply(index, Entry(1, *command))


def test_a_number_of_a_session_is_carried_out_once_and_never_after_a_later_one():
    machine = state_machine.StateMachine({}, {})
    done = [("k", "1", 7, 1), ("k", "1", 7, 1), ("k", "2", 7, 2), ("k", "1", 7, 1)]
    apply(machine, *done, ("k", "3", 8, 1))
    assert (machine.values, machine.sessions) == ({"k": "3"}, {7: 2, 8: 1})
    entries = [Entry(1, *command) for command in done]
    verdicts = [machine.has_done(index, entry) for index, entry in enumerate(entries, 1)]
    assert verdicts == [True, False, True, False]


def test_commands_without_a_session_are_carried_out_each_time():
    machine = state_machine.StateMachine({}, {})
    apply(machine, ("k", "1"), ("k", "2"), ("k", "1"))
    assert machine.values == {"k": "1"}


def test_a_repeated_number_is_answered_as_before():
    machine = state_machine.StateMachine({}, {})
    apply(machine, ("k", "1", 7, 1), ("k", "1", 7, 1))
    assert machine.has_done(2, Entry(1, "k", "1", 7, 1))


def test_the_session_used_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(state_machine, "MAX_SESSIONS", 2)
    machine = state_machine.StateMachine({}, {})
    apply(machine, ("k", "1", 1, 1), ("k", "1", 2, 1), ("k", "2", 1, 2), ("k", "1", 3, 1))
    assert list(machine.sessions.items()) == [(1, 2), (3, 1)]


def test_what_a_session_has_skipped_is_no_change():
    machine = state_machine.StateMachine({}, {})
    commands = [("k", "2", 7, 2), ("k", "1", 7, 1), ("j", "1")]
    apply(machine, *commands)
    entries = [Entry(1, *command) for command in commands]
    assert machine.take_changes(1, entries) == ({"k": "2", "j": "1"}, {7: 2})
