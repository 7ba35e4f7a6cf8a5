from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from offtake.performance.calibration import Levers, calibrated
from offtake.performance.fit import Known, Nearby, Prior, fit_levers, levers_of, likeness, observed, predict
from offtake.performance.fit_check import held_out
from offtake.performance.library import load_shipped
from offtake.performance.measurements import Load, Point

NEAR = Nearby(
    spread=np.array([0.3, 0.1]),
    length_concurrency=np.array([8.0, 8.0]),
    length_input=np.array([5.0, 8.0]),
    length_output=np.array([15.0, 15.0]),
    repeat=np.array([0.05, 0.02]),
    version_share=0.8,
)
PRIOR = Prior(np.log([1.0, 1.0, 1.0, 20.0, 1.0]), np.array([0.35, 0.25, 0.8, 0.8, 0.1]), np.array([0.3, 0.08]), NEAR)


def points(*concurrencies: float) -> list[Point]:
    return [Point(Load(1024.0, 512.0, each, 0.0, 0.8), 1.0, 1.0) for each in concurrencies]


def simulated(levers: Levers, loads: list[Point]) -> np.ndarray:
    """A replica in closed form: prefill of the prompt, and a decode step that grows with the batch."""
    rows = []
    for point in loads:
        batch = point.load.concurrency
        ttft_ms = levers.prefill * 0.1 * point.load.input_tokens + levers.step_ms + levers.request_ms
        rows.append((ttft_ms, levers.decode * (8.0 + 0.2 * batch) + levers.step_ms))
    return np.array(rows)


def measured(levers: Levers, loads: list[Point]) -> list[Point]:
    times = simulated(levers, loads)
    return [
        point._replace(ttft_ms=float(row[0]), tpot_ms=float(row[1])) for point, row in zip(loads, times, strict=True)
    ]


def test_levers_that_the_loads_can_tell_apart_are_found_again() -> None:
    truth = Levers(1.4, 0.8, 2.0, 20.0, 1.0)
    given = measured(truth, points(1, 8, 64, 256))
    fit = fit_levers(given, lambda levers: simulated(levers, given), PRIOR)
    found = levers_of(fit.theta)
    assert found.decode == pytest.approx(0.8, rel=0.05)  # drawn a little towards 1
    assert found.step_ms == pytest.approx(2.0, rel=0.3)
    assert np.abs(fit.left).max() < 0.05


def test_one_point_moves_the_levers_but_leaves_them_near_what_is_expected() -> None:
    given = measured(Levers(1.0, 2.0, 1.0, 20.0, 1.0), points(64))
    fit = fit_levers(given, lambda levers: simulated(levers, given), PRIOR)
    assert 1.2 < levers_of(fit.theta).decode < 2.0  # drawn towards 1
    assert fit.covariance[1, 1] < PRIOR.sd[1] ** 2


def test_one_odd_run_does_not_bend_the_table() -> None:
    given = measured(Levers(1.0, 1.2, 1.0, 20.0, 1.0), points(1, 4, 16, 64, 256))
    odd = [*given, given[2]._replace(load=Load(1024.0, 512.0, 32.0, 0.0, 0.8), tpot_ms=90.0)]
    fit = fit_levers(odd, lambda levers: simulated(levers, odd), PRIOR)
    assert levers_of(fit.theta).decode == pytest.approx(1.2, rel=0.05)


def test_a_measured_load_is_predicted_as_measured_and_a_far_one_as_simulated() -> None:
    given = points(16, 64)
    left = np.array([[0.2, 0.1], [0.2, 0.1]])
    known = Known(given, left, np.zeros((2, 2, 5)), PRIOR.mean, PRIOR)
    base = np.zeros((2, 2))
    far = [given[0], Point(Load(1e9, 1e9, 1e9), 1.0, 1.0)]
    found = predict(known, far, base, np.zeros((2, 2, 5)))
    assert found.mean[0] == pytest.approx([0.2, 0.1], abs=0.02)
    assert found.mean[1] == pytest.approx([0.0, 0.0], abs=0.04)
    assert (found.variance[0] < found.variance[1]).all()


