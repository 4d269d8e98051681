"""Lab 6, what the live page makes of the servers' reports: pairs, losses, states and words."""

import pytest

from tests.support.harness import ROOT, load

timeline = load(ROOT / "lab06_raft/timeline.py")
Timeline = timeline.Timeline


def state(time, role="follower", term=1, voted_for=None, **more):
    return {"time": time, "role": role, "term": term, "voted_for": voted_for} | {
        "suspended": False,
        **more,
    }


def record(time, sender, to, received, kind="AppendEntriesRequest", term=1, entries=0):
    return {"time": time, "received": received, "kind": kind, "from": sender, "to": to} | {
        "term": term,
        "entries": entries,
        "success": False,
    }


def story(*reports, now=2.0, size=2):
    """Return the event after these reports: (server, states, traffic)."""
    told = Timeline(dict.fromkeys(range(size), ""), now)
    for server, states, traffic in reports:
        told.report(server, states, traffic, now)
    return told.event(now)


def pairs(event):
    return [(message["sent"], message["received"]) for message in event["messages"]]


# --- Messages ---


def test_a_receipt_belongs_to_the_latest_sending_before_it():
    sent = [record(time, 0, 1, False) for time in (1.50, 1.60, 1.70)]
    received = [record(1.65, 0, 1, True)]
    event = story((1, [state(1.8)], received), (0, [state(1.8)], sent), now=2.0)
    assert pairs(event) == [(1.60, 1.65)]


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "RequestVoteRequest"},
        {"term": 2},
        {"entries": 1},
        {"sender": 1, "to": 0},
    ],
    ids=str,
)
def test_messages_that_differ_are_no_pair(other):
    sent, received = [record(1.0, 0, 1, False)], [record(1.1, **{"sender": 0, "to": 1} | other,
                                                         received=True)]  # fmt: skip
    event = story((0, [state(1.0)], sent), (1, [state(1.0)], received))
    assert sorted(pairs(event), key=str) == [(1.0, None), (None, 1.1)]


def test_a_receipt_waits_for_the_report_of_its_sending():
    told = Timeline({0: "", 1: ""}, 1.0)
    told.report(1, [state(1.0)], [record(1.0, 0, 1, True)], 1.0)
    told.report(0, [state(1.0)], [record(0.8, 0, 1, False)], 1.0)  # an earlier one, lost
    assert pairs(told.event(1.05)) == []
    told.report(0, [state(1.1)], [record(0.999, 0, 1, False)], 1.1)
    assert pairs(told.event(1.2)) == [(0.999, 1.0)]
    assert pairs(told.event(1.5)) == [(0.8, None)]


def test_the_receipt_of_a_sender_that_is_gone_is_told_without_its_sending():
    told = Timeline({0: "", 1: ""}, 1.0)
    told.report(1, [state(1.0)], [record(1.0, 0, 1, True)], 1.0)
    assert pairs(told.event(1.25)) == []
    assert pairs(told.event(1.35)) == [(None, 1.0)]
    assert not told._received and not told._sent


def test_an_event_has_a_bounded_number_of_messages_and_counts_the_others():
    sent = [record(1.0, 0, 1, False, term=term) for term in range(1000)]
    event = story((0, [state(1.0)], sent))
    assert (len(event["messages"]), event["left_out"]) == (300, 700)


# --- Servers ---


def statuses(told, now):
    return [server["status"] for server in told.event(now)["servers"]]


def test_a_server_that_reports_no_more_does_not_answer_after_a_third_of_a_second():
    told = Timeline({0: "", 1: ""}, 1.0)
    assert statuses(told, 1.1) == ["unknown", "unknown"]
    told.report(0, [state(1.2)], [], 1.2)
    assert statuses(told, 1.25) == ["", "unknown"]
    event = told.event(1.55)
    assert [server["status"] for server in event["servers"]] == ["no answer", "no answer"]
    assert event["marks"][:1] == [
        {"server": 0, "time": 1.2, "status": "no answer", "role": "follower", "term": 1}
    ]
    assert event["notes"][-1] == {"time": 1.2, "text": "Server 0 does not answer"}
    told.report(0, [state(1.6)], [], 1.6)
    assert told.event(1.6)["notes"][0]["text"] == "Server 0 is back: follower in term 1"


