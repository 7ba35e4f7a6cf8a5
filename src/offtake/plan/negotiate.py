"""Find what each clause of an offer is worth, what flips the answer, and what each choice would be regretted by.

Comes in: a :class:`~offtake.plan.appraise.Case`, and how to solve. Goes out: an
:class:`~offtake.plan.result.Appraisal` with its sheet, its curves and its branches. Each clause is moved alone by its
stated step and everything is planned anew, on the same futures and the same tree; the worth of a clause is what that
adds to the value of signing. It must never read a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.errors import InfeasibleError
from offtake.plan.appraise import (
    Case,
    Solve,
    appraisal_of,
    barred,
    break_even_ratio,
    case_of,
    forced_in_full,
    held_ratio,
    units_of,
)
from offtake.plan.assemble import Assembled, amended, told_alike
from offtake.plan.clauses import Amendment, amendments, contract_of, delivered_later
from offtake.plan.leaving import right_of, right_sentences
from offtake.plan.plan import PlanOptions, PlanRun
from offtake.plan.problem import Problem
from offtake.plan.result import Appraisal, BranchRegret, ClauseWorth, PointOfCurve
from offtake.plan.solution import Solution
from offtake.plan.story import growth_name
from offtake.plan.tornado import fresh_sentence, out_of_sample, swings_of
from offtake.plan.words import percent
from offtake.schema.portfolio import Tables
from offtake.schema.tables import OfferRow
from offtake.supply.offer import promised_day

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]

SIZES = (0.25, 0.5, 0.75, 1.0)  #: shares of the largest size on the curve
LATER_DAYS = (90, 180, 360)  #: days by which delivery is put off on the curve
SIZE = "size"
NOTHING_SHARE = 1e-9  #: of a value; less is rounding
STEPS = (2.0, 4.0)  #: times the stated step, tried where one step does not flip the answer


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Choose how deep an appraisal goes: whether assumptions are varied, and how many fresh draws it is tried on."""

    vary: bool = False
    fresh: int = 0


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Hold what negotiating needs: the case, how to solve a problem, and whom to tell how far it is."""

    case: Case
    solve: Solve
    progress: Progress

    @property
    def forced(self) -> bool:
        """Tell whether signing has to be forced, because the best plan leaves the offer."""
        return not self.case.takes

    def plan_of(self, problem: Problem) -> Solution | None:
        """Return the plan that signs under other terms, a lot by force if it has to be; None where no plan can."""
        if self.forced and problem.vintages.all_or_nothing[problem.vintages.offer == self.case.offer].any():
            problem = forced_in_full(problem, self.case.offer)
        return self.try_to(problem)

    def sign(self, problem: Problem) -> Solution | None:
        """Return the plan that signs in a changed problem as the case's does: by force, or because it is best."""
        force = self.forced and self.case.forced is not None
        return self.try_to(forced_in_full(problem, self.case.offer) if force else problem)

    def try_to(self, problem: Problem) -> Solution | None:
        """Solve a problem; None where no plan keeps the limits."""
        try:
            return self.solve(problem)
        except InfeasibleError:
            return None


def negotiate(
    tables: Tables,
    offer: str,
    options: PlanOptions | None = None,
    depth: Depth | None = None,
    run: PlanRun | None = None,
) -> Appraisal:
    """Appraise one offer with its sheet, curves and branches; as :func:`~offtake.plan.appraise.appraise` otherwise.

    ``depth`` adds what the answer rests on: assumptions varied over their ranges, and fresh draws.
    """
    options, depth = options or PlanOptions(), depth or Depth()
    case, ask = case_of(tables, offer, options, run)
    desk = Desk(case=case, solve=ask, progress=options.progress)
    found = deepened(appraisal_of(case, break_even_ratio(case, ask)), desk)
    if case.signing is case.without:
        return found
    solver = replace(options.solver, gap=case.gap)
    fresh = out_of_sample(case, depth.fresh, solver, options.progress) if depth.fresh else None
    swings = swings_of(case, solver, options.progress) if depth.vary else []
    told = [*found.sentences, *([] if fresh is None else [fresh_sentence(found, fresh)])]
    return msgspec.structs.replace(found, fresh=fresh, swings=swings, sentences=told)


def deepened(appraisal: Appraisal, desk: Desk) -> Appraisal:
    """Return an appraisal with its sheet, its curves, its months and its branches."""
    case = desk.case
    if case.signing is case.without or case.terms_row.signed:
        return appraisal
    sheet = list(sheet_of(appraisal, desk))
    sheet.sort(key=lambda one: -one.worth_usd)
    right, sizes = right_of(case, desk.sign), list(size_points(desk))
    return msgspec.structs.replace(
        appraisal,
        clauses=sheet,
        flip=flip_of(appraisal, desk, sheet),
        sizes=sizes,
        starts=list(start_points(desk, sizes[-1])),
        signings=list(signing_points(desk, sizes[-1])),
        period_names=case.assembled.problem.axes.periods,
        difference_by_period_usd=by_period(case).tolist(),
        **regrets_of(desk, sheet),
        right=right,
        sentences=[*appraisal.sentences, *([] if right is None else right_sentences(right))],
    )


