"""Lab 6's servers and requests that no other server can have sent, or that are too large."""

import re
from types import SimpleNamespace

import pytest

from tests.lab06.cluster import SERVER, messages, rpc, services
from tests.lab06.driven import protocol, until
from tests.sim_raft_servers.network import Context, grpc, server
from tests.support.harness import wait_until
from tests.support.ports import free_port

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
    messages.AppendEntriesRequest(
        term=99, leader_id=1, prev_log_term=7, entries=[messages.Entry(term=6)]
    ),
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
    server.expect("^Voted for node 1$")
    assert not re.search(r"Term: (99|\d{9})", server.out)


async def refusal(node, request):
    """Return the reason why a server refuses a request as invalid, and "" if it does not."""
    servicer = server.RaftServicer(node, {}, SimpleNamespace(print=lambda *lines: None))
    method = type(request).__name__.removesuffix("Request")
    try:
        await getattr(servicer, method)(request, Context())
    except grpc.aio.AbortError as error:
        code, reason = error.args
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        return reason
    return ""


def test_a_term_is_obeyed_up_to_2_to_the_32_above_the_own_one(play):
    async def scene(node):
        beyond = node.raft.current_term + 2**32 + 1
        request = messages.RequestVoteRequest(term=beyond, candidate_id=1)
        assert await refusal(node, request) == f"no election can have reached the term {beyond}"
        assert node.raft.leadership
        request.term -= 1
        assert await refusal(node, request) == ""
        assert (node.raft.leadership, node.raft.current_term) == (None, beyond - 1)

    play(scene)


@pytest.mark.parametrize(("step", "obeyed"), [(2**32, True), (2**32 + 1, False)])
def test_a_term_in_a_reply_is_obeyed_as_far_as_one_in_a_request(step, obeyed, play):
    async def scene(node):
        async def answer(request):
            return protocol.AppendEntriesReply(before + step, False)

        before, count = node.raft.current_term, len(node._tasks)
        node.peers[1].ask = answer
        node.step(node.raft.tick, node.raft.deadline)
        assert len(node._tasks) == count + 2
        await until(lambda: len(node._tasks) == count + 1)  # server 2 does not answer
        assert node.raft.current_term == before + (step if obeyed else 0)
        assert bool(node.raft.leadership) != obeyed

    play(scene)


@pytest.mark.parametrize("sequence", [0, -1])
def test_a_command_of_a_session_without_a_number_is_refused(sequence, play):
    async def scene(node):
        request = messages.SetValRequest(key="k", value="1", client_id=7, sequence=sequence)
        reason = "the commands of a session are numbered 1, 2, 3, ..."
        assert await refusal(node, request) == reason
        assert node.keys == []

    play(scene)


def test_a_negative_period_is_refused(play):
    async def scene(node):
        assert await refusal(node, messages.SuspendRequest(period=-1)) == "a negative period"
        assert not node.suspended

    play(scene)


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
