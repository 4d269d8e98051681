"""Lab 6, our second half with real servers: commands, durability, cut lines, hostile callers."""

import contextlib
import io
import random
import re
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab06.cluster import Cluster, messages, rpc, services
from tests.support.harness import ROOT, Failure, free_port, listens, load, wait_until
from tests.support.relays import TcpRelay

CLIENT = "lab06_raft/client.py"
SERVER = "lab06_raft/server.py"
TROUBLED = "tests/lab06/troubled.py"
read_config = load(ROOT / "lab06_raft/config.py").read_config


@pytest.fixture
def start(spawn, tmp_path):
    return lambda size, *options, **more: Cluster(spawn, tmp_path, size, *options, **more)


@pytest.fixture
def relay():
    with contextlib.ExitStack() as relays:
        yield lambda port: relays.enter_context(TcpRelay(port))


def test_a_client_reads_what_it_wrote_at_any_server(spawn, start):
    cluster = start(3)
    follower = cluster.followers()[0]
    client = spawn(CLIENT)
    for n in (cluster.leader(), follower):
        for line in (f"connect 127.0.0.1:{cluster.ports[n]}", f"setval k{n} ü-{n}", f"getval k{n}"):
            client.send(line)
        client.expect(f"^True\nü-{n}$")
    client.send("getval nothing")
    client.expect("^None$")
    client.send("quit")
    assert client.wait() == 0


def test_the_client_answers_every_line_with_one(spawn):
    client = spawn(CLIENT)
    client.write("\n  \nfoo\nhelp\ngetleader\nconnect\nconnect x y\nsuspend\nsuspend -1\n")
    client.write("setval a\ngetval\nconnect 127.0.0.1 0x1\n\udcff\n")
    client.close_stdin()
    assert client.wait() == 0
    commands = "commands: connect ADDRESS PORT, getleader, suspend SECONDS, "
    commands += "setval KEY VALUE, getval KEY, help, exit"
    assert client.lines == [
        "The client starts",
        f"Unknown command: foo; {commands}",
        commands,
        "Not connected: connect ADDRESS PORT comes first",
        "usage: connect ADDRESS PORT",
        "usage: connect ADDRESS PORT",
        "usage: suspend SECONDS",
        "usage: suspend SECONDS",
        "usage: setval KEY VALUE",
        "usage: getval KEY",
        "usage: connect ADDRESS PORT",
        f"Unknown command: \N{REPLACEMENT CHARACTER}; {commands}",
        "The client ends",
    ]
    assert client.err == ""


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_ctrl_d_end_the_client_on_a_terminal(key, spawn):
    client = spawn(CLIENT, tty=True)
    client.expect("> ")

    def has_ended():  # readline misses a Ctrl-C in the very moment in which it begins to wait
        with contextlib.suppress(OSError):
            client.write(key)
        return "\nThe client ends\n" in client.out

    wait_until(has_ended, "the end of the client")
    assert client.wait() == 0


def test_sigterm_ends_client_and_server(spawn, start):
    client, server = spawn(CLIENT), start(1).servers[0]
    client.expect("starts")
    server.expect("starts")
    for script in (client, server):
        script.signal(signal.SIGTERM)
        assert (script.wait(), script.err) == (0, "")


def test_a_value_survives_the_leader_that_took_it(start):
    cluster = start(5)
    follower = cluster.followers()[0]
    cluster.write("a", "1", through=[follower])
    old = cluster.leader()
    cluster.servers[old].kill()
    wait_until(lambda: cluster.value(cluster.leader(besides=old), "a") == "1", "the value")
    cluster.start(old)
    wait_until(lambda: cluster.value(old, "a") == "1", "the value at the restarted server")


