"""Between the rules' values (messages.py) and protobuf messages of the same names; and gRPC calls."""

import asyncio
import enum
import os
import random
import sys
import time
import types
import typing
from collections.abc import Awaitable
from dataclasses import fields, is_dataclass
from functools import lru_cache

import chord
import grpc
import messages as values
from rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, compile_proto

messages, services = compile_proto("chord.proto")

# A value may be larger than the 4 MB that gRPC takes by itself.
ANY_LENGTH = ("grpc.max_receive_message_length", -1)
# What the rules may call, and what they get.
REGISTRY_CALLS = {
    "register": values.Registered,
    "deregister": values.Departed,
    "populate_finger_table": values.Answer,
    "restore": values.Departed,
    "get_chord_info": None,
}
NODE_CALLS = {
    "route": values.Outcome,
    "digest": values.Versions,
    "fetch": values.Copies,
    "replicate": values.Accepted,
    "install": values.Accepted,
    "confirm": values.Accepted,
}


def to_message(value):
    """Return the protobuf message for a value of messages.py."""
    cls = type(value)
    arguments = {}
    for name, inner, repeated in _plan(cls):
        field = getattr(value, name)
        if field is None:
            continue
        if inner is None or isinstance(field, enum.Enum):
            arguments[name] = field
        else:
            arguments[name] = [to_message(i) for i in field] if repeated else to_message(field)
    return getattr(messages, cls.__name__)(**arguments)


def from_message(message):
    """Return the value for a protobuf message; raise ValueError if it cannot be one."""
    cls = getattr(values, type(message).__name__)
    arguments = []
    for name, inner, repeated in _plan(cls):
        field = getattr(message, name)
        if repeated:
            field = tuple(map(from_message, field) if inner else field)
        elif message.DESCRIPTOR.fields_by_name[name].has_presence and not message.HasField(name):
            field = None
        elif inner:
            field = inner(field) if issubclass(inner, enum.Enum) else from_message(field)
        arguments.append(field)
    return cls(*arguments)


@lru_cache
def _plan(cls: type) -> list[tuple[str, type | None, bool]]:
    """Return (name, class if it is a value or an enum, whether it repeats) of every field."""
    plan = []
    hints = typing.get_type_hints(cls)
    for field in fields(cls):
        hint = hints[field.name]
        repeated = typing.get_origin(hint) is tuple
        if repeated or isinstance(hint, types.UnionType):
            hint = typing.get_args(hint)[0]
        nested = is_dataclass(hint) or issubclass(hint, enum.Enum)
        plan.append((field.name, hint if nested else None, repeated))
    return plan


def new_server() -> grpc.aio.Server:
    """Return a server that runs in the event loop.

    An operation waits at its entry node for hop after hop. With a thread each, a pool of any
    size could fill up with operations that wait for each other's nodes; in the event loop
    waiting costs nothing. Per call that takes 5 to 10 % more time than threads for a single
    client, and 30 % less for sixteen (1950 instead of 1430 finds/s over two hops here).
    """
    return grpc.aio.server(options=[*SERVER_OPTIONS, ANY_LENGTH])


class Loop:
    """The rules' world (messages.Host) made of asyncio and gRPC."""

    now = staticmethod(time.monotonic)
    draw = staticmethod(random.randint)
    sleep = staticmethod(asyncio.sleep)

    def __init__(self, joined=lambda id, view: None):
        self.joined = joined
        self._tasks: set[asyncio.Task] = set()
        self._calls: dict = {}

    async def gather(self, *awaitables: Awaitable) -> list:
        return await asyncio.gather(*awaitables)

    def spawn(self, awaitable: Awaitable) -> None:
        task = asyncio.ensure_future(awaitable)
        self._tasks.add(task)  # the loop itself would forget it
        task.add_done_callback(self._tasks.discard)

    async def call(self, address: str, method: str, request, timeout: float):
        try:
            reply = await self._call(address, method)(to_message(request), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            refused = "refused" in (error.details() or "").lower()
            raise (values.Refused if refused else values.Unreachable)(address) from None
        return from_message(reply)

    async def find_registry(self, address: str, patience: float) -> None:
        """Wait until there is a registry at an address; raise Unreachable if there is none."""
        ask = self._call(address, "get_chord_info")
        try:
            await ask(messages.Empty(), timeout=patience, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            raise values.Unreachable(address) from None

    def _call(self, address: str, method: str):
        """Return what calls a method at an address, over a channel that is kept."""
        if address not in self._calls:
            channel = grpc.aio.insecure_channel(address, options=[*CHANNEL_OPTIONS, ANY_LENGTH])
            stubs = services.RegistryServiceStub(channel), services.NodeServiceStub(channel)
            self._calls[address] = channel, *stubs
        _, registry, node = self._calls[address]
        return getattr(registry if method in REGISTRY_CALLS else node, method)


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
