"""Lab 5, a real ring whose nodes and registry are killed, hang and come back, under load."""

import time

from tests.lab05.example import EXAMPLE
from tests.lab05.ring import Ring, assert_all_found, load, save_some
from tests.support.harness import pass_time, wait_until


def test_after_kill_9_of_two_neighbours_all_keys_are_found_soon(spawn, rpc):
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
    assert newcomer.id not in EXAMPLE[:5]
    assert rpc.members(ring)[:5] == before
    assert_all_found(rpc, ring, keys)


def test_nodes_serve_for_long_without_the_registry(spawn, rpc):
    ring = Ring(spawn, 3)
    keys = save_some(rpc, ring, 5)
    ring.registry.kill()
    stub, ends = rpc.node(ring.nodes[0]), time.monotonic() + 4
    durations = []
    while time.monotonic() < ends:
        for key in keys:
            asked = time.monotonic()
            assert stub.find(rpc.KeyRequest(key=key), timeout=15).success
            durations.append(time.monotonic() - asked)
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
    pass_time(3.5)  # a single node would be dropped
    newcomer = ring.start_node()
    pass_time(2.5)
    assert rpc.members(ring) == [24, 26, 2, 16]
    for node in ring.nodes:
        node.resume()
    assert newcomer.expect("assigned .*")
    assert_all_found(rpc, ring, keys)


def test_a_ring_whose_nodes_are_all_dead_admits_a_new_one(spawn, rpc):
    ring = Ring(spawn, 3)
    for node in ring.nodes:
        node.kill()
    newcomer = ring.join().id
    wait_until(lambda: rpc.members(ring) == [newcomer], "the dead ones to be dropped")


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
