"""gRPC in virtual time: channels in memory, and calls to the methods of real servicers.

Every message is a delivery of its own. It may be lost, late, doubled or overtaken; large ones take
their time on the line. A call ends as gRPC ends it: with the reply, with UNAVAILABLE when its
server dies or is not there, with DEADLINE_EXCEEDED when its time is up; then the server's method is
cancelled. Only calls between servers are doubled: gRPC itself doubles none, but the core claims to
bear it, as do commands with a session.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

from tests.sim_raft_servers.loop import Loop, World
from tests.support.harness import ROOT, load

server = load(ROOT / "lab06_raft/server.py")
grpc, messages = server.grpc, server.messages

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
GIVEN_UP = 0.55  # s: a process that stands still for longer has lost its callers' connections
RECONNECT = 0.15  # s: they try again every 0.1 s
LONGEST = {"/raft.Raft/SetVal": 2.7, "/raft.Raft/GetVal": 1.1}  # s until a server has an answer


@dataclass
class Line:
    """How the network treats what it carries."""

    loss: float = 0.0  # probability of each message
    doubled: float = 0.0
    delay: tuple[float, float] = (0.0005, 0.001)  # s; a range lets messages overtake each other
    bandwidth: float = 1e9  # bytes/s of each connection


class Context:
    """What a method sees of its call."""

    def peer(self) -> str:
        return "simulated"

    async def abort(self, code, details="") -> None:
        raise grpc.aio.AbortError(code, details)


class Network:
    """Addresses, the processes that listen there, and what is between them."""

    def __init__(self, world: World, line: Line):
        self.world = world
        self.line = line
        self.cut: set[tuple[str, str]] = set()  # (from, to): what is sent this way is lost
        self.names: dict[Loop, str] = {world.outside: "clients"}
        self._listening: dict[str, tuple[Loop, Callable]] = {}
        self._nodes: dict[str, server.Node] = {}
        self._suspended: dict[str, float] = {}  # when a server was last suspended
        self._calls: dict[str, dict[Call, None]] = {}  # by target: those without an answer

    def listen(self, address: str, loop: Loop, servicer) -> None:
        """Let a process answer at an address."""
        registered = []
        to = SimpleNamespace(
            add_generic_rpc_handlers=registered.extend,
            add_registered_method_handlers=lambda *ignored: None,
        )
        server.services.add_RaftServicer_to_server(servicer, to)
        find = lambda path: registered[0].service(SimpleNamespace(method=path))  # noqa: E731
        self.names[loop] = address
        self._listening[address] = (loop, find)
        self._nodes[address] = node = servicer.node
        suspend = node.suspend
        node.suspend = lambda period: (self._note_suspension(address), suspend(period))

    def leave(self, address: str) -> None:
        """End the listening process's connections, as the system does when it has died."""
        self._listening.pop(address, None)
        self._nodes.pop(address, None)
        for call in list(self._calls.get(address, ())):
            self._send(address, call.source, 0, call.fail, UNAVAILABLE)

    def channel(self, address: str, options=None) -> "Channel":
        """What `grpc.aio.insecure_channel` is in a simulated process."""
        return Channel(self, asyncio.get_running_loop(), address)

    # Messages

    def carry(self, call: "Call") -> None:
        """Bring a call to its server, perhaps twice."""
        if self._is_suspended(call.source):
            self.world.errors.append(f"{call.source}, which is suspended, calls {call.path}")
        self._calls.setdefault(call.target, {})[call] = None
        arrive = partial(self._arrive, call)
        self._send(call.source, call.target, len(call.data), arrive, line=call.channel)
        if call.may_be_doubled and self.world.random.random() < self.line.doubled:
            self._send(call.source, call.target, len(call.data), arrive)

    def _send(self, source: str, target: str, size: int, deliver: Callable, *args, line=None):
        chance = self.world.random
        if (source, target) in self.cut or chance.random() < self.line.loss:
            return
        begun = self.world.now
        if line:  # messages of one connection follow each other
            begun = line.free = max(begun, line.free) + size / self.line.bandwidth
        delay = chance.uniform(*self.line.delay)
        self.world.outside.call_at(begun + delay, self._deliver, source, target, deliver, *args)

    def _deliver(self, source: str, target: str, deliver: Callable, *args) -> None:
        if (source, target) not in self.cut:
            deliver(*args)

    def _arrive(self, call: "Call") -> None:
        loop, find = self._listening.get(call.target, (None, None))
        if loop and not self._is_given_up(loop):
            loop.call_soon(self._begin, loop, call, find(call.path))
        else:
            self._send(call.target, call.source, 0, call.fail, UNAVAILABLE)

    def _is_given_up(self, loop: Loop) -> bool:
        """Tell whether a process has no connection, because it stands or stood still for long."""
        if loop.is_paused:
            return self.world.now - loop.paused_at > GIVEN_UP
        stood = loop.went_on - loop.paused_at
        return stood > GIVEN_UP and self.world.now < loop.went_on + RECONNECT

    def _begin(self, loop: Loop, call: "Call", method) -> None:
        task = loop.create_task(
            method.unary_unary(method.request_deserializer(call.data), Context())
        )
        timer = loop.call_later(call.timeout, task.cancel)
        call.served.append((loop, task))
        task.add_done_callback(partial(self._reply, call, method, timer, loop, self.world.now))

    def _reply(self, call: "Call", method, timer, loop, begun: float, task: asyncio.Task) -> None:
        timer.cancel()
        if task.cancelled():
            return
        took = self.world.now - max(begun, loop.went_on)
        if took > LONGEST.get(call.path, took):
            self.world.errors.append(f"{call.path} took {took:.2f} s")
        error = task.exception()
        if error is None:
            if self._is_suspended(call.target):
                self.world.errors.append(f"{call.target}, which is suspended, answers {call.path}")
            data = method.response_serializer(task.result())
            self._send(call.target, call.source, len(data), call.answer, data)
        elif isinstance(error, grpc.aio.AbortError):
            self._send(call.target, call.source, 0, call.fail, *error.args)
        else:
            self.world.errors.append(f"{call.path} raised {error!r}")

    def _note_suspension(self, address: str) -> None:
        self._suspended[address] = self.world.now

    def _is_suspended(self, address: str) -> bool:
        """Tell whether a server is suspended, and not only just now."""
        now, since = self.world.now, self._suspended.get(address, 0.0)
        return address in self._nodes and self._nodes[address].suspended and now > since

    def cancel(self, call: "Call") -> None:
        """Tell the server that the caller waits no longer."""
        for loop, task in call.served:
            self._send(call.source, call.target, 0, loop.call_soon, task.cancel)

    def forget(self, call: "Call") -> None:
        self._calls.get(call.target, {}).pop(call, None)


