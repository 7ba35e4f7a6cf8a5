"""Say what one offer is worth: the best plan with it less the best plan without it, on the same scenarios.

Comes in: the tables, an offer's name, :class:`~offtake.plan.plan.PlanOptions`, and a plan if there is one. Goes out:
an :class:`~offtake.plan.result.Appraisal`. The value is never read off a dual. Where the best plan does not take
the offer in full, it is also forced: signed on the first day at its largest size, everything else re-planned. The fee
at which the answer flips is found by planning anew at each fee tried. This is the verb ``offtake appraise``; it must
never read a clock or print.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.errors import InfeasibleError, SolverError
from offtake.files import folder_in_place, write_json
from offtake.plan.assemble import Assembled, token_fees_usd
from offtake.plan.decisions import NOTHING_UNITS, fees_by_scenario
from offtake.plan.displace import displaced_by
from offtake.plan.objective import risk_adjusted_usd
from offtake.plan.plan import PlanOptions, PlanRun, portfolio_hash, prepare
from offtake.plan.pool import Pool
from offtake.plan.problem import Problem
from offtake.plan.result import APPRAISAL_FORMAT, Appraisal
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from offtake.plan.story import describe_scenarios, learning
from offtake.plan.words import count, money, percent, significant
from offtake.schema.portfolio import Tables
from offtake.schema.tables import OfferRow
from offtake.supply.portfolio import portfolio_of

Floats = npt.NDArray[np.float64]
Solve = Callable[[Problem], Solution]

RATIO_MAX = 1e3
HALVINGS = 80
FEES_TRIED = 10
RATIO_SETTLED = 1e-3
DOUBT_SHARE, GAP_SHARE = (
    0.01,
    0.1,
)  #: of the offer's value that the solver may leave open; of the gap that was asked for


@dataclass(frozen=True, kw_only=True)
class Case:
    """Hold the three plans: ``best`` may take the offer, ``without`` cannot, ``forced`` must.

    ``forced`` is None where the best plan takes it in full, or where no plan could: then ``blocked`` says why. ``gap``
    is the one that they were solved to.
    """

    assembled: Assembled
    offer: int
    best: Solution
    without: Solution
    forced: Solution | None
    blocked: list[str] = field(default_factory=list)
    gap: float = Options.gap

    @property
    def units(self) -> float:
        """Return the units that the best plan takes."""
        return units_of(self.assembled.problem, self.best, self.offer)

    @property
    def takes(self) -> bool:
        """Tell whether the best plan takes any."""
        return self.units > NOTHING_UNITS * self.units_max

    @property
    def units_max(self) -> float:
        """Return the offer's largest size."""
        return self.terms_row.units_max

    @property
    def terms_row(self) -> OfferRow:
        """Return the offer's row."""
        return list(self.assembled.inputs.portfolio.offers.values())[self.offer].row

    @property
    def signing(self) -> Solution:
        """Return the plan in which the offer is signed: the best one if that does, else the forced one."""
        return self.best if self.takes or self.forced is None else self.forced


def appraise(tables: Tables, offer: str, options: PlanOptions | None = None, run: PlanRun | None = None) -> Appraisal:
    """Appraise one offer.

    An offer that is signed already is appraised against not having it. Where the best plan takes none of it, that
    plan is also the best one without.

    Raises
    ------
    InputError
        Where there is no such offer, with the nearest name; and as :func:`~offtake.plan.plan.make_plan`.
    InfeasibleError
        Where no plan meets the limits, with or without it.
    """
    options = options or PlanOptions()
    case, ask = case_of(tables, offer, options, run)
    return appraisal_of(case, break_even_ratio(case, ask))


def case_of(tables: Tables, offer: str, options: PlanOptions, run: PlanRun | None = None) -> tuple[Case, Solve]:
    """Make the plans that an appraisal compares; return them with what answers further questions, quickly."""
    portfolio_of(tables).offer(offer)
    assembled = run.assembled if run is not None else prepare(tables, options)
    pool = pool_of(assembled, options)
    best = run.solution if run is not None else pool.solve()
    pool.options = replace(pool.options, progress=None)
    ask = asking(pool)
    case = case_on(assembled, assembled.problem.axes.offers.index(offer), best, ask)
    gap = gap_for(case, pool.options.gap)
    if gap < pool.options.gap:
        pool.options = replace(pool.options, gap=gap)
        case = case_on(assembled, case.offer, max(pool.solve(), best, key=lambda one: one.objective_usd), ask)
    return replace(case, gap=pool.options.gap), ask


