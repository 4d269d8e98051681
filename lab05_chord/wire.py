"""Runs the rules over gRPC: values become protobuf messages, and each await blocks a thread."""

import contextlib
import functools
import inspect
import operator
import random
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

import chord
import cli
import messages as values
from rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, compile_proto, grpc, is_refused

messages, services = compile_proto("chord.proto")

# A value may be larger than the 4 MB that gRPC takes by itself.
ANY_LENGTH = ("grpc.max_receive_message_length", -1)
# A connection carries its bytes in order, so what is prompt must not share one with what is large:
# digests and records that are fetched, and every request of more than BULK_SIZE.
BULK_CALLS = {"digest", "fetch"}
BULK_SIZE = 64_000  # bytes
# gRPC closes the connection of a channel that is idle, as one to a node that is gone must be, and
# makes another for the next call. The channel itself, a small object, goes a little later.
CONNECTION_IDLE_TIMEOUT = 10.0  # s
CHANNEL_IDLE_TIMEOUT = 300.0  # s, more than any call takes
# A connection without an answer for this long, on which a call has just timed out, may have died.
# Keep-alive would find out after 4 s, when the registry has dropped the node; so a channel
# with a new connection takes its place.
ANSWER_TIMEOUT = 0.9  # s, less than messages.CALL_TIMEOUT
# How many calls of a kind may hold a thread of a server at a time. An operation waits for hops
# on other nodes, a hop that writes waits for copies on others: if either could take all threads,
# nodes would wait for each other in a circle. Prompt calls wait for no other call.
# Why threads and not an event loop (grpc.aio): a bare call takes 0.33 ms instead of 0.37, and one
# over two hops 1.2 ms instead of 1.5; with sixteen clients at a time the loop would do more.
OPERATIONS = 600
ROUTES = 300
PROMPT = 100


class Layout:
    """The fields that a message of chord.proto and its value have in common, in one order."""

    def __init__(self, name: str):
        # Node and View are here too: messages.py has imported them from chord.py.
        self.value, self.message = getattr(values, name), getattr(messages, name)
        fields = self.message.DESCRIPTOR.fields
        self.names = [field.name for field in fields]
        self.read = operator.attrgetter(*self.names)
        self.lists = [i for i, field in enumerate(fields) if field.default_value == []]
        self.nested = [i for i, field in enumerate(fields) if field.message_type]
        self.optional = [i for i, field in enumerate(fields) if field.has_presence]


layout = functools.cache(Layout)


def to_message(value):
    """Return the protobuf message for a value of messages.py."""
    its = layout(type(value).__name__)
    fields = list(its.read(value))
    for i in its.nested:
        if fields[i] is not None:
            many = i in its.lists
            fields[i] = [to_message(it) for it in fields[i]] if many else to_message(fields[i])
    return its.message(**dict(zip(its.names, fields, strict=True)))


def from_message(message):
    """Return the value for a protobuf message; raise ValueError if it cannot be one."""
    its = layout(type(message).__name__)
    fields = list(its.read(message))
    for i in its.lists:
        fields[i] = tuple(map(from_message, fields[i]) if i in its.nested else fields[i])
    for i in its.optional:
        if not message.HasField(its.names[i]):
            fields[i] = None
        elif i in its.nested:
            fields[i] = from_message(fields[i])
    return its.value(*fields)


def receiver(rule: Callable) -> Callable:
    """Make a gRPC method of a rule; refuse a message that makes no sense, or of another ring."""

    @functools.wraps(rule)
    def method(servicer, request, context):
        try:
            value = from_message(request)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            return to_message(rule(servicer, value))
        except values.WrongRing as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return method


def new_server() -> grpc.Server:
    """Return a server whose pool of threads grows only with the calls that wait in it."""
    pool = ThreadPoolExecutor(max_workers=OPERATIONS + ROUTES + PROMPT)
    return grpc.server(pool, options=[*SERVER_OPTIONS, ANY_LENGTH])


class Wait:
    """What the rules await: a function that blocks, to be called without the lock."""

    def __init__(self, block: Callable[[], object]):
        self.block = block

    def __await__(self):
        return (yield self)


