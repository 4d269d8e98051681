"""Fixtures of the tests of lab 1."""

import pytest

from tests.lab01.memory import Uploads
from tests.lab01.peers import CONTENT, SERVER
from tests.support.harness import ROOT, load

core = load(ROOT / "lab01_udp/stop_and_wait.py")


@pytest.fixture
def uploads():
    return Uploads()


@pytest.fixture
def receiver(uploads):
    return core.Receiver(uploads.create, lambda address: 100)


@pytest.fixture
def server(spawn, tmp_path):
    """A server that stores into tmp_path and offers a buf_size of 1000."""
    return spawn(SERVER, 0, "--dir", tmp_path, "--buf-size", 1000)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def folder(tmp_path):
    """Return an empty folder for the server's files."""
    path = tmp_path / "there"
    path.mkdir()
    return path
