from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.demand.generate import TraceSpec, generate, knots_of, mix, sample_lengths, window_s_of
from offtake.demand.measure import Statistics, measure
from offtake.demand.profile import Profile, load_profile
from offtake.demand.request import Requests, concat, rebatch
from offtake.errors import InputError

SEEDS = (1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow))


def flat(name: str, **changes: object) -> Profile:
    return msgspec.structs.replace(load_profile(name), hour_of_week=(1.0,) * 168, **changes)


def spec(name: str = "chat", **changes: object) -> TraceSpec:
    given: dict[str, object] = {"rate_rps_mean": 20.0, "duration_s": 600.0, "seed": 7, **changes}
    return TraceSpec(profile=load_profile(name), **given)  # type: ignore[arg-type]  # tests change any field


def columns(requests: Requests) -> list[Any]:
    return list(requests)


def same(one: Requests, other: Requests) -> bool:
    pairs = zip(columns(one), columns(other), strict=True)
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@cache
def hours_of(name: str, seed: int, hours: int) -> Statistics:
    """What is measured of a generated trace at the rate of the real one."""
    profile = load_profile(name)
    made = TraceSpec(profile=profile, rate_rps_mean=profile.measured_rps, duration_s=hours * 3600, seed=seed)
    return measure(generate(made))


# ── the real traces' statistics ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name, input_p50_p95, output_p50_p95",
    [
        ("azure-2023-code", (1469, 7303), (13, 90)),
        ("azure-2023-conv", (1020, 4083), (129, 451)),
        ("mooncake-conversation", (6909, 39551), (350, 698)),
    ],
)
def test_lengths_keep_the_measured_median_and_tail_within_5_percent(
    name: str, input_p50_p95: tuple[int, int], output_p50_p95: tuple[int, int], seed: int
) -> None:
    made = hours_of(name, seed, 24)
    assert [made.input_tokens.quantile(q) for q in (0.5, 0.95)] == pytest.approx(input_p50_p95, rel=0.05)
    assert [made.output_tokens.quantile(q) for q in (0.5, 0.95)] == pytest.approx(output_p50_p95, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name, spearman", [("azure-2023-code", -0.021), ("azure-2023-conv", 0.073), ("mooncake-conversation", 0.072)]
)
def test_input_and_output_keep_their_measured_rank_correlation(name: str, spearman: float, seed: int) -> None:
    assert hours_of(name, seed, 24).spearman == pytest.approx(spearman, abs=0.01)


def test_a_strong_negative_correlation_is_kept_too() -> None:
    profile = msgspec.structs.replace(load_profile("mooncake-conversation"), spearman=-0.517)
    tokens = sample_lengths(profile, 100_000, seed=3)
    ranks = [np.argsort(np.argsort(column)) for column in tokens]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] == pytest.approx(-0.517, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name, cv, dispersions, tolerance",
    [
        # The tolerance is the spread between runs: a day of the code trace holds only a few hundred bursts.
        ("azure-2023-code", 13.15, (13.19, 166.9), 0.35),
        ("azure-2023-conv", 1.094, (1.386, 16.41), 0.2),
        ("mooncake-conversation", 1.018, (1.054, 2.918), 0.2),
    ],
)
def test_arrivals_bunch_as_measured_at_one_second_and_at_one_minute(
    name: str, cv: float, dispersions: tuple[float, float], tolerance: float, seed: int
) -> None:
    made = hours_of(name, seed, 24)
    assert made.interarrival_cv == pytest.approx(cv, rel=tolerance)
    assert [made.dispersion[window] for window in (1, 60)] == pytest.approx(dispersions, rel=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["coding", "chat"])
