"""A Chord ring of real processes, gRPC to it, and clients that load it."""

import contextlib
import itertools
import threading
import time

from tests.support import harness
from tests.support.harness import wait_until
from tests.support.ports import free_port, listens

# A channel option: calls wait for the connection, even if the first attempt is lost.
PATIENT = ("grpc.service_config", '{"methodConfig": [{"name": [{}], "waitForReady": true}]}')


class Ring:
    """A registry and its nodes, each a process; nodes[i] has `.port` and `.id`."""

    def __init__(self, spawn, count, m=5):
        self.spawn, self.m = spawn, m
        self.port = free_port()
        self.start_registry()
        self.nodes = []
        for _ in range(count):
            self.join()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start_registry(self):
        self.registry = self.spawn("lab05_chord/Registry.py", self.address, self.m)
        wait_until(lambda: listens(self.port), "the registry to listen")

    def start_node(self, port=None):
        port = port or free_port()
        node = self.spawn("lab05_chord/Node.py", self.address, f"127.0.0.1:{port}")
        node.port, node.id = port, None
        self.nodes.append(node)
        return node

    def join(self, port=None):
        node = self.start_node(port)
        node.id = int(node.expect(r"assigned node_id=(\d+), .*")[1])
        return node

    def node(self, id):
        return next(node for node in self.nodes if node.id == id)

    def ask(self, *lines, at=None):
        """Return what a client prints for commands, sent to the registry or a node."""
        client = self.spawn("lab05_chord/Client.py")
        client.send(f"connect {self.address if at is None else f'127.0.0.1:{at.port}'}")
        for line in lines:
            client.send(line)
        client.send("quit")
        assert client.wait() == 0
        return client.lines[1:]

    def fingers(self):
        """Return {id: the lines of get_info at that node}, of all nodes."""
        client = self.spawn("lab05_chord/Client.py")
        for node in self.nodes:
            client.send(f"connect 127.0.0.1:{node.port}")
            client.send("get_info")
        client.send("quit")
        assert client.wait() == 0
        texts = client.out.split("Connected to Node\n")[1:]
        return {node.id: text.splitlines() for node, text in zip(self.nodes, texts, strict=True)}


class Rpc:
    """gRPC as the lab sets it up; messages are attributes, `rpc.node(script)` gives a stub."""

    def __init__(self):
        self._module = harness.load(harness.ROOT / "lab05_chord/rpc.py")
        self._messages, self._services = self._module.compile_proto("chord.proto")
        self._channels = {}
        self.error = self._module.grpc.RpcError

    def __getattr__(self, name):
        return getattr(self._messages, name)

    def channel(self, port):
        if port not in self._channels:
            options = [*self._module.CHANNEL_OPTIONS, *([PATIENT] if harness.LOSSY else [])]
            open_channel = self._module.grpc.insecure_channel
            self._channels[port] = open_channel(f"127.0.0.1:{port}", options=options)
        return self._channels[port]

    def node(self, script):
        return self._services.NodeServiceStub(self.channel(script.port))

    def registry(self, ring):
        return self._services.RegistryServiceStub(self.channel(ring.port))

    def members(self, ring):
        """Return the ids of the ring, as its registry lists them."""
        reply = self.registry(ring).get_chord_info(self.Empty(), timeout=5)
        return [node.id for node in reply.nodes]

    def is_whole(self, ring):
        """Tell whether just the running nodes are in the ring, and all of them are in sync."""
        registry = self.registry(ring)
        try:
            nodes = registry.get_chord_info(self.Empty(), timeout=5).nodes
            answer = registry.populate_finger_table(self.Heartbeat(id=-1), timeout=5)
        except self.error:
            return False
        running = {f"127.0.0.1:{node.port}" for node in ring.nodes if node.running}
        return {n.address for n in nodes} == running and answer.all_in_sync and answer.epoch > 0

    def close(self):
        for channel in self._channels.values():
            channel.close()


class Load(threading.Thread):
    """A client that hardly pauses: saves, finds and removes keys of its own through all nodes.

    `dictionary` is what its acknowledged operations must have left; keys of operations without an
    answer are in `unknown`, and not used again. `wrong` lists answers a dictionary would not give.
    """

    def __init__(self, rpc, ring, name):
        super().__init__()
        self.rpc, self.ring, self.name = rpc, ring, name
        self.dictionary, self.unknown, self.wrong, self.count = {}, set(), [], 0
        self.slowest = 0.0
        self.stopping = threading.Event()
        self.stubs = {}
        self.start()

    def run(self):
        for number in itertools.count():
            if self.stopping.wait(0.005):  # s: or a few clients are all that the machine does
                return
            nodes = [node for node in list(self.ring.nodes) if node.running]
            node = nodes[number % len(nodes)]
            stub = self.stubs.setdefault(node.port, self.rpc.node(node))
            key = f"{self.name} {number // 3}"
            begun = time.monotonic()
            try:
                self.one(stub, key, ("save", "get", "remove")[number % 3], number)
                self.slowest = max(self.slowest, time.monotonic() - begun)
            except self.rpc.error:
                self.unknown.add(key)

    def one(self, stub, key, what, number):
        if key in self.unknown or (what == "remove" and number % 2):
            return
        if what == "save":
            request = self.rpc.SaveRequest(key=key, text=f"text {number}")
        else:
            request = self.rpc.KeyRequest(key=key)
        reply = getattr(stub, what)(request, timeout=15)
        self.count += 1
        if not reply.success or (what == "get" and reply.text != self.dictionary[key]):
            self.wrong.append((what, key, reply))
        if what == "save":
            self.dictionary[key] = request.text
        elif what == "remove":
            del self.dictionary[key]

    def stop(self):
        self.stopping.set()
        self.join()


@contextlib.contextmanager
def load(rpc, ring, clients=3):
    """Run clients meanwhile; afterwards no answer was wrong, and all that was saved is there."""
    threads = [Load(rpc, ring, f"client {number}") for number in range(clients)]
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
    assert [wrong for thread in threads for wrong in thread.wrong] == []
    stubs = [rpc.node(node) for node in ring.nodes if node.running]
    for thread in threads:
        removed = {f"{thread.name} {i}" for i in range(thread.count // 3)}
        for key in removed - set(thread.dictionary) - thread.unknown:
            assert not stubs[0].find(rpc.KeyRequest(key=key), timeout=15).success, key
        for key, text in thread.dictionary.items():
            if key not in thread.unknown:
                stub = stubs[len(key) % len(stubs)]
                assert stub.get(rpc.KeyRequest(key=key), timeout=15).text == text, key


def save_some(rpc, ring, count=60):
    stub = rpc.node(next(node for node in ring.nodes if node.running))
    for number in range(count):
        request = rpc.SaveRequest(key=f"key {number}", text=f"text {number}")
        assert stub.save(request, timeout=15).success
    return [f"key {number}" for number in range(count)]


def assert_all_found(rpc, ring, keys):
    for node in ring.nodes:
        if node.running:
            stub = rpc.node(node)
            for key in keys:
                reply = stub.get(rpc.KeyRequest(key=key), timeout=15)
                assert reply.text == key.replace("key", "text"), (node.id, key)
