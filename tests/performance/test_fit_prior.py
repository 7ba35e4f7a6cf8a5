from __future__ import annotations

import msgspec
import numpy as np
import pytest

from offtake.performance.calibration import Levers
from offtake.performance.fit_prior import Lessons, misses_for, shipped_lessons
from offtake.performance.measurements import Load, Measured, Point
from offtake.performance.silicon_rows import MeasuredRun
from tools.fit_cases import BASE, MOVES, Case, family_of, gathered, linear
from tools.fit_prior import START, START_PRIOR, Learnt, folds_of, from_one, hold, lessons_of, linearise

CLIENTS = (1, 4, 16, 64)


def case(model: str, system: str, speeds: tuple[float, float]) -> Case:
    """A replica in closed form, measured at four loads; its prefill and decode are so much slower than simulated."""

    def simulate(levers: Levers) -> np.ndarray:
        return np.array(
            [
                (
                    levers.prefill * (90.0 + each) + levers.request_ms,
                    levers.decode * (8.0 + 0.2 * each) + levers.step_ms,
                )
                for each in CLIENTS
            ]
        )

    times = simulate(Levers(*speeds, 0.1, 2.0))
    points = tuple(
        Point(Load(1024, 512, each, 0.0, 0.8), float(row[0]), float(row[1]), row=index)
        for index, (each, row) in enumerate(zip(CLIENTS, times, strict=True))
    )
    return Case(model, "vllm", system, Measured(model, "", points), simulate)


def some_cases(seed: int) -> list[Case]:
    random = np.random.default_rng([seed, 1])
    speeds = np.exp(random.normal(0.0, 0.2, (12, 2)))
    names = [(f"model-{index % 6}", ("h100_sxm", "b200_sxm")[index // 6]) for index in range(12)]
    return [case(*name, (float(a), float(b))) for name, (a, b) in zip(names, speeds, strict=True)]


def run_of(model: str, clients: int) -> MeasuredRun:
    return MeasuredRun(
        7, model, "h100_sxm", "vllm", "0.19.0", "bf16", "2026-04-01", False, 1, 1, 1, 0, 1000, 101, clients, 40.0, 8.0,
        "", {},
    )  # fmt: skip


def test_one_model_under_two_names_is_one_family() -> None:
    assert family_of("deepseek-ai/DeepSeek-R1") == family_of("nvidia/DeepSeek-V3.1-NVFP4")
    assert family_of("Qwen/Qwen3-32B-FP8") == "Qwen3-32B" != family_of("Qwen/Qwen3-235B-A22B-FP8")


def test_deployments_of_one_model_stand_in_one_fold() -> None:
    cases = some_cases(20260501)
    fold = folds_of(cases)
    assert (fold[:6] == fold[6:]).all()
    assert len(set(fold)) > 3


def test_one_measurement_under_two_names_of_a_model_counts_once() -> None:
    times = np.ones((len(MOVES), 2))
    first, again, other = run_of("deepseek-ai/DeepSeek-R1", 1), run_of("deepseek-ai/DeepSeek-V3", 1), run_of("R", 2)
    cases = gathered([(first, times), (again, times), (other, times)])
    assert [(made.model, len(made.measured.points)) for made in cases] == [("DeepSeek", 1), ("R", 1)]


def test_times_are_straight_in_the_levers_through_those_that_were_simulated() -> None:
    times = np.array([[[50.0, 8.0], [54.0, 8.1], [50.5, 8.6], [50.2, 8.2], [50.0, 8.0], [60.0, 8.0]]])
    for index, levers in enumerate(MOVES):
        assert linear(times, levers)[0] == pytest.approx(times[0, index])
    assert linear(times, BASE._replace(request_ms=6.0))[0] == pytest.approx([55.0, 8.0])
    assert linear(times, BASE._replace(step_ms=0.45))[0] == pytest.approx([50.4, 8.4])


def test_what_is_predicted_from_one_point_rests_on_no_other() -> None:
    made = case("model", "h100_sxm", (1.2, 0.9))
    (state,) = linearise([made])
    wild = [point if index == 0 else point._replace(tpot_ms=500.0) for index, point in enumerate(made.measured.points)]
    other = made._replace(measured=made.measured._replace(points=tuple(wild)))
    first = [one.mean for _, one in from_one(made, state, START_PRIOR) if one.place != 0]
    again = [one.mean for _, one in from_one(other, state, START_PRIOR) if one.place != 0]
    same = [np.allclose(a, b) for a, b in zip(first, again, strict=True)]
    assert sum(same) == 3  # those predicted from the point that was left as it is


def test_a_model_is_predicted_with_what_other_models_teach() -> None:
    cases = some_cases(20260501)
    states = linearise(cases)
    fold = int(folds_of(cases)[0])
    learnt = [Learnt(START_PRIOR, {"*": START + 0.5 * (number == fold)}) for number in range(5)]
    held = hold(cases, states, learnt, from_one)
    plain = hold(cases, states, [Learnt(START_PRIOR, {"*": START})] * 5, from_one)
    moved = {int(place) for place in held.case[np.abs(held.predicted - plain.predicted).max(axis=1) > 1e-6]}
    assert moved == set(np.flatnonzero(folds_of(cases) == fold).tolist())


def test_levers_that_differ_from_deployment_to_deployment_are_learnt() -> None:
    cases = some_cases(20260501)
    lessons = msgspec.json.decode(msgspec.json.encode(lessons_of(cases, linearise(cases))), type=Lessons)
    assert lessons.deployments == {"vllm/b200_sxm": 6, "vllm/h100_sxm": 6}
    assert 0.1 < lessons.sd[1] < 0.4  # of decode; 0.2 was drawn
    one = lessons.held_out["one_point_known"]
    assert one["tpot_predicted_p50"] < 0.03 < one["tpot_table_p50"] + 0.03
    assert lessons.held_out["other_points_known"]["tpot_predicted_p50"] < 0.02


def test_what_ships_covers_four_in_five_on_every_system_of_several_deployments() -> None:
    held = shipped_lessons().held_out
    wide = {name: one for name, one in held.items() if one["deployments"] > 1}
    assert len(wide) >= 8
    for name, one in wide.items():
        assert all(0.75 <= one[f"{metric}_inside"] <= 0.85 for metric in ("ttft", "tpot", "e2e")), name


def test_a_prediction_from_one_point_has_wider_intervals() -> None:
    lessons = shipped_lessons()
    from_one, from_many = misses_for(lessons, 2), misses_for(lessons, 3)
    ends = [one.quantiles["tpot"][35] - one.quantiles["tpot"][3] for one in (from_one, from_many)]
    assert ends[0] > 1.2 * ends[1]
