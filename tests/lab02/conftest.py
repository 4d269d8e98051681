"""Fixtures of the tests of lab 2."""

import pytest

from tests.lab02.clients import SERVER


@pytest.fixture
def our_server(spawn):
    script = spawn(SERVER, 0)
    script.number = script.port()
    yield script
    script.stop()
    assert script.err == ""  # as from a thread that has died