def test_with_data_dir_term_vote_and_values_survive_kill_9_of_all(start):
    cluster = start(3, "--data-dir", "data")
    cluster.followers()  # all three are there
    for n in range(20):
        wait_until(lambda n=n: cluster.setval(cluster.leader(), f"k{n}", str(n)))
    for server in cluster.servers:
        server.kill()
    terms = [term for _, term in cluster.states()]
    assert min(terms) > 0
    for n in range(3):
        again = cluster.start(n)  # what was announced had been saved
        assert int(again.expect(r"I am a follower. Term: (\d+)")[1]) >= terms[n]
    for n in range(20):
        wait_until(lambda n=n: cluster.value(cluster.leader(), f"k{n}") == str(n))
    assert max(term for _, term in cluster.states()) > max(terms)


def test_with_data_dir_a_vote_is_not_given_again_after_kill_9(start):
    cluster = start(3, "--data-dir", "data")
    for server in cluster.servers[1:]:
        server.kill()
    ask = {"last_log_index": 9, "last_log_term": 2**30, "term": 2**30}

    def votes_for(candidate: int) -> bool:
        request = messages.RequestVoteRequest(candidate_id=candidate, **ask)
        return wait_until(lambda: cluster.call(0, "RequestVote", request), "an answer").result

    assert votes_for(1)
    assert not votes_for(1)
    cluster.servers[0].kill()
    cluster.start(0)
    assert not votes_for(2)


def test_without_data_dir_a_start_begins_at_term_0(start):
    cluster = start(3)
    follower = cluster.followers()[0]
    cluster.servers[follower].kill()
    cluster.start(follower).expect("^I am a follower. Term: 0$")


def test_two_servers_never_share_one_data_file(spawn, start, tmp_path):
    cluster = start(1, "--data-dir", tmp_path / "data")
    cluster.leader()
    (tmp_path / "other.conf").write_text(f"0 127.0.0.1 {free_port()}\n")
    second = spawn(SERVER, 0, "--config", tmp_path / "other.conf", "--data-dir", tmp_path / "data")
    assert second.wait() == 1
    assert second.err.splitlines() == [
        f"server.py: {tmp_path / 'data'}: another process is using it"
    ]


def test_a_broken_data_file_is_one_line_and_exit_1(start):
    cluster = start(1, "--data-dir", "data")
    cluster.leader()
    cluster.servers[0].kill()
    for path in (cluster.folders[0] / "data").iterdir():  # the write-ahead log could mend the rest
        path.write_bytes(b"no database at all" * 300)
    again = cluster.start(0)
    assert again.wait() == 1
    assert again.err == "server.py: data: it is damaged: raft.sqlite3 cannot be read\n"


def test_a_data_dir_that_is_a_file_is_one_line_and_exit_1(spawn, tmp_path):
    (tmp_path / "config.conf").write_text(f"0 127.0.0.1 {free_port()}\n")
    server = spawn(SERVER, 0, "--data-dir", "config.conf", cwd=tmp_path)
    assert server.wait() == 1
    assert server.err == "server.py: [Errno 17] File exists: 'config.conf'\n"


def test_a_data_directory_of_another_server_is_refused_in_one_line(spawn, start):
    cluster = start(3, "--data-dir", "data")
    cluster.servers[2].expect("The server starts")
    cluster.servers[2].kill()
    data = cluster.folders[2] / "data"
    cluster.servers[1].kill()
    other = spawn(SERVER, 1, "--config", cluster.folders[2] / "config.conf", "--data-dir", data)
    assert other.wait() == 1
    complaint = "it belongs to server 2 of the servers 0 1 2, not to server 1 of the servers 0 1 2"
    assert other.err == f"server.py: {data}: {complaint}\n"


@pytest.mark.parametrize("fault", ["kill", "stop", "suspend"])
def test_a_lost_follower_delays_no_command(fault, start):
    cluster = start(3)
    follower, other = cluster.followers()
    leader = cluster.leader()
    recover = cluster.break_down(follower, fault)
    durations = []
    for n in range(20):
        begin = time.monotonic()
        cluster.write("k", str(n), through=[leader, other])
        durations.append(time.monotonic() - begin)
    recover()
    assert sorted(durations)[10] < 0.1
    wait_until(lambda: cluster.value(follower, "k") == "19", "the value at the follower")


