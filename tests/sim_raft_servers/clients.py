"""Clients in virtual time: each sets and gets at any server, and notes what it saw and when."""

import asyncio

from tests.sim_raft_servers.network import Network, grpc, messages, server
from tests.support.linearizability import Operation

KEYS = ("a", "b")
TRIES = 6  # of a client with a session for one command
OPEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Client:
    """One client; a `number` above 0 is the id of its session, so that it may retry."""

    def __init__(self, network: Network, addresses: list[str], number: int, has_session: bool):
        self.world = network.world
        self.chance = network.world.random
        self.number = number
        self.client_id = number if has_session else 0
        self.history: list[Operation] = []
        self.unconfirmed: list[tuple[str, str | None]] = []  # reads that promise less
        self._count = 0
        channels = map(network.channel, addresses)
        self.stubs = [server.services.RaftStub(channel) for channel in channels]

    async def run(self, until: float) -> None:
        pause = self.chance.choice((0.02, 0.1, 0.4))
        while self.world.now < until:
            await asyncio.sleep(self.chance.uniform(0, pause))
            key = self.chance.choice(KEYS)
            if self.chance.random() < 0.6:
                await self.write(key, self.chance.choice((0.3, 1.0, 4.0)))
            else:
                stub = self.chance.choice(self.stubs)
                await self.read(stub, key, self.chance.choice((0.3, 2.0)))

    async def call(self, stub, method: str, request, timeout: float):
        """Return the reply, or None, which leaves the outcome open."""
        try:
            return await getattr(stub, method)(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() not in OPEN:
                self.world.errors.append(f"{method} was refused: {error.details()}")
            return None

    async def ask(self, member: int, method: str, request):
        """Call a server; the outcome does not matter."""
        await self.call(self.stubs[member], method, request, 1.0)

    async def write(self, key: str, timeout: float, stub=None) -> str | None:
        """Set a key, with retries if that does no harm; return the value if it is set."""
        self._count += 1
        value = f"{self.number}-{self._count}"
        if self.chance.random() < 0.05:
            value += "x" * self.chance.choice((20_000, 100_000))
        session = {"client_id": self.client_id, "sequence": self._count} if self.client_id else {}
        request = messages.SetValRequest(key=key, value=value, **session)
        called, place = self.world.now, len(self.history)
        self.history.append(Operation("write", key, value, called))
        for _ in range(TRIES if self.client_id else 1):
            at = stub or self.chance.choice(self.stubs)
            reply = await self.call(at, "SetVal", request, timeout)
            if reply and reply.success:
                self.history[place] = Operation("write", key, value, called, self.world.now)
                return value
            await asyncio.sleep(self.chance.uniform(0, 0.2))
        return None

    async def read(self, stub, key: str, timeout: float):
        called = self.world.now
        reply = await self.call(stub, "GetVal", messages.GetValRequest(key=key), timeout)
        if reply:
            value = reply.value if reply.success else None
            if reply.confirmed:
                self.history.append(Operation("read", key, value, called, self.world.now))
            else:
                self.unconfirmed.append((key, value))
        return reply
