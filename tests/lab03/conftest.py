"""Fixtures of the tests of lab 3."""

import pytest

from tests.lab03.parts import Parts


@pytest.fixture
def parts(spawn):
    return Parts(spawn)


@pytest.fixture
def pipeline(parts):
    """The parts, with a server and both workers running and ready."""
    return parts.start_all()