# ── the sheet ────────────────────────────────────────────────────────────────────────────────────────────────────────
def sheet_of(appraisal: Appraisal, desk: Desk) -> Iterator[ClauseWorth]:
    """Yield what each clause is worth when it is moved by its step."""
    case = desk.case
    some = amendments(case.assembled.inputs.portfolio.tables, appraisal.offer)
    for place, one in enumerate(some):
        desk.progress("clauses", place / len(some))
        found = worth_of(appraisal, desk, one)
        if found is not None:
            yield found
    desk.progress("clauses", 1.0)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Hold the plans that sign under the terms as they are and under amended ones, both told the same news."""

    before: Solution
    after: Solution

    @property
    def worth_usd(self) -> float:
        """Return what the other terms add."""
        worth = self.after.objective_usd - self.before.objective_usd
        return 0.0 if abs(worth) <= NOTHING_SHARE * abs(self.before.objective_usd) else worth


def moved(desk: Desk, one: Amendment) -> Moved | None:
    """Return the plans that tell what an amendment is worth; None where no plan signs the offer though none had to."""
    case = desk.case
    lot = desk.forced and case.terms_row.all_or_nothing
    (_, other), *more = told_alike(case.assembled, amended(case.assembled, one.tables), case.offer)
    before = [case.signing if lot else case.best, *(desk.plan_of(base) for base, _ in more)]
    after = [desk.plan_of(other), *(desk.plan_of(problem) for _, problem in more)]
    plan = better(after)
    if plan is None or (lot and not plan.signed[other.vintages.offer == case.offer].any()):
        return None
    return Moved(before=better(before) or case.signing, after=plan)


def better(plans: Sequence[Solution | None]) -> Solution | None:
    """Return the plan that is worth most, the first of equals; None where there is none."""
    return max((one for one in plans if one is not None), key=lambda one: one.objective_usd, default=None)


def worth_of(appraisal: Appraisal, desk: Desk, one: Amendment) -> ClauseWorth | None:
    """Return what one amendment is worth; None where no plan tells."""
    found = moved(desk, one)
    if found is None:
        return None
    now = value_now(appraisal, all_or_nothing=desk.case.terms_row.all_or_nothing)
    value, doubt = now + found.worth_usd, open_usd(found.after) + open_usd(desk.case.without)
    return ClauseWorth(
        clause=one.clause,
        step=one.step,
        asked=one.asked,
        worth_usd=found.worth_usd,
        value_usd=value,
        flips=abs(value) > doubt and (value > 0) != (now > 0),
        doubt_usd=max(open_usd(found.after), open_usd(found.before)),
    )


def open_usd(plan: Solution) -> float:
    """Return what the solver leaves open in the value of a plan."""
    return max(plan.bound_usd - plan.objective_usd, 0.0)


def value_now(appraisal: Appraisal, *, all_or_nothing: bool) -> float:
    """Return what signing is worth as the terms are: of the best plan with it, or of a lot that has to be forced."""
    if appraisal.sign or appraisal.forced_usd is None or not all_or_nothing:
        return appraisal.difference_usd
    return appraisal.forced_usd


def flip_of(appraisal: Appraisal, desk: Desk, sheet: list[ClauseWorth]) -> str:
    """Return the smallest single change that flips the answer, in words.

    Smallest is the fewest steps; of equally many, the one that costs the provider least is not known, so the one that
    is worth least to us and still flips is named.
    """
    flipping = [one for one in sheet if one.flips]
    if flipping:
        least = min(flipping, key=lambda one: abs(one.worth_usd))
        return f"{least.clause}: {least.step}"
    ratio = appraisal.break_even_fee_ratio
    asked = [one.clause for one in sheet if one.asked and one.worth_usd > 0] if not appraisal.sign else []
    for size in STEPS:
        some = amendments(desk.case.assembled.inputs.portfolio.tables, appraisal.offer, size)
        found = [worth_of(appraisal, desk, one) for one in some if one.clause in asked and one.clause != "fee"]
        flips = [one for one in found if one is not None and one.flips]
        if flips:
            least = min(flips, key=lambda one: abs(one.worth_usd))
            return f"{least.clause}: {least.step}"
    if ratio is None or ratio <= 0:
        return ""
    return f"fee: {percent(ratio)} of the one asked"


# ── curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def size_points(desk: Desk) -> Iterator[PointOfCurve]:
    """Yield what each size is worth if it is signed on the first day."""
    case, problem = desk.case, desk.case.assembled.problem
    mine = np.flatnonzero(problem.vintages.offer == case.offer)
    row = case.terms_row
    first = int(mine[np.argmin(problem.vintages.sign_period[mine])])
    whole = row.whole_units and not one_lot(row)
    sizes = sorted({round(share * row.units_max) if whole else share * row.units_max for share in SIZES})
    for place, units in enumerate(sizes):
        desk.progress("curve over size", place / len(sizes))
        if units > 0 and (one_lot(row) or units >= row.units_min):
            yield point(desk, first, float(units))


def one_lot(row: OfferRow) -> bool:
    """Tell whether an offer can only be had whole; its curve then shows what lots of other sizes would be worth."""
    return row.all_or_nothing or (row.whole_units and row.units_max <= 1)


def start_points(desk: Desk, whole: PointOfCurve) -> Iterator[PointOfCurve]:
    """Yield what each day of delivery is worth, signed in full on the first day: ``whole``, then later ones.

    A delivery after the plan's end is left out.
    """
    case, assembled = desk.case, desk.case.assembled
    yield whole
    for place, days in enumerate(LATER_DAYS):
        desk.progress("curve over start", place / len(LATER_DAYS))
        terms = amended(assembled, delivered_later(assembled.inputs.portfolio.tables, case.terms_row.offer, days))
        vintages = terms.problem.vintages
        mine = np.flatnonzero(vintages.offer == case.offer)
        if mine.size:
            yield point(desk, int(mine[np.argmin(vintages.sign_period[mine])]), whole.units, terms)
    desk.progress("curve over start", 1.0)


def signing_points(desk: Desk, whole: PointOfCurve) -> Iterator[PointOfCurve]:
    """Yield what each day of signing is worth, in full: ``whole`` on the first one, then later ones."""
    case, vintages = desk.case, desk.case.assembled.problem.vintages
    mine = np.flatnonzero(vintages.offer == case.offer)
    yield whole
    for place, vintage in enumerate(mine[np.argsort(vintages.sign_period[mine], kind="stable")][1:]):
        desk.progress("curve over signing", place / len(mine))
        yield point(desk, int(vintage), whole.units)
    desk.progress("curve over signing", 1.0)


def point(desk: Desk, vintage: int, units: float, terms: Assembled | None = None) -> PointOfCurve:
    """Return the value and the break-even fee of some units at one day of signing, under other ``terms`` if given."""
    case = desk.case if terms is None else replace(desk.case, assembled=terms)
    day = int(case.assembled.contracts.sign_days[vintage])
    tranches = contract_of(case.assembled.inputs.portfolio.tables, case.terms_row.offer).tranches
    delivery = min(promised_day(one, day, signed=case.terms_row.signed) for one in tranches)
    known = PointOfCurve(
        units=units,
        sign_date=date.fromordinal(day).isoformat(),
        delivery_date=date.fromordinal(delivery).isoformat(),
        value_usd=None,
        break_even_fee_ratio=None,
    )
    found = desk.try_to(signed_so(case.assembled.problem, vintage, units))
    if found is None:
        return known
    ratio = held_ratio(case, found, 1.0)
    return msgspec.structs.replace(
        known,
        value_usd=found.objective_usd - case.without.objective_usd,
        break_even_fee_ratio=0.0 if ratio is None else None if ratio == np.inf else ratio,
    )


def signed_so(problem: Problem, vintage: int, units: float) -> Problem:
    """Return the problem in which exactly some units of an offer are signed, at one date whatever has been seen.

    What can only be had whole stays so at every size: it is kept or ended whole.
    """
    vintages = problem.vintages
    none = barred(problem, int(vintages.offer[vintage]))
    units_max, signed = none.vintages.units_max.copy(), none.vintages.signed.copy()
    units_max[vintage], signed[vintage] = units, True
    lots = none.vintages.all_or_nothing.copy()
    single = vintages.whole_units[vintage] & (vintages.units_max[vintage] <= 1)
    lots[vintage] = vintages.all_or_nothing[vintage] | single
    return replace(none, vintages=replace(none.vintages, units_max=units_max, signed=signed, all_or_nothing=lots))


def by_period(case: Case) -> Floats:
    """Return what signing adds to the mean net value in each period, discounted [T].

    Missed training counts at its deadline, and what is left of terms beyond the horizon in the last period.
    """
    problem = case.assembled.problem

    def net(plan: Solution) -> Floats:
        money = plan.money
        flow = problem.probability @ (money.value_usd - money.spend_usd - money.refusal_usd)
        last = np.minimum(problem.jobs.last_period, problem.discount.size - 1)
        np.subtract.at(flow, last, problem.probability @ plan.missed_chip_hours * problem.jobs.missed_usd)
        value: Floats = flow * problem.discount
        value[-1] += problem.end_discount * float(problem.probability @ money.terminal_usd)
        return value

    return net(case.signing) - net(case.without)


# ── choices and branches ─────────────────────────────────────────────────────────────────────────────────────────────
def regrets_of(desk: Desk, sheet: list[ClauseWorth]) -> dict[str, Any]:
    """Return the regret of each choice in each branch of growth and reading of the terms, and why one is missing."""
    case, problem = desk.case, desk.case.assembled.problem
    nets, missing = choices_of(desk)
    amend = amended_net(desk, sheet)
    if amend is None:
        missing = {"amend": "no clause that they could grant adds anything", **missing}
    else:
        nets["amend"] = amend
    names = np.array([branch_name(case, scenario) for scenario in range(problem.probability.size)])
    found = []
    for name in dict.fromkeys(names.tolist()):
        at = names == name
        weight = problem.probability[at]
        means = {choice: float(weight @ net[at] / weight.sum()) for choice, net in nets.items()}
        best = max(means.values())
        regret = {choice: best - mean for choice, mean in means.items()}
        found.append(BranchRegret(branch=name, probability=float(weight.sum()), regret_usd=regret))
    return {"branches": found, "no_choice": missing}


def choices_of(desk: Desk) -> tuple[dict[str, Floats], dict[str, str]]:
    """Return the net value of each choice under the terms as they are [S], and why another one cannot be made.

    ``sign`` is the plan that signs, ``part`` half of what it signs.
    """
    case, problem, row = desk.case, desk.case.assembled.problem, desk.case.terms_row
    mine = np.flatnonzero(problem.vintages.offer == case.offer)
    first = int(mine[np.argmin(problem.vintages.sign_period[mine])])
    part = part_of(row, units_of(problem, case.signing, case.offer))
    found: dict[str, Solution | None] = {"sign": case.signing, "ration": case.without}
    missing = {}
    if part > 0:
        found["part"] = desk.try_to(signed_so(problem, first, part))
    else:
        missing["part"] = "all or nothing" if one_lot(row) else "half of it is less than the smallest order"
    if len(mine) > 1:
        found["wait"] = desk.try_to(not_today(problem, case.offer))
    else:
        missing["wait"] = "it can be signed on the first day alone"
    missing |= {choice: "no plan that does so keeps the limits" for choice, plan in found.items() if plan is None}
    return {choice: plan.money.net_usd for choice, plan in found.items() if plan is not None}, missing


def amended_net(desk: Desk, sheet: list[ClauseWorth]) -> Floats | None:
    """Return the net value of signing in each scenario with the most valuable clause granted [S]; None where none is.

    Size is a choice of its own. What the clause adds is counted on top of signing, as on the sheet.
    """
    case = desk.case
    tables, name = case.assembled.inputs.portfolio.tables, case.terms_row.offer
    best = next((one for one in sheet if one.asked and one.worth_usd > 0 and one.clause != SIZE), None)
    if best is None:
        return None
    found = moved(desk, next(one for one in amendments(tables, name) if one.clause == best.clause))
    if found is None:
        return None
    net: Floats = case.signing.money.net_usd + found.after.money.net_usd - found.before.money.net_usd
    return net


def part_of(row: OfferRow, units: float) -> float:
    """Return half of some units, as many as can be had of them; 0 where no part can be had."""
    part = round(units) // 2 if row.whole_units else units / 2
    return 0.0 if one_lot(row) or part < row.units_min else float(part)


def not_today(problem: Problem, offer: int) -> Problem:
    """Return the problem in which an offer may be signed on every date but the first."""
    vintages = problem.vintages
    mine = np.flatnonzero(vintages.offer == offer)
    first = mine[np.argmin(vintages.sign_period[mine])]
    units_max, units_min = vintages.units_max.copy(), vintages.units_min.copy()
    lots = vintages.all_or_nothing.copy()
    units_max[first], units_min[first], lots[first] = 0.0, 0.0, False
    return replace(problem, vintages=replace(vintages, units_max=units_max, units_min=units_min, all_or_nothing=lots))


def branch_name(case: Case, scenario: int) -> str:
    """Name the branch of a scenario: its growth, and the reading of the offer's terms where there are several."""
    inputs = case.assembled.inputs
    name = growth_name(inputs, scenario)
    readings = inputs.portfolio.offers[case.terms_row.offer].readings
    if len(readings) == 1:
        return name
    return f"{name}, {readings[int(inputs.tree.luck[case.terms_row.offer].reading[scenario])].name}"