def gap_for(case: Case, gap: float) -> float:
    """Return the gap at which the solver leaves little of the offer's value open, or the one that was asked for.

    A plan's gap is a share of the plan; an offer's value may be a small part of that. The gap is never less than a
    tenth of the one asked for: measured on the May-2026 example, such an appraisal takes a fifth more time.
    """
    plans = [one for one in (case.best, case.without, case.forced) if one is not None]
    value = max(abs(one.objective_usd - case.without.objective_usd) for one in plans)
    doubt = 2.0 * max(one.bound_usd - one.objective_usd for one in plans)
    if value <= 0 or doubt <= DOUBT_SHARE * value:
        return gap
    return min(max(DOUBT_SHARE * value / 2.0 / abs(case.best.objective_usd), GAP_SHARE * gap), gap)


def pool_of(assembled: Assembled, options: PlanOptions) -> Pool:
    """Return what answers questions about a problem, its progress reported with the plan's."""
    return Pool(assembled.problem, replace(options.solver, progress=options.progress))


def asking(pool: Pool) -> Solve:
    """Return what answers a question from a pool, and afresh where no warm solver of the pool can."""

    def ask(problem: Problem) -> Solution:
        try:
            return pool.solve(problem)
        except SolverError:
            return solve(problem, pool.options)

    return ask


def case_on(assembled: Assembled, offer: int, best: Solution, ask: Solve) -> Case:
    """Make the plans to compare with the best one: without the offer, and with all of it on the first day."""
    without = best
    if best.signed[assembled.problem.vintages.offer == offer].any():
        without = ask(barred(assembled.problem, offer))
    return with_forced(Case(assembled=assembled, offer=offer, best=best, without=without, forced=None), ask)


def with_forced(case: Case, ask: Solve) -> Case:
    """Return the case with the plan that must take the offer in full, where the best one does not and one is there."""
    problem = case.assembled.problem
    full = case.units >= case.units_max * (1.0 - NOTHING_UNITS)
    if full or not (problem.vintages.offer == case.offer).any():
        return case
    try:
        return replace(case, forced=ask(forced_in_full(problem, case.offer)))
    except InfeasibleError as error:
        return replace(case, blocked=error.sentences)


def barred(problem: Problem, offer: int) -> Problem:
    """Return the problem in which nothing of an offer can be signed."""
    vintages = problem.vintages
    mine = vintages.offer == offer
    none = np.where(mine, 0.0, vintages.units_max)
    return replace(
        problem,
        vintages=replace(
            vintages,
            units_max=none,
            units_min=np.where(mine, 0.0, vintages.units_min),
            signed=vintages.signed & ~mine,
            all_or_nothing=vintages.all_or_nothing & ~mine,
        ),
    )


def forced_in_full(problem: Problem, offer: int) -> Problem:
    """Return the problem in which an offer is signed on its first day at its largest size."""
    vintages = problem.vintages
    mine = np.flatnonzero(vintages.offer == offer)
    first = mine[np.argmin(vintages.sign_period[mine])]
    others = mine[mine != first]
    units_max, signed = vintages.units_max.copy(), vintages.signed.copy()
    units_min, lots = vintages.units_min.copy(), vintages.all_or_nothing.copy()
    units_max[others], units_min[others], lots[others] = 0.0, 0.0, False
    signed[first] = True
    return replace(
        problem,
        vintages=replace(vintages, units_max=units_max, units_min=units_min, all_or_nothing=lots, signed=signed),
    )


def units_of(problem: Problem, solution: Solution, offer: int) -> float:
    """Return the units of an offer that a plan signs: the mean over scenarios."""
    return float(solution.signed[problem.vintages.offer == offer].sum(axis=0) @ problem.probability)


def at_fee(assembled: Assembled, offer: int, ratio: float) -> Problem:
    """Return the problem in which every fee of an offer is multiplied: kept, prepaid, for use and by the token."""
    problem = assembled.problem
    vintages, deliveries, lanes = problem.vintages, problem.deliveries, problem.lanes
    size = np.where(vintages.offer == offer, ratio, 1.0)
    name = problem.axes.offers[offer]
    mine = np.array([assembled.cells[cell].api_offer == name for cell in lanes.cell], dtype=np.bool_)
    tokens = np.where(mine, token_fees_usd(assembled.inputs, assembled.cells, lanes), 0.0)
    return replace(
        problem,
        vintages=replace(
            vintages,
            paid_usd=vintages.paid_usd * size[:, np.newaxis, np.newaxis],
            cancel_usd=vintages.cancel_usd * size[:, np.newaxis, np.newaxis],
            prepay_usd=vintages.prepay_usd * size,
        ),
        deliveries=replace(
            deliveries, used_usd_per_chip_hour=deliveries.used_usd_per_chip_hour * size[deliveries.vintage]
        ),
        lanes=replace(lanes, usd_per_request=lanes.usd_per_request + (ratio - 1.0) * tokens),
    )


