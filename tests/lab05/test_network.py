"""Lab 5's connections: what shares one, when they are closed, and when they die without a word."""

import contextlib
import time

import pytest

from tests.support.harness import LOSSY, ROOT, load, pass_time, wait_until
from tests.support.relays import TcpRelay

wire = load(ROOT / "lab05_chord/wire.py")
values = wire.values
REGISTRY_PORT, NODE_PORT = 5000, 5001


# --- channels ---


class Obedient(wire.services.NodeServiceServicer):
    """A node that agrees to all."""

    def replicate(self, request, context):
        return wire.messages.Ack(accepted=True)

    def digest(self, request, context):
        return wire.messages.Digest(accepted=True)


@contextlib.contextmanager
def relayed():
    """Yield a relay before a node, and what calls the node over it."""
    server = wire.new_server()
    wire.services.add_NodeServiceServicer_to_server(Obedient(), server)
    with TcpRelay(server.add_insecure_port("127.0.0.1:0")) as relay:
        server.start()
        threads = wire.Threads()

        def call(method, request, timeout=5):
            deadline = time.monotonic() + (timeout if LOSSY else 0)
            while True:
                try:
                    return threads.call(f"127.0.0.1:{relay.port}", method, request, timeout).block()
                except values.Unreachable:
                    if time.monotonic() >= deadline:
                        raise
                time.sleep(0.05)

        try:
            yield relay, call
        finally:
            for channel in threads.channels._open:
                channel.close()
            server.stop(0).wait()


def copies(size):
    return values.Copies(1, 1, (values.Record("key", 1, "x" * size),))


@pytest.mark.parametrize(
    "method, request_",
    [
        ("replicate", copies(100_000)),
        ("digest", values.DigestRequest(1, wire.chord.View(), 1, 1)),
    ],
)
def test_what_may_be_large_has_a_connection_of_its_own(method, request_):
    with relayed() as (relay, call):
        for _ in range(2):
            call("replicate", copies(10_000))
        assert relay.connections == 1
        for _ in range(2):
            call(method, request_)
        assert relay.connections == 2


def test_a_connection_that_is_not_used_is_closed_and_comes_back_with_the_next_call(monkeypatch):
    monkeypatch.setattr(wire, "CONNECTION_IDLE_TIMEOUT", 1.0)  # the least that gRPC takes
    with relayed() as (relay, call):
        for size in (1, 100_000):
            call("replicate", copies(size))
        assert LOSSY or relay.connections == 2
        wait_until(lambda: relay.connections == 0, "the connections to be closed", 5)
        for size in (1, 100_000):
            assert call("replicate", copies(size)).accepted


def test_channels_to_addresses_that_are_long_gone_are_forgotten(monkeypatch):
    channels = wire.Channels()
    for port in range(1, 50):
        channels.replace_silent(channels.to(f"127.0.0.1:{port}", bulk=port % 2))
    monkeypatch.setattr(wire, "CHANNEL_IDLE_TIMEOUT", 0.2)
    pass_time(0.3)
    kept = channels.to("127.0.0.1:50")
    assert channels._open == list(channels._current.values()) == [kept]
    assert channels.to("127.0.0.1:50") is kept
    kept.close()


def test_after_a_silence_the_next_call_takes_a_new_connection(monkeypatch):
    monkeypatch.setattr(wire, "ANSWER_TIMEOUT", 0.2)
    with relayed() as (relay, call):
        call("replicate", copies(1))
        relay.hold()
        with pytest.raises(values.Unreachable):
            call("replicate", copies(1), 0.3)
        relay.release(old_connections=False)
        assert call("replicate", copies(1), 1).accepted
        assert LOSSY or relay.connections == 2


def test_one_late_answer_among_others_costs_no_connection():
    with relayed() as (relay, call):
        call("replicate", copies(1))
        relay.hold()
        with pytest.raises(values.Unreachable):
            call("replicate", copies(1), 0.1)
        relay.release()
        assert call("replicate", copies(1)).accepted
        assert LOSSY or relay.connections == 1


# --- several hosts ---


