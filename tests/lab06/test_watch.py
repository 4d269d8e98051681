"""Lab 6's live page: what it tells of real servers, and what it may do with them."""

import contextlib
import signal
import socket
import threading
import time
from concurrent import futures

import pytest

from tests.lab06.cluster import Cluster, messages, rpc, services
from tests.support.harness import LOSSY, wait_until
from tests.support.live_page import HOSTILE, Events, do
from tests.support.ports import free_port


@pytest.fixture
def listening():
    """Open streams of events: `listening(port)`. All of them end with the test."""
    with contextlib.ExitStack() as streams:
        yield lambda port: streams.enter_context(contextlib.closing(Events(port)))


def has_status(server: int, status: str):
    """Return the fact that an event shows a server like this."""
    return lambda event: event["servers"][server]["status"] == status


def hears_all(event) -> bool:
    """Tell whether every server has reported, so that the page misses nothing from now on."""
    return all(server["status"] == "" for server in event["servers"])


# --- What the servers tell ---


def test_the_events_tell_the_leader_its_heartbeats_and_their_arrival(watched, listening):
    cluster, _, port = watched()
    leader = cluster.leader()

    def leads(event):
        found = event["servers"][leader]
        beats = [m for m in event["messages"] if m["kind"] == "AppendEntriesRequest"]
        return found.get("role") == "leader" and any(
            m["from"] == leader and m["sent"] and m["received"] and m["sent"] <= m["received"]
            for m in beats
        )

    event = listening(port).until(leads)
    assert [server["id"] for server in event["servers"]] == [0, 1, 2]
    assert [server["address"] for server in event["servers"]] == [
        f"127.0.0.1:{port}" for port in cluster.ports
    ]


def test_a_vote_and_an_entry_are_seen_from_asking_to_the_answer(watched, listening):
    cluster, script, port = watched()
    events = listening(port)
    events.until(hears_all)  # else the election may be over before its voters are heard
    seen = {}

    def has_seen(event):
        for m in event["messages"]:
            if m["sent"] and m["received"] and m["kind"].endswith("Reply") and m["success"]:
                seen[m["kind"], bool(m["entries"])] = m
        return {("RequestVoteReply", False), ("AppendEntriesReply", True)} <= seen.keys()

    for tries_left in (2, 1, 0) if LOSSY else (0,):  # a stream may be cut off just then
        mend = cluster.break_down(cluster.leader(), "kill")
        try:
            events.until(has_seen, timeout=10)
            break
        except AssertionError:
            if not tries_left:
                raise
        mend()
    assert all(m["sent"] <= m["received"] for m in seen.values())


@pytest.mark.parametrize(
    "fault, status", [("kill", "not running"), ("stop", "no answer"), ("suspend", "suspended")]
)
def test_a_server_that_fails_is_seen_as_what_it_is_and_again_when_it_is_back(
    watched, listening, fault, status
):
    cluster, _, port = watched()
    events = listening(port)
    leader = cluster.leader()
    events.until(has_status(leader, ""))
    begun = time.time()
    mend = cluster.break_down(leader, fault)
    event = events.until(has_status(leader, status))
    assert event["now"] - begun < 2  # 0.1 to 0.4 s on a quiet machine
    mend()
    events.until(has_status(leader, ""))


def test_a_server_that_is_cut_off_from_the_others_is_seen_as_that(
    spawn, tmp_path, listening, relay
):
    cluster = Cluster(spawn, tmp_path, 3, relay=relay)
    (tmp_path / "direct").mkdir()
    lines = [f"{n} 127.0.0.1 {port}\n" for n, port in enumerate(cluster.ports)]
    (tmp_path / "direct/config.conf").write_text("".join(lines))
    script = spawn("lab06_raft/watch.py", "--port", 0, cwd=tmp_path / "direct")
    events = listening(int(script.expect(r":(\d+)$")[1]))
    leader = cluster.leader()
    cluster.isolate(leader)
    events.until(has_status(leader, "cut off"))
    cluster.heal()
    events.until(has_status(leader, ""))


def test_many_pages_cost_a_server_one_stream(spawn, tmp_path, listening):
    """A server of the test's own counts the streams; it says that it is what no server is."""
    asked = []

    class Strange(services.RaftServicer):
        def Watch(self, request, context):
            asked.append(context.peer())
            while context.is_active():
                state = messages.State(time=time.time(), role=HOSTILE, term=2**64 - 1)
                yield messages.WatchReport(states=[state])
                ended.wait(0.05)

    ended = threading.Event()
    port = free_port()
    server = rpc.grpc.server(futures.ThreadPoolExecutor(4))
    services.add_RaftServicer_to_server(Strange(), server)
    rpc.bind(server, "127.0.0.1", port)
    server.start()
    try:
        (tmp_path / "config.conf").write_text(f"0 127.0.0.1 {port}\n")
        script = spawn("lab06_raft/watch.py", "--port", 0, cwd=tmp_path)
        page = int(script.expect(r":(\d+)$")[1])
        for events in [listening(page) for _ in range(10)]:
            event = events.until(has_status(0, ""))
            assert (event["servers"][0]["role"], event["servers"][0]["term"]) == (
                HOSTILE,
                2**64 - 1,
            )
        assert len(asked) == 1
    finally:
        ended.set()
        server.stop(0).wait()


