"""Between the rules and the world: their values as protobuf messages, their awaits as threads."""

import contextlib
import enum
import functools
import inspect
import operator
import os
import random
import sys
import threading
import time
import types
import typing
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache

import chord
import messages as values
from rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, compile_proto, grpc

messages, services = compile_proto("chord.proto")

# A value may be larger than the 4 MB that gRPC takes by itself.
ANY_LENGTH = ("grpc.max_receive_message_length", -1)
NODE_CALLS = {"route", "digest", "fetch", "replicate", "install", "confirm"}  # else the registry's
# How many calls of a kind may hold a thread of a server at a time. An operation waits for hops
# on other nodes, a hop that writes waits for copies on others: if either could take all threads,
# nodes would wait for each other in a circle. Prompt calls wait for nobody.
# Why threads and not an event loop (grpc.aio): a bare call takes 0.33 ms instead of 0.37, and one
# over two hops 1.2 ms instead of 1.5; with sixteen clients at a time the loop would do more.
OPERATIONS = 600
ROUTES = 300
PROMPT = 100


def to_message(value):
    """Return the protobuf message for a value of messages.py."""
    plan = _plan(type(value))
    arguments = dict(zip(plan.plain, plan.get_plain(value), strict=True))
    for name, inner, repeated in plan.others:
        field = getattr(value, name)
        if field is None or inner is None:
            arguments[name] = field
        else:
            arguments[name] = [to_message(i) for i in field] if repeated else to_message(field)
    return plan.message(**arguments)


def from_message(message):
    """Return the value for a protobuf message; raise ValueError if it cannot be one."""
    plan = _plan(getattr(values, type(message).__name__))
    arguments = dict(zip(plan.plain, plan.get_plain(message), strict=True))
    for name, inner, repeated in plan.others:
        field = getattr(message, name)
        if repeated:
            arguments[name] = tuple(map(from_message, field) if inner else field)
        elif not message.HasField(name):
            if name not in plan.optional:
                raise ValueError(f"a message without its {name}")
            arguments[name] = None
        else:
            arguments[name] = from_message(field) if inner else field
    for name, kind in plan.enums:
        arguments[name] = kind(arguments[name])
    return plan.value(**arguments)


@dataclass(frozen=True)
class _Plan:
    """How to turn values of a class into messages and back."""

    value: type
    message: type
    plain: list[str]  # fields that are the same in both; enums are integers in messages
    get_plain: Callable[[object], tuple]
    enums: list[tuple[str, type]]
    others: list[tuple[str, type | None, bool]]  # name, class if it is a value, is it a tuple
    optional: set[str]  # those of others that may be None


@lru_cache
def _plan(cls: type) -> _Plan:
    plain, enums, others, may_be_none = [], [], [], set()
    hints = typing.get_type_hints(cls)
    for field in fields(cls):
        name, hint = field.name, hints[field.name]
        repeated = typing.get_origin(hint) is tuple
        optional = isinstance(hint, types.UnionType)
        if repeated or optional:
            hint = typing.get_args(hint)[0]
        if repeated or optional or is_dataclass(hint):
            others.append((name, hint if is_dataclass(hint) else None, repeated))
            may_be_none |= {name} if optional else set()
            continue
        plain.append(name)
        if issubclass(hint, enum.Enum):
            enums.append((name, hint))
    # Asked for two names or more, attrgetter returns a tuple; every object has a class.
    get = operator.attrgetter(*plain, "__class__", "__class__")
    message = getattr(messages, cls.__name__)
    return _Plan(cls, message, plain, lambda it: get(it)[:-2], enums, others, may_be_none)


def receiver(rule: Callable) -> Callable:
    """Make a gRPC method of one that takes and returns values; refuse what can be no value."""

    @functools.wraps(rule)
    def method(servicer, request, context):
        try:
            value = from_message(request)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return to_message(rule(servicer, value))

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

    Whoever calls a rule carries it out in its own thread: step by step under one lock, from one
    await to the next, and waiting without it. So the rules never see two threads at a time.
    """

    now = staticmethod(time.monotonic)
    draw = staticmethod(random.randint)

    def __init__(self, joined: Callable[[int, chord.View], None] = lambda id, view: None):
        self.joined = joined
        self._lock = threading.Lock()
        self._stubs: dict[str, tuple] = {}

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
        beside = [Future() for _ in coroutines[1:]]
        for future, coroutine in zip(beside, coroutines[1:], strict=True):
            work = functools.partial(self._fulfil, future, coroutine)
            threading.Thread(target=work, daemon=True).start()
        own = [self.run(coroutine) for coroutine in coroutines[:1]]
        return own + [future.result() for future in beside]

    def _fulfil(self, future: Future, coroutine: Coroutine) -> None:
        try:
            future.set_result(self.run(coroutine))
        except Exception as error:  # for who waits for it
            future.set_exception(error)

    def call(self, address: str, method: str, request, timeout: float) -> Wait:
        return Wait(lambda: self._call(address, method, request, timeout))

    def _call(self, address: str, method: str, request, timeout: float):
        stub = self._stub(address)[method in NODE_CALLS]
        try:
            reply = getattr(stub, method)(to_message(request), timeout=timeout)
        except grpc.RpcError as error:
            refused = "refused" in (error.details() or "").lower()
            raise (values.Refused if refused else values.Unreachable)(address) from None
        try:
            return from_message(reply)
        except ValueError as error:  # whoever it is, it is no node or registry
            raise values.Unreachable(f"{address}: {error}") from None

    def find_registry(self, address: str, patience: float) -> None:
        """Wait until there is a registry at an address; raise Unreachable if there is none."""
        try:
            self._stub(address)[0].get_chord_info(
                messages.Empty(), timeout=patience, wait_for_ready=True
            )
        except grpc.RpcError:
            raise values.Unreachable(address) from None

    def _stub(self, address: str) -> tuple:
        """Return what calls the registry or node at an address, over a channel that is kept."""
        if address not in self._stubs:
            channel = grpc.insecure_channel(address, options=[*CHANNEL_OPTIONS, ANY_LENGTH])
            stubs = services.RegistryServiceStub(channel), services.NodeServiceStub(channel)
            self._stubs[address] = stubs
        return self._stubs[address]


def assigned(id: int, view: chord.View) -> str:
    """Return the line that a node and the registry print when the node has joined."""
    successor, predecessor = (view.next_nodes(id, 1) or view.members)[0], view.predecessor(id)
    return f"assigned node_id={id}, successor_id={successor.id}, predecessor_id={predecessor.id}"


def say(line: str, file=None) -> None:
    """Print a line at once and in one piece; that nobody reads it any more stops nothing."""
    file = file or sys.stdout
    try:
        print(line + "\n", end="", flush=True, file=file)
    except OSError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), file.fileno())