class Channel:
    """Stands in the place of a `grpc.aio.Channel`."""

    def __init__(self, network: Network, loop: Loop, target: str):
        self.network, self.loop, self.target = network, loop, target
        self.free = 0.0  # when the last message will have gone out

    def unary_unary(self, path, request_serializer, response_deserializer, *_, **__) -> Callable:
        def start(message, timeout: float) -> asyncio.Future:
            data = request_serializer(message)
            return Call(self, path, data, response_deserializer, timeout).future

        return start

    def unary_stream(self, path, *_, **__) -> None:
        """No server calls such a method; its stub asks for a way to do so all the same."""

    async def close(self, grace=None) -> None:
        pass


class Call:
    """One call, from the side of the caller."""

    def __init__(self, channel: Channel, path: str, data: bytes, to_reply, timeout: float):
        self.channel, self.path, self.data, self.to_reply = channel, path, data, to_reply
        self.timeout = timeout
        self.network, self.loop = channel.network, channel.loop
        self.source, self.target = self.network.names[self.loop], channel.target
        self.may_be_doubled = not path.endswith("Val")
        self.served: list[tuple[Loop, asyncio.Task]] = []  # where a method was called for it
        self.future = self.loop.create_future()
        self.future.add_done_callback(self._done)
        self.timer = self.loop.call_later(timeout, self._settle, None, DEADLINE_EXCEEDED)
        self.network.carry(self)

    def answer(self, data: bytes) -> None:
        self.loop.call_soon(self._settle, data, None)

    def fail(self, code, details="") -> None:
        self.loop.call_soon(self._settle, None, code, details)

    def _settle(self, data: bytes | None, code, details="") -> None:
        if self.future.done():
            return
        if code:
            self.future.set_exception(grpc.aio.AioRpcError(code, (), (), details))
        else:
            self.future.set_result(self.to_reply(data))

    def _done(self, future: asyncio.Future) -> None:
        self.timer.cancel()
        self.network.forget(self)
        if future.cancelled() or (future.exception() and self._is_late(future.exception())):
            self.network.cancel(self)

    def _is_late(self, error) -> bool:
        return error.code() is DEADLINE_EXCEEDED
