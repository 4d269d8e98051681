"""Fixtures of the tests of lab 4: servers of several kinds, and a way to call ours."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.lab04.scripts import SERVER
from tests.support.harness import ROOT, load


@pytest.fixture
def server(spawn):
    script = spawn(SERVER, 0)
    script.address = f"127.0.0.1:{script.port()}"
    return script


@pytest.fixture(scope="module")
def proto():
    """(messages, services) of our service.proto."""
    return load(ROOT / "lab04_grpc/rpc.py").compile_proto("service.proto")


@pytest.fixture
def stub(server, proto):
    with grpc.insecure_channel(server.address) as channel:
        yield proto[1].TextToolsStub(channel)


@pytest.fixture
def fake(proto):
    """Start a server of other functions: fake(reverse=function, ...) returns its address."""
    messages, services = proto
    servers, pool = [], ThreadPoolExecutor(8)

    def start(**functions):
        def method(function):
            return lambda self, request, context: function(messages, request, context)

        methods = {name: method(function) for name, function in functions.items()}
        servers.append(grpc.server(pool))
        servicer = type("Fake", (services.TextToolsServicer,), methods)()
        services.add_TextToolsServicer_to_server(servicer, servers[-1])
        port = servers[-1].add_insecure_port("127.0.0.1:0")
        servers[-1].start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()
    pool.shutdown()
