"""Fixtures of the tests of lab 6."""

import contextlib

import pytest

from tests.lab06.cluster import Cluster
from tests.support.relays import TcpRelay


@pytest.fixture
def start(spawn, tmp_path):
    return lambda size, *options, **more: Cluster(spawn, tmp_path, size, *options, **more)


@pytest.fixture
def relay():
    with contextlib.ExitStack() as relays:
        yield lambda port: relays.enter_context(TcpRelay(port))
