"""Fixtures of the tests of lab 5."""

import contextlib

import pytest

from tests.lab05.parts import FakeHost, membership
from tests.lab05.ring import Rpc


@pytest.fixture
def rpc():
    with contextlib.closing(Rpc()) as rpc:
        yield rpc


@pytest.fixture
def book():
    """The rules of a registry whose ring has ids of 5 bits and no node yet."""
    host = FakeHost()
    host.book = membership.Membership(host, 5)
    return host.book
