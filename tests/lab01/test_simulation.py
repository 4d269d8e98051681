"""Lab 1 in virtual time: the real Sender and Receiver over a network that misbehaves by seed."""

import pytest

from tests.lab01.simulation import Client, Server, transfer
from tests.support.simnet import Network, Simulation


@pytest.mark.parametrize("block", range(10))
def test_an_upload_is_whole_or_a_clear_failure_on_a_terrible_network(block):
    succeeded = 0
    for seed in range(100 * block, 100 * block + 100):
        (client,), _ = transfer(seed, loss=0.3, duplicate=0.2, delay=(0.001, 0.3))
        succeeded += client.result
    assert succeeded > 50


def test_every_upload_succeeds_when_datagrams_are_only_doubled_and_reordered():
    for seed in range(200):
        (client,), _ = transfer(seed, duplicate=0.5, delay=(0.001, 0.2))
        assert client.result, f"seed {seed}"
        assert client.sender.retransmissions == 0, f"seed {seed}"


def test_concurrent_uploads_do_not_disturb_each_other():
    for seed in range(40):
        clients, _ = transfer(seed, clients=8, duplicate=0.2, delay=(0.001, 0.1))
        assert all(client.result for client in clients), f"seed {seed}"


def test_a_duplicate_is_not_multiplied():
    """RFC 1123 §4.2.3.1: one duplicate costs one answer, not one for each message that follows."""
    sim = Simulation(1)
    net = Network(sim)
    sent = []
    deliver = net.send
    net.send = lambda source, target, message: (
        sent.append(message) or deliver(source, target, message)
    )
    Server(sim, net, buf_size=20)
    client = Client(sim, net, "file", bytes(400))
    net.send(*("file", "server"), sent[0])  # the start message once more
    assert sim.run_until(lambda: client.result is not None, limit=60.0)
    data_messages = [message for message in sent if message[:1] == b"d"]
    assert len(data_messages) == len(set(data_messages))
    assert len(sent) == 2 * (1 + len(data_messages)) + 2


def test_a_server_that_forgets_is_a_clear_failure():
    sim = Simulation(1)
    net = Network(sim)
    server = Server(sim, net, buf_size=20)
    client = Client(sim, net, "file", bytes(400))
    sim.run_until(lambda: client.sender.sent > 100, limit=60.0)
    server.receiver.abandon_all()  # as kill -9 and a restart do
    assert sim.run_until(lambda: client.result is not None, limit=60.0)
    assert client.result is False and "file" not in server.uploads
