from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.errors import InfeasibleError
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, solve
from tests.plan.problems import frontier, newsvendor, tiny


def refuse(problem: Problem) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as caught:
        solve(problem)
    assert 1 <= len(caught.value.sentences) <= 5
    return caught.value


def signed(problem: Problem, units: float) -> Problem:
    vintages = replace(problem.vintages, signed=np.array([True]), units_max=np.array([units]))
    return replace(problem, vintages=vintages)


def test_a_budget_below_what_is_signed_is_named_with_what_it_lacks() -> None:
    base = signed(newsvendor(fee_usd=3e6), 10)
    error = refuse(replace(base, limits=replace(base.limits, budget_usd=np.array([2e7]))))
    assert error.families == ["budget of a year"]
    assert error.sentences[1] == "It would take 10 million USD more budget in year."


def test_idle_chips_beyond_the_power_of_a_site_name_the_site_and_the_period() -> None:
    base = signed(newsvendor((10,)), 30_000)
    cells = replace(base.cells, idle_share=np.array([0.5]))
    error = refuse(replace(base, cells=cells, power_kw=np.full((1, 1, 1, 1), 10_000.0)))
    assert error.families == ["power of a site"]
    assert error.sentences[1] == "It would take 5 MW more power at site in hour."


def test_a_group_that_holds_too_much_of_what_is_signed_is_named() -> None:
    base = signed(newsvendor(), 10)
    limits = replace(base.limits, group_cap=np.array([0.5]))
    assert refuse(replace(base, limits=limits)).families == ["share of firm power a group may hold"]


def test_a_research_floor_above_all_chips_is_named() -> None:
    base = newsvendor(units_max=10.0)
    error = refuse(replace(base, jobs=replace(base.jobs, floor_chips=np.array([15.0]))))
    assert "research floor" in error.families
    assert error.sentences[1] == "It would take 5 chips less for research in hour."


def test_critical_work_that_only_one_group_can_carry_is_named() -> None:
    base = newsvendor()
    limits = replace(base.limits, survive_group=np.array([True]), survive_share=1.0, critical=np.array([True]))
    error = refuse(replace(base, limits=limits))
    assert error.families == ["critical work without any one group"]


def test_whole_units_that_leave_no_plan_are_named_although_fractions_would() -> None:
    base = newsvendor(units_max=10.0)
    vintages = replace(base.vintages, all_or_nothing=np.array([True]))
    limits = replace(base.limits, prepay_usd_max=10.0)
    jobs = replace(base.jobs, floor_chips=np.array([5.0]))
    vintages = replace(vintages, prepay_usd=np.array([2.0]))
    error = refuse(replace(base, vintages=vintages, limits=limits, jobs=jobs))
    assert error.families


def test_two_limits_in_conflict_are_both_named() -> None:
    base = tiny()
    limits = replace(base.limits, prepay_usd_max=0.0, survive_share=1.0, critical=np.array([False, True]))
    error = refuse(replace(base, limits=limits))
    assert "critical work without any one group" in error.families


def test_a_large_problem_is_explained_too() -> None:
    base = frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    limits = replace(base.limits, budget_usd=np.array([1e9]))
    error = refuse(replace(base, limits=limits))
    assert "budget of a year" in error.families


def test_a_large_problem_whose_operations_cannot_meet_a_limit_is_explained_too() -> None:
    base = frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    error = refuse(replace(base, jobs=replace(base.jobs, floor_chips=np.full(10, 1e6))))
    assert "research floor" in error.families
    assert any("chips less for research" in sentence for sentence in error.sentences)


def test_the_conflict_is_placed_with_its_offer_and_its_time() -> None:
    base = signed(newsvendor(fee_usd=3e6), 10)
    error = refuse(replace(base, limits=replace(base.limits, budget_usd=np.array([2e7]))))
    assert error.sentences[0] == (
        "No plan meets these limits together: budget of a year; the conflict lies with offer in hour."
    )


def test_a_conflict_over_power_is_placed_at_its_site() -> None:
    base = signed(newsvendor((10,)), 30_000)
    cells = replace(base.cells, idle_share=np.array([0.5]))
    error = refuse(replace(base, cells=cells, power_kw=np.full((1, 1, 1, 1), 10_000.0)))
    assert error.sentences[0].endswith("the conflict lies with offer at site in hour.")


def test_work_that_a_lost_group_would_leave_unserved_is_named_with_it() -> None:
    base = newsvendor()
    limits = replace(base.limits, survive_group=np.array([True]), survive_share=1.0, critical=np.array([True]))
    error = refuse(replace(base, limits=limits))
    assert error.sentences[1] == "It would take 55 requests/s less to survive for work if grid is lost in hour."


def test_the_periods_of_a_sentence_run_from_the_first_to_the_last() -> None:
    base = frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    error = refuse(replace(base, jobs=replace(base.jobs, floor_chips=np.full(10, 1e6))))
    order = {name: place for place, name in enumerate(base.axes.periods)}
    spans = [
        sentence.rstrip(".").split(" between ")[1].split(" and ")
        for sentence in error.sentences
        if " between m" in sentence
    ]
    assert spans
    assert all(order[first] < order[last] for first, last in spans)


def test_more_changes_than_can_be_named_are_counted() -> None:
    base = newsvendor()
    groups = [f"group {letter}" for letter in "abcdef"]
    everywhere = np.ones((1, 1, 6))
    limits = replace(
        base.limits,
        group_cap=np.ones(6),
        group_cap_from=np.zeros(6, dtype=int),
        survive_group=np.ones(6, dtype=bool),
        survive_share=1.0,
        critical=np.array([True]),
    )
    deliveries = replace(base.deliveries, group_member=np.ones((base.deliveries.chips.size, 6), dtype=bool))
    vintages = replace(base.vintages, group_kw=everywhere)
    axes = replace(base.axes, groups=groups)
    error = refuse(replace(base, limits=limits, deliveries=deliveries, vintages=vintages, axes=axes))
    assert error.sentences[1:] == [
        "It would take 55 requests/s less to survive for work if group a is lost in hour.",
        "It would also take 55 requests/s less to survive for work if group b is lost in hour.",
        "It would also take 55 requests/s less to survive for work if group c is lost in hour.",
        "It would also take 3 changes beside these.",
    ]


def test_a_large_problem_is_explained_by_any_number_of_threads() -> None:
    base = frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    floor = replace(base, jobs=replace(base.jobs, floor_chips=np.full(10, 1e6)))
    said = []
    for threads in (1, 3):
        with pytest.raises(InfeasibleError) as caught:
            solve(floor, Options(threads=threads))
        said.append(caught.value.sentences)
    assert said[0] == said[1]
