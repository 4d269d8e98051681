"""Lab 5, the real scripts: the assignment's example, then addresses, output and the end."""

import functools
import re
import signal
import time

import pytest

from tests.lab05.example import EXAMPLE, FINGERS
from tests.lab05.ring import Ring, assert_all_found, save_some
from tests.support.harness import wait_until
from tests.support.ports import free_port
from tests.support.relays import TcpRelay

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


# --- The assignment ---


def test_the_example_of_the_assignment_holds_to_the_letter(example):
    assert [node.id for node in example.nodes] == EXAMPLE
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


# --- Ours ---


def test_a_full_ring_works_and_admits_no_other_node(spawn, rpc):
    ring = Ring(spawn, 4, m=2)
    assert_all_found(rpc, ring, save_some(rpc, ring, 12))
    fifth = ring.start_node()
    assert fifth.wait(5) == 1
    assert fifth.out == "" and "full" in fifth.err and len(fifth.err.splitlines()) == 1


def test_a_node_without_a_registry_gives_up_soon(spawn):
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
    assert sorted(members) == sorted(EXAMPLE[:5])


def test_a_node_waits_for_a_registry_that_starts_a_little_later(spawn):
    port = free_port()
    node = spawn("lab05_chord/Node.py", f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    spawn("lab05_chord/Registry.py", port, 5)
    node.expect("assigned node_id=24, .*")


def test_ctrl_c_ends_everything_soon(spawn):
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


def test_output_without_a_reader_stops_no_server(spawn):
    """As with `python3 Registry.py ... | head -1`."""
    port = free_port()
    registry = spawn("lab05_chord/Registry.py", port, 5, head=True)
    registry.port()
    registry.out_stream.join(5)
    for _ in range(2):
        node = spawn("lab05_chord/Node.py", f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
        node.expect("assigned")
    registry.signal(signal.SIGTERM)
    assert registry.wait(5) == 0
    assert registry.err == ""


FULL_PIPES = """
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
"""


def test_a_ring_whose_lines_have_no_reader_serves_all_the_same(spawn_after, rpc):
    ring = Ring(functools.partial(spawn_after, FULL_PIPES), 0)
    for _ in range(3):
        ring.start_node()
    wait_until(lambda: rpc.is_whole(ring), "all nodes to be in the ring")
    assert_all_found(rpc, ring, save_some(rpc, ring, 10))
    ring.nodes[0].kill()
    wait_until(lambda: rpc.is_whole(ring), "the ring without the dead node")
    for script in (ring.registry, *ring.nodes[1:]):
        script.interrupt()
        assert script.wait(5) == 0
