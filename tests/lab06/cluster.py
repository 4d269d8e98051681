"""A Raft cluster of real processes, the lines between them, and methods to control both."""

from collections.abc import Callable, Sequence

from tests.support.harness import LOSSY, ROOT, Failure, load, wait_until
from tests.support.ports import free_port

rpc = load(ROOT / "lab06_raft/rpc.py")
messages, services = rpc.compile_proto("raft.proto")
SERVER, CLIENT = "lab06_raft/server.py", "lab06_raft/client.py"
TROUBLED = "tests/lab06/troubled.py"  # a server with a slow disk, or with many snapshots


def states_of(servers: list) -> list[tuple[str, int]]:
    """Return what each server has last said that it is: ("leader", 3)."""
    found = []
    for server in servers:
        said = [line.split() for line in server.lines if line.startswith("I am a ")]
        found.append((said[-1][3].rstrip("."), int(said[-1][5])) if said else ("", -1))
    return found


def wait_for_followers(servers: list) -> int:
    """Wait for a leader that all the others follow; return its number."""

    def followed():
        states = states_of(servers)
        followers = [("follower", states[0][1])] * (len(states) - 1)
        leader = ("leader", states[0][1])
        return [states.index(leader)] if sorted(states) == [*followers, leader] else None

    return wait_until(followed, "one leader and its followers")[0]


def settled(servers: list, scene: Callable[[], None]) -> None:
    """Run a scene that needs one leader throughout; repeat it if an election came in between.

    On a busy machine a leader may be held up for longer than the others' timers run.
    """
    for _ in range(10):
        wait_for_followers(servers)
        before = states_of(servers)
        try:
            return scene()
        except AssertionError:
            if states_of(servers) == before:
                raise
    raise Failure("an election interrupted every attempt")


class Cluster:
    """Servers 0 to n-1, each started in a folder with a config.conf of its own.

    Args:
        spawn: the fixture. folder: for the servers' folders. size: how many servers.
        options: further arguments of each. relay: makes what to put into each line between two.
        script: what runs a server.
    """

    def __init__(
        self,
        spawn,
        folder,
        size: int,
        *options,
        relay: Callable | None = None,
        script: str = SERVER,
    ):
        self.spawn = spawn
        self.script = script
        self.options = options
        self.ports = [free_port() for _ in range(size)]
        self.folders = [folder / str(n) for n in range(size)]
        self.relays = {}
        self.servers = [None] * size
        for n in range(size):
            self.folders[n].mkdir()
            (self.folders[n] / "config.conf").write_text(self._config(n, relay))
            self.start(n)

    def _config(self, n: int, relay) -> str:
        lines = []
        for peer, port in enumerate(self.ports):
            if relay and peer != n:
                self.relays[n, peer] = relay(port)
                port = self.relays[n, peer].port
            lines.append(f"{peer} 127.0.0.1 {port}\n")
        return "".join(lines)

    def start(self, n: int):
        """Start server n, for the first time or again."""
        self.servers[n] = self.spawn(self.script, n, *self.options, cwd=self.folders[n])
        return self.servers[n]

    def states(self) -> list[tuple[str, int]]:
        """Return what each server has last said that it is: ("leader", 3)."""
        return states_of(self.servers)

    def leader(self, other_than: int | None = None, timeout=20.0) -> int:
        """Wait for a leader of the latest term; return its number."""

        def leading():
            states = self.states()
            latest = max(term for _, term in states)
            for n, state in enumerate(states):
                if state == ("leader", latest) and n != other_than and self.servers[n].running:
                    return [n]
            return None

        return wait_until(leading, "a leader of the latest term", timeout)[0]

    def roles(self) -> tuple[int, list[int]]:
        """Wait for a leader that all the others follow; return it and the others."""
        leader = wait_for_followers(self.servers)
        return leader, [n for n in range(len(self.servers)) if n != leader]

    def followers(self) -> list[int]:
        """Wait for a leader that all the others follow; return the others."""
        return self.roles()[1]

    def settled(self, scene: Callable[[], None]) -> None:
        """Run a scene that needs one leader throughout; repeat it after an election."""
        settled(self.servers, scene)

    # The client

    def address(self, n: int) -> tuple[str, int]:
        return "127.0.0.1", self.ports[n]

    def client(self, n: int):
        """Start a client where server n runs."""
        return self.spawn(CLIENT)

    def ask(self, n: int, *lines: str) -> list[str]:
        """Type lines to a client that is connected to server n; return its answers."""
        client, (host, port) = self.client(n), self.address(n)
        for line in (f"connect {host} {port}", *lines, "quit"):
            client.send(line)
        assert client.wait() == 0
        assert (client.lines[0], client.lines[-1]) == ("The client starts", "The client ends")
        return client.lines[1:-1]

    # RPCs; None is for "no answer", which leaves the outcome open

    def call(self, n: int, method: str, request, timeout=5.0):
        with rpc.open_channel(f"127.0.0.1:{self.ports[n]}") as channel:
            try:
                call = getattr(services.RaftStub(channel), method)
                return call(request, timeout=timeout, wait_for_ready=LOSSY)
            except rpc.grpc.RpcError:
                return None

    def setval(self, n: int, key: str, value: str, timeout=5.0, **session) -> bool | None:
        request = messages.SetValRequest(key=key, value=value, **session)
        reply = self.call(n, "SetVal", request, timeout)
        return reply and reply.success

    def getval(self, n: int, key: str, timeout=5.0):
        return self.call(n, "GetVal", messages.GetValRequest(key=key), timeout)

    def write(self, key: str, value: str, through: Sequence[int] | None = None) -> None:
        """Set a value, asking these servers in turn (all, by default), whatever elections come."""
        servers = range(len(self.servers)) if through is None else through
        wait_until(lambda: any(self.setval(n, key, value) for n in servers), f"{key} to be set")

    def value(self, n: int, key: str) -> str | None:
        reply = self.getval(n, key)
        return reply.value if reply and reply.success else None

    # Faults

    def break_down(self, n: int, fault: str) -> Callable:
        """Let one server fail by "kill", "stop" or "suspend"; return what mends it."""
        if fault == "kill":
            self.servers[n].kill()
            return lambda: self.start(n)
        if fault == "stop":
            self.servers[n].pause()
            return self.servers[n].resume
        self.call(n, "Suspend", messages.SuspendRequest(period=2))
        return lambda: None

    def isolate(self, *group: int) -> None:
        """Let nothing pass any more between the group and the others, nor fail."""
        for (a, b), relay in self.relays.items():
            if (a in group) != (b in group):
                relay.hold()

    def deafen(self, n: int) -> None:
        """Let server n send, but hear nothing: no replies, no requests."""
        for (a, b), relay in self.relays.items():
            if a == n:
                relay.deafen()
            elif b == n:
                relay.hold()

    def heal(self, old_connections=True) -> None:
        for relay in self.relays.values():
            relay.release(old_connections)
