"""Lab 5, a simplified Chord: what the client of a ring shows."""

import itertools
import random
import re
import string
import time
import zlib

from tests.grading.lab05_ring import FIRST_NODE_PORT, LINE, REGISTRY_PORT, M, Ring, fingers
from tests.grading.scene import Scene, check

EXAMPLE_IDS = [24, 26, 2, 16, 31, 25]


def words() -> itertools.chain:
    """Return endless words of letters."""
    chance = random.Random(5)
    return (
        "".join(chance.choices(string.ascii_lowercase, k=6)).capitalize() for _ in itertools.count()
    )


def keys_for(ring: Ring, per_node: int = 1) -> list[str]:
    """Return keys such that every node owns some of them, no two with the same id."""
    wanted = dict.fromkeys(ring.ids.values(), per_node)
    used, found = set(), []
    for word in itertools.islice(words(), 3000):
        k = zlib.adler32(word.encode()) % 2**ring.m
        if wanted[ring.owner(word)] and k not in used:
            wanted[ring.owner(word)] -= 1
            used.add(k)
            found.append(word)
    return found


def save_all(ring: Ring, keys: list[str]) -> None:
    """Save keys, each asked at another node."""
    ring.learn_quotes()
    for k, key in enumerate(keys):
        port = list(ring.ids)[k % len(ring.ids)]
        result = ring.save(key, f"the text of {key}", port)
        ring.check_result(
            result, True, ring.owner(key), f"save {key}, asked at node {ring.ids[port]}"
        )


def gate(scene: Scene) -> None:
    """Registry and two nodes start, and the client lists them."""
    Ring(scene, 2)


def registry_lists_all_nodes(scene: Scene) -> None:
    ring = Ring(scene, 6)
    shown = ring.info(None, LINE)
    check(
        sorted(port for _, port in shown) == sorted(ring.nodes),
        "six lines `id: address`",
        ring.client.tail(),
    )
    ids = [node_id for node_id, _ in shown]
    check(
        len(set(ids)) == 6 and all(0 <= i < 2**M for i in ids),
        "six different ids from 0 to 31",
        repr(ids),
    )


def ids_are_those_of_the_example(scene: Scene) -> None:
    ring = Ring(scene, 6, in_order=True)
    ids = [ring.ids[port] for port in ring.nodes]
    check(ids == EXAMPLE_IDS, f"the ids {EXAMPLE_IDS}", repr(ids))


def client_tells_registry_from_node(scene: Scene) -> None:
    ring = Ring(scene, 1)
    ring.target = None
    text = ring.connect(None)
    check(
        re.search("regist", text, re.I), "Connected to Registry", text.strip() or ring.client.tail()
    )
    text = ring.connect(next(iter(ring.nodes)))
    check(
        re.search("node", text, re.I) and not re.search(r"to\s+regist", text, re.I),
        "Connected to Node",
        text.strip() or ring.client.tail(),
    )
    text = ring.connect(scene.port(5999))
    check(
        not re.search(r"^\W*(success\w* )?connected to (node|regist)", text, re.I | re.M),
        "a line that nothing is there",
        text.strip(),
    )


def finger_tables_are_right(scene: Scene) -> None:
    ring = Ring(scene, 6)
    for port, node_id in ring.ids.items():
        shown = [i for i, _ in ring.info(port)]
        wanted = fingers(node_id, ring.ids.values(), M)
        check(
            [i for i in shown if i != node_id] == wanted or set(shown) - {node_id} == set(wanted),
            f"the finger table of node {node_id}: {wanted}",
            f"{shown}\n{ring.client.tail()}",
        )


def save_goes_to_the_owner(scene: Scene) -> None:
    ring = Ring(scene, 6)
    save_all(ring, keys_for(ring, 2))


def find_is_the_same_everywhere(scene: Scene) -> None:
    ring = Ring(scene, 6)
    keys = keys_for(ring)[:5]
    save_all(ring, keys)
    ring.check_found(keys)


def missing_key_is_not_found(scene: Scene) -> None:
    ring = Ring(scene, 3)
    save_all(ring, keys_for(ring)[:2])
    result = ring.find("Nowhere", next(iter(ring.ids)))
    check(not result.success, "find Nowhere: False", result.text.strip())
    result = ring.remove("Nowhere", next(iter(ring.ids)))
    check(not result.success, "remove Nowhere: False", result.text.strip())


