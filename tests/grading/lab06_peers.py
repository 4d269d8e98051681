"""Lab 6: one server under test, among peers that the judge plays.

Through the submission's own .proto they ask for votes, send heartbeats, and answer what the server
asks of others.
"""

import contextlib
import time
from concurrent import futures

import grpc
from google.protobuf import message_factory

from tests.grading.lab06_cluster import (
    ELECTION_TIME,
    FIRST_PORT,
    NAMES,
    Cluster,
    described,
)
from tests.grading.protos import Caller, fill, flat, unfold
from tests.grading.scene import Loss, Scene, check

# The place in a log (index, term) that goes with a message, where the submission has one: of an
# empty log, however it counts, or of one that is as good as any.
LOGS = (0, 0), (-1, -1), (0, -1), (-1, 0), (1000, 1000)


class Peers:
    """The judge as the other servers of a configuration, on their ports.

    Args:
        vote: what they answer to RequestVote: (term or None for the candidate's, result).
        append: the same for AppendEntries.
        count: how many of the peers run; the others are unreachable.
    """

    def __init__(self, scene: Scene, count: int, vote=(None, False), append=(None, True)):
        self.answers = {"vote": vote, "append": append}
        self.asked: list[tuple[float, str, int, list]] = []  # time, kind, peer, values
        self.scene = scene
        for peer in range(1, count + 1):
            pool = futures.ThreadPoolExecutor(8)
            server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
            server.add_generic_rpc_handlers(tuple(self._handlers(peer)))
            server.add_insecure_port(f"127.0.0.1:{scene.port(FIRST_PORT + peer)}")
            server.start()
            scene.callback(lambda server=server: server.stop(0))

    def _handlers(self, peer: int):
        by_service: dict[str, dict] = {}
        for kind in ("vote", "append"):
            method = described(self.scene, kind)
            by_service.setdefault(method.containing_service.full_name, {})[method.name] = (
                grpc.unary_unary_rpc_method_handler(
                    lambda request, context, kind=kind, method=method: self._answer(
                        kind, peer, method, request
                    ),
                    message_factory.GetMessageClass(method.input_type).FromString,
                    lambda message: message.SerializeToString(),
                )
            )
        return [
            grpc.method_handlers_generic_handler(name, methods)
            for name, methods in by_service.items()
        ]

    def _answer(self, kind: str, peer: int, method, request):
        values = unfold(request)
        self.asked.append((time.monotonic(), kind, peer, values))
        term, result = self.answers[kind]
        return fill(method.output_type, [values[0] if term is None else term, result])

    def of(self, kind: str, since: float = 0.0, peer: int | None = None) -> list[tuple[float, int]]:
        """Return (time, term) of the calls of this kind so far."""
        return [
            (at, values[0])
            for at, what, asked, values in list(self.asked)
            if what == kind and at >= since and peer in (None, asked)
        ]


class Lone:
    """One running server of a configuration, which the judge calls as its peers would."""

    def __init__(self, scene: Scene, size: int = 3):
        self.scene = scene
        self.cluster = Cluster(scene, size, running=1)
        self.server = self.cluster.servers[0]
        self.log = LOGS[0]
        host, port = self.cluster.addresses[0]
        self.caller = scene.enter_context(contextlib.closing(Caller(f"{host}:{port}")))

    def await_leadership(self, peers: Peers) -> None:
        """Wait until it sends heartbeats to its first peer."""
        led = lambda: peers.of("append", peer=1)  # noqa: E731
        self.scene.until(led, "a leader sends AppendEntries", ELECTION_TIME, self.server)

    def vote(self, term: int, candidate: int) -> tuple[int, bool]:
        """Ask for a vote; return (term, result)."""
        return self._call("vote", term, candidate)

    def heartbeat(self, term: int, leader: int) -> tuple[int, bool]:
        """Send an AppendEntries without entries; return (term, success)."""
        return self._call("append", term, leader)

    def win_vote(self, term: int, candidate: int) -> int:
        """Ask for a vote in this term or soon after; return the term."""
        return self._until_taken("vote", term, candidate, lambda asked, reply: reply[1])

    def lead(self, term: int, leader: int) -> int:
        """Be the leader of this term; return the term."""
        return self._until_taken(
            "append", term, leader, lambda asked, reply: reply[1] or reply[0] == asked
        )

    def named_leader(self) -> list[str]:
        """Return what GetLeader answers, as words."""
        try:
            values = self.caller.call(described(self.scene, "leader"), timeout=3)
        except grpc.RpcError as error:
            seen = f"{error.code().name}\n{self.server.tail()}"
            raise Loss("an answer to GetLeader()", seen) from None
        return " ".join(map(str, flat(values))).split()

    def _until_taken(self, kind: str, term: int, sender: int, taken) -> int:
        """Make a call, each time for a higher term, until it has the reply that it should have."""
        seen = ""
        for step, self.log in enumerate(LOGS):
            try:
                reply = self._call(kind, term + step, sender)
                seen = f"{reply[0]}, {reply[1]}"
            except Loss as loss:
                seen, reply = seen or loss.seen, None
            if reply and taken(term + step, reply):
                return term + step
        wanted = f"{term}, True" if kind == "vote" else f"the term {term}"
        raise Loss(f"{NAMES[kind]}({term}, {sender}) returns {wanted}", seen)

    def _call(self, kind: str, term: int, sender: int) -> tuple[int, bool]:
        name = f"{NAMES[kind]}({term}, {sender})"
        try:
            method = described(self.scene, kind)
            values = flat(self.caller.call(method, term, sender, *self.log, timeout=3))
        except grpc.RpcError as error:
            seen = f"{error.code().name}\n{self.server.tail()}"
            raise Loss(f"an answer to {name}", seen) from None
        numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
        results = [v for v in values if isinstance(v, bool)] or numbers[1:]
        check(numbers and results, f"{name} returns a term and a result", repr(values))
        self.scene.note_step(f"{name} returned {numbers[0]}, {bool(results[0])}")
        return numbers[0], bool(results[0])
