from __future__ import annotations

from dataclasses import replace

import highspy
import numpy as np
import pytest

from offtake.errors import InfeasibleError
from offtake.plan import highs
from offtake.plan.problem import Problem
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from tests.plan.problems import frontier, newsvendor, tiny

CLAIMS = ("kInfeasible", "kUnboundedOrInfeasible", "kSolveError")


class Lame(highspy.Highs):
    """HiGHS as it is, but for its first algorithm, which does nothing and claims ``claim``; others count as seconds."""

    claim = highspy.HighsModelStatus.kNotset
    lied = 0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # highspy's own class is not annotated
        self.lies = False

    def run(self) -> highspy.HighsStatus:
        options = self.getOptions()
        self.lies = options.solver != "ipx" and options.presolve != "off"
        Lame.lied += self.lies
        return highspy.HighsStatus.kWarning if self.lies else super().run()

    def getModelStatus(self) -> highspy.HighsModelStatus:
        return self.claim if self.lies else super().getModelStatus()


@pytest.fixture(params=CLAIMS)
def lame(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first algorithm fail everywhere."""
    monkeypatch.setattr(Lame, "claim", getattr(highspy.HighsModelStatus, request.param))
    monkeypatch.setattr(Lame, "lied", 0)
    monkeypatch.setattr(highs, "Solver", Lame)


def agree(one: Solution, other: Solution) -> bool:
    """Two searches of one problem must have bounds above each other's plans."""
    tolerance = 1e-7 * abs(one.objective_usd)
    return one.objective_usd <= other.bound_usd + tolerance and other.objective_usd <= one.bound_usd + tolerance


@pytest.mark.usefixtures("lame")
def test_a_first_algorithm_that_fails_changes_no_answer_without_whole_numbers() -> None:
    assert solve(newsvendor()).objective_usd == pytest.approx(262.5)
    assert Lame.lied


@pytest.mark.parametrize(
    ("problem", "by"),
    [
        (tiny(), "branch and bound"),
        pytest.param(
            frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2),
            "cutting planes",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["whole", "by cutting planes"],
)
@pytest.mark.usefixtures("lame")
def test_a_first_algorithm_that_fails_changes_no_answer(
    monkeypatch: pytest.MonkeyPatch, problem: Problem, by: str
) -> None:
    plan = solve(problem, Options(gap=1e-4, threads=1))
    assert plan.algorithm.startswith(by)
    assert not plan.algorithm.endswith(highs.EARLY)
    assert Lame.lied
    monkeypatch.setattr(highs, "Solver", highspy.Highs)
    assert agree(plan, solve(problem, Options(gap=1e-4)))


@pytest.mark.usefixtures("lame")
def test_what_two_algorithms_find_infeasible_is_explained() -> None:
    base = newsvendor(units_max=10.0)
    with pytest.raises(InfeasibleError) as caught:
        solve(replace(base, jobs=replace(base.jobs, floor_chips=np.array([15.0]))))
    assert "research floor" in caught.value.families
