"""Lab 6, the core without --data-dir: a server among others that were restarted with nothing."""

import pytest

from tests.lab06.core import LOG, Entry, append, server


def test_a_majority_that_has_forgotten_everything_does_not_crash_one_that_has_not():
    it = server(log=LOG, term=2)
    it.append_entries(append(2, (3, 2), commit=3), 0.0)
    assert it.commit_index == 3
    assert it.append_entries(append(5, (1, 1), [Entry(5)], commit=2), 0.0) == (5, False, 1)
    assert (it.commit_index, it.values, it.log.entries) == (0, {}, [])
    assert it.append_entries(append(5, (0, 0), [LOG[0], Entry(5)], commit=2), 0.0).success
    assert (it.commit_index, it.values) == (2, {"a": "1"})


@pytest.mark.parametrize(
    "request_",
    [
        append(5, (3, 4), [Entry(5)]),  # the snapshot ends with (3, 2)
        append(5, (1, 1), [Entry(1), Entry(4), Entry(5)]),
        append(5, (3, 4)),
    ],
)
def test_a_majority_that_has_forgotten_what_is_in_a_snapshot_is_followed(request_):
    it = server(log=LOG, term=2, snapshot_after=1)
    it.append_entries(append(2, (3, 2), commit=3), 0.0)
    it.compact()
    assert it.log.snapshot_index == 3
    assert it.append_entries(request_, 0.0) == (5, False, 1)
    assert (it.commit_index, it.values, it.log.snapshot_index) == (0, {}, 0)
    assert it.append_entries(append(5, (0, 0), [LOG[0], Entry(5)], commit=2), 0.0).success
    assert (it.commit_index, it.values) == (2, {"a": "1"})