def test_a_server_whose_address_refuses_is_not_running_and_starts_anew():
    told = Timeline({0: ""}, 1.0)
    told.report(0, [state(1.0, "leader", 7)], [], 1.0)
    told.gone(0)
    assert statuses(told, 1.01) == ["not running"]
    told.report(0, [state(1.1, term=0)], [], 1.1)
    texts = [note["text"] for note in told.event(1.1)["notes"]]
    assert texts == ["Server 0 has started again: follower in term 0"]


def test_a_suspended_server_is_told_from_one_that_hangs():
    told = Timeline({0: ""}, 1.0)
    told.report(0, [state(1.0, suspended=True)], [], 1.0)
    event = told.event(1.1)
    assert event["servers"][0]["status"] == "suspended"
    assert event["notes"][0]["text"] == "Server 0 is suspended"


@pytest.mark.parametrize(
    "traffic, status",
    [
        ([record(1.0, 1, 0, True), record(1.0, 0, 1, False)], "cut off"),
        ([record(1.0, 0, 1, False), record(1.0, 1, 0, True)], ""),  # no one had to answer
        ([], ""),
    ],
)
def test_a_server_that_sends_and_hears_nothing_is_cut_off(traffic, status):
    told = Timeline({0: ""}, 1.0)
    told.report(0, [state(1.0)], traffic, 1.0)
    for now in (1.1, 1.2, 1.3, 1.4, 1.5):
        told.report(0, [state(now)], [], now)
        found = statuses(told, now)
    assert found == [status]


def test_a_server_that_was_suspended_is_to_hear_others_only_from_then_on():
    told = Timeline({0: ""}, 1.0)
    told.report(0, [state(1.0, suspended=True)], [record(1.0, 0, 1, False)], 1.0)
    for now in (1.2, 1.4, 1.6):
        told.report(0, [state(now, suspended=True)], [], now)
        told.event(now)
    told.report(0, [state(1.7)], [], 1.7)
    assert statuses(told, 1.7) == [""]


# --- Words ---


def test_an_election_is_told_in_the_order_of_time():
    event = story(
        (1, [state(1.0, term=0), state(1.3, term=1, voted_for=0)], []),
        (
            0,
            [
                state(1.0, term=0),
                state(1.2, "candidate", 1, voted_for=0),
                state(1.4, "leader", 1, voted_for=0),
                state(1.5, "follower", 2),
            ],
            [],
        ),
    )
    assert [note["text"] for note in event["notes"]] == [
        "Server 0 stands for election in term 1",
        "Server 1 votes for server 0 in term 1",
        "Server 0 became leader in term 1",
        "Server 0 leads no more: term 2",
        "Server 0 runs: follower in term 2",
        "Server 1 runs: follower in term 1",
    ]
    marks = [(m["time"], m["role"], m["term"]) for m in event["marks"] if m["server"] == 0]
    assert marks[:4] == [
        (1.0, "follower", 0),
        (1.2, "candidate", 1),
        (1.4, "leader", 1),
        (1.5, "follower", 2),
    ]


def test_a_server_that_is_cut_off_is_not_quoted_at_each_of_its_elections():
    told = Timeline({0: ""}, 1.0)
    told.report(0, [state(1.0, term=0)], [record(1.0, 0, 1, False)], 1.0)
    told.report(0, [state(1.5, term=0)], [], 1.5)
    told.event(1.5)
    told.report(0, [state(1.6, "candidate", 1, voted_for=0)], [], 1.6)
    event = told.event(1.6)
    assert event["notes"] == [] and event["marks"][0]["status"] == "cut off"
