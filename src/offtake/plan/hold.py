"""Keep the decisions of an earlier plan, unless changing one gains more than was asked.

Comes in: an assembled problem, a way to solve it, an earlier plan and the churn that is worth a change. Goes out: a
solution and sentences on what was kept, what was changed and what that costs. Only what is signed on the first day is
held: what comes later is decided anew in any case. It must never know a file or a solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from offtake.errors import Fault, InfeasibleError, InputError
from offtake.plan.assemble import Assembled
from offtake.plan.decisions import NOTHING_UNITS
from offtake.plan.problem import Problem
from offtake.plan.result import PlanResult
from offtake.plan.solution import Solution
from offtake.plan.words import count, money
from offtake.schema.columns import parse_money_usd
from offtake.units import PERCENT

Solve = Callable[[Assembled], Solution]
KEPT = "keep"


@dataclass(frozen=True, kw_only=True)
class Churn:
    """Say what a changed decision must gain to be worth it: USD, or a share of the plan's risk-adjusted value."""

    usd: float = 0.0
    share: float = 0.0

    def of(self, objective_usd: float) -> float:
        """Return the least gain in USD for a plan of some value."""
        return max(self.usd, self.share * abs(objective_usd))


def churn_of(text: str) -> Churn:
    """Read a churn as a person writes it: ``0.5%`` of the plan's value, or US dollars as ``250000`` or ``2 m``.

    Raises
    ------
    InputError
        Where it is neither.
    """
    share = text.strip().endswith("%")
    try:
        amount = float(text.strip()[:-1]) / PERCENT if share else float(str(parse_money_usd(text)))
    except ValueError:
        amount = -1.0
    if not 0.0 <= amount < np.inf:
        mend = "Write 0.5% (of the plan's value), or an amount such as 250000 or 2 m (US dollars)."
        raise InputError([Fault("--churn", "this is no share and no money", mend, value=text)])
    return Churn(share=amount) if share else Churn(usd=amount)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Hold the plan whose decisions are to be kept, and the churn that is worth a change."""

    plan: PlanResult
    churn: Churn


def units_wanted(problem: Problem, earlier: PlanResult) -> dict[int, float]:
    """Return the units that an earlier plan signed at once, by offer that may still be signed on the first day.

    Contracts that are signed by now are not decided any more; an offer that is now smaller is held at its new size.
    """
    vintages = problem.vintages
    wanted = {}
    for decision in earlier.decisions:
        if decision.action == KEPT or decision.offer not in problem.axes.offers:
            continue
        index = problem.axes.offers.index(decision.offer)
        first = first_vintage(problem, index)
        if first is not None and not vintages.signed[first]:
            wanted[index] = min(decision.units_now, float(vintages.units_max[first]))
    return wanted


def first_vintage(problem: Problem, offer: int) -> int | None:
    """Return the vintage of an offer that is signed on the first day, or None where none is."""
    found = np.flatnonzero((problem.vintages.offer == offer) & (problem.vintages.sign_period <= 0))
    return int(found[0]) if found.size else None


def held(problem: Problem, units: dict[int, float]) -> Problem:
    """Return the problem in which so many units of some offers are signed on the first day, no more and no less."""
    vintages = problem.vintages
    units_max, units_min = vintages.units_max.copy(), vintages.units_min.copy()
    signed, lots = vintages.signed.copy(), vintages.all_or_nothing.copy()
    for offer, amount in units.items():
        first = first_vintage(problem, offer)
        if first is None:
            continue
        some = amount > NOTHING_UNITS * units_max[first]
        lots[first] &= some
        units_max[first], units_min[first], signed[first] = amount if some else 0.0, 0.0, some
    changed = replace(vintages, units_max=units_max, units_min=units_min, signed=signed, all_or_nothing=lots)
    return replace(problem, vintages=changed)


def solve_held(assembled: Assembled, solve: Solve, units: dict[int, float]) -> Solution | None:
    """Return the best plan that holds some decisions, or None where no plan can."""
    try:
        return solve(replace(assembled, problem=held(assembled.problem, units)))
    except InfeasibleError:
        return None


def solve_near(assembled: Assembled, solve: Solve, earlier: Earlier) -> tuple[Solution, list[str]]:
    """Return the plan nearest to an earlier one that loses no more than its churn by each decision kept.

    Notes
    -----
    The best plan is found first. Decisions that it shares with the earlier plan are held; then each of the others is
    put back, in the order of the offers, and stays so where that loses no more than the churn. One solve for each.
    """
    free = best = solve(assembled)
    problem = assembled.problem
    wanted = units_wanted(problem, earlier.plan)
    now = {offer: units_now(problem, best, offer) for offer in wanted}
    if not wanted:
        return best, ["The earlier plan has no first-day decision that could still be kept."]
    differ = [one for one in wanted if abs(now[one] - wanted[one]) > NOTHING_UNITS * size_of(problem, one)]
    if not differ:
        return best, ["Every first-day decision of the earlier plan stands."]
    kept = {one: units for one, units in wanted.items() if one not in differ}
    least = earlier.churn.of(best.objective_usd)
    said = []
    for offer in differ:
        tried = solve_held(assembled, solve, {**kept, offer: wanted[offer]})
        loss = np.inf if tried is None else best.objective_usd - tried.objective_usd
        said.append(sentence(assembled, offer, (wanted[offer], now[offer]), (loss, least)))
        if tried is not None and loss <= least:
            best, kept[offer] = tried, wanted[offer]
    gap = (free.bound_usd - best.objective_usd) / max(abs(best.objective_usd), 1.0)
    return replace(best, bound_usd=free.bound_usd, gap=gap), said


def sentence(assembled: Assembled, offer: int, units: tuple[float, float], usd: tuple[float, float]) -> str:
    """Say whether one decision was kept (units before, units of the best plan) and what that costs (loss, churn)."""
    row = list(assembled.inputs.portfolio.offers.values())[offer].row
    name, (before, best), (loss, least) = row.name or row.offer, units, usd
    if loss <= least:
        cost = f"costs {money(loss)}" if loss > 1 else "costs nothing"
        return (
            f"Kept as in the earlier plan: {in_units(before)} of {name} signed at once; "
            f"{count(best)} would be best, and keeping it {cost}."
        )
    why = "no plan keeps it" if loss == np.inf else f"that gains {money(loss)}, more than {money(least)}"
    return f"Changed from the earlier plan: {in_units(best)} of {name} signed at once, not {count(before)}; {why}."


def in_units(amount: float) -> str:
    """Write a number of units."""
    return f"{count(amount)} unit{'' if count(amount) == '1' else 's'}"


def units_now(problem: Problem, solution: Solution, offer: int) -> float:
    """Return the units of an offer that a plan signs on the first day."""
    first = first_vintage(problem, offer)
    return 0.0 if first is None else float(solution.signed[first, 0])


def size_of(problem: Problem, offer: int) -> float:
    """Return the largest size of an offer."""
    return float(problem.vintages.units_max[problem.vintages.offer == offer].max(initial=1.0))