class Threads:
    """The rules' world (messages.Host) made of threads and gRPC.

    The thread that calls a rule carries it out: step by step under one lock, from one await to the
    next, and waiting without it. So the rules never see two threads at a time.
    """

    @staticmethod
    def now() -> float:
        """Return the time in seconds, also of a sleep of the machine: leases run out in it.

        On Linux CLOCK_MONOTONIC stands still then, and on macOS time.monotonic().
        """
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    draw = staticmethod(random.randint)
    draw_identity = staticmethod(lambda: 1 + secrets.randbits(62))  # whatever seed `draw` has

    def __init__(self, joined: Callable[[int, chord.View], None] = lambda id, view: None):
        self.joined = joined
        self._lock = threading.Lock()
        self.channels = Channels()
        # Enough for all that may gather at a time, so that none waits for another's.
        self._beside = ThreadPoolExecutor(OPERATIONS + ROUTES)

    def do(self, rule: Callable, *arguments):
        """Carry out a rule, which may be an `async` one, and return its result."""
        with self._lock:
            result = rule(*arguments)
        return self.run(result) if inspect.iscoroutine(result) else result

    def run(self, coroutine: Coroutine):
        """Carry out a coroutine of the rules to its end."""
        resume, value = coroutine.send, None
        while True:
            try:
                with self._lock:
                    wait = resume(value)
            except StopIteration as stop:
                return stop.value
            try:
                resume, value = coroutine.send, wait.block()
            except values.Unreachable as error:
                resume, value = coroutine.throw, error

    def spawn(self, awaitable: Coroutine) -> None:
        threading.Thread(target=self._run_alone, args=(awaitable,), daemon=True).start()

    def _run_alone(self, coroutine: Coroutine) -> None:
        with contextlib.suppress(values.Unreachable):
            self.run(coroutine)

    def sleep(self, seconds: float) -> Wait:
        return Wait(lambda: time.sleep(seconds))

    def gather(self, *awaitables: Coroutine) -> Wait:
        return Wait(lambda: self._gather(awaitables))

    def _gather(self, coroutines: tuple) -> list:
        """Carry out all of them, the first in this thread and the others in threads beside it."""
        beside = [self._beside.submit(self.run, coroutine) for coroutine in coroutines[1:]]
        own = [self.run(coroutine) for coroutine in coroutines[:1]]
        return own + [future.result() for future in beside]

    def call(self, address: str, method: str, request, timeout: float) -> Wait:
        return Wait(lambda: self._call(address, method, request, timeout))

    def _call(self, address: str, method: str, request, timeout: float):
        message = to_message(request)
        bulk = method in BULK_CALLS or message.ByteSize() > BULK_SIZE
        channel = self.channels.to(address, bulk)
        stub = channel.node if hasattr(channel.node, method) else channel.registry
        try:
            reply = getattr(stub, method)(message, timeout=timeout)
        except grpc.RpcError as error:
            cli.log("%s: %s fails: %s", address, method, error.code().name)
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self.channels.replace_silent(channel)
            kind = values.Refused if is_refused(error) else values.Unreachable
            raise kind(address) from None
        channel.heard = time.monotonic()
        try:
            return from_message(reply)
        except ValueError as error:  # it is no node or registry
            raise values.Unreachable(f"{address}: {error}") from None

    def find_registry(self, address: str, timeout: float) -> None:
        """Wait until there is a registry at an address; raise Unreachable if there is none."""
        try:
            self.channels.to(address).registry.get_chord_info(
                messages.Empty(), timeout=timeout, wait_for_ready=True
            )
        except grpc.RpcError:
            raise values.Unreachable(address) from None


class Channel:
    """A channel to a node or the registry, with a connection of its own."""

    def __init__(self, address: str, bulk: bool):
        idle = "grpc.client_idle_timeout_ms", int(CONNECTION_IDLE_TIMEOUT * 1000)
        own = "grpc.use_local_subchannel_pool", 1  # else channels to one address share it
        options = [*CHANNEL_OPTIONS, ANY_LENGTH, idle, own]
        channel = grpc.insecure_channel(address, options=options)
        self.close = channel.close
        self.registry = services.RegistryServiceStub(channel)
        self.node = services.NodeServiceStub(channel)
        self.key = address, bulk
        self.used = self.heard = time.monotonic()


class Channels:
    """Channels to all others: one to each for prompt calls, one for bulk."""

    def __init__(self):
        self._lock = threading.Lock()
        self._current: dict[tuple[str, bool], Channel] = {}
        self._open: list[Channel] = []  # these, and those that calls may still wait for

    def to(self, address: str, bulk: bool = False) -> Channel:
        """Return the channel to take now."""
        with self._lock:
            channel = self._current.get((address, bulk))
            if channel is None:
                self._close_idle()
                channel = self._current[address, bulk] = Channel(address, bulk)
                self._open.append(channel)
            channel.used = time.monotonic()
            return channel

    def replace_silent(self, channel: Channel) -> None:
        """Take another channel for the next call, if this one has brought nothing for a while."""
        with self._lock:
            silent = time.monotonic() - channel.heard > ANSWER_TIMEOUT
            if silent and self._current.get(channel.key) is channel:
                del self._current[channel.key]

    def _close_idle(self) -> None:
        oldest = time.monotonic() - CHANNEL_IDLE_TIMEOUT
        for channel in [channel for channel in self._open if channel.used < oldest]:
            self._open.remove(channel)
            if self._current.get(channel.key) is channel:
                del self._current[channel.key]
            channel.close()


def assigned(id: int, view: chord.View) -> str:
    """Return the line that a node and the registry print when the node has joined."""
    successor, predecessor = (view.next_nodes(id, 1) or view.members)[0], view.predecessor(id)
    return f"assigned node_id={id}, successor_id={successor.id}, predecessor_id={predecessor.id}"
