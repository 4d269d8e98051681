"""Lab 5's ring as a person runs it: a registry, nodes one after another, and the client."""

import re
import time
import zlib
from dataclasses import dataclass

from tests.grading.scene import Loss, Program, Scene, check

REGISTRY_PORT, FIRST_NODE_PORT = 5000, 5001
M = 5
EXAMPLE_IDS = [24, 26, 2, 16, 31, 25]
JOIN_TIME = 3.0  # s, for a node that tells nothing
SETTLE_TIME = 2.5  # s: nodes ask for their finger table every second
ADDRESS = r"((?:\d+\.){3}\d+|localhost):(\d+)"
LINE = re.compile(rf"(\d+)\s*[:\->,\s]+\(?\s*{ADDRESS}")  # as the assignment has it
INFO = re.compile(rf"(\d+)\D{{1,30}}?{ADDRESS}")  # or in other words, which cost one test only
QUOTES = ('"', '"'), ("“", "”")


@dataclass
class Result:
    """What the client has printed for a command."""

    text: str

    @property
    def success(self) -> bool:
        """Read True or False, or what says the same."""
        text = self.text.lower()
        if re.search(r"\b(true|false)\b", text):
            return bool(re.search(r"\btrue\b", text))
        denied = r"\bnot\b|n't|cannot|already|\bno\b|error|fail|unab|unavail|none|collision|wrong"
        agreed = r"sav|stor|remov|found|delet|ok|succe|compl"
        return not re.search(denied, text) and bool(re.search(agreed, text))

    @property
    def node(self) -> int | None:
        """Return the id of the node that it names."""
        found = re.findall(r"node\D{0,12}(\d+)", self.text, re.I)
        return int(found[-1]) if found else None


class Ring:
    """A registry, nodes and a client."""

    def __init__(self, scene: Scene, count: int, m: int = M, in_order: bool = False):
        self.scene, self.m = scene, m
        self.in_order = in_order  # a node starts when the one before is in the ring
        self.registry = self._start_registry()
        self.nodes: dict[int, Program] = {}  # by port
        self.client = scene.start("client")
        self.target: int | None = None
        self.quotes = QUOTES[0]
        self.ids: dict[int, int] = {}  # port -> id
        for _ in range(count):
            self.join(settle=False)
        self.settle()
        self.learn()

    def _start_registry(self) -> Program:
        """Start the registry; some take the port alone, as one version of the assignment has it."""
        port = self.scene.port(REGISTRY_PORT)
        for address in (f"127.0.0.1:{port}", str(port)):
            registry = self.scene.start("registry", address, self.m)
            try:
                self.scene.wait_for_port(registry, REGISTRY_PORT)
                return registry
            except Loss:
                if address == str(port):
                    raise
                registry.stop()

    def join(self, settle: bool = True) -> int:
        """Start a node and wait until it listens; return its port."""
        number = FIRST_NODE_PORT + len(self.nodes)
        port = self.scene.port(number)
        registry = f"127.0.0.1:{self.scene.port(REGISTRY_PORT)}"
        node = self.scene.start("node", registry, f"127.0.0.1:{port}")
        self.scene.wait_for_port(node, number)
        if self.in_order:  # it may listen before it has registered, and then tell its id
            node.out_stream.expect("(?i)id", JOIN_TIME, whole_lines=False)
        self.nodes[port] = node
        if settle:
            self.settle()
            self.learn()
        return port

    def settle(self) -> None:
        """Wait until the nodes have asked the registry for their finger tables."""
        time.sleep(SETTLE_TIME)

    def learn(self) -> None:
        """Learn the nodes' ids from the registry."""
        self.ids = {port: node_id for node_id, port in self.info(None)}
        missing = set(self.nodes) - set(self.ids)
        check(
            not missing,
            "get_info on the registry lists every node with its address",
            f"no node at port {missing}\n{self.client.tail()}\n{self.registry.tail()}",
        )

    def connect(self, port: int | None) -> str:
        """Connect the client with the node at this port, or with the registry."""
        port = port or self.scene.port(REGISTRY_PORT)
        if port == self.target:
            return ""
        self.target = port
        return self.client.answer(f"connect 127.0.0.1:{port}", timeout=6)

    def info(self, port: int | None, form: re.Pattern = INFO) -> list[tuple[int, int]]:
        """Return the (id, port) that get_info shows of the registry or a node."""
        self.connect(port)
        text = self.client.answer("get_info", timeout=6)
        return [(int(i), int(p)) for i, _, p in form.findall(text)]

    def save(self, key: str, text: str, port: int) -> Result:
        self.connect(port)
        left, right = self.quotes
        return Result(self.client.answer(f"save {left}{key}{right} {text}", timeout=8))

    def find(self, key: str, port: int) -> Result:
        self.connect(port)
        return Result(self.client.answer(f"find {key}", timeout=8))

    def remove(self, key: str, port: int) -> Result:
        self.connect(port)
        return Result(self.client.answer(f"remove {key}", timeout=8))

    def learn_quotes(self) -> None:
        """Find out which quotes the client knows: the assignment has typographic ones."""
        port = next(iter(self.nodes))
        for self.quotes in QUOTES:
            key = "probe" + "xy"[self.quotes == QUOTES[1]]
            if self.save(key, "some text", port).success and self.find(key, port).success:
                return
            if not self.client.running:
                self.client = self.scene.start("client")
                self.target = None
                time.sleep(0.5)
        self.quotes = QUOTES[0]

    def owner(self, key: str) -> int:
        """Return the id of the node that owns a key."""
        return successor(zlib.adler32(key.encode()) % 2**self.m, self.ids.values())

    def check_result(self, result: Result, success: bool, node: int | None, command: str) -> None:
        """Raise Loss unless a command had this success and named this node."""
        wanted = f"{success}, and node {node}" if node is not None else f"{success}"
        right = result.success == success and (node is None or result.node in (node, None))
        if right and node is not None and result.node is None:
            right = False
        check(
            right, f"{command}: {wanted}", result.text.strip() or f"nothing\n{self.client.tail()}"
        )

    def check_found(self, keys: list[str], ports=None) -> None:
        """Check that each key is found, on its owner, whichever node is asked."""
        for port in ports or list(self.ids):
            for key in keys:
                result = self.find(key, port)
                self.check_result(
                    result, True, self.owner(key), f"find {key}, asked at node {self.ids[port]}"
                )

    def leave(self, port: int) -> None:
        """Press Ctrl-C in a node, and wait until it has gone."""
        node = self.nodes.pop(port)
        node.press_ctrl_c()
        check(node.ends(15), "the node ends on Ctrl-C", node.tail())
        self.target = None if self.target == port else self.target
        self.settle()
        self.ids = {port: node_id for node_id, port in self.info(None)}
        check(
            port not in self.ids,
            "the registry does not list a node that has left",
            self.client.tail(),
        )


def successor(k: int, ids) -> int:
    """Return the first of the ids at or after k on the ring."""
    ordered = sorted(ids)
    return next((i for i in ordered if i >= k), ordered[0])


def fingers(p: int, ids, m: int) -> list[int]:
    """Return the finger table of node p, without duplicates and p itself."""
    found = [successor((p + 2**i) % 2**m, ids) for i in range(m)]
    return [i for i in dict.fromkeys(found) if i != p]