def test_a_majority_goes_on_and_a_cut_off_leader_commits_nothing(start, relay):
    cluster = start(3, relay=relay)
    cluster.followers()
    cluster.write("k", "before")
    old = cluster.leader()
    cluster.isolate(old)
    cluster.write("k", "after", through=[n for n in range(3) if n != old])
    assert cluster.setval(old, "k", "lost") is False
    assert not cluster.getval(old, "k").confirmed
    assert cluster.states()[old][0] == "leader"  # it cannot know
    cluster.heal()
    cluster.followers()
    for n in range(3):
        wait_until(lambda n=n: cluster.value(n, "k") == "after", f"the value at server {n}")


def test_a_minority_elects_no_leader_while_the_majority_goes_on(start, relay):
    cluster = start(5, relay=relay)
    one, other, *majority = [*cluster.followers(), cluster.leader()]
    cluster.isolate(one, other)
    for n in (one, other):
        cluster.servers[n].expect("I am a candidate[^$]*I am a follower[^$]*I am a candidate")
        assert cluster.states()[n][0] != "leader"
    cluster.write("k", "1", through=majority)
    cluster.heal()
    cluster.followers()
    wait_until(lambda: cluster.value(one, "k") == "1", "the value in the former minority")


def test_a_line_that_comes_back_with_its_old_connections_dead_is_used_again(start, relay):
    cluster = start(3, relay=relay)
    follower, *others = [*cluster.followers(), cluster.leader()]
    cluster.isolate(follower)
    cluster.write("k", "1", through=others)
    cluster.heal(old_connections=False)  # as after a power cut: no side is told
    wait_until(lambda: cluster.value(follower, "k") == "1", "the value at the follower", 10)


def test_a_restarted_server_hears_from_the_leader_at_once(start):
    cluster = start(2)  # with a third one, a new leader might make new connections
    follower = cluster.followers()[0]
    leader = cluster.leader()
    cluster.write("k", "1", through=[leader])
    cluster.servers[follower].kill()
    quiet = cluster.servers[leader]
    quiet.out_stream.cursor = len(quiet.out)
    with pytest.raises(Failure):  # it goes on to lead while gRPC's own back-off would grow to 4 s
        quiet.expect("I am a follower", timeout=5.5)
    cluster.start(follower).expect("I am a follower. Term: 0")
    begin = time.monotonic()
    wait_until(lambda: cluster.value(follower, "k") == "1", "the value at the restarted server")
    assert time.monotonic() - begin < 1.5  # 0.1 s when nothing else runs


def test_a_suspended_follower_stands_for_no_election(start):
    cluster = start(3)
    server = cluster.servers[follower := cluster.followers()[0]]
    cluster.call(follower, "Suspend", messages.SuspendRequest(period=2))
    server.expect("Sleeping for 2 seconds")
    before = server.out
    assert cluster.getval(follower, "k") is None
    wait_until(lambda: cluster.getval(follower, "k"), "an answer again")
    assert "The leader is dead" not in server.out.removeprefix(before)