class Distributed:
    """A ring on a network: hosts[0] has the registry, each of the others a node."""

    def __init__(self, spawn, network, count):
        self.spawn, self.hosts = spawn, [network.host()]
        self.registry_address = f"{self.hosts[0].address}:{REGISTRY_PORT}"
        self.registry = self.start(self.hosts[0], "Registry.py", self.registry_address, 5)
        self.registry.expect("Registry listens")
        self.nodes = []
        for _ in range(count):
            self.join(network.host())

    def start(self, host, script, *arguments):
        return self.spawn(f"lab05_chord/{script}", *arguments, interpreter=host.python)

    def join(self, host):
        address = f"{host.address}:{NODE_PORT}"
        node = self.start(host, "Node.py", self.registry_address, address)
        node.host, node.address = host, address
        node.id = int(node.expect(r"assigned node_id=(\d+), .*")[1])
        self.hosts.append(host)
        self.nodes.append(node)
        return node

    def client(self, host, address):
        """Return a client on a host that has connected to an address there."""
        client = self.start(host, "Client.py")
        client.send(f"connect {address}")
        client.expect("Connected to .*")
        return client


def test_a_client_connects_although_its_first_packet_is_lost(spawn, network):
    ring, host = Distributed(spawn, network, 0), network.host()
    ring.hosts[0].vanish()
    client = ring.start(host, "Client.py", "-c", f"connect {ring.registry_address}")
    wait_until(lambda: "SYN-SENT" in host.run("ss", "-Htan"), "the first packet")
    ring.hosts[0].reappear()
    client.expect("Connected to Registry")


def test_connections_that_a_firewall_has_forgotten_are_made_anew(spawn, network):
    """Every node is in the ring and finds all keys within 5 s."""
    ring = Distributed(spawn, network, 3)
    clients = [ring.client(node.host, node.address) for node in ring.nodes]
    keys = ["Kazan", "Moscow", "Minsk"]  # one on each

    def finds_all(client):
        for key in keys:
            client.send(f"find {key}")
        answers = [client.expect("(True|False), .*|.* says: .*|.* is unavailable") for _ in keys]
        return all(answer[1] == "True" for answer in answers)

    for client, key in zip(clients, keys, strict=True):
        client.send(f"save {key} x")
        client.expect("True, .*")
    for client in clients:
        wait_until(lambda client=client: finds_all(client), "all to be in sync")
    network.forget_connections()
    begun = time.monotonic()
    wait_until(lambda: all([finds_all(client) for client in clients]), "all to serve", 20)
    assert time.monotonic() - begun < 6  # s; and one of these for a busy machine


def test_a_registry_that_is_cut_off_gives_the_ring_to_no_newcomer(spawn, network):
    """The nodes serve meanwhile, and the newcomer joins them when the line is mended."""
    ring = Distributed(spawn, network, 3)
    client = ring.client(ring.nodes[0].host, ring.nodes[0].address)
    client.send("save Kazan x")
    client.expect("True, Kazan is saved in node .*")
    ring.hosts[0].vanish()
    pass_time(3.5)  # a single node would be dropped
    newcomer = f"{ring.hosts[0].address}:{NODE_PORT}"
    newcomer = ring.start(ring.hosts[0], "Node.py", ring.registry_address, newcomer)
    pass_time(2.5)
    client.send("find Kazan")
    client.expect("True, Kazan is saved in node .*")
    assert not newcomer.out
    ring.hosts[0].reappear()
    newcomer.expect("assigned .*")
    client.send("find Kazan")
    client.expect("True, Kazan is saved in node .*")


def test_a_transfer_holds_up_no_other_call_between_the_same_two_nodes(spawn, network):
    ring = Distributed(spawn, network, 1)
    saver = ring.client(ring.nodes[0].host, ring.nodes[0].address)
    for number in range(8):
        saver.send(f"save key{number} {'x' * 500_000}")
        saver.expect("True, .*")
    limit = "root tbf rate 8mbit burst 16kb latency 50ms"
    ring.nodes[0].host.run("tc", "qdisc", "add", "dev", "eth0", *limit.split())
    second = ring.join(network.host())

    def find():
        saver.send("find Moscow")
        return saver.expect("False, Moscow does not exist in node .*")[0].endswith(f" {second.id}")

    wait_until(find, "the second node to serve")
    waits, ends = [], time.monotonic() + 3  # s, less than the transfer takes
    while time.monotonic() < ends:
        begun = time.monotonic()
        assert find()
        waits.append(time.monotonic() - begun)
    assert max(waits) < 0.5  # s; 0.1 when nothing else runs
