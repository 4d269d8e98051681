"""Fixtures of the tests of lab 5."""

import contextlib

import pytest

from tests.lab05.ring import Rpc


@pytest.fixture
def rpc():
    with contextlib.closing(Rpc()) as rpc:
        yield rpc