def appraisal_of(case: Case, ratio: float | None) -> Appraisal:
    """Return the record of an appraisal; ``ratio`` is that of :func:`break_even_ratio`."""
    problem, row = case.assembled.problem, case.terms_row
    signing, without = case.signing, case.without
    by_scenario = signing.money.net_usd - without.money.net_usd
    fees = fees_by_scenario(case.assembled, signing)[case.offer]
    forced = None if case.forced is None else case.forced.objective_usd - without.objective_usd
    known = Appraisal(
        format=APPRAISAL_FORMAT,
        portfolio_hash=portfolio_hash(case.assembled.inputs.portfolio.tables),
        offer=row.offer,
        name=row.name or row.offer,
        answer="",
        sign=case.takes,
        units=case.units,
        units_max=row.units_max,
        with_usd=case.best.objective_usd,
        without_usd=without.objective_usd,
        difference_usd=case.best.objective_usd - without.objective_usd,
        forced_usd=forced,
        mean_difference_usd=signing.expected_net_usd - without.expected_net_usd,
        cvar_difference_usd=signing.cvar_usd - without.cvar_usd,
        break_even_fee_ratio=ratio,
        fee_paid_usd=float(problem.probability @ fees),
        proves_right_share=float(problem.probability[by_scenario > 0].sum()),
        scenario_names=problem.axes.scenarios,
        scenario_probability=problem.probability.tolist(),
        difference_by_scenario_usd=by_scenario.tolist(),
        displaces=displaced_by(case.assembled, signing, without, case.offer),
        gap=max(one.gap for one in (case.best, without, case.forced) if one is not None),
        sentences=[],
        warnings=warnings_of(case),
    )
    sentences = sentences_of(case, known)
    return msgspec.structs.replace(known, answer=answer_of(case, known), sentences=sentences)


def break_even_ratio(case: Case, ask: Solve) -> float | None:
    """Return what multiplies the fee where no part of the offer is worth signing any more; None where no fee does that.

    Notes
    -----
    At the fee at which one plan, held as it is, breaks even, the best plan may still gain: it takes another part, or
    keeps it for longer. So the plan is made anew at that fee, and its own break-even is tried next. The fees tried only
    rise (Newton's method on a value that falls with the fee), so that stopping early understates the fee.
    """
    if case.signing is case.without:
        return None
    found = held_ratio(case, case.signing, 1.0)
    for _ in range(FEES_TRIED):
        if found == np.inf:
            return None
        try:
            plan = ask(at_fee(case.assembled, case.offer, found or 0.0))
        except InfeasibleError:  # a signed contract that no budget bears at this fee
            return found
        gain = plan.objective_usd - case.without.objective_usd
        doubt = sum(one.bound_usd - one.objective_usd for one in (plan, case.without))
        if gain <= doubt + NOTHING_UNITS * abs(case.without.objective_usd):
            return found
        better = held_ratio(case, plan, found or 0.0)
        if found is not None and better is not None and better <= found * (1.0 + RATIO_SETTLED):
            return better
        found = better
    return found


def held_ratio(case: Case, plan: Solution, at: float) -> float | None:
    """Return where a plan made at ``at`` times the fee breaks even if held as it is; None below no fee, inf for never.

    Notes
    -----
    A fee of r times the asked one takes (r − at) · fees off each scenario's net value. The risk-adjusted value that is
    left falls as r rises, and crosses the value without the offer once; found by halving.
    """
    fees = fees_by_scenario(case.assembled, plan)[case.offer]
    net, target = plan.money.net_usd, case.without.objective_usd

    def surplus(ratio: float) -> float:
        return risk_adjusted_usd(case.assembled.problem, net - (ratio - at) * fees) - target

    low, high = 0.0, 1.0
    if surplus(low) <= NOTHING_UNITS * float(fees.max(initial=0.0)):
        return None
    while surplus(high) > 0:
        high *= 2.0
        if high > RATIO_MAX:
            return np.inf
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return (low + high) / 2.0


def answer_of(case: Case, known: Appraisal) -> str:
    """Return the answer in one sentence."""
    room = fee_words(case, known.break_even_fee_ratio)
    if case.terms_row.signed:
        verdict = "adds" if known.difference_usd >= 0 else "loses"
        worth = f"{money(abs(known.difference_usd))} of risk-adjusted value"
        return f"{known.name} is signed: having it {verdict} {worth} against not having it."
    if case.takes:
        part = "" if case.forced is None else f" {count(known.units)} of {count(known.units_max)} units of"
        return f"Sign{part} {known.name}: it adds {money(known.difference_usd)} of risk-adjusted value{room}."
    if case.blocked:
        return f"Do not sign {known.name}: no plan that has all of it keeps the limits."
    if known.forced_usd is None:
        return f"Do not sign {known.name}: it delivers nothing before the plan ends."
    return f"Do not sign {known.name}: in full it would lose {money(-known.forced_usd)} of risk-adjusted value{room}."