def second_save_of_a_key_fails(scene: Scene) -> None:
    ring = Ring(scene, 3)
    keys = keys_for(ring)[:3]
    save_all(ring, keys)
    for port in ring.ids:
        for key in keys:
            result = ring.save(key, "other text", port)
            check(not result.success, f"save {key} again: False", result.text.strip())
    ring.check_found(keys)


def removed_key_is_gone(scene: Scene) -> None:
    ring = Ring(scene, 6)
    keys = keys_for(ring)
    save_all(ring, keys)
    ports = list(ring.ids)
    for k, key in enumerate(keys[:4]):
        result = ring.remove(key, ports[(k + 2) % 6])
        ring.check_result(result, True, ring.owner(key), f"remove {key}")
        for port in (ports[k], ports[k - 1]):
            result = ring.find(key, port)
            check(not result.success, f"find {key} after its removal: False", result.text.strip())
    result = ring.save(keys[0], "new text", ports[0])
    ring.check_result(result, True, ring.owner(keys[0]), f"save {keys[0]} again after its removal")


def keys_move_to_a_node_that_joins(scene: Scene) -> None:
    ring = Ring(scene, 2)
    keys = [word for word in itertools.islice(words(), 40)]
    by_id = {zlib.adler32(word.encode()) % 2**M: word for word in keys}
    keys = list(by_id.values())[:14]
    save_all(ring, keys)
    for _ in range(3):
        ring.join()
    ring.check_found(keys, list(ring.ids)[-2:])


def keys_move_from_a_node_that_leaves(scene: Scene) -> None:
    ring = Ring(scene, 5)
    keys = keys_for(ring, 2)
    save_all(ring, keys)
    for port in list(ring.ids)[1:4:2]:
        ring.leave(port)
    ring.check_found(keys, list(ring.ids)[:2])


def finger_tables_follow_a_leave(scene: Scene) -> None:
    ring = Ring(scene, 6)
    before = {port: table(ring, port) for port in ring.ids}
    right = [port for port in ring.ids if before[port] == right_table(ring, port)]
    gone = list(ring.ids)[2]
    gone_id = ring.ids[gone]
    ring.leave(gone)
    for port, node_id in ring.ids.items():
        shown, wanted = table(ring, port), right_table(ring, port)
        # A table that was wrong before costs another test.
        fine = shown == wanted if port in right else gone_id not in shown
        expected = f"the finger table of node {node_id}: {wanted}"
        check(fine, expected, f"{shown}\n{ring.client.tail()}")


def table(ring: Ring, port: int) -> set[int]:
    """Return the ids in the finger table that a node shows."""
    return {i for i, _ in ring.info(port)} - {ring.ids[port]}


def right_table(ring: Ring, port: int) -> set[int]:
    return set(fingers(ring.ids[port], ring.ids.values(), ring.m))


def ring_of_one_works(scene: Scene) -> None:
    ring = Ring(scene, 1)
    keys = ["Kazan", "Moscow", "Minsk"]
    save_all(ring, keys)
    ring.check_found(keys)
    result = ring.remove("Kazan", next(iter(ring.ids)))
    ring.check_result(result, True, ring.owner("Kazan"), "remove Kazan")


def keys_of_one_id_do_not_collide(scene: Scene) -> None:
    ring = Ring(scene, 2)
    by_id: dict[int, list[str]] = {}
    for word in itertools.islice(words(), 200):
        by_id.setdefault(zlib.adler32(word.encode()) % 2**M, []).append(word)
    keys = max(by_id.values(), key=len)[:3]
    save_all(ring, keys)
    ring.check_found(keys)


def full_ring_takes_no_node(scene: Scene) -> None:
    ring = Ring(scene, 2, m=1)
    check(sorted(ring.ids.values()) == [0, 1], "the ids 0 and 1 for m=1", repr(ring.ids))
    number = FIRST_NODE_PORT + 2
    scene.start("node", f"127.0.0.1:{scene.port(REGISTRY_PORT)}", f"127.0.0.1:{scene.port(number)}")
    scene.note_step("the ring of m=1 has two nodes already")
    time.sleep(3)
    shown = [port for _, port in ring.info(None)]
    check(
        sorted(shown) == sorted(ring.nodes),
        "the registry lists its two nodes as before",
        ring.client.tail(),
    )


def larger_ring_works(scene: Scene) -> None:
    ring = Ring(scene, 9, m=8)
    keys = keys_for(ring)[:6]
    save_all(ring, keys)
    ring.check_found(keys, list(ring.ids)[::4])
