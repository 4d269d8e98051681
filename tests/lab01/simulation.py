"""Lab 1's two sides in virtual time, over a network that misbehaves by seed."""

import random

from tests.lab01.memory import Uploads
from tests.support.harness import ROOT, load
from tests.support.simnet import Network, Simulation

core = load(ROOT / "lab01_udp/stop_and_wait.py")
TICK = 0.01  # s: how often each side looks at its clock


class Server:
    def __init__(self, sim, net, buf_size):
        self.sim, self.net, self.uploads = sim, net, Uploads()
        self.receiver = core.Receiver(self.uploads.create, lambda address: buf_size)
        net.attach("server", self.receive)
        self.tick()

    def receive(self, client, datagram):
        try:
            ack = self.receiver.receive(datagram, client, self.sim.now)
        except core.Refused:
            return
        self.net.send("server", client, ack)

    def tick(self):
        self.receiver.expire(self.sim.now)
        self.sim.after(TICK, self.tick)


class Client:
    """One upload; `result` is None until it has succeeded (True) or failed (False)."""

    def __init__(self, sim, net, name, data):
        self.sim, self.net, self.name, self.data = sim, net, name, data
        self.sender = core.Sender(name, len(data), seqno0=sim.random.randrange(3))
        self.result = None
        net.attach(name, self.receive)
        self.send(self.sender.start(sim.now))
        self.tick()

    def send(self, message):
        self.net.send(self.name, "server", message)

    def receive(self, source, datagram):
        if self.result is None and self.sender.receive(datagram):
            if self.sender.finished:
                self.result = True
            else:
                sent = self.sender.sent
                piece = self.data[sent : sent + self.sender.room]
                self.send(self.sender.data(piece, self.sim.now))

    def tick(self):
        if self.result is not None:
            return
        try:
            again = self.sender.tick(self.sim.now)
        except core.TransferFailed:
            self.result = False
            return
        if again:
            self.send(again)
        self.sim.after(TICK, self.tick)


def transfer(seed, clients=1, **faults):
    """Run uploads to their end; return the clients and the server."""
    sim = Simulation(seed)
    net = Network(sim, **faults)
    server = Server(sim, net, buf_size=sim.random.choice([20, 50, 1000]))
    sizes = random.Random(seed)
    uploads = [
        Client(sim, net, f"file{k}", sizes.randbytes(sizes.choice([0, 1, 11, 12, 13, 400])))
        for k in range(clients)
    ]
    ended = sim.run_until(lambda: all(c.result is not None for c in uploads), limit=3600.0)
    assert ended, f"seed {seed}: an upload never ends"
    for client in uploads:
        if client.result or client.name in server.uploads:
            assert server.uploads.get(client.name) == client.data, f"seed {seed}: wrong file"
    sim.run(until=sim.now + 5.0)
    assert not server.receiver.sessions, f"seed {seed}: a session stays"
    assert not server.uploads.open, f"seed {seed}: an unfinished file stays"
    return uploads, server