def test_a_week_follows_the_hour_of_the_week(name: str, seed: int) -> None:
    week = TraceSpec(profile=load_profile(name), rate_rps_mean=6.0, duration_s=604_800, seed=seed)
    counts = np.zeros(168)
    for batch in generate(week):
        counts += np.bincount(batch.arrival_ns // (3600 * 10**9), minlength=168)
    assert counts.sum() / 604_800 == pytest.approx(6.0, rel=0.04)
    assert np.corrcoef(counts, load_profile(name).hour_of_week)[0, 1] > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_higher_rate_the_dispersion_stays_and_the_gaps_become_poisson(seed: int) -> None:
    made = measure(generate(TraceSpec(profile=flat("chat"), rate_rps_mean=300, duration_s=7200, seed=seed)))
    assert made.dispersion[60] == pytest.approx(16.4, rel=0.45)
    assert made.interarrival_cv == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_keeping_one_in_a_hundred_keeps_the_rate_and_removes_the_bunching(seed: int) -> None:
    made = TraceSpec(profile=flat("coding"), rate_rps_mean=800, duration_s=20_000, seed=seed, keep_one_in=100)
    statistics = measure(generate(made))
    assert statistics.rate_rps == pytest.approx(8.0, rel=0.05)
    assert statistics.dispersion[60] == pytest.approx(1 + 183 / 100, rel=0.3)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_slow_swing_does_not_fade_with_size(seed: int) -> None:
    profile = flat("servegen-m-large", swing_cv=0.2, swing_s=1200.0)
    statistics = measure(generate(TraceSpec(profile=profile, rate_rps_mean=5, duration_s=400_000, seed=seed)))
    minutes = statistics.per_second[:399_960].reshape(-1, 60).sum(axis=1)
    assert minutes.std() / minutes.mean() == pytest.approx(0.2, rel=0.2)
    assert minutes.mean() == pytest.approx(300, rel=0.06)


@pytest.mark.parametrize("seed", SEEDS)
def test_nightly_batch_work_comes_in_jobs_at_night(seed: int) -> None:
    week = TraceSpec(profile=load_profile("nightly-batch"), rate_rps_mean=2.0, duration_s=604_800, seed=seed)
    per_hour, per_minute = np.zeros(168), np.zeros(168 * 60)
    for batch in generate(week):
        per_hour += np.bincount(batch.arrival_ns // (3600 * 10**9), minlength=168)
        per_minute += np.bincount(batch.arrival_ns // (60 * 10**9), minlength=168 * 60)
    by_hour_of_day = per_hour.reshape(7, 24).sum(axis=0) / per_hour.sum()
    assert by_hour_of_day[:2].sum() > 0.8
    assert by_hour_of_day[[23, 0, 1, 2]].sum() > 0.999
    assert per_minute.max() > 500


# ── the same seed, the same requests ─────────────────────────────────────────────────────────────────────────────────
def test_the_same_seed_gives_the_same_bytes() -> None:
    assert same(concat(list(generate(spec()))), concat(list(generate(spec()))))


def test_another_seed_or_stream_gives_other_requests() -> None:
    base = concat(list(generate(spec())))
    assert not same(base, concat(list(generate(spec(seed=8)))))
    assert not same(base, concat(list(generate(spec(stream=1)))))


def test_a_longer_trace_begins_with_the_shorter_one() -> None:
    short = concat(list(generate(spec(duration_s=500.0))))
    count = short.arrival_ns.size
    longer = concat(list(generate(spec(duration_s=9000.0))))
    assert np.array_equal(longer.arrival_ns[:count], short.arrival_ns)


def test_the_batch_size_does_not_change_the_requests() -> None:
    specs = [spec(), spec("coding", stream=1)]
    assert same(concat(list(rebatch(mix(specs), 97))), concat(list(rebatch(mix(specs), 100_000))))


def test_a_mix_is_sorted_and_holds_each_stream_as_it_is_alone() -> None:
    specs = [
        spec("chat", rate_rps_mean=300.0, workload=0, region=1),
        spec("coding", rate_rps_mean=2.0, stream=1, workload=1, region=2),
        spec("servegen-m-large", rate_rps_mean=900.0, stream=2, workload=2, region=0, duration_s=300.0),
    ]
    mixed = concat(list(mix(specs)))
    assert np.all(np.diff(mixed.arrival_ns) >= 0)
    for number, one in enumerate(specs):
        mine = mixed.workload == number
        alone = concat(list(generate(one)))
        assert same(Requests(*(column[mine] for column in columns(mixed))), alone)


def test_a_mix_of_nothing_is_empty() -> None:
    assert list(mix([])) == []
    assert list(mix([spec(rate_rps_mean=0.0)])) == []


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_no_request_arrives_before_the_start_or_after_the_end() -> None:
    for name in ("coding", "chat"):
        requests = concat(list(generate(spec(name, rate_rps_mean=200.0, duration_s=333.3))))
        assert requests.arrival_ns[0] >= 0
        assert requests.arrival_ns[-1] < 333_300_000_000
        assert requests.input_tokens.min() >= 1
        assert requests.output_tokens.min() >= 1


def test_the_trace_begins_as_busy_as_it_goes_on() -> None:
    made = TraceSpec(profile=flat("chat"), rate_rps_mean=2000, duration_s=600, seed=4)
    first, last = (half.mean() for half in np.split(measure(generate(made)).per_second[:600], 2))
    assert first == pytest.approx(last, rel=0.05)


def test_a_lag_moves_the_day_later() -> None:
    noon = concat(list(generate(spec("coding", start_hour_of_week=14.0, rate_rps_mean=50.0))))
    lagged = concat(list(generate(spec("coding", start_hour_of_week=17.0, lag_hours=3.0, rate_rps_mean=50.0))))
    assert same(noon, lagged)


def test_memory_holds_windows_not_the_trace() -> None:
    assert window_s_of(0.0) == 2048
    assert window_s_of(100.0) == 1024
    assert window_s_of(1e7) == 1
    sizes = [batch.arrival_ns.size for batch in generate(spec(rate_rps_mean=50_000.0, duration_s=20.0))]
    assert max(sizes) < 200_000
    assert len(sizes) == 10


def test_straight_lines_between_hours_keep_every_hours_mean() -> None:
    shape = np.array(load_profile("coding").hour_of_week)
    knots = knots_of(shape)
    means = (np.roll(knots[:-1], 1) + 6 * knots[:-1] + knots[1:]) / 8
    assert means == pytest.approx(shape, abs=1e-12)
    assert knots.min() > 0


def test_a_shape_too_jagged_for_straight_lines_keeps_its_levels() -> None:
    shape = np.zeros(168)
    shape[10] = 168.0
    assert knots_of(shape)[:168].tolist() == shape.tolist()


def test_every_figure_out_of_bounds_is_a_fault() -> None:
    with pytest.raises(InputError) as found:
        generate(spec(rate_rps_mean=-1.0, duration_s=0.0, keep_one_in=0))
    assert [fault.column for fault in found.value.faults] == ["rate_rps_mean", "duration_s", "keep_one_in"]