def test_a_server_has_a_bounded_number_of_watchers_and_forgets_those_that_go(spawn, tmp_path):
    cluster = Cluster(spawn, tmp_path, 1)
    cluster.leader()

    def first_reports(stub):
        streams = [stub.Watch(messages.WatchRequest(), timeout=20) for _ in range(17)]
        codes = []
        for stream in streams:
            try:
                codes.append(next(stream).states[-1].role)
            except rpc.grpc.RpcError as error:
                codes.append(error.code())
        for stream in streams:
            stream.cancel()
        return codes

    with rpc.open_channel(f"127.0.0.1:{cluster.ports[0]}") as channel:
        stub = services.RaftStub(channel)
        full = rpc.grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(2):
            stream = stub.Watch(messages.WatchRequest(), wait_for_ready=True)
            assert next(stream).states
            stream.cancel()
            wait_until(lambda: sorted(map(str, first_reports(stub))) == sorted(
                ["leader"] * 16 + [str(full)]))  # fmt: skip


# --- What the page may do ---


def test_suspend_and_the_commands_reach_the_server_that_is_named(watched, listening):
    cluster, _, port = watched()
    leader = cluster.leader()
    wait_until(lambda: do(port, "setval", {"server": leader, "key": HOSTILE, "value": "<b>"})
               == (200, {"success": True}))  # fmt: skip
    assert do(port, "getval", {"server": leader, "key": HOSTILE})[1]["value"] == "<b>"
    assert do(port, "getval", {"server": leader, "key": "other"})[1]["value"] is None
    assert cluster.value(leader, HOSTILE) == "<b>"
    assert do(port, "suspend", {"server": leader, "period": 2}) == (200, {})
    assert cluster.call(leader, "GetLeader", messages.GetLeaderRequest()) is None
    assert do(port, "getval", {"server": leader, "key": "a"}) == (
        400,
        {"error": f"Server {leader} is suspended"},
    )
    listening(port).until(has_status(leader, "suspended"))


@pytest.mark.parametrize(
    "action, body",
    [
        ("suspend", {"server": 0}),
        ("suspend", {"server": 0, "period": 0}),
        ("suspend", {"server": 0, "period": "2"}),
        ("suspend", {"server": True, "period": 2}),
        ("suspend", {"server": 3, "period": 2}),
        ("setval", {"server": 0, "key": "", "value": "v"}),
        ("setval", {"server": 0, "key": "k", "value": 1}),
        ("setval", {"server": 0, "key": "k" * 1001, "value": "v"}),
        ("setval", {"server": 0, "key": "\ud800", "value": "v"}),
        ("getval", {"server": [], "key": "k"}),
        ("getval", {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_makes_no_sense_is_refused_with_its_reason(lone, action, body):
    status, answer = do(lone, action, body)
    assert status == 400 and answer["error"]


@pytest.fixture(scope="module")
def lone(tmp_path_factory):
    """Return the port of a watch.py whose servers do not run."""
    from tests.support.processes import running

    folder = tmp_path_factory.mktemp("lone")
    (folder / "config.conf").write_text(f"0 127.0.0.1 {free_port()}\n")
    with running("lab06_raft/watch.py", "--port", 0, cwd=folder) as script:
        yield int(script.expect(r":(\d+)$")[1])


def test_a_foreign_page_suspends_no_server(watched, listening):
    cluster, _, port = watched(1)
    cluster.leader()
    foreign = {"Origin": "http://evil.example"}
    assert do(port, "suspend", {"server": 0, "period": 5}, **foreign)[0] == 403
    assert do(port, "suspend", {"server": 0, "period": 5}, Host="evil.example")[0] == 403
    assert cluster.call(0, "GetLeader", messages.GetLeaderRequest()) is not None


def test_a_server_that_does_not_run_is_named(lone):
    assert do(lone, "getval", {"server": 0, "key": "k"}) == (
        400,
        {"error": "Server 0 does not answer"},
    )


# --- The script ---


STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup, for children too
    STOP_SIGNALS.append(signal.SIGHUP)


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_signal_ends_it_at_once_while_pages_are_open(spawn, tmp_path, listening, signum):
    (tmp_path / "config.conf").write_text(f"0 127.0.0.1 {free_port()}\n")
    script = spawn("lab06_raft/watch.py", "--port", 0, cwd=tmp_path)
    listening(int(script.expect(r":(\d+)$")[1])).until(lambda event: True)
    script.signal(signum)
    assert script.wait(5) == 0
    assert script.err == ""


def test_a_taken_port_is_one_line_and_exit_1(spawn):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        script = spawn("lab06_raft/watch.py", "--port", port)
        assert script.wait() == 1
    assert script.err.count("\n") == 1 and f"127.0.0.1:{port}" in script.err


@pytest.mark.parametrize("arguments", [["--port", "x"], ["more"], ["--config", "/no/such/file"]])
def test_wrong_arguments_are_one_line_and_exit_2(spawn, arguments):
    script = spawn("lab06_raft/watch.py", *arguments)
    assert script.wait() == 2
    assert script.err.count("\n") == 1 and script.out == ""
