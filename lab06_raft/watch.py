"""A live page of a Raft cluster: its servers, and every message between them.

usage: watch.py [-h] [--config FILE] [--port PORT]

    python3 watch.py
    Open http://127.0.0.1:8006

It asks each server once, whatever the number of pages. The page is watch.html.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import secrets
import sys
import threading
import time

import rpc
import web
from config import add_config, find_config, members_of
from rpc import grpc
from timeline import Timeline

messages, services = rpc.compile_proto("raft.proto")

EVENT_INTERVAL = 0.1  # s
KEPT_EVENTS = 600  # the last minute
RETRY_INTERVAL = 0.1  # s until a server that is gone is asked again
ANSWER_TIMEOUT = 2.0  # s for a server to answer
SETVAL_TIMEOUT = 4.0  # s; a server gives up on a majority after 2.4
MAX_TEXT = 1000  # characters of a key or a value
MAX_PERIOD = 3600  # s of a suspension


class Watch:
    """Hears the servers, each in a thread, and makes the events of the page."""

    def __init__(self, addresses: dict[int, str]):
        self.addresses = addresses
        self.feed = web.Feed(KEPT_EVENTS)
        self._timeline = Timeline(addresses, time.time())
        self._lock = threading.Lock()  # of the timeline

    def start(self) -> None:
        for server in self.addresses:
            threading.Thread(target=self._hear, args=[server], daemon=True).start()
        threading.Thread(target=self._publish, daemon=True).start()

    def _hear(self, server: int) -> None:
        """Take what a server reports, now and after each of its returns."""
        with rpc.open_channel(self.addresses[server]) as channel:
            while True:
                try:
                    for report in services.RaftStub(channel).Watch(messages.WatchRequest()):
                        states, traffic = map(fields, report.states), map(fields, report.traffic)
                        with self._lock:
                            self._timeline.report(server, [*states], [*traffic], time.time())
                except grpc.RpcError as error:
                    self._lose(server, error)
                time.sleep(RETRY_INTERVAL)

    def _lose(self, server: int, error: grpc.RpcError) -> None:
        """Tell a server that has ended from one that is silent or cannot be reached."""
        ended = ("refused", "reset", "closed", "broken pipe")
        if any(word in (error.details() or "").lower() for word in ended):
            with self._lock:
                self._timeline.gone(server)

    def _publish(self) -> None:
        while True:
            with self._lock:
                event = self._timeline.event(time.time())
            self.feed.publish(event)
            time.sleep(EVENT_INTERVAL)


def fields(message) -> dict:
    """Return the fields of a message by name; None for an optional one that is not set."""
    return {
        field.name: getattr(message, field.name)
        if not field.has_presence or message.HasField(field.name)
        else None
        for field in message.DESCRIPTOR.fields
    }


class Actions:
    """What the page can have done: the lab's RPCs, made for it."""

    def __init__(self, addresses: dict[int, str]):
        self.addresses = addresses
        # The session: a command that is sent twice is done once.
        self.client_id = secrets.randbits(62) + 1
        self.sequence = 0
        self._lock = threading.Lock()

    def suspend(self, asked: dict) -> dict:
        period = asked.get("period")
        if type(period) is not int or not 1 <= period <= MAX_PERIOD:
            raise ValueError(f"a suspension takes 1 to {MAX_PERIOD} whole seconds")
        self._call(asked, "Suspend", messages.SuspendRequest(period=period))
        return {}

    def setval(self, asked: dict) -> dict:
        key, value = text(asked, "key"), text(asked, "value")
        with self._lock:
            self.sequence += 1
            session = {"client_id": self.client_id, "sequence": self.sequence}
            request = messages.SetValRequest(key=key, value=value, **session)
            reply = self._call(asked, "SetVal", request, SETVAL_TIMEOUT)
        return {"success": reply.success}

    def getval(self, asked: dict) -> dict:
        reply = self._call(asked, "GetVal", messages.GetValRequest(key=text(asked, "key")))
        return {"value": reply.value if reply.success else None, "confirmed": reply.confirmed}

    def _call(self, asked: dict, method: str, request, timeout: float = ANSWER_TIMEOUT):
        server = asked.get("server")
        if type(server) is not int or server not in self.addresses:
            raise ValueError("there is no such server")
        with rpc.open_channel(self.addresses[server]) as channel:
            try:
                return getattr(services.RaftStub(channel), method)(request, timeout=timeout)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise ValueError(error.details()) from None
                reason = "is suspended" if error.details() == "suspended" else "does not answer"
                raise ValueError(f"Server {server} {reason}") from None


def text(asked: dict, name: str) -> str:
    """Return a text of the request; raise ValueError if it is none, empty or too long."""
    value = asked.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
        raise ValueError(f"a {name} has 1 to {MAX_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {name} is no text") from None
    return value


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("A live page of a Raft cluster.", "")
    add_config(parser)
    web.add_port(parser, 8006)
    args = parser.parse_args(argv)
    path = args.config or find_config()
    args.members = members_of(parser, path)
    if not args.members:
        parser.error(f"{path} names no server")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    addresses = {member: cli.join_address(*args.members[member]) for member in args.members}
    watch, actions = Watch(addresses), Actions(addresses)
    offered = {name: getattr(actions, name) for name in ("suspend", "setval", "getval")}
    return web.serve(args.port, watch.feed, offered, watch.start)


if __name__ == "__main__":
    sys.exit(main())