@contextlib.contextmanager
def at_once(*calls):
    """Make calls in threads of their own; yields a list that takes the results."""
    results = []
    threads = [threading.Thread(target=lambda c=call: results.append(c())) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join()


def test_commands_of_a_leader_without_followers_are_committed_when_a_majority_returns(start):
    cluster = start(3)
    followers, leader = cluster.followers(), cluster.leader()
    for follower in followers:
        cluster.servers[follower].pause()
    with at_once(*(lambda k=key: cluster.setval(leader, k, "1") for key in "abcd")) as results:
        wait_until(lambda: results == [False] * 4, "the clients' answers")
    begin = time.monotonic()
    for follower in followers:
        cluster.servers[follower].resume()
    wait_until(lambda: all(cluster.value(leader, key) == "1" for key in "abcd"), "the values")
    assert time.monotonic() - begin < 1.5  # 0.1 s when nothing else runs
    for n in followers:
        wait_until(lambda n=n: all(cluster.value(n, key) == "1" for key in "abcd"), "the copies")


def test_a_follower_that_was_stopped_for_a_moment_starts_no_election(start):
    cluster = start(3)
    chance, needless = random.Random(0), 0
    for _ in range(12):
        server = cluster.servers[cluster.followers()[0]]
        before = server.out.count("The leader is dead")
        server.pause()
        time.sleep(chance.uniform(0.17, 0.33))  # the length of the fault
        server.resume()
        cluster.followers()
        needless += server.out.count("The leader is dead") - before
    assert needless <= 3  # 5 to 7 if it acts before it reads; none when nothing else runs


def test_a_deaf_leader_is_replaced(start, relay):
    cluster = start(3, relay=relay)
    cluster.followers()
    old = cluster.leader()
    begin = time.monotonic()
    cluster.deafen(old)
    cluster.leader(besides=old)
    assert time.monotonic() - begin < 3  # 0.9 s when nothing else runs


def test_a_leader_with_a_slow_disk_goes_on_leading(start):
    cluster = start(3, "--data-dir", "data", script=TROUBLED)
    cluster.write("k", "0")

    def scene():
        leader = cluster.leader()
        slow = cluster.folders[leader] / "sync"
        slow.write_text("0.25")
        try:
            for n in range(8):
                assert cluster.setval(leader, "k", str(n))
        finally:
            slow.unlink()
        assert cluster.states()[leader][0] == "leader"

    cluster.settled(scene)


def test_a_write_passed_on_to_a_hung_leader_is_answered_in_time(start):
    cluster = start(3)
    follower, leader = cluster.followers()[0], cluster.leader()
    cluster.servers[leader].pause()
    begin = time.monotonic()
    assert cluster.setval(follower, "a", "1") is False
    assert time.monotonic() - begin < 2.5


def test_a_write_with_a_session_is_passed_on_to_the_next_leader(start):
    cluster = start(3)
    follower, leader = cluster.followers()[0], cluster.leader()
    cluster.servers[leader].pause()
    session = {"client_id": 7, "sequence": 1}
    wait_until(lambda: cluster.setval(follower, "a", "1", **session) is not None, "an answer")
    cluster.servers[leader].resume()
    cluster.followers()
    wait_until(lambda: cluster.setval(follower, "a", "2", client_id=7, sequence=2))
    assert cluster.value(cluster.leader(), "a") == "2"


def test_a_command_of_a_session_is_done_once_and_never_after_a_later_one(start):
    cluster = start(3, "--data-dir", "data")
    cluster.followers()

    def setval(value, sequence):
        leader = cluster.leader()
        return cluster.setval(leader, "k", value, client_id=7, sequence=sequence)

    wait_until(lambda: setval("1", 1))
    wait_until(lambda: setval("2", 2))
    wait_until(lambda: setval("1", 1) is False)
    for n in range(3):
        cluster.servers[n].kill()
    for n in range(3):
        cluster.start(n)
    cluster.followers()
    wait_until(lambda: setval("2", 2))
    wait_until(lambda: setval("1", 1) is False)
    assert cluster.value(cluster.leader(), "k") == "2"


def test_a_command_that_was_passed_on_is_not_passed_on_again(start):
    cluster = start(3)
    request = messages.SetValRequest(key="k", value="1", forwarded=True)

    def scene():
        follower = cluster.followers()[0]
        reply = wait_until(lambda: cluster.call(follower, "SetVal", request), "an answer")
        assert not reply.success

    cluster.settled(scene)


def test_a_command_that_is_sent_again_takes_no_second_place_in_the_log(start):
    cluster = start(1)
    request = messages.SetValRequest(key="k", value="1", client_id=7, sequence=1)

    def place() -> int | None:
        reply = cluster.call(0, "SetVal", request)
        return reply and reply.success and reply.index

    assert wait_until(place, "a commit") == wait_until(place, "the same answer")


def test_the_client_of_a_session_meets_small_snapshots_and_loses_nothing(start):
    cluster = start(3, "--data-dir", "data", script=TROUBLED)
    for n in range(3):
        cluster.servers[n].kill()
        (cluster.folders[n] / "snapshot_after").write_text("3")
        cluster.start(n)
    cluster.followers()
    for n in range(1, 31):
        leader = cluster.leader()
        wait_until(lambda n=n, at=leader: cluster.setval(at, f"k{n}", "1", client_id=7, sequence=n))
        if n % 10 == 0:
            cluster.servers[leader].kill()
            cluster.leader(besides=leader)
            cluster.start(leader)
            cluster.followers()
    for server in range(3):
        wait_until(lambda s=server: all(cluster.value(s, f"k{n}") == "1" for n in range(1, 31)))


def test_a_follower_that_was_away_beyond_the_log_catches_up_by_snapshot(start):
    cluster = start(3, "--data-dir", "data")
    follower, leader = cluster.followers()[0], cluster.leader()
    cluster.servers[follower].kill()
    large = "x" * 900_000
    for n in range(40):  # more than the log holds
        cluster.write(f"k{n}", large, through=[leader])
    cluster.start(follower)
    wait_until(lambda: cluster.value(follower, "k39") == large, "the last value")
    for n in range(40):
        wait_until(lambda n=n: cluster.value(follower, f"k{n}") == large, f"k{n}")


IMPOSSIBLE = [
    messages.RequestVoteRequest(term=2**62, candidate_id=1),
    messages.RequestVoteRequest(term=2**33, candidate_id=1),
    messages.RequestVoteRequest(term=99, candidate_id=77),
    messages.RequestVoteRequest(term=99, candidate_id=0),
    messages.RequestVoteRequest(term=99, candidate_id=1, last_log_term=100),
    messages.AppendEntriesRequest(term=2**62, leader_id=1),
    messages.AppendEntriesRequest(term=99, leader_id=77),
    messages.AppendEntriesRequest(term=99, leader_id=0),
    messages.AppendEntriesRequest(term=99, leader_id=1, prev_log_term=100),
    messages.InstallSnapshotRequest(term=2**62, leader_id=1),
    messages.InstallSnapshotRequest(term=99, leader_id=77),
    messages.InstallSnapshotRequest(term=99, leader_id=1, last_included_index=2**63),
]


def test_a_request_that_no_server_of_the_cluster_can_have_sent_changes_nothing(spawn, tmp_path):
    (tmp_path / "config.conf").write_text(
        f"0 127.0.0.1 {free_port()}\n1 127.0.0.1 1\n2 127.0.0.1 2\n"
    )
    server = spawn(SERVER, 0, cwd=tmp_path)
    port = int(server.expect(r"starts at 127.0.0.1:(\d+)")[1])
    with rpc.open_channel(f"127.0.0.1:{port}") as channel:
        stub = services.RaftStub(channel)
        for request in IMPOSSIBLE:
            method = type(request).__name__.removesuffix("Request")
            with pytest.raises(rpc.grpc.RpcError) as refusal:
                getattr(stub, method)(request, timeout=5, wait_for_ready=True)
            assert refusal.value.code() is rpc.grpc.StatusCode.INVALID_ARGUMENT, request
        reply = stub.RequestVote(messages.RequestVoteRequest(term=2**20, candidate_id=1), timeout=5)
    assert reply.result
    assert int(server.expect(r"Voted for node 1")[0][-1]) == 1
    assert not re.search(r"Term: (99|\d{9})", server.out)


def test_a_command_of_1_mb_is_replicated_and_a_larger_one_refused(start):
    cluster = start(3)
    cluster.write("k", "x" * 999_999)
    wait_until(lambda: all(cluster.value(n, "k") == "x" * 999_999 for n in range(3)))
    for n in range(3):
        assert cluster.setval(n, "k", "x" * 1_000_000) is None
        assert cluster.setval(n, "", "x") is None
    cluster.write("k", "y")


def test_no_request_stops_a_server(start):
    cluster = start(3)
    follower = cluster.followers()[0]
    hostile = [
        ("RequestVote", messages.RequestVoteRequest(term=2**64 - 1, candidate_id=1)),
        ("RequestVote", messages.RequestVoteRequest(term=5, candidate_id=-7, last_log_index=2**63)),
        ("AppendEntries", messages.AppendEntriesRequest(term=2**64 - 1)),
        ("AppendEntries", messages.AppendEntriesRequest(term=2**20, leader_id=77)),
        ("AppendEntries", messages.AppendEntriesRequest(term=2**20, prev_log_index=2**64 - 1)),
        ("AppendEntries", messages.AppendEntriesRequest(term=2**20, prev_log_term=9)),
        (
            "AppendEntries",
            messages.AppendEntriesRequest(term=2**20, entries=[messages.Entry(term=2**64 - 1)]),
        ),
        ("AppendEntries", messages.AppendEntriesRequest(term=2**20, leader_commit=2**64 - 1)),
        ("Suspend", messages.SuspendRequest(period=-1)),
    ]
    for method, request in hostile:
        cluster.call(follower, method, request)
    cluster.followers()
    cluster.write("a", "1", through=[follower])
    assert [server.err for server in cluster.servers] == ["", "", ""]


def test_no_leader_is_known_before_the_first_election(spawn, start):
    cluster = start(2)
    cluster.servers[1].kill()
    wait_until(lambda: listens(cluster.ports[0]))
    client = spawn(CLIENT)
    client.send(f"connect 127.0.0.1 {cluster.ports[0]}")

    def answer(line: str) -> str:
        client.send(line)
        return client.expect(r"^(False|No leader is known|0 127\.0\.0\.1:\d+|.* is unavailable)$")[
            1
        ]

    wait_until(lambda: answer("setval a 1") == "False", "an answer")
    known = f"0 127.0.0.1:{cluster.ports[0]}"
    wait_until(lambda: answer("getleader") in ("No leader is known", known), "an answer")


@given(st.binary(max_size=60) | st.text(alphabet="01 .:#[]a\n\r\t\ufeff", max_size=60))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_configuration_is_read_or_the_bad_line_named(content):
    data = content if isinstance(content, bytes) else content.encode()
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        try:
            members = read_config(Path(file.name))
        except ValueError as error:
            assert re.match(rf"{file.name}:\d+: ", str(error))
        else:
            assert all(id >= 0 and 0 <= port < 2**16 for id, (_, port) in members.items())


@pytest.mark.parametrize(
    "written", ["0 h 1\r\n1\th\t2\r\n", "\ufeff0 h 1\n1 h 2", "0 [h] 1\n\n1 h 2 # x"]
)
def test_a_configuration_may_come_from_any_editor(written, tmp_path):
    (tmp_path / "c").write_bytes(written.encode())
    assert read_config(tmp_path / "c") == {0: ("h", 1), 1: ("h", 2)}


@given(
    st.text(max_size=30)
    | st.sampled_from(["connect", "suspend", "setval", "getval"]).flatmap(
        lambda word: st.text(max_size=20).map(lambda rest: f"{word} {rest}")
    )
)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_the_client_survives_every_line(line):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        shell = load(ROOT / "lab06_raft/client.py").Client(terminal=False)
        shell.call = lambda *request: shell.target  # as if there were no answer
        shell.obey(line)
        assert len(out.getvalue().splitlines()) <= 1


def test_a_taken_port_is_one_line_and_exit_1(spawn, start):
    cluster = start(1)
    cluster.leader()
    second = spawn(SERVER, 0, cwd=cluster.folders[0])
    assert second.wait() == 1
    address = f"127.0.0.1:{cluster.ports[0]}"
    assert second.err.startswith(f"server.py: cannot listen on {address}: Address already in use")
