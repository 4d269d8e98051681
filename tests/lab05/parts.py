"""Lab 5's rules without a ring: views, a registry's book, a node whose calls a test answers."""

import asyncio
import contextlib
import itertools
import random

from tests.support.harness import ROOT, load

chord, member, membership, messages, store = (
    load(ROOT / f"lab05_chord/{name}.py")
    for name in ("chord", "member", "membership", "messages", "store")
)

FOUR = [2, 16, 24, 31]  # ids of a ring in which 16 owns 3 to 16, and its replicas are 24 and 31
KEY = "Minsk"  # 3, on 16
FIRST = ""  # 1, on 2; and on 16 when 2 is gone
NOW = 100.0  # s


def view_of(ids, m=5, epoch=1, ring=1):
    return chord.View(epoch, m, tuple(chord.Node(id, f"host:{id}") for id in ids), ring)


def ids(nodes):
    return [node.id for node in nodes]


class FakeHost:
    """A clock that is set by hand, and the random numbers of the scripts.

    While a rule of the registry sleeps, its nodes send heartbeats, all but those in `silent`.
    """

    def __init__(self):
        self.book = None  # the registry's rules, if it is a registry's host
        self.time = 0.0
        self.random = random.Random(0)
        self.draw = self.random.randint
        self.draw_identity = itertools.count(1).__next__
        self.nodes_sync = True  # False: no node sends heartbeats by itself
        self.silent = set()  # ids
        self.limit = 60  # s: a rule that sleeps for longer hangs
        self.reached = {}  # address -> True if a node answers there, False if no process listens
        self.in_spawned = False  # True while a spawned coroutine runs

    def now(self):
        return self.time

    async def call(self, address, method, request, timeout):
        if address not in self.reached:
            raise messages.Unreachable
        if not self.reached[address]:
            raise messages.Refused
        return messages.Ack(True)

    def spawn(self, awaitable):
        self.in_spawned = True
        try:
            with contextlib.suppress(StopIteration):
                awaitable.send(None)
        finally:
            self.in_spawned = False

    async def sleep(self, seconds):
        if self.in_spawned or not seconds:
            return
        self.time += seconds
        self.book.tick()
        if self.nodes_sync:
            for id in set(self.book.view.ids) - self.silent:
                ask(self.book, id)
        if self.time > self.limit:
            raise TimeoutError


def admit(book, port, wish=None):
    """Let a node register; return the reply."""
    return asyncio.run(book.register(messages.Registration("host", port, wish)))


def ask(book, id, epoch=None):
    epoch = book.view.epoch if epoch is None else epoch
    address = book.view.by_id[id].address
    return book.populate_finger_table(messages.Heartbeat(id, address, epoch, epoch))


def advance(book, seconds, heard=()):
    """Move the clock on while some nodes are heard; return the ids of those that are dropped."""
    dropped = []
    for _ in range(round(seconds / 0.1)):
        book.host.time += 0.1
        for id in heard:
            ask(book, id)
        dropped += book.tick()
    return [node.id for node in dropped]


class ScriptedHost(FakeHost):
    """A world in which calls are answered by functions in `answers`, by method."""

    def __init__(self):
        super().__init__()
        self.answers = {}
        self.asked = []  # addresses, in order
        self.request = None  # the one that is being answered

    async def call(self, address, method, request, timeout):
        self.asked.append(address)
        self.request = request
        return self.answers[method](address)

    async def gather(self, *awaitables):
        return [await awaitable for awaitable in awaitables]

    def spawn(self, awaitable):
        awaitable.close()

    def joined(self, id, view):
        pass


def node_in(view, id):
    """Return a node that is in sync in a view; it has no lease."""
    node = member.Member(ScriptedHost(), "host", id, "registry")
    node.place.enter(id, view, -messages.LEASE_TIMEOUT)
    node.place.serve_whole_arc()
    node.store.m = view.m
    return node


def unreachable(address):
    raise messages.Unreachable(address)


def refused(address):
    raise messages.Refused(address)


def serving_node():
    """Return node 16 of FOUR, which has a lease from NOW on."""
    node = node_in(view_of(FOUR), 16)
    node.host.time = NOW
    node.place.renew_lease(NOW)
    return node


def after(node, seconds, value):
    """Return an answer that comes after so many seconds."""

    def answer(address):
        node.host.time += seconds
        return value

    return answer
