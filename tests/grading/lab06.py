"""Lab 6, leader election of Raft: whole clusters, and single servers among peers of the judge."""

import contextlib
import re
import time

import grpc

from tests.grading.lab06_cluster import ELECTION_TIME, FIRST_PORT, HEARTBEAT, Cluster, described
from tests.grading.lab06_peers import Lone, Peers
from tests.grading.protos import Caller
from tests.grading.scene import Loss, Scene, check


def gate(scene: Scene) -> None:
    """Three servers start, and one of them changes its state."""
    cluster = Cluster(scene, 3)
    scene.until(
        lambda: any(cluster.states(i) or "ote" in cluster.servers[i].out for i in cluster.servers),
        "servers that print their states",
        5,
        *cluster.servers.values(),
    )


def server_tells_where_it_starts(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    for i, (host, port) in enumerate(cluster.addresses):
        line = f"The server starts at {host}:{port}"
        cluster.servers[i].expect(re.escape(line), line, 5)
    check(
        cluster.states(0)[:1] == [("follower", 0)],
        "I am a follower. Term: 0",
        cluster.servers[0].tail(),
    )


def one_leader_is_elected(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    leader = cluster.leader()
    scene.note_step("watch for 1.5 s")
    time.sleep(1.5)
    again = cluster.leader(timeout=3)
    cluster.check_safety()
    top = cluster.state(again)[1]
    leading = [i for i in cluster.servers if cluster.state(i) == ("leader", top)]
    check(
        leading == [again],
        "one leader",
        f"the servers {leading} lead in term {top}; first {leader}",
    )


def all_know_the_leader(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    cluster.leader()
    time.sleep(0.5)
    for i in cluster.servers:
        cluster.client(i)
    leader = cluster.leader()
    time.sleep(0.3)
    for i in cluster.servers:
        check(
            cluster.reported_leader(i) == (leader, cluster.addresses[leader][1]),
            f"getleader at server {i}: {leader} 127.0.0.1:{cluster.addresses[leader][1]}",
            cluster.client(i).tail(),
        )


def leader_stays(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    leader = cluster.settled_leader(1)
    term = cluster.state(leader)[1]
    scene.note_step("watch for 4 s")
    time.sleep(4)
    states = [cluster.state(i) for i in cluster.servers]
    check(
        cluster.state(leader) == ("leader", term) and max(t for _, t in states) <= term,
        f"heartbeats keep server {leader} the leader of term {term}",
        f"states afterwards: {states}",
    )


def new_leader_after_a_suspension(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    leader = cluster.leader()
    term = cluster.state(leader)[1]
    cluster.suspend(leader, 4)
    follower = cluster.leader(cluster.others(leader), above=term, timeout=3.5)
    check(
        cluster.state(follower)[1] > term,
        f"a leader of a term above {term}",
        repr(cluster.state(follower)),
    )
    scene.note_step("wait until the suspension is over")
    scene.until(
        lambda: cluster.follows(leader, above=term),
        f"server {leader} is a follower of the new term after its sleep",
        8,
        cluster.servers[leader],
    )
    cluster.check_safety()


def suspended_server_is_silent(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    other = cluster.others(cluster.leader())[0]
    host, port = cluster.addresses[other]
    caller = scene.enter_context(contextlib.closing(Caller(f"{host}:{port}")))
    method = described(scene, "leader")

    def answers() -> bool:
        with contextlib.suppress(grpc.RpcError):
            return bool(caller.call(method, timeout=1) or True)
        return False

    scene.until(answers, "an answer to GetLeader()", 5, cluster.servers[other])
    cluster.suspend(other, 3, client_only=True)
    begun = time.monotonic()
    time.sleep(0.3)
    try:
        reply = caller.call(method, timeout=1.2)
    except grpc.RpcError:
        reply = None
    check(reply is None, "no answer during the sleep", f"{reply}")
    time.sleep(max(0.0, begun + 3.5 - time.monotonic()))
    scene.until(answers, "answers again after the sleep", 5, cluster.servers[other])


def new_leader_after_a_death(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    leader = cluster.settled_leader()
    term = cluster.state(leader)[1]
    scene.note_step(f"end server {leader}, the leader")
    cluster.servers[leader].kill()
    cluster.leader(cluster.others(leader), above=term)


def minority_elects_no_leader(scene: Scene) -> None:
    cluster = Cluster(scene, 3)
    leader = cluster.settled_leader()
    last = cluster.others(leader)[0]
    for i in cluster.others(last):
        scene.note_step(f"end server {i}")
        cluster.servers[i].kill()
    scene.note_step("watch the last one for 3 s")
    time.sleep(3)
    expected = "one server of three has no majority: it does not lead"
    check(cluster.state(last)[0] != "leader", expected, cluster.servers[last].tail())


def five_servers_need_three(scene: Scene) -> None:
    peers = Peers(scene, count=1, vote=(None, True))
    lone = Lone(scene, size=5)
    scene.note_step("one of its four peers votes for it, the others are not there")
    scene.until(lambda: peers.of("vote"), "RequestVote is sent", ELECTION_TIME, lone.server)
    time.sleep(2.5)
    led = [state for state in lone.cluster.states(0) if state[0] == "leader"]
    check(
        not led and not peers.of("append"),
        "two votes of five are no majority: no leader",
        f"{led or 'heartbeats'}\n{lone.server.tail()}",
    )


def one_vote_in_a_term(scene: Scene) -> None:
    lone = Lone(scene)
    for first in (100, 200):
        term = lone.win_vote(first, 1)
        _, result = lone.vote(term, 2)
        seen = f"RequestVote({term}, 1) and RequestVote({term}, 2) both returned True"
        check(not result, f"RequestVote({term}, 2) returns False: its vote is given", seen)


def old_terms_are_refused(scene: Scene) -> None:
    lone = Lone(scene)
    lone.win_vote(100, 1)
    for name, call in (("RequestVote(50, 2)", lone.vote), ("AppendEntries(50, 2)", lone.heartbeat)):
        term, result = call(50, 2)
        expected = f"{name} returns the own term, 100 or more, and False"
        check(not result and term >= 100, expected, f"{term}, {result}")


def higher_term_of_a_leader_is_adopted(scene: Scene) -> None:
    peers = Peers(scene, count=2)
    lone = Lone(scene)
    term = lone.lead(300, 1)
    begun = time.monotonic()
    named = lone.named_leader()
    expected = f"GetLeader names server 1, which leads term {term}"
    address = f"127.0.0.1:{scene.port(FIRST_PORT + 1)}"
    check({"1", address} & set(named), expected, repr(named))
    scene.note_step("send no more heartbeats")

    def elections() -> list[int]:  # but for calls that were under way before
        return [term for _, term in peers.of("vote", since=begun + 0.1)]

    expected = f"its next election is one of a term after {term}"
    asked = scene.until(elections, expected, 3, lone.server)[0]
    check(asked > term, expected, f"RequestVote with the term {asked}")


def heartbeats_reset_the_timer(scene: Scene) -> None:
    peers = Peers(scene, count=2)
    lone = Lone(scene)
    lead = lone.lead(300, 1)
    begun = time.monotonic()
    scene.note_step("send a heartbeat every 50 ms, for 2 s")
    while time.monotonic() < begun + 2:
        lone.heartbeat(lead, 1)
        last = time.monotonic()
        time.sleep(HEARTBEAT)
    late = [term for at, term in peers.of("vote", since=begun + 0.4) if term > lead]
    check(not late, "no election while heartbeats come", f"RequestVote with the terms {late[:5]}")
    scene.note_step("send no more heartbeats")

    def elections() -> list[float]:
        return [at for at, term in peers.of("vote", since=last) if term > lead]

    expected = "an election when 150 to 300 ms have passed without a heartbeat"
    waited = scene.until(elections, expected, 3, lone.server)[0] - last
    check(0.1 <= waited <= 1.0, expected, f"after {waited:.2f} s")


def higher_term_in_a_reply_is_adopted(scene: Scene) -> None:
    peers = Peers(scene, count=2, vote=(700, False))
    lone = Lone(scene)
    scene.note_step("its peers answer RequestVote with term 700, False")
    scene.until(
        lambda: [t for _, t in peers.of("vote") if t > 700],
        "its next election is for a term above 700",
        ELECTION_TIME,
        lone.server,
    )


def heartbeats_are_sent_every_50_ms(scene: Scene) -> None:
    peers = Peers(scene, count=2, vote=(None, True))
    lone = Lone(scene)
    lone.await_leadership(peers)
    begun = time.monotonic()
    time.sleep(2)
    count = len([at for at, _ in peers.of("append", since=begun, peer=1) if at < begun + 2])
    check(20 <= count <= 80, "about 40 heartbeats in 2 s, one every 50 ms", f"{count} at one peer")


def leader_steps_down_for_a_higher_term(scene: Scene) -> None:
    peers = Peers(scene, count=2, vote=(None, True))
    lone = Lone(scene)
    lone.await_leadership(peers)
    peers.answers["vote"] = (None, False)
    lone.heartbeat(500, 1)
    begun = time.monotonic()
    time.sleep(0.12)
    late = [t for _, t in peers.of("append", since=begun + 0.06)]
    lone.heartbeat(500, 1)
    check(
        not late,
        "a leader that hears of term 500 sends no heartbeats any more",
        f"AppendEntries of terms {late}",
    )


def never_two_leaders_in_a_term(scene: Scene) -> None:
    cluster = Cluster(scene, 5)
    term = -1
    for _ in range(3):
        leader = cluster.leader(above=term, timeout=8)
        term = cluster.state(leader)[1]
        cluster.suspend(leader, 2)
        time.sleep(0.2)
    time.sleep(3)
    cluster.leader(timeout=8)
    cluster.check_safety()


def client_starts_and_ends(scene: Scene) -> None:
    client = scene.start("client")
    client.expect("The client starts", "The client starts", 10)
    scene.note_step("type in the client: quit")
    client.type("quit")
    client.expect("The client ends", "The client ends", 5)
    check(client.ends(5), "the client ends", client.tail())


def client_names_an_unavailable_server(scene: Scene) -> None:
    cluster = Cluster(scene, 3, running=0)
    client = cluster.scene.start("client")
    time.sleep(0.4)
    host, port = cluster.addresses[0]
    text = ""
    for command in (f"connect {host} {port}", "getleader", f"connect {host}:{port}", "getleader"):
        text += client.answer(command, timeout=5)
        if re.search(rf"The server .*{port}.* is unavailable", text):
            return
    raise Loss(f"The server {host}:{port} is unavailable", client.tail())