def test_two_engine_versions_are_less_alike_than_one() -> None:
    first, second = points(16, 16)
    other = second._replace(backend_version="2")
    same = likeness([first], [second], PRIOR)
    assert likeness([first], [other], PRIOR) == pytest.approx(0.8 * same)


def test_a_point_and_its_repeats_take_no_part_in_what_predicts_them() -> None:
    given = measured(Levers(1.0, 1.1, 1.0, 20.0, 1.0), points(1, 16, 16, 256))
    wild = [*given[:1], given[1]._replace(tpot_ms=500.0), given[2]._replace(tpot_ms=500.0), *given[3:]]

    def predictions(rows: list[Point]) -> list[np.ndarray]:
        fit = fit_levers(given, lambda levers: simulated(levers, given), PRIOR)
        again = fit._replace(left=observed(rows) - fit.simulated)
        return [one.mean for one in held_out(rows, again, lambda levers: simulated(levers, rows), PRIOR)]

    assert predictions(wild)[1] == pytest.approx(predictions(given)[1])
    assert predictions(wild)[0] != pytest.approx(predictions(given)[0])


def test_a_single_point_is_predicted_from_the_prior_alone() -> None:
    given = measured(Levers(1.0, 1.5, 1.0, 20.0, 1.0), points(16))
    fit = fit_levers(given, lambda levers: simulated(levers, given), PRIOR)
    (found,) = held_out(given, fit, lambda levers: simulated(levers, given), PRIOR)
    expected = np.log(simulated(levers_of(PRIOR.mean), given)[0])
    assert found.mean[:2] == pytest.approx(expected)
    assert found.sd[1] > 0.2


@pytest.mark.parametrize("seed", [20260501])
def test_four_in_five_held_out_points_fall_into_their_interval_when_the_model_is_true(seed: int) -> None:
    random = np.random.default_rng([seed, 1])
    loads = points(1, 2, 4, 8, 16, 32, 64, 128)
    inside, total = 0, 0
    for _ in range(40):
        levers = levers_of(PRIOR.mean + PRIOR.sd * random.normal(size=5) * np.array([1, 1, 1, 1, 0]))
        block = likeness(loads, loads, PRIOR) + np.array(NEAR.repeat)[:, None, None] ** 2 * np.eye(len(loads))
        errors = np.stack([np.linalg.cholesky(one) @ random.normal(size=len(loads)) for one in block], axis=1)
        times = simulated(levers, loads) * np.exp(errors)
        given = [p._replace(ttft_ms=float(t[0]), tpot_ms=float(t[1])) for p, t in zip(loads, times, strict=True)]
        simulate = partial(simulated, loads=given)
        fit = fit_levers(given, simulate, PRIOR)
        truth = observed(given)
        for one in held_out(given, fit, simulate, PRIOR):
            z = (truth[one.place] - one.mean[:2]) / one.sd[:2]
            inside += int((np.abs(z) < 1.2816).sum())
            total += 2
    assert 0.75 <= inside / total <= 0.9  # shared points make the sample's error about 2%


def test_a_calibrated_table_scales_what_each_lever_names() -> None:
    stored = load_shipped("llama-3.1-8b-h100-tp1")
    made = calibrated(stored, Levers(2.0, 0.5, 1.5, 30.0, 0.9), "mine", {"points": 3})
    assert made.table.token_ns[0] == 2.0 * stored.table.token_ns[0]
    assert made.table.decode_step_ns[1, 1] == 0.5 * stored.table.decode_step_ns[1, 1]
    assert made.table.overhead_ns == stored.table.overhead_ns + 1_500_000
    assert made.limits.kv_blocks == round(0.9 * stored.limits.kv_blocks)
    assert made.table.request_ns == stored.table.request_ns + 30_000_000
    assert made.provenance["calibrated_from"] == stored.name
    assert math.isclose(made.table.prefill_ns[-1], 2.0 * stored.table.prefill_ns[-1])
