"""Lab 5, a real ring that nodes join and leave: keys are handed over, and what is not is said."""

import re

from tests.lab05.ring import Ring, assert_all_found, load, save_some
from tests.support.harness import wait_until


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


def test_joining_and_leaving_under_load_loses_and_doubles_nothing(spawn, rpc):
    ring = Ring(spawn, 3)
    with load(rpc, ring) as clients:
        for _ in range(2):
            ring.join()
            leaver = ring.nodes.pop(0)
            leaver.interrupt()
            assert leaver.wait(20) == 0  # on a busy machine it may say that it is still at it
        wait_until(lambda: min(client.count for client in clients) > 30, "some load")


def test_values_of_many_megabytes_are_kept_and_handed_over(spawn):
    ring = Ring(spawn, 2)
    text = "ö" * 3_000_000
    assert ring.ask(f"save big {text}", at=ring.nodes[0])[0].startswith("True, big is saved")
    ring.join()
    ring.nodes[0].interrupt()
    assert ring.nodes[0].wait(3) == 0
    assert ring.ask("get big", at=ring.nodes[2])[1] == text


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
