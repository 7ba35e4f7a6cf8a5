from __future__ import annotations

import signal
from collections.abc import Callable

import numpy as np
import pytest

from offtake.cli.shell import first_interrupt_stops_the_search
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, solve
from tests.plan.problems import frontier


def large() -> Problem:
    return frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)


def after(calls: int) -> Callable[[], bool]:
    """Ask to stop from a number of looks on."""
    looks = iter(range(10**9))
    return lambda: next(looks) >= calls


@pytest.mark.slow
@pytest.mark.parametrize("calls", [0, 40, 400])
def test_a_search_asked_to_stop_gives_a_plan_that_keeps_every_limit_and_its_gap(calls: int) -> None:
    plan = solve(large(), Options(gap=1e-7, threads=1, stop=after(calls)))
    assert plan.algorithm.startswith("cutting planes")
    assert plan.algorithm.endswith("stopped before it was proven this close")
    assert np.isfinite(plan.gap)
    assert plan.gap > 1e-7
    best = solve(large(), Options(gap=1e-5))
    assert not best.algorithm.endswith("stopped before it was proven this close")
    assert plan.objective_usd <= best.bound_usd
    assert plan.bound_usd >= best.objective_usd


def test_a_search_out_of_time_gives_the_best_plan_so_far() -> None:
    clock = iter(np.arange(0.0, 1e6, 1.0))
    plan = solve(large(), Options(gap=1e-7, threads=1, clock=lambda: float(next(clock)), time_limit_s=100.0))
    assert plan.algorithm.endswith("stopped before it was proven this close")
    assert np.isfinite(plan.gap)


def test_the_first_interrupt_of_a_search_stops_it_and_the_second_ends_it() -> None:
    told: list[tuple[str, float]] = []
    with first_interrupt_stops_the_search(lambda stage, done: told.append((stage, done))) as search:
        search.progress("solve", 0.5)
        signal.raise_signal(signal.SIGINT)
        assert search.stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == [("solve", 0.5)]


def test_an_interrupt_before_the_search_ends_the_work_at_once() -> None:
    with first_interrupt_stops_the_search(lambda _stage, _done: None) as search:
        search.progress("goodput", 0.5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("stage", ["check", "done", "tables"])
def test_an_interrupt_after_the_search_loses_no_plan(stage: str) -> None:
    with first_interrupt_stops_the_search(lambda _stage, _done: None) as search:
        search.progress(stage, 0.0)
        signal.raise_signal(signal.SIGINT)
    assert search.stopped()


def test_an_interrupt_of_the_questions_after_a_plan_is_remembered() -> None:
    with first_interrupt_stops_the_search(lambda _stage, _done: None) as search:
        search.progress("trust: foresight", 0.5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert search.stopped()
