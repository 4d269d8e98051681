"""Lab 6, real servers: a value at every server, commands passed on, sessions, snapshots."""

import time

from tests.lab06.cluster import CLIENT, SERVER, TROUBLED, messages
from tests.support.harness import wait_until


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


def test_a_value_survives_the_leader_that_took_it(start):
    cluster = start(5)
    follower = cluster.followers()[0]
    cluster.write("a", "1", through=[follower])
    old = cluster.leader()
    cluster.servers[old].kill()
    wait_until(lambda: cluster.value(cluster.leader(other_than=old), "a") == "1", "the value")
    cluster.start(old)
    wait_until(lambda: cluster.value(old, "a") == "1", "the value at the restarted server")


def test_a_write_passed_on_to_a_hung_leader_is_answered_in_time(start):
    cluster = start(3)
    leader, (follower, *_) = cluster.roles()
    cluster.servers[leader].pause()
    begin = time.monotonic()
    assert cluster.setval(follower, "a", "1") is False
    assert time.monotonic() - begin < 2.5


def test_a_write_with_a_session_is_passed_on_to_the_next_leader(start):
    cluster = start(3)
    leader, (follower, *_) = cluster.roles()
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
            cluster.leader(other_than=leader)
            cluster.start(leader)
            cluster.followers()
    for server in range(3):
        wait_until(lambda s=server: all(cluster.value(s, f"k{n}") == "1" for n in range(1, 31)))


def test_a_follower_that_was_away_beyond_the_log_catches_up_by_snapshot(start):
    cluster = start(3, "--data-dir", "data")
    leader, (follower, *_) = cluster.roles()
    cluster.servers[follower].kill()
    large = "x" * 900_000
    for n in range(40):  # more than the log holds
        cluster.write(f"k{n}", large, through=[leader])
    cluster.start(follower)
    wait_until(lambda: cluster.value(follower, "k39") == large, "the last value")
    for n in range(40):
        wait_until(lambda n=n: cluster.value(follower, f"k{n}") == large, f"k{n}")


def test_a_taken_port_is_one_line_and_exit_1(spawn, start):
    cluster = start(1)
    cluster.leader()
    second = spawn(SERVER, 0, cwd=cluster.folders[0])
    assert second.wait() == 1
    address = f"127.0.0.1:{cluster.ports[0]}"
    assert second.err.startswith(f"server.py: cannot listen on {address}: Address already in use")
