from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offtake.demand.measure import dispersion_of
from offtake.demand.request import Requests, concat, rebatch, requests_of
from offtake.rehearse.surge import JITTER_NS, with_surges
from offtake.rehearse.timeline import Surge

SEEDS = (1, 2, 3)
HOUR_NS = 3_600_000_000_000


def surge(start_ns: int, end_ns: int, factor: float, workload: int | None = None, region: int | None = None) -> Surge:
    return Surge(start_ns=start_ns, end_ns=end_ns, factor=factor, workload=workload, region=region)


def poisson(seed: int, count: int = 20_000, hours: float = 4.0) -> Requests:
    random = np.random.default_rng(seed)
    arrival_ns = np.sort(random.integers(0, int(hours * HOUR_NS), count))
    tokens = random.integers(1, 1000, count).astype(np.int32)
    made = requests_of(arrival_ns, tokens, tokens[::-1].copy())
    workload, region = random.integers(0, 2, (2, count)).astype(np.int16)
    return made._replace(workload=workload, region=region)


def surged(load: Requests, *surges: Surge, rows: int = 1_000, seed: int = 5) -> Requests:
    return concat(list(with_surges(rebatch([load], rows), surges, seed)))


def hourly(load: Requests) -> list[int]:
    counts: list[int] = np.bincount(load.arrival_ns // HOUR_NS, minlength=4).tolist()
    return counts


def same(one: Requests, other: Requests) -> bool:
    pairs: Any = zip(one, other, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.5, 2.0, 3.7])
def test_a_surge_multiplies_its_hours_and_leaves_the_others_alone(seed: int, factor: float) -> None:
    load = poisson(seed)
    before, after = hourly(load), hourly(surged(load, surge(HOUR_NS, 2 * HOUR_NS, factor)))
    assert (after[0], after[2], after[3]) == (before[0], before[2], before[3])
    assert after[1] == pytest.approx(factor * before[1], abs=4 * np.sqrt(before[1]) * (factor % 1 > 0))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("field", ["workload", "region"])
def test_a_surge_of_one_workload_or_region_leaves_the_others_alone(seed: int, field: str) -> None:
    load = poisson(seed)
    found = surged(load, surge(0, 4 * HOUR_NS, 3.0, **{field: 1}))
    before, after = (np.bincount(getattr(each, field)).tolist() for each in (load, found))
    assert after == [before[0], 3 * before[1]]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_copies_are_sorted_and_stay_within_the_surge_and_a_minute_of_their_originals(seed: int) -> None:
    load = poisson(seed, count=50)
    whole = surge(HOUR_NS, 3 * HOUR_NS, 5.0)
    found = surged(load, whole)
    assert np.all(np.diff(found.arrival_ns) >= 0)
    marks = load.input_tokens.astype(np.int64) * 1000 + load.output_tokens
    found_marks = found.input_tokens.astype(np.int64) * 1000 + found.output_tokens
    for arrival_ns, mark in zip(found.arrival_ns, found_marks, strict=True):
        away_ns = np.abs(load.arrival_ns[marks == mark] - arrival_ns).min()
        assert away_ns == 0 or (away_ns <= JITTER_NS and whole.start_ns <= arrival_ns < whole.end_ns)


@pytest.mark.parametrize("rows", [1, 7, 1_000, 100_000])
def test_the_same_seed_gives_the_same_requests_however_the_load_is_cut(rows: int) -> None:
    load = poisson(11, count=2_000)
    surges = [surge(HOUR_NS, 2 * HOUR_NS, 2.5), surge(HOUR_NS // 2, 3 * HOUR_NS, 1.3, region=1)]
    assert same(surged(load, *surges, rows=rows), surged(load, *surges, rows=333))
    assert not same(surged(load, *surges, seed=6), surged(load, *surges))


def test_arrivals_at_one_instant_do_not_depend_on_the_cut_either() -> None:
    load = poisson(11, count=2_000)
    load = load._replace(arrival_ns=load.arrival_ns // (3 * 10**9) * (3 * 10**9))
    surges = [surge(0, HOUR_NS, 3.0)]
    assert same(surged(load, *surges, rows=1), surged(load, *surges, rows=2_000))


def test_surges_that_overlap_multiply() -> None:
    load = poisson(3)
    surges = [surge(0, 2 * HOUR_NS, 2.0), surge(HOUR_NS, 2 * HOUR_NS, 3.0)]
    before, after = hourly(load), hourly(surged(load, *surges))
    assert after == pytest.approx([2 * before[0], 6 * before[1], before[2], before[3]], rel=0.01)


def test_a_surge_in_which_nothing_arrives_adds_nothing() -> None:
    load = poisson(3)
    assert same(surged(load, surge(5 * HOUR_NS, 6 * HOUR_NS, 9.0)), load)


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_bunch_over_minutes_but_not_within_a_second(seed: int) -> None:
    made = surged(poisson(seed, count=100_000, hours=4.0), surge(0, 4 * HOUR_NS, 3.0))
    per_second = np.bincount(made.arrival_ns // 10**9, minlength=4 * 3600 + 1)
    assert dispersion_of(per_second, 1) == pytest.approx(1.0, abs=0.1)
    assert dispersion_of(per_second, 600) > 1.8


def test_the_turns_of_a_copied_session_keep_their_order_and_share_with_each_other() -> None:
    arrival_ns = np.arange(100) * 10 * 10**9
    tokens = np.arange(1, 101).astype(np.int32)
    load = requests_of(arrival_ns, tokens, tokens)
    session = (np.arange(100) % 5).astype(np.int32)
    load = load._replace(session=session, think_ns=np.where(np.arange(100) < 5, -1, 10**9), shared_tokens=tokens // 2)
    found = surged(load, surge(0, 700 * 10**9, 3.0), rows=7)
    assert len(np.unique(found.session)) == 15
    for name in np.unique(found.session):
        mine = found.session == name
        assert np.all(np.diff(found.input_tokens[mine]) == 5)
        assert found.think_ns[mine].tolist() == [-1] + [10**9] * (mine.sum() - 1)
