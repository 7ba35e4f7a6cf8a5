from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.calibration import Levers
from offtake.performance.fit import Nearby, Prior, fit_levers
from offtake.performance.fit_check import interval, probability_below, quantile
from offtake.performance.fit_claims import Judged, judge, parse_claims
from offtake.performance.fit_prior import Estimate, Misses, means_of, prior_of, sd_of, shipped_lessons
from offtake.performance.measurements import Load, Point

MISSES = Misses(
    [0.025, 0.1, 0.5, 0.9, 0.975],
    {metric: [-2.0, -1.0, 0.0, 1.0, 2.0] for metric in ("ttft", "tpot", "e2e")},
    {"h100_sxm": {"ttft": 1.0, "tpot": 1.5, "e2e": 1.0}},
)
SIX = np.array([6.0, 6.0])
NEAR = Nearby(np.array([0.05, 0.05]), SIX, SIX, SIX, np.array([0.01, 0.01]), 0.8)
PRIOR = Prior(np.log([1.0, 1.0, 1.0, 20.0, 1.0]), np.full(5, 0.2), np.array([0.1, 0.05]), NEAR)


def replica(points: list[Point], levers: Levers) -> np.ndarray:
    rows = [(100.0 * levers.prefill, (10.0 + 0.1 * point.load.concurrency) * levers.decode) for point in points]
    return np.array(rows)


def judged(*concurrencies: float) -> Judged:
    points = [Point(Load(1000.0, 101.0, each), 100.0, 10.0 + 0.1 * each) for each in concurrencies]
    fit = fit_levers(points, lambda levers: replica(points, levers), PRIOR)
    return Judged(points, fit, PRIOR, MISSES, "h100_sxm")


def verdict(text: str, known: Judged) -> tuple[str, dict[str, float]]:
    (claim,) = parse_claims([text])
    found = judge(claim, known, lambda points: lambda levers: replica(list(points), levers))
    return found.verdict, found.load


def test_a_promise_that_is_kept_with_room_is_delivered() -> None:
    assert verdict("tpot_ms=40", judged(1, 16, 64))[0] == "delivered"


def test_a_promise_without_a_load_is_judged_where_it_is_kept_worst() -> None:
    told, load = verdict("tpot_ms=12", judged(1, 16, 64))
    assert told == "below"
    assert load["concurrency"] == 64


def test_a_promise_as_tight_as_the_measurement_cannot_be_told() -> None:
    assert (
        verdict("tpot_ms=16.4@concurrency=64,input_tokens=1000,output_tokens=101", judged(1, 16, 64))[0]
        == "cannot tell"
    )


def test_a_throughput_is_promised_at_least_and_a_latency_at_most() -> None:
    at = "@concurrency=64,input_tokens=1000,output_tokens=101"
    known = judged(1, 16, 64)  # 64 × 101 tokens in 100 + 100 × 16.4 ms: 3,715 tokens/s
    assert verdict(f"output_tokens_per_s=2500{at}", known)[0] == "delivered"
    assert verdict(f"output_tokens_per_s=5500{at}", known)[0] == "below"


def test_claims_are_read_from_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    path.write_text(
        "metric,value,concurrency,input_tokens,output_tokens\ntpot_ms,25,64,1024,1024\nttft_ms_p95,2000,,,\n"
    )
    first, second = parse_claims([], path)
    assert first.load == (1024.0, 1024.0, 64.0, 0.0, 1.0)
    assert (second.metric, second.value, second.load) == ("ttft_ms_p95", 2000.0, None)


def test_every_faulty_claim_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_claims(["speed=3", "tpot_ms=fast", "tpot_ms=25@concurrency=4", "tpot_ms=25@colour=4"])
    assert len(caught.value.faults) == 4


def test_an_interval_is_as_wide_as_held_out_errors_on_that_system_were() -> None:
    mean, sd = np.log([100.0, 10.0, 1000.0]), np.array([0.1, 0.1, 0.1])
    low, high = interval(MISSES, "h100_sxm", mean, sd)
    assert high == pytest.approx([100 * np.exp(0.1), 10 * np.exp(0.15), 1000 * np.exp(0.1)])
    assert interval(MISSES, "unknown", mean, sd)[0][1] == pytest.approx(10 * np.exp(-0.1))
    assert low[1] == pytest.approx(10 * np.exp(-0.15))
    assert quantile(MISSES, "h100_sxm", "tpot", 0.5) == 0.0
    assert probability_below(MISSES, "h100_sxm", "tpot", 1.5) == pytest.approx(0.9)
    assert 0 < probability_below(MISSES, "h100_sxm", "tpot", -99) < 0.05


def test_a_small_group_is_drawn_towards_its_backend_more_than_a_large_one() -> None:
    def some(backend: str, system: str, value: float, count: int) -> list[Estimate]:
        thetas = [np.full(5, value + 0.1 * (index % 2)) for index in range(count)]
        return [Estimate(backend, system, theta, np.zeros((5, 5))) for theta in thetas]

    estimates = some("vllm", "big", 1.0, 40) + some("vllm", "small", 2.0, 2) + some("sglang", "big", -1.0, 40)
    means = means_of(estimates)
    assert means["vllm/big"][0] == pytest.approx(1.05, abs=0.05)
    assert means["vllm/small"][0] < 1.9
    assert means["sglang/big"][0] < 0 < means["vllm/big"][0]
    assert (sd_of(estimates, means) > 0.04).all()


def test_the_shipped_lessons_know_three_engines_and_say_where_they_come_from() -> None:
    lessons = shipped_lessons()
    assert {"*", "vllm", "sglang", "trtllm"} <= set(lessons.means)
    assert "aiconfigurator-core" in lessons.source
    known, unknown = prior_of(lessons, "vllm", "h100_sxm"), prior_of(lessons, "other", "tpu")
    assert known.mean.shape == known.sd.shape == (5,)
    assert unknown.mean.tolist() == lessons.means["*"]
    for quantiles in lessons.misses.quantiles.values():
        assert sorted(quantiles) == quantiles
