from __future__ import annotations

import numpy as np
import pytest

from offtake.demand.request import (
    Requests,
    check_requests,
    concat,
    count_of,
    merge,
    no_requests,
    rebatch,
    requests_of,
    until,
)
from offtake.errors import InputError


def some(arrivals: list[int], workload: int = 0) -> Requests:
    tokens = np.array(arrivals, dtype=np.int32) + 10
    return requests_of(np.array(arrivals, dtype=np.int64), tokens, tokens + 1, workload)


def test_merging_sorts_by_arrival_and_lets_the_earlier_batch_go_first_at_a_tie() -> None:
    merged = merge([some([1, 5, 7], workload=1), some([0, 5, 9], workload=2)])
    assert merged.arrival_ns.tolist() == [0, 1, 5, 5, 7, 9]
    assert merged.workload.tolist() == [2, 1, 1, 2, 1, 2]
    assert merged.input_tokens.tolist() == [10, 11, 15, 15, 17, 19]


def test_merging_nothing_gives_no_request() -> None:
    assert count_of(merge([])) == 0
    assert count_of(merge([no_requests(), no_requests()])) == 0


def test_a_batch_splits_before_its_end_time() -> None:
    before, after = until(some([1, 5, 7]), 5)
    assert before.arrival_ns.tolist() == [1]
    assert after.arrival_ns.tolist() == [5, 7]


def test_rebatching_changes_the_cuts_and_nothing_else() -> None:
    batches = [some([0, 1, 2]), some([]), some([3]), some([4, 5, 6, 7])]
    cut = list(rebatch(batches, 3))
    assert [batch.arrival_ns.tolist() for batch in cut] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert concat(cut).output_tokens.tolist() == concat(batches).output_tokens.tolist()


def test_sorted_requests_with_tokens_pass() -> None:
    check_requests(some([0, 0, 3]), "trace")


def test_every_broken_rule_is_named_with_its_first_request() -> None:
    tokens = np.array([1, 0, 3, 0], dtype=np.int32)
    broken = requests_of(np.array([4, -2, 7, 6], dtype=np.int64), tokens, tokens)
    with pytest.raises(InputError) as found:
        check_requests(broken, "trace")
    where = [(fault.row, fault.column) for fault in found.value.faults]
    assert where == [
        ("request 1", "arrival_ns"),
        ("request 1", "arrival_ns"),
        ("request 1", "input_tokens"),
        ("request 1", "output_tokens"),
    ]
