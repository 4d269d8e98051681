"""A simulated run as a page: what happened stands in it, up to a failure."""

import json
import re

import pytest

from tests import sim_picture
from tests.lab06 import broken, explore_log, explore_raft
from tests.sim_raft_core.properties import Violation
from tests.sim_raft_servers import faults


def recorded(path) -> dict:
    data = re.search(
        r'<script type="application/json" id="recorded">(.*?)</script>', path.read_text()
    )
    return json.loads(data[1])


def test_a_run_of_lab_6_has_its_elections_messages_and_dead_servers(tmp_path, capsys):
    out = tmp_path / "run.html"
    assert sim_picture.main(["6", "7", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: seed 7: no property was violated\n"
    events = recorded(out)["events"]
    notes = "\n".join(note["text"] for event in events for note in event["notes"])
    assert re.search(r"Server \d became leader in term \d+", notes)
    assert re.search(r"Server \d is not running", notes)
    messages = [message for event in events for message in event["messages"]]
    kinds = {message["kind"] for message in messages}
    assert {"RequestVoteRequest", "RequestVoteReply", "AppendEntriesRequest"} <= kinds
    assert any(message["received"] is None for message in messages)  # some are lost
    moments = [event["now"] for event in events]
    assert moments == sorted(moments) and moments[-1] > faults.FAULTY


def test_a_run_that_fails_is_drawn_up_to_its_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(faults, "LATE", 0.0)
    monkeypatch.setattr(faults, "CALM", 0.0)
    out = tmp_path / "run.html"
    sim_picture.main(["6", "7", "--out", str(out)])
    assert "no leader, or no agreement" in recorded(out)["title"]
    assert recorded(out)["events"][-1]["now"] == pytest.approx(faults.FAULTY, abs=0.2)
    assert faults.violation(7).endswith("make sim-picture SEED=7")


def test_a_run_of_lab_5_has_nodes_that_come_and_go(tmp_path):
    out = tmp_path / "run.html"
    sim_picture.main(["5", "7", "--only", "two crashes", "--out", str(out)])
    events = recorded(out)["events"]
    seen = {node["state"] for event in events for node in event["nodes"]}
    assert {"in sync", "syncing", "gone"} <= seen
    last = events[-1]
    assert all(node["state"] == "in sync" for node in last["nodes"])
    assert len({node["id"] for node in last["nodes"]}) == len(last["nodes"]) > 3
    assert any(event["text"].endswith(": gone") for event in last["events"])


def leaders(event):
    return [(s["term"], s["id"]) for s in event["servers"] if s.get("role") == "leader"]


@pytest.mark.parametrize("mutant", broken.ELECTIONS)
def test_an_election_that_breaks_a_mutant_is_drawn_from_its_first_event(mutant):
    events, end = sim_picture.record_explored("elections", mutant)
    assert re.fullmatch(r"a second (leader|vote of [abc]) in term \d", end)
    assert leaders(events[0]) == [] and len(events) >= 2
    for message in [message for event in events for message in event["messages"]]:
        assert message["sent"] < message["received"] and message["from"] != message["to"]


@pytest.mark.parametrize("mutant, properties", broken.LOGS)
def test_an_order_that_breaks_a_log_is_drawn_with_the_messages_that_it_needs(mutant, properties):
    events, end = sim_picture.record_explored("log", mutant)
    assert re.match(properties, end)
    assert events[-1]["servers"][0]["last_index"] > 0
    terms = {term for event in events for term, _ in leaders(event)}
    assert terms == {1, 2} or "Log Matching" in end
    messages = [message for event in events for message in event["messages"]]
    assert {"RequestVoteRequest", "RequestVoteReply"} <= {message["kind"] for message in messages}
    assert all(message["sent"] < message["received"] for message in messages)


def test_rules_that_no_order_of_events_breaks_have_no_picture(tmp_path, capsys):
    out = tmp_path / "run.html"
    assert sim_picture.main(["6", "elections", "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith("no order of events violates a property\n")
    assert not out.exists()


def test_a_violation_that_is_explored_names_the_command_that_draws_it():
    table = explore_raft.TransitionTable(broken.DoubleVote, last_term=2)
    with pytest.raises(Violation, match="make sim-picture SEED=elections$"):
        explore_raft.explore(table)
    with pytest.raises(Violation, match="make sim-picture SEED=log$"):
        explore_log.Exploration(broken.ShorterLogGetsVotes, last_term=2, commands=1).run()


def test_no_text_of_a_run_ends_the_data_in_the_page(tmp_path):
    html = tmp_path / "watch.html"
    html.write_text("<p></p><script>start()</script>")
    text = sim_picture.page(html, "</script><img src=x onerror=alert(1)>", [])
    assert text.count("</script>") == 2 and "<img" not in text
    (tmp_path / "run.html").write_text(text)
    assert recorded(tmp_path / "run.html")["title"] == "</script><img src=x onerror=alert(1)>"


def test_a_scenario_that_there_is_not_is_a_usage_error(capsys):
    with pytest.raises(SystemExit):
        sim_picture.main(["5", "7", "--only", "no such"])
    assert "no scenario has 'no such' in its name" in capsys.readouterr().err
