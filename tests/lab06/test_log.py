"""Lab 6, the log: batches, its tail, and what stands in the snapshot."""

import pytest

from tests.lab06.core import Entry
from tests.support.harness import ROOT, load

Log = load(ROOT / "lab06_raft/log.py").Log


def test_a_batch_is_bounded_by_its_number_and_by_its_size():
    log = Log(5, 1, [Entry(1, "k", "x" * size) for size in (9, 9, 9, 30, 9)])
    assert [len(log.batch(6, 10, *limits)) for limits in [(2, 99), (9, 20), (9, 29), (9, 31)]] == [
        2,
        2,
        2,
        3,
    ]
    assert len(log.batch(9, 10, 9, 5)) == 1  # larger than a batch, alone
    assert len(log.batch(6, 7, 9, 99)) == 2
    assert log.size(6, 10) == 71
    assert log.size(7, 6) == 0


def test_the_tail_is_bounded_by_its_number_and_by_its_size():
    log = Log(5, 1, [Entry(1, "k", "x" * 9)] * 5)
    assert [log.tail(10, *limits) for limits in [(2, 99), (9, 99), (9, 25), (0, 99)]] == [
        8,
        5,
        8,
        10,
    ]
    assert log.tail(8, 1, 99) == 7


def test_what_is_in_the_snapshot_is_not_in_the_log():
    log = Log(5, 3, [Entry(4)])
    with pytest.raises(IndexError):
        log[5]
    assert [log.holds(index, 3) for index in (4, 5, 6)] == [False, True, False]
    assert (log.term(5), log.term(6), log.holds(6, 4), log.holds(7, 4)) == (3, 4, True, False)


def test_a_size_is_in_bytes_whatever_the_letters():
    assert Log(0, 0, [Entry(1, "ключ", "🙂")]).size(1, 1) == 8 + 4
