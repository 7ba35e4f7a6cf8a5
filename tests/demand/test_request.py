from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from offtake.demand.request import (
    Requests,
    check_requests,
    concat,
    count_of,
    merge,
    merge_streams,
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


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", range(20))
def test_streams_merge_as_their_whole_would_however_they_are_cut(seed: int) -> None:
    random = np.random.default_rng([seed, 77])
    streams = [
        some(np.sort(random.integers(0, int(random.choice([3, 30, 3000])), random.integers(0, 200))).tolist(), workload)
        for workload in range(int(random.integers(1, 6)))
    ]
    whole = merge(streams)
    merged = list(merge_streams([rebatch([stream], int(random.integers(1, 40))) for stream in streams]))
    assert all(count_of(batch) for batch in merged)
    pairs: Any = zip(concat(merged), whole, strict=True)
    assert all(np.array_equal(mine, other) and mine.dtype == other.dtype for mine, other in pairs)


def test_streams_are_read_no_further_than_they_must_be() -> None:
    read: list[int] = []

    def watched(name: int, step: int) -> Iterator[Requests]:
        for start in range(0, 1_000, step):
            read.append(name)
            yield some(list(range(start, start + step)))

    merged = merge_streams([watched(0, 10), watched(1, 100)])
    next(merged)
    assert read == [0, 1]
    next(merged)
    assert read == [0, 1, 0]


def test_no_streams_and_empty_streams_merge_to_nothing() -> None:
    assert list(merge_streams([])) == []
    assert list(merge_streams([iter([]), iter([no_requests()])])) == []