def fee_words(case: Case, ratio: float | None) -> str:
    """Say at which fee the answer flips, or for an offer that can be had in part how dear each size may be.

    ``ratio`` is what multiplies the fee up to which some part still pays. The size that is priced, held as it is, pays
    up to a lower one; so each fee is told with the size that it is for.
    """
    if ratio is None:
        return "" if case.takes else ", and would gain nothing even at no fee"
    row = case.terms_row
    if row.all_or_nothing:
        return f", and the answer flips at {fee_at(row, ratio)}"
    held = held_ratio(case, case.signing, 1.0)
    some = "" if held is not None and ratio <= held * (1.0 + RATIO_SETTLED) else fee_at(row, ratio)
    if held is None:
        return f", and {'' if case.takes else 'would gain nothing even at no fee; '}some of it pays up to {some}"
    priced = "at this size the fee could be" if case.takes else "signing it in full flips at"
    return f", and {priced} {fee_at(row, held)}" + (f"; some of it pays up to {some}" if some else "")


def fee_at(row: OfferRow, ratio: float) -> str:
    """Return a share of the fee asked, and the fee that it makes where there is one to tell."""
    fee = next(
        (f"{money(usd * ratio)} {per}" for usd, per in ((row.fee_usd_per_month, "a month"),) if usd > 0),
        f"{significant(row.fee_usd_per_chip_hour * ratio)} USD a chip-hour" if row.fee_usd_per_chip_hour > 0 else "",
    )
    per_unit = " a unit" if row.units_max > 1 and row.fee_usd_per_month > 0 else ""
    return f"{percent(ratio)} of the fee asked" + (f" ({fee}{per_unit})" if fee else "")


def sentences_of(case: Case, known: Appraisal) -> list[str]:
    """Return what the answer rests on, a sentence each."""
    if case.signing is case.without:
        return case.blocked
    problem = case.assembled.problem
    signing = "Signing" if not case.terms_row.signed else "Having"
    forced = "" if case.takes or case.forced is None else " in full on the first day"
    tail = percent(1.0 - problem.risk_alpha)
    weight = significant(problem.risk_weight)
    sentences = [
        f"Risk-adjusted value is mean net value less {weight} × the mean loss of the worst {tail} of futures.",
        f"{signing} it{forced} changes the mean net value by {money(known.mean_difference_usd)}.",
        f"It changes the mean loss of the worst {tail} of futures by {money(known.cvar_difference_usd)}.",
        f"It proves right in scenarios of {percent(known.proves_right_share)} of the weight.",
        f"Its fees are {money(known.fee_paid_usd)} on average, discounted.",
    ]
    if case.takes and known.forced_usd is not None:
        sentences.append(
            f"Signing all of it on the first day would change risk-adjusted value by {money(known.forced_usd)}."
        )
    sentences += extremes_of(case, known)
    low = case.best.objective_usd - case.without.bound_usd
    high = case.best.bound_usd - case.without.objective_usd
    if high - low > NOTHING_UNITS * max(abs(known.with_usd), 1.0):
        sentences.append(f"Given the solver's gap, the value lies between {money(low)} and {money(high)}.")
    return sentences


def extremes_of(case: Case, known: Appraisal) -> list[str]:
    """Tell the scenarios in which signing does best and worst."""
    stories = describe_scenarios(case.assembled.inputs)
    differences = np.array(known.difference_by_scenario_usd)
    if len(differences) == 1:
        return []
    return [
        f"It does {word} in {known.scenario_names[place]} ({money(float(differences[place]))}): {stories[place]}."
        for word, place in (("best", int(np.argmax(differences))), ("worst", int(np.argmin(differences))))
    ]


def warnings_of(case: Case) -> list[str]:
    """Return what a reader must know beside the value."""
    sentences = [
        "At another fee the best plan may take another part of it, or keep it for another time.",
        learning(case.assembled),
    ]
    value = abs(case.best.objective_usd - case.without.objective_usd)
    doubt = (case.best.bound_usd - case.best.objective_usd) + (case.without.bound_usd - case.without.objective_usd)
    if case.takes and doubt > value:
        sentences.append("The value is smaller than the solver's gap: ask for a smaller gap before relying on it.")
    return sentences


def write_appraisal(appraisal: Appraisal, run_folder: Path) -> Path:
    """Write the folder ``appraise/OFFER`` of a run; whole or not at all."""
    target = run_folder / "appraise" / appraisal.offer
    with folder_in_place(target) as part:
        write_json(part / "appraisal.json", appraisal)
    return target
