"""Lab 6's servers with --data-dir: what kill -9 does not take, and which data they refuse."""

from tests.lab06.cluster import SERVER, messages
from tests.support.harness import wait_until
from tests.support.ports import free_port


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
    assert again.err == "server.py: data: it is damaged: raft.sqlite3-wal has changed\n"
    (cluster.folders[0] / "data/raft.sqlite3-wal").unlink()
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
