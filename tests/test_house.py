"""What holds for every lab alike: the copies agree, the folders are complete."""

import pytest

from tests.harness import ROOT

pytestmark = pytest.mark.ours


def test_the_copies_of_rpc_py_are_identical():
    copies = {path.read_text() for path in ROOT.glob("lab0*/rpc.py")}
    assert len(copies) == 1
