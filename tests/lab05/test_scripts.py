"""Lab 5, the real scripts: the assignment's example, then faults under load."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from tests.lab05.ring import FINGERS, Ring, Rpc, assert_all_found, load, save_some
from tests.support import harness
from tests.support.harness import free_port, wait_until
from tests.support.relays import TcpRelay

IDS = [24, 26, 2, 16, 31, 25]
JOINS = [
    "assigned node_id=24, successor_id=24, predecessor_id=24",
    "assigned node_id=26, successor_id=24, predecessor_id=24",
    "assigned node_id=2, successor_id=24, predecessor_id=26",
    "assigned node_id=16, successor_id=24, predecessor_id=2",
    "assigned node_id=31, successor_id=2, predecessor_id=26",
    "assigned node_id=25, successor_id=26, predecessor_id=24",
]


@pytest.fixture
def example(spawn):
    return Ring(spawn, 6)


# --- the assignment ---


def test_the_example_of_the_assignment_holds_to_the_letter(example):
    assert [node.id for node in example.nodes] == IDS
    for node, line in zip(example.nodes, JOINS, strict=True):
        assert line in node.lines
        example.registry.expect(line)
    addresses = {node.id: f"{node.id}: 127.0.0.1:{node.port}" for node in example.nodes}
    assert example.ask("get_info") == list(addresses.values())
    expected = {
        id: [f"Node id: {id}", "Finger table:", *(addresses[finger] for finger in fingers)]
        for id, fingers in FINGERS.items()
    }
    wait_until(lambda: example.fingers() == expected, "the finger tables of the assignment")


def test_keys_are_saved_found_and_removed_through_any_node(example):
    saved = example.ask(
        "save Kazan a city on the Volga",
        'save "Moscow" a text "with quotes"',
        "save “Minsk” x",
        "save Kazan again",
        at=example.node(2),
    )
    assert saved == [
        "True, Kazan is saved in node 24",
        "True, Moscow is saved in node 25",
        "True, Minsk is saved in node 16",
        "False, Kazan is already exist in node 24",
    ]
    found = ["find Kazan", "find Minsk", "remove Moscow", "remove Moscow", "find Moscow"]
    assert example.ask(*found, at=example.node(31)) == [
        "True, Kazan is saved in node 24",
        "True, Minsk is saved in node 16",
        "True, Moscow is removed from node 25",
        "False, Moscow does not exist in node 25",
        "False, Moscow does not exist in node 25",
    ]


def test_keys_move_to_a_node_that_joins_and_back_when_it_leaves(spawn):
    ring = Ring(spawn, 1)
    assert ring.ask("save Moscow x", at=ring.nodes[0]) == ["True, Moscow is saved in node 24"]
    node = ring.join()  # 26
    wait_until(
        lambda: ring.ask("find Moscow", at=node) == ["True, Moscow is saved in node 26"],
        "the key to have moved",
    )
    node.interrupt()
    assert node.wait(2) == 0
    wait_until(
        lambda: ring.ask("find Moscow", at=ring.nodes[0]) == ["True, Moscow is saved in node 24"],
        "the key to be back",
    )
    assert ring.ask("get_info") == [f"24: 127.0.0.1:{ring.nodes[0].port}"]


def test_connect_tells_what_is_there(spawn):
    ring = Ring(spawn, 1)
    client = spawn("lab05_chord/Client.py")
    client.send(f"connect 127.0.0.1:{free_port()}")
    client.send(f"connect {ring.address}")
    client.expect("Connected to Registry")
    client.send(f"connect 127.0.0.1:{ring.nodes[0].port}")
    client.expect("Connected to Node")
    client.send("quit")
    assert client.wait() == 0
    assert len(client.lines) == 3


@pytest.fixture
def rpc():
    with contextlib.closing(Rpc()) as rpc:
        yield rpc


def test_joining_and_leaving_under_load_loses_and_doubles_nothing(spawn, rpc):
    ring = Ring(spawn, 3)
    with load(rpc, ring) as clients:
        for _ in range(2):
            ring.join()
            leaver = ring.nodes.pop(0)
            leaver.interrupt()
            assert leaver.wait(20) == 0  # on a busy machine it may say that it is still at it
        wait_until(lambda: min(client.count for client in clients) > 30, "some load")


def test_after_kill_9_of_two_neighbours_all_keys_are_found_within_5_s(spawn, rpc):
    ring = Ring(spawn, 6)
    keys = save_some(rpc, ring)
    for id in (25, 26):
        ring.node(id).kill()
    begun = time.monotonic()
    stub = rpc.node(ring.node(2))
    for key in keys:
        assert stub.find(rpc.KeyRequest(key=key), timeout=15).success
    assert time.monotonic() - begun < 6  # and a second for a busy machine
    assert_all_found(rpc, ring, keys)


def test_replicas_are_restored_so_that_others_may_die_later(spawn, rpc):
    ring = Ring(spawn, 5)
    keys = save_some(rpc, ring)
    for victims in ((24, 26), (16, 31)):
        for id in victims:
            ring.node(id).kill()
        wait_until(lambda: len(rpc.members(ring)) == sum(n.running for n in ring.nodes))
        ring.join()  # is admitted when all are in sync
    assert_all_found(rpc, ring, keys)


def test_saves_go_on_when_a_node_is_killed_under_load(spawn, rpc):
    ring = Ring(spawn, 5)
    with load(rpc, ring) as clients:
        wait_until(lambda: clients[0].count > 20, "some load")
        ring.nodes[2].kill()
        ring.nodes[3].kill()
        before = sum(client.count for client in clients)
        wait_until(lambda: len(rpc.members(ring)) == 3, "the registry to notice")
        wait_until(lambda: sum(c.count for c in clients) > before + 60, "load to go on")


def test_a_restarted_registry_learns_the_ring_from_its_nodes(spawn, rpc):
    ring = Ring(spawn, 5)
    keys = save_some(rpc, ring, 20)
    before = rpc.members(ring)
    with load(rpc, ring, clients=1) as clients:
        ring.registry.kill()
        count = clients[0].count
        wait_until(lambda: clients[0].count > count + 200, "nodes to serve without it")
        ring.start_registry()
        newcomer = ring.join()
    assert newcomer.id not in IDS[:5]
    assert rpc.members(ring)[:5] == before
    assert_all_found(rpc, ring, keys)


def test_nodes_serve_for_long_without_the_registry(spawn, rpc):
    ring = Ring(spawn, 3)
    keys = save_some(rpc, ring, 5)
    ring.registry.kill()
    stub, ends = rpc.node(ring.nodes[0]), time.monotonic() + 4
    durations = []

    def served_for_long():
        for key in keys:
            asked = time.monotonic()
            assert stub.find(rpc.KeyRequest(key=key), timeout=15).success
            durations.append(time.monotonic() - asked)
        return asked > ends

    wait_until(served_for_long)
    assert max(durations) < 2  # a few milliseconds when nothing else runs


def test_a_node_that_hung_answers_nothing_out_of_date(spawn, rpc):
    ring = Ring(spawn, 4)
    kazan = rpc.KeyRequest(key="Kazan")
    other, hung = rpc.node(ring.node(2)), rpc.node(ring.node(24))
    assert other.save(rpc.SaveRequest(key="Kazan", text="old"), timeout=15).node_id == 24
    ring.node(24).pause()
    wait_until(lambda: len(rpc.members(ring)) == 3, "the registry to notice")
    assert other.remove(kazan, timeout=15).success
    ring.node(24).resume()
    assert not hung.find(kazan, timeout=15).success
    wait_until(lambda: len(rpc.members(ring)) == 4, "the node to come back")
    assert ring.node(24).expect("assigned node_id=24, .*")
    assert not hung.find(kazan, timeout=15).success
    assert other.save(rpc.SaveRequest(key="Kazan", text="new"), timeout=15).success
    assert hung.get(kazan, timeout=15).text == "new"


def test_a_ring_that_hung_as_a_whole_still_has_its_keys(spawn, rpc):
    ring = Ring(spawn, 4)
    keys = save_some(rpc, ring, 10)
    for node in ring.nodes:
        node.pause()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3.5)  # s: a single node would be dropped
    newcomer = ring.start_node()
    wait_until(lambda: time.monotonic() - begun > 6)
    assert rpc.members(ring) == [24, 26, 2, 16]
    for node in ring.nodes:
        node.resume()
    assert newcomer.expect("assigned .*")
    assert_all_found(rpc, ring, keys)


def test_a_ring_whose_nodes_are_all_dead_admits_a_new_one(spawn, rpc):
    ring = Ring(spawn, 3)
    for node in ring.nodes:
        node.kill()
    assert ring.join().id not in (24, 26, 2)
    assert len(rpc.members(ring)) == 1


def test_many_clients_through_every_node_do_not_block_each_other(spawn, rpc):
    ring = Ring(spawn, 4)
    save_some(rpc, ring, 10)
    answers, errors = [], []

    def client(number):
        stub = rpc.node(ring.nodes[number % 4])
        try:
            for i in range(5):
                request = rpc.SaveRequest(key=f"{number} {i}", text="x")
                answers.append(stub.save(request, timeout=20).success)
                answers.append(stub.find(rpc.KeyRequest(key="key 3"), timeout=20).success)
        except rpc.error as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(answers) == 800 and all(answers)


def test_of_several_saves_of_one_key_at_the_same_time_one_succeeds(spawn, rpc):
    ring = Ring(spawn, 3)
    stubs = [rpc.node(node) for node in ring.nodes]
    for key in ("one", "two", "three", "four", "five"):
        calls = [
            stubs[i % 3].save.future(rpc.SaveRequest(key=key, text=f"text {i}"), timeout=15)
            for i in range(9)
        ]
        winners = [i for i, call in enumerate(calls) if call.result().success]
        assert len(winners) == 1
        text = stubs[0].get(rpc.KeyRequest(key=key), timeout=15).text
        assert text == f"text {winners[0]}"


def test_values_of_many_megabytes_are_kept_and_handed_over(spawn):
    ring = Ring(spawn, 2)
    text = "ö" * 3_000_000
    assert ring.ask(f"save big {text}", at=ring.nodes[0])[0].startswith("True, big is saved")
    ring.join()
    ring.nodes[0].interrupt()
    assert ring.nodes[0].wait(3) == 0
    assert ring.ask("get big", at=ring.nodes[2])[1] == text


def test_keys_are_any_text_but_none(spawn):
    ring = Ring(spawn, 1)
    lines = ['save "Набережные Челны" ÿ \U0001f600', 'get "Набережные Челны"', 'save "" x', "find"]
    answers = ring.ask(*lines, at=ring.nodes[0])
    assert answers[:2] == ["True, Набережные Челны is saved in node 24"] * 2
    assert answers[2] == "ÿ \U0001f600"
    assert len(answers) == 5 and "needs a key" in answers[3] and "needs one key" in answers[4]


def test_a_full_ring_works_and_admits_no_other_node(spawn, rpc):
    ring = Ring(spawn, 4, m=2)
    assert_all_found(rpc, ring, save_some(rpc, ring, 12))
    fifth = ring.start_node()
    assert fifth.wait(5) == 1
    assert fifth.out == "" and "full" in fifth.err and len(fifth.err.splitlines()) == 1


def test_the_first_node_hands_all_over_to_the_second_that_has_just_joined(spawn, rpc):
    ring = Ring(spawn, 1)
    keys = save_some(rpc, ring, 1000)
    first = ring.nodes.pop()
    ring.join()
    first.interrupt()
    assert (first.wait(), first.err) == (0, "")
    assert_all_found(rpc, ring, keys)


def test_neighbours_that_leave_at_once_lose_nothing(spawn, rpc):
    ring = Ring(spawn, 6)
    keys = save_some(rpc, ring, 200)
    leaving, ring.nodes = ring.nodes[:5], ring.nodes[5:]
    for node in leaving:
        node.interrupt()
    assert [node.wait() for node in leaving] == [0] * 5
    assert_all_found(rpc, ring, keys)


def test_rings_that_use_the_port_of_a_dead_node_do_not_mix(spawn, rpc):
    one, other = Ring(spawn, 2), Ring(spawn, 1)
    wait_until(lambda: rpc.is_whole(one), "both nodes to be in sync")
    keys = save_some(rpc, one, 30)
    one.nodes[1].kill()
    stranger = other.join(one.nodes.pop().port)
    one.join()
    stub = rpc.node(stranger)
    for key in keys:
        assert not stub.find(rpc.KeyRequest(key=key), timeout=15).success, key
    assert_all_found(rpc, one, keys)
    assert [len(rpc.members(ring)) for ring in (one, other)] == [2, 2]


def test_the_last_node_says_how_many_keys_go_with_it(spawn, rpc):
    ring = Ring(spawn, 1)
    save_some(rpc, ring, 3)
    ring.nodes[0].interrupt()
    assert ring.nodes[0].wait() == 0
    assert ring.nodes[0].err == "Node.py: the last node of the ring; 3 keys go with it\n"


def test_a_node_that_leaves_without_a_registry_says_so_and_loses_nothing(spawn, rpc):
    ring = Ring(spawn, 4)
    wait_until(lambda: rpc.is_whole(ring), "all nodes to be in sync")
    keys = save_some(rpc, ring)
    ring.registry.kill()
    leaver = ring.nodes.pop(0)
    leaver.interrupt()
    assert leaver.wait() == 0
    assert re.fullmatch(r"Node.py: no registry answers at .*; its keys are .*\n", leaver.err)
    ring.start_registry()
    assert_all_found(rpc, ring, keys)


def test_a_second_ctrl_c_ends_a_node_that_waits_for_a_neighbour_and_says_what_it_gives_up(
    spawn, rpc
):
    ring = Ring(spawn, 2)
    wait_until(lambda: rpc.is_whole(ring), "both nodes to be in sync")
    save_some(rpc, ring, 10)
    other, node = ring.nodes
    other.pause()
    node.interrupt()
    node.expect_err(r"Node.py: still handing over \d+ keys to node 24; Ctrl-C ends it at once")
    node.interrupt()
    assert node.wait() == 1
    assert re.search(r"Node.py: ended while handing over \d+ keys to node 24\n$", node.err)
    other.resume()


def test_all_nodes_may_leave_at_once(spawn):
    ring = Ring(spawn, 5)
    for node in ring.nodes:
        node.interrupt()
        node.interrupt()
    for node in ring.nodes:
        assert node.wait(3) == 0
        assert node.err == ""
    wait_until(lambda: ring.ask("get_info") == [], "an empty ring")


def test_a_node_without_a_registry_gives_up_within_5_s(spawn):
    node = spawn("lab05_chord/Node.py", f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    begun = time.monotonic()
    assert node.wait() == 1
    assert time.monotonic() - begun < 6  # and a second for a busy machine
    assert node.out == "" and "no registry" in node.err and len(node.err.splitlines()) == 1


def test_a_node_whose_port_is_taken_registers_nowhere(spawn):
    ring = Ring(spawn, 1)
    address = f"127.0.0.1:{ring.nodes[0].port}"
    node = spawn("lab05_chord/Node.py", ring.address, address)
    assert node.wait() == 1
    assert address in node.err and len(node.err.splitlines()) == 1
    assert ring.ask("get_info") == [f"24: {address}"]
    registry = spawn("lab05_chord/Registry.py", ring.address, 5)
    assert registry.wait() == 1
    assert ring.address in registry.err and len(registry.err.splitlines()) == 1


def test_port_0_is_any_port_and_is_named(spawn):
    registry = spawn("lab05_chord/Registry.py", "0", 5)
    address = f"127.0.0.1:{registry.port()}"
    node = spawn("lab05_chord/Node.py", address, "127.0.0.1:0")
    port = node.port()
    node.expect("assigned node_id=24, successor_id=24, predecessor_id=24")
    client = spawn("lab05_chord/Client.py")
    client.send(f"connect {address}")
    client.send("get_info")
    client.expect(f"24: 127.0.0.1:{port}")
    client.close_stdin()
    assert client.wait() == 0


def test_others_reach_a_node_by_what_it_announces(spawn, rpc):
    """On all addresses, and behind a relay as behind NAT."""
    ring = Ring(spawn, 1)
    inside = free_port()
    with TcpRelay(inside) as relay:
        outside = f"127.0.0.1:{relay.port}"
        hidden = spawn(
            "lab05_chord/Node.py", ring.address, f"0.0.0.0:{inside}", "--announce", outside
        )
        open_to_all = spawn(
            "lab05_chord/Node.py", ring.address, "0.0.0.0:0", "--announce", "localhost:0"
        )
        port = open_to_all.port()
        for node in (hidden, open_to_all):
            node.expect("assigned .*")
        addresses = {line.split(": ")[1] for line in ring.ask("get_info")}
        first = ring.nodes[0]
        assert addresses == {f"127.0.0.1:{first.port}", outside, f"localhost:{port}"}
        keys = save_some(rpc, ring, 20)
        assert_all_found(rpc, ring, keys)
        owners = {rpc.node(first).find(rpc.KeyRequest(key=k), timeout=15).node_id for k in keys}
        assert len(owners) == 3
        for node in (open_to_all, hidden, first):
            node.interrupt()
            assert node.wait() == 0


def test_a_node_that_announces_the_address_of_another_is_refused(spawn):
    ring = Ring(spawn, 1)
    taken = f"127.0.0.1:{ring.nodes[0].port}"
    address = f"127.0.0.1:{free_port()}"
    node = spawn("lab05_chord/Node.py", ring.address, address, "--announce", taken)
    assert node.wait() == 1
    assert taken in node.err and len(node.err.splitlines()) == 1
    assert ring.ask("get_info") == [f"{ring.nodes[0].id}: {taken}"]


def test_nodes_that_join_at_once_and_the_registry_print_the_same_lines(spawn):
    ring = Ring(spawn, 0)
    nodes = [ring.start_node() for _ in range(5)]
    printed = [node.expect("assigned .*")[0] for node in nodes]

    def lines_of_the_registry():
        lines = [line for line in ring.registry.lines if line.startswith("assigned")]
        return len(lines) == len(nodes) and lines

    lines = wait_until(lines_of_the_registry)
    assert sorted(lines) == sorted(printed)
    members = []  # in the order of the lines each follows from those before it
    for line in lines:
        id, successor, predecessor = map(int, re.findall(r"=(\d+)", line))
        members.append(id)
        circle = sorted(members)
        at = circle.index(id)
        assert successor == circle[(at + 1) % len(circle)], lines
        assert predecessor == circle[at - 1], lines
    assert sorted(members) == sorted(IDS[:5])


def test_a_line_of_the_wrong_form_gets_one_that_shows_the_right_one(spawn):
    ring = Ring(spawn, 1)
    lines = ["save 'Nizhny Novgorod' x", 'save "Kazan x', "save Kazan", "find Some Key", "get 'a'"]
    saving = 'save needs a key and a text: save "some key" some text'
    assert ring.ask(*lines, at=ring.nodes[0]) == [
        *[saving] * 3,
        'find needs one key: find "some key"',
        'get needs one key: get "some key"',
    ]


def test_a_node_waits_for_a_registry_that_starts_a_little_later(spawn):
    port = free_port()
    node = spawn("lab05_chord/Node.py", f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    spawn("lab05_chord/Registry.py", port, 5)
    node.expect("assigned node_id=24, .*")


def test_ctrl_c_ends_everything_within_a_second(spawn):
    ring = Ring(spawn, 3)
    client = spawn("lab05_chord/Client.py", tty=True)
    client.expect("> ")
    client.send(f"connect 127.0.0.1:{ring.nodes[0].port}")
    client.expect("Connected to Node")
    for script in (client, *ring.nodes, ring.registry):
        begun = time.monotonic()
        script.interrupt()
        assert script.wait() == 0
        assert time.monotonic() - begun < 2  # and a second for a busy machine
        assert "Traceback" not in script.err


def test_the_client_answers_every_line_until_the_end_of_its_input(spawn):
    client = spawn("lab05_chord/Client.py")
    for line in ("", "help", "foo bar", "find x", "get_info", "connect nowhere", "\udcff"):
        client.send(line)
    client.close_stdin()
    assert client.wait() == 0
    assert client.err == ""
    assert len(client.lines) == 6
    assert "commands:" in client.lines[0] and "commands:" in client.lines[1]


def test_output_without_a_reader_stops_no_server(labs):
    """As with `python3 Registry.py ... | head -1`."""
    folder, port = labs / "lab05_chord", free_port()
    registry = subprocess.Popen(
        [sys.executable, "Registry.py", str(port), "5"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **dict([harness.MARK.split("=")])},
    )
    registry.stdout.readline()
    registry.stdout.close()
    nodes = [
        harness.Script(folder / "Node.py", f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
        for _ in range(2)
    ]
    try:
        for node in nodes:
            node.expect("assigned")
        registry.terminate()
        assert registry.wait(5) == 0
        assert registry.stderr.read() == b""
    finally:
        for node in nodes:
            node.stop()
        registry.kill()
        registry.stderr.close()


FULL_PIPES = """
import os, sys
kept, pipe = os.pipe()
os.set_blocking(pipe, False)
try:
    while os.write(pipe, bytes(4096)):
        pass
