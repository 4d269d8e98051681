"""Bare gRPC programs, as limits to compare labs 4 to 6 with; see bare.py.

python3 bare_grpc.py grpc-server
"""

import sys
from pathlib import Path

from bare import HOST, main, program, ready

# --- Lab 4 ---


@program
def grpc_server() -> None:
    """Serve the RPCs of lab 4 with the defaults of grpc, and send back what comes."""

    import grpc

    messages, services = _text_tools(grpc)

    class Echo(services.TextToolsServicer):
        def reverse(self, request, context):
            return messages.ReverseReply(message=request.text)

        def isprime(self, requests, context):
            for request in requests:
                yield messages.IsPrimeReply(text=f"{request.num}")

    _serve(grpc, services, Echo(), 10)


@program
def grpc_aio_server() -> None:
    """The same with asyncio."""

    import grpc

    messages, services = _text_tools(grpc)

    class Echo(services.TextToolsServicer):
        async def reverse(self, request, context):
            return messages.ReverseReply(message=request.text)

        async def isprime(self, requests, context):
            async for request in requests:
                yield messages.IsPrimeReply(text=f"{request.num}")

    _serve_aio(grpc, services, Echo())


# --- Labs 5 and 6 ---


@program
def grpc_chain() -> None:
    """Call the servers whose addresses a request consists of, one after the other, and answer."""
    from functools import cache

    import grpc

    messages, services = _text_tools(grpc)

    @cache
    def stub(address: str):
        return services.TextToolsStub(grpc.insecure_channel(address))

    class Chain(services.TextToolsServicer):
        def reverse(self, request, context):
            for address in request.text.split():
                stub(address).reverse(messages.ReverseRequest(), timeout=5)
            return messages.ReverseReply(message="done")

    _serve(grpc, services, Chain(), 32)


@program
def grpc_fan_out(size: int) -> None:
    """Call the servers whose addresses a request consists of, all at once; answer after the first.

    What no leader of three can do without: its followers are called at the same time, though for
    one request of `size` only.
    """
    import asyncio
    import itertools
    from functools import cache

    import grpc

    messages, services = _text_tools(grpc)
    numbers = itertools.count()

    @cache
    def stub(address: str):
        return services.TextToolsStub(grpc.aio.insecure_channel(address))

    class FanOut(services.TextToolsServicer):
        async def reverse(self, request, context):
            addresses = [] if next(numbers) % size else request.text.split()
            calls = [
                asyncio.ensure_future(stub(address).reverse(messages.ReverseRequest(), timeout=5))
                for address in addresses
            ]
            if calls:
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            return messages.ReverseReply(message="done")

    _serve_aio(grpc, services, FanOut())


def _text_tools(grpc) -> tuple:
    """Return (messages, services) of lab 4's .proto."""
    sys.path.insert(0, str(Path(__file__).parent.parent.parent / "lab04_grpc"))
    return grpc.protos_and_services("service.proto")


def _serve(grpc, services, servicer, threads: int) -> None:
    """Serve with so many threads, for ever."""
    from concurrent import futures

    server = grpc.server(futures.ThreadPoolExecutor(threads))
    services.add_TextToolsServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    ready(port)
    server.wait_for_termination()


def _serve_aio(grpc, services, servicer) -> None:
    """Serve with asyncio, for ever."""
    import asyncio

    async def serve() -> None:
        server = grpc.aio.server()
        services.add_TextToolsServicer_to_server(servicer, server)
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        ready(port)
        await server.wait_for_termination()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
