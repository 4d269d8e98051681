"""Lab 6: a cluster of servers under test, what they print, and its clients."""

import contextlib
import re
import time

import grpc

from tests.grading.protos import Caller
from tests.grading.scene import Loss, Program, Scene, Unsafe, check

FIRST_PORT = 50000
HEARTBEAT = 0.050  # s
ELECTION_TIME = 10.0  # s; the mean is 0.3 s, but some servers first wait for all to be started
# A state with its term, or another line that tells the term.
STATE = re.compile(
    r"I am (?:a |the )?(follower|candidate|leader)\b(?:\.?,?[^\S\n]*\(?Term:?\s*(\d+))?"
    r"|\bterm\b\D{0,3}(\d+)",
    re.I,
)
NAMES = {
    "vote": "RequestVote",
    "append": "AppendEntries",
    "leader": "GetLeader",
    "suspend": "Suspend",
}


class Cluster:
    """Servers of one configuration, and what they have printed."""

    def __init__(self, scene: Scene, size: int, running: int | None = None):
        self.scene = scene
        self.addresses = [("127.0.0.1", scene.port(FIRST_PORT + i)) for i in range(size)]
        self._configure()
        self.servers = {
            i: scene.start("server", i) for i in range(size if running is None else running)
        }
        for i, server in self.servers.items():
            scene.wait_for_port(server, FIRST_PORT + i)
        self.clients: dict[int, Program] = {}

    def _configure(self) -> None:
        """Write config.conf, with a last line end if the submission's own has one."""
        folder = (self.scene.folder / self.scene.scripts["server"]).parent
        own = [p for p in folder.iterdir() if p.name.lower() == "config.conf"]
        text = "\n".join(f"{i} {host} {port}" for i, (host, port) in enumerate(self.addresses))
        newline = "\n" if not own or own[0].read_bytes().endswith(b"\n") else ""
        for name in {"config.conf", "Config.conf", *(p.name for p in own)}:
            (folder / name).write_text(text + newline)
        self.scene.note_step(
            f"write config.conf with {len(self.addresses)} servers from 127.0.0.1:50000 on"
        )

    def states(self, i: int) -> list[tuple[str, int]]:
        """Return the (state, term) that a server has printed, in order.

        A state without a term has the one that was printed last: that form costs one test only.
        """
        found, last = [], 0
        for state, term, other in STATE.findall(self.servers[i].out):
            last = int(term or other or last)
            if state:
                found.append((state.lower(), last))
        return found

    def follows(self, i: int, above: int) -> bool:
        """Tell whether a server follows, in a term above this if it says one."""
        told = [
            (state.lower(), term) for state, term, _ in STATE.findall(self.servers[i].out) if state
        ]
        state, term = told[-1] if told else ("", "")
        return state == "follower" and (not term or int(term) > above)

    def told_leading(self, i: int) -> list[int]:
        """Return the terms in which a server has said that it leads."""
        lines = STATE.findall(self.servers[i].out)
        return [int(term) for state, term, _ in lines if state.lower() == "leader" and term]

    def state(self, i: int) -> tuple[str, int]:
        """Return a server's last state and term."""
        return (self.states(i) or [("", -1)])[-1]

    def leader(self, among=None, timeout: float = ELECTION_TIME, above: int = -1) -> int:
        """Wait until one of these servers leads, in a term above this; return its id."""
        among = list(self.servers if among is None else among)
        self.scene.note_step("wait for a leader")

        def leading() -> list[int]:
            states = {i: self.state(i) for i in among}
            top = max(term for _, term in states.values())
            return [i for i, state in states.items() if state == ("leader", top) and top > above]

        expected = "a leader is elected: I am a leader. Term: ..."
        self.scene.until(leading, expected, timeout, *(self.servers[i] for i in among))
        found = leading() or self.scene.until(leading, expected, timeout, *self.servers.values())
        self.check_safety()
        return found[0]

    def settled_leader(self, pause: float = 0.5) -> int:
        """Return the leader that all others had `pause` seconds to hear of."""
        self.leader()
        time.sleep(pause)
        return self.leader()

    def others(self, i: int) -> list[int]:
        """Return the servers but one."""
        return [other for other in self.servers if other != i]

    def check_safety(self) -> None:
        """Raise Loss if two servers have led in one term: then no test of elections holds."""
        leaders: dict[int, set[int]] = {}
        for i in self.servers:
            for term in self.told_leading(i):
                leaders.setdefault(term, set()).add(i)
        for term, several in leaders.items():
            if len(several) > 1:
                raise Unsafe(
                    "one leader in a term at the most",
                    f"two leaders in term {term}: the servers {sorted(several)}",
                )

    def client(self, i: int) -> Program:
        """Return a client that is connected to this server; both ways of writing it are tried."""
        if i not in self.clients:
            client = self.clients[i] = self.scene.start("client")
            time.sleep(0.4)
            host, port = self.addresses[i]
            client.answer(f"connect {host} {port}", timeout=1.5)
            probe = client.answer("getleader", timeout=2.5)
            if not re.search(rf":{FIRST_PORT // 10}\d|\d+ +\S+:\d+", probe) or not client.running:
                if not client.running:
                    client = self.clients[i] = self.scene.start("client")
                    time.sleep(0.4)
                client.answer(f"connect {host}:{port}", timeout=1.5)
        return self.clients[i]

    def reported_leader(self, i: int) -> tuple[int, str]:
        """Return the (id, port) that getleader prints, asked at a server."""
        text = self.client(i).answer("getleader", timeout=4)
        found = re.findall(r"(?<![\d.:])(\d+)\b[\s:,]+(?:[\d.]+|localhost):(\d+)", text)
        check(found, "the leader: `id address:port`", f"{text.strip()}\n{self.client(i).tail()}")
        return int(found[-1][0]), int(found[-1][1])

    def suspend(self, i: int, seconds: int, client_only: bool = False) -> None:
        """Make a server sleep: through the client, or by a call if that has no such command."""
        client = self.client(i)
        self.scene.note_step(f"suspend {seconds}, at server {i}")
        client.type(f"suspend {seconds}")
        try:
            self.servers[i].expect(r"(?i)sleeping", f"Sleeping for {seconds} seconds", 3)
        except Loss:
            if client_only:
                raise
            host, port = self.addresses[i]
            caller = self.scene.enter_context(contextlib.closing(Caller(f"{host}:{port}")))
            with contextlib.suppress(grpc.RpcError):  # some answer when they have slept
                caller.call(described(self.scene, "suspend"), seconds, timeout=0.5)


def described(scene: Scene, kind: str):
    """Return the method of this kind; raise Loss if the .proto has none."""
    method = scene.services.find(kind)
    names = [m.name for m in scene.services.methods]
    check(method, f"the RPC {NAMES[kind]}", f"the RPCs {names} {scene.services.complaint}")
    return method