except BlockingIOError:
    os.set_blocking(pipe, True)
os.set_inheritable(kept, True)
for fd in (1, 2):
    os.dup2(pipe, fd)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_ring_whose_lines_have_no_reader_serves_all_the_same(spawn, rpc, tmp_path):
    (tmp_path / "start.py").write_text(FULL_PIPES)

    def unread(script, *arguments):
        return spawn(tmp_path / "start.py", harness.ROOT / script, *arguments)

    ring = Ring(unread, 0)
    for _ in range(3):
        ring.start_node()
    wait_until(lambda: rpc.is_whole(ring), "all nodes to be in the ring")
    assert_all_found(rpc, ring, save_some(rpc, ring, 10))
    ring.nodes[0].kill()
    wait_until(lambda: rpc.is_whole(ring), "the ring without the dead node")
    for script in (ring.registry, *ring.nodes[1:]):
        script.interrupt()
        assert script.wait(5) == 0


def test_info_and_keys_tell_what_each_node_has(spawn):
    registry = spawn("lab05_chord/Registry.py", "127.0.0.1:0", 5)
    address = f"127.0.0.1:{registry.port()}"
    ports = [free_port() for _ in range(4)]
    nodes = []
    for port in ports:  # with the ids 24, 26, 2 and 16
        nodes.append(spawn("lab05_chord/Node.py", address, f"127.0.0.1:{port}"))
        nodes[-1].expect("assigned")
    client = spawn("lab05_chord/Client.py")
    for line in ("info", "keys", f"connect 127.0.0.1:{ports[1]}"):
        client.send(line)
    for key in ("Kazan", "Moscow", "Minsk", "gone"):  # on the nodes 24, 26 and 16
        client.send(f"save {key} text")
    for line in ("remove gone", "keys", "info", f"connect {address}", "info", "keys"):
        client.send(line)
    client.expect("Not connected: connect <ip:port> comes first\nNot connected to a node: ")
    client.expect("^True, gone is removed .*\nMoscow\n26: ")
    client.expect("Connected to Registry\n")
    lines = []
    for id, port, predecessor in zip((24, 26, 2, 16), ports, (16, 24, 26, 2), strict=True):
        place = rf"^{id}: 127.0.0.1:{port}, (\d) keys, (\d) replicas, predecessor {predecessor}, "
        lines.append(client.expect(place + r"epoch 4$"))
    assert [int(line[1]) for line in lines] == [1, 1, 0, 1]
    assert sum(int(line[2]) for line in lines) == 6  # two of each key
    client.expect("Not connected to a node: ")
    nodes[2].kill()
    client.send("info")
    client.expect(f"^127.0.0.1:{ports[2]} is unavailable\n16: ")
