from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from offtake.demand.generate import TraceSpec, generate
from offtake.demand.measure import measure
from offtake.demand.profile import load_profile
from offtake.demand.request import Requests, concat, rebatch, requests_of
from offtake.demand.reshape import Shape, reshaped, span_of
from offtake.demand.trace import read_trace
from offtake.errors import InputError
from tests.demand.real import real_trace

SEEDS = (1, 2, 3)
HOUR_NS = 3_600_000_000_000
Load = Callable[[], Iterator[Requests]]


def every_second(count: int = 100, rows: int = 7) -> Load:
    tokens = np.arange(1, count + 1, dtype=np.int32)
    made = requests_of(np.arange(count) * 10**9, tokens, tokens)
    made = made._replace(region=(np.arange(count) % 2).astype(np.int16))
    return lambda: rebatch([made], rows)


def in_sessions(rows: int = 7) -> Load:
    made = concat(list(every_second()()))
    session = (np.arange(100) // 10).astype(np.int32)
    first = np.arange(100) % 10 == 0
    made = made._replace(session=session, think_ns=np.where(first, -1, 5), shared_tokens=np.where(first, 0, 1))
    return lambda: rebatch([made], rows)


def got(load: Load, shape: Shape, seed: int = 3) -> Requests:
    return concat(list(reshaped(load, shape, seed)))


def same(one: Requests, other: Requests) -> bool:
    pairs: Any = zip(one, other, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# ── each change alone ────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_default_changes_nothing() -> None:
    assert same(got(every_second(), Shape()), concat(list(every_second()())))


def test_a_cut_counts_from_its_start() -> None:
    found = got(every_second(), Shape(start_ns=5 * 10**9, end_ns=9 * 10**9))
    assert found.arrival_ns.tolist() == [0, 10**9, 2 * 10**9, 3 * 10**9]
    assert found.input_tokens.tolist() == [6, 7, 8, 9]


def test_a_cut_reads_no_further_than_its_end() -> None:
    read = []

    def watched() -> Iterator[Requests]:
        for batch in every_second()():
            read.append(int(batch.arrival_ns[-1]))
            yield batch

    assert list(reshaped(watched, Shape(end_ns=10 * 10**9), 0))
    assert read[-1] < 15 * 10**9


def test_a_stretched_load_has_the_same_requests_at_times_the_factor() -> None:
    found = got(every_second(), Shape(stretch=2.5))
    assert found.arrival_ns.tolist() == [second * 2_500_000_000 for second in range(100)]


@pytest.mark.parametrize("seed", SEEDS)
def test_thinning_keeps_a_share_by_chance_in_order(seed: int) -> None:
    found = got(every_second(20_000, 999), Shape(scale=0.3), seed)
    assert found.arrival_ns.size == pytest.approx(6_000, abs=4 * np.sqrt(20_000 * 0.21))
    assert np.all(np.diff(found.input_tokens) > 0)


@pytest.mark.parametrize("factor, count", [(2.0, 200), (3.0, 300), (3.5, 350)])
def test_multiplying_superposes_copies_shifted_over_the_trace(factor: float, count: int) -> None:
    found = got(every_second(), Shape(scale=factor))
    assert found.arrival_ns.size == pytest.approx(count, abs=0 if factor % 1 == 0 else 25)
    assert np.all(np.diff(found.arrival_ns) >= 0)
    times = np.bincount(found.input_tokens)[1:]
    assert (times.min(), times.max()) == (np.floor(factor), np.ceil(factor))
    assert found.arrival_ns[-1] < 100 * 10**9


def test_a_shifted_region_comes_later_and_its_end_comes_round() -> None:
    found = got(every_second(7_200), Shape(shift_hours=(0.0, 1.0)))
    here, there = found.region == 0, found.region == 1
    assert found.input_tokens[here].tolist() == list(range(1, 7_201, 2))
    assert found.input_tokens[there].tolist() == [*range(3_602, 7_201, 2), *range(2, 3_602, 2)]
    assert found.arrival_ns[there][:2].tolist() == [10**9, 3 * 10**9]


def test_a_loop_begins_again_after_one_more_mean_gap_until_its_end() -> None:
    found = got(every_second(), Shape(loop_ns=250 * 10**9, end_ns=250 * 10**9))
    assert found.arrival_ns.tolist() == [second * 10**9 for second in range(250)]
    assert found.input_tokens[200:].tolist() == list(range(1, 51))


def test_a_trace_of_nearly_a_week_repeats_after_the_week() -> None:
    tokens = np.ones(1_000, dtype=np.int32)
    almost = requests_of(np.linspace(0, 167.5 * HOUR_NS, 1_000).astype(np.int64), tokens, tokens)
    assert span_of(lambda: iter([almost])).period_ns == 168 * HOUR_NS


# ── bunching ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_real_trace_multiplied_keeps_its_dispersion_and_its_gaps_come_nearer_to_poisson() -> None:
    path = real_trace("azure-2023-code.parquet")
    before = measure(read_trace(path))
    after = measure(reshaped(lambda: read_trace(path), Shape(scale=4.0), 1))
    assert after.requests == 4 * before.requests
    assert 0.5 < after.dispersion[60] / before.dispersion[60] < 2.0
    assert 1 < after.interarrival_cv < before.interarrival_cv


def test_the_real_trace_thinned_loses_dispersion_as_the_formula_says() -> None:
    path = real_trace("azure-2023-code.parquet")
    before = measure(read_trace(path))
    after = measure(reshaped(lambda: read_trace(path), Shape(scale=0.25), 1))
    assert after.dispersion[60] == pytest.approx(1 + (before.dispersion[60] - 1) / 4, rel=0.2)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_thinning_keeps_or_leaves_out_whole_sessions() -> None:
    found = got(in_sessions(), Shape(scale=0.5))
    assert set(np.bincount(found.session).tolist()) <= {0, 10}
    assert 0 < found.session.size < 100


@pytest.mark.parametrize("shape", [Shape(scale=3.0), Shape(loop_ns=300 * 10**9), Shape(shift_hours=(0.01, 0.0))])
def test_each_copy_has_its_own_sessions_and_their_turns_stay_in_order(shape: Shape) -> None:
    found = got(in_sessions(), shape)
    for name in np.unique(found.session):
        turns = found.input_tokens[found.session == name]
        assert np.all(np.diff(turns) > 0)
        assert turns.max() - turns.min() < 10


def test_a_session_that_is_cut_begins_with_a_turn_that_waits_for_none() -> None:
    found = got(in_sessions(), Shape(start_ns=5 * 10**9))
    assert found.think_ns[:6].tolist() == [-1, 5, 5, 5, 5, -1]
    assert found.shared_tokens[:6].tolist() == [0, 1, 1, 1, 1, 0]


def test_more_copies_than_sessions_can_be_numbered_are_a_fault() -> None:
    load = concat(list(in_sessions()()))
    many = load._replace(session=load.session + np.int32(10**9))
    with pytest.raises(InputError, match="Number sessions from 0 on, or repeat the trace less often"):
        list(reshaped(lambda: iter([many]), Shape(scale=3.0), 0))


# ── the same seed, the same requests ─────────────────────────────────────────────────────────────────────────────────
EVERYTHING = Shape(
    stretch=0.7, shift_hours=(0.0, 0.005), scale=2.4, loop_ns=200 * 10**9, start_ns=10**10, end_ns=180 * 10**9
)


@pytest.mark.parametrize("rows", [3, 1_000])
@pytest.mark.parametrize("shape", [EVERYTHING, Shape(scale=0.4), Shape(scale=3.0)])
def test_the_same_seed_gives_the_same_requests_however_the_load_is_cut(rows: int, shape: Shape) -> None:
    assert same(got(in_sessions(rows), shape), got(in_sessions(31), shape))


def test_made_traffic_can_be_changed_too() -> None:
    spec = TraceSpec(profile=load_profile("chat"), rate_rps_mean=5, duration_s=3600, seed=2)
    before = concat(list(generate(spec)))
    after = got(lambda: generate(spec), Shape(scale=2.0))
    assert after.arrival_ns.size == 2 * before.arrival_ns.size
