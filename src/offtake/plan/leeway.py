"""Find plans that are nearly as good: with an offer or without it, with more of it or less, all else planned anew.

Comes in: a case. Goes out: :class:`~offtake.plan.result.Leeway` for each open offer. What these plans share is sure;
where they differ, the model does not decide. It must never call a plan near that it has not solved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from offtake.plan.judging import Case
from offtake.plan.problem import Held, Problem
from offtake.plan.result import Leeway
from offtake.plan.rules import open_today
from offtake.plan.solution import Solution

NEAR_SHARE = 0.01  #: of the plan's value; modelling to generate alternatives (Brill, Chang and Hopkins 1982)
FINEST = 0.01  #: of an offer's size: sizes of divisible offers are not told apart more finely
SAME_UNITS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Question:
    """Ask how far one offer's first-day vintage may move from the units that the plan signs, in so many steps."""

    case: Case
    vintage: int
    units: float
    steps: int

    @property
    def problem(self) -> Problem:
        """Give the plan's problem."""
        return self.case.problem

    def loss_usd(self, units: float) -> float | None:
        """Return the value lost by the best plan with these units today; None where it breaks a limit."""
        found = self.case.ask(holding(self.problem, self.vintage, units))
        return self.case.solution.objective_usd - found.objective_usd if isinstance(found, Solution) else None


@dataclass(frozen=True, kw_only=True)
class Room:
    """Answer a question: value lost without the offer and with it (None: a limit breaks), fewest and most units."""

    without_usd: float | None
    with_usd: float | None
    least: float
    most: float


def leeway_of(case: Case, steps: int) -> list[Leeway]:
    """Return the leeway on each offer that is open on the first day; ``steps`` refine the sizes between extremes."""
    problem = case.problem
    vintages = np.flatnonzero(open_today(problem))
    units = [float(case.solution.signed[vintage, 0]) for vintage in vintages]
    questions = [
        Question(case=case, vintage=int(vintage), units=now, steps=steps)
        for vintage, now in zip(vintages, units, strict=True)
    ]
    return [
        Leeway(
            offer=problem.axes.offers[problem.vintages.offer[question.vintage]],
            units_now=question.units,
            without_loss_usd=room.without_usd,
            with_loss_usd=room.with_usd,
            units_least=room.least,
            units_most=room.most,
        )
        for question, room in zip(questions, case.in_turn("near plans", room_of, questions), strict=True)
    ]


def room_of(question: Question) -> Room:
    """Answer one question.

    The value is nearly concave in the units of one offer (exactly so without whole numbers), so that the extremes are
    tried first, and then the sizes half way between one that is near and one that is not.
    """
    size = float(question.problem.vintages.units_max[question.vintage])
    smallest = smallest_order(question.problem, question.vintage)
    loss: dict[float, float | None] = {question.units: 0.0}

    def near(units: float) -> bool:
        if units not in loss:
            loss[units] = question.loss_usd(units)
        lost = loss[units]
        return lost is not None and lost <= NEAR_SHARE * abs(question.case.solution.objective_usd)

    takes = question.units > SAME_UNITS * size
    some = question.units if takes else smallest
    near(some)
    least = 0.0 if near(0.0) else halved(near, question, (0.0, question.units))
    most = question.units
    if question.units < size and near(some):
        most = size if near(size) else halved(near, question, (size, some))
    return Room(without_usd=loss[0.0], with_usd=loss[some], least=least, most=most)


def halved(near: Callable[[float], bool], question: Question, between: tuple[float, float]) -> float:
    """Return the size nearest to the first of two that is near, where the second is, after the steps allowed."""
    far, best = between
    whole = bool(question.problem.vintages.whole_units[question.vintage])
    lot = bool(question.problem.vintages.all_or_nothing[question.vintage])
    for _ in range(0 if lot else question.steps):
        middle = (far + best) / 2.0
        middle = float(np.round(middle)) if whole else middle
        if middle in {far, best}:
            break
        far, best = (far, middle) if near(middle) else (middle, best)
    return best


def holding(problem: Problem, vintage: int, units: float) -> Problem:
    """Return the problem in which a vintage is signed for these units."""
    signed = np.full((problem.vintages.offer.size, problem.probability.size), np.nan)
    signed[vintage] = units
    kept = np.full((*signed.shape, problem.period_hours.size), np.nan)
    hosts = np.full((problem.jobs.chip_hours.size, len(problem.axes.sites)), np.nan)
    return replace(problem, held=Held(signed=signed, kept=kept, hosts=hosts))


def smallest_order(problem: Problem, vintage: int) -> float:
    """Return the fewest units that can be ordered of a vintage, above nothing."""
    vintages = problem.vintages
    size = float(vintages.units_max[vintage])
    if vintages.all_or_nothing[vintage]:
        return size
    least = float(vintages.units_min[vintage])
    least = max(least, 1.0 if vintages.whole_units[vintage] else FINEST * size)
    return min(least, size)
