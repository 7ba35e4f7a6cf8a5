"""Say what the plan does with each offer, in figures and in plain English.

Comes in: an assembled problem and its solution. Goes out: :class:`~offtake.plan.result.Decision` records and the
answer. It must never know a file.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.plan.assemble import Assembled, token_fees_usd
from offtake.plan.objective import ended_units, ending_fees
from offtake.plan.result import Decision
from offtake.plan.solution import Solution
from offtake.plan.words import count, day, listing, money, percent, power
from offtake.schema.tables import OfferRow
from offtake.supply.offer import NEVER, Terms, buyer_lock_day
from offtake.units import S_PER_HOUR

Floats = npt.NDArray[np.float64]

NOTHING_UNITS = 1e-6
ACTIONS = {"keep": "Keep", "sign": "Sign", "sign part": "Sign part of", "wait": "Wait with", "leave": "Do not sign"}


def decisions_of(assembled: Assembled, solution: Solution) -> list[Decision]:
    """Return one decision for each offer, in the order of their file."""
    fees = fees_by_offer(assembled, solution)
    return [
        decision_of(assembled, solution, index, float(fees[index]))
        for index in range(len(assembled.problem.axes.offers))
    ]


def decision_of(assembled: Assembled, solution: Solution, index: int, fees_usd: float) -> Decision:
    """Return the decision on one offer."""
    terms = list(assembled.inputs.portfolio.offers.values())[index]
    row, vintages = terms.row, assembled.problem.vintages
    mine = np.flatnonzero(vintages.offer == index)
    signed, least = solution.signed[mine], NOTHING_UNITS * row.units_max
    taken = mine[(signed > least).any(axis=1)]
    now, later = signed_now_and_later(assembled, solution, mine)
    sign_days = [int(one) for one in assembled.contracts.sign_days[taken]]
    action = "leave" if len(taken) == 0 else "keep" if row.signed else action_of(now, row.units_max)
    firm_kw = np.einsum("vt,vst->st", vintages.firm_kw[mine], solution.kept[mine])
    probability = assembled.problem.probability
    costs = solution.prices.sign_usd_per_unit[mine]
    known = Decision(
        offer=row.offer,
        name=row.name or row.offer,
        provider=row.provider,
        action=action,
        firmness=row.firmness,
        units=float(probability @ signed.sum(axis=0)),
        units_now=now,
        units_max=row.units_max,
        later_share=float(probability @ (later > least)),
        notice_share=float(probability @ ended_early(assembled, solution, mine)),
        sign_date=", ".join(day(one) for one in sign_days),
        kept_until=kept_until(assembled, solution, taken),
        notice=notice_of(assembled, terms),
        chips=float(signed.sum(axis=0).max(initial=0.0)) * terms.chips_per_unit,
        firm_kw=float(firm_kw.max(initial=0.0)),
        fees_usd=fees_usd,
        reduced_cost_usd=float(costs.max()) if len(costs) and not (row.signed or is_lumpy(row)) else None,
        sentence="",
    )
    return with_sentence(known, terms)


def signed_now_and_later(assembled: Assembled, solution: Solution, mine: npt.NDArray[np.int64]) -> tuple[float, Floats]:
    """Return the units of some vintages that are signed on the first day, and those signed after it [S]."""
    first = assembled.problem.vintages.sign_period[mine] <= 0
    now = solution.signed[mine[first]].sum(axis=0)
    return float(now[0]) if now.size else 0.0, solution.signed[mine[~first]].sum(axis=0)


def ended_early(assembled: Assembled, solution: Solution, mine: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell in which scenarios notice is given: something signed is ended before its term and before the plan ends."""
    vintages, periods = assembled.problem.vintages, assembled.problem.period_hours.size
    last = np.minimum(vintages.term_until[mine], periods) - 1
    alive = last >= vintages.sign_period[mine]
    ends = solution.kept[mine[alive], :, last[alive]]
    return np.asarray((solution.signed[mine[alive]] - ends > NOTHING_UNITS).any(axis=0), dtype=np.bool_)


def is_lumpy(row: OfferRow) -> bool:
    """Tell whether an offer comes in lots: then no marginal figure says anything about it."""
    return row.whole_units or row.all_or_nothing


def action_of(units: float, units_max: float) -> str:
    """Name what is done today with an offer that is not signed yet, of which some scenario signs something."""
    if units <= units_max * NOTHING_UNITS:
        return "wait"
    return "sign" if units >= units_max * (1.0 - NOTHING_UNITS) else "sign part"


def kept_until(assembled: Assembled, solution: Solution, taken: npt.NDArray[np.int64]) -> str:
    """Return the last day on which anything signed is kept in any scenario; empty where nothing is signed."""
    kept = solution.kept[taken].sum(axis=0).max(axis=0)
    periods = np.flatnonzero(kept > NOTHING_UNITS * max(float(kept.max(initial=0.0)), NOTHING_UNITS))
    edges = assembled.inputs.calendar.edges
    return day(int(edges[periods[-1] + 1]) - 1) if len(periods) else ""


def notice_of(assembled: Assembled, terms: Terms) -> str:
    """Say when the buyer may leave, if it signs on the first day."""
    first = buyer_lock_day(terms, int(assembled.inputs.calendar.edges[0]))
    if first == NEVER:
        return "no right to cancel"
    if terms.row.renewal_days > 0 and any(one.buyer is None for one in terms.readings if one.weight > 0):
        return f"no right to cancel within the term; free from {day(first)}, when it may be renewed"
    notices = sorted({reading.buyer.notice_days for reading in terms.readings if reading.buyer is not None})
    days = " or ".join(str(one) for one in notices)
    several = " under every reading" if len(terms.readings) > 1 else ""
    return f"{days} days' notice, out from {day(first)}{several}"


def with_sentence(known: Decision, terms: Terms) -> Decision:
    """Return the decision with its sentence."""
    if known.action == "leave":
        by = f" by {terms.row.sign_by}" if terms.row.sign_by else ""
        return msgspec.structs.replace(known, sentence=f"Do not sign {known.name}{by}.")
    when = "" if known.action in {"keep", "wait"} else f" on {first_date(known)}"
    what = [
        f"{count(known.units_now)} of {count(known.units_max)} units" if known.action == "sign part" else "",
        f"sign on {known.sign_date} in {percent(known.later_share)} of futures" if known.action == "wait" else "",
        f"more of it later in {percent(known.later_share)} of futures"
        if known.action == "sign part" and known.later_share > 0
        else "",
        size_of(known, terms),
        f"{power(known.firm_kw)} firm" if known.firm_kw > 0 else "",
        f"kept until {known.kept_until}",
        f"notice given in {percent(known.notice_share)} of futures" if known.notice_share > 0 else "",
        f"for {money(known.fees_usd)} in fees on average",
    ]
    text = f"{ACTIONS[known.action]} {known.name}{when}: {', '.join(part for part in what if part)}."
    return msgspec.structs.replace(known, sentence=text)


def first_date(known: Decision) -> str:
    """Return the first of the days of signing: what is signed on the others depends on the future."""
    return known.sign_date.partition(", ")[0]


def size_of(known: Decision, terms: Terms) -> str:
    """Say how large what is signed is."""
    if terms.is_api:
        return f"{count(known.units * terms.row.tokens_per_minute_max)} tokens a minute"
    return f"{count(known.chips)} chips"


def fees_by_offer(assembled: Assembled, solution: Solution) -> Floats:
    """Return the mean discounted fees of each offer in USD [O]."""
    return fees_by_scenario(assembled, solution) @ assembled.problem.probability


def fees_by_scenario(assembled: Assembled, solution: Solution) -> Floats:
    """Return the discounted fees of each offer in USD [O, S]: kept, ended, prepaid, used, and by the token."""
    problem = assembled.problem
    vintages, deliveries, lanes = problem.vintages, problem.deliveries, problem.lanes
    fees = np.zeros((len(problem.axes.offers), problem.probability.size))
    kept = np.einsum("vst,vst,t->vs", vintages.paid_usd, solution.kept, problem.discount)
    prepaid = (vintages.prepay_usd * problem.discount[vintages.sign_period])[:, np.newaxis] * solution.signed
    ended = np.einsum("vst,vst,t->vs", ending_fees(problem), ended_units(problem, solution), problem.discount)
    np.add.at(fees, vintages.offer, kept + prepaid + ended)
    hours = problem.period_hours[:, np.newaxis] * problem.block_share * problem.discount[:, np.newaxis]
    used = (solution.used_chips * hours[deliveries.period]).sum(axis=1) * deliveries.used_usd_per_chip_hour
    np.add.at(fees, (vintages.offer[deliveries.vintage], deliveries.scenario), used)
    tokens = token_fees_usd(assembled.inputs, assembled.cells, lanes)
    for lane, cell in enumerate(lanes.cell):
        offer = assembled.cells[cell].api_offer
        if offer:
            requests = np.einsum("stb,tb->s", solution.served_rps[..., lane], hours * S_PER_HOUR)
            fees[problem.axes.offers.index(offer)] += requests * tokens[lane]
    return fees


def answer_of(assembled: Assembled, decisions: list[Decision]) -> str:
    """Return the plan's answer in one sentence: on the questioned offer, or on all that are open."""
    question = assembled.inputs.portfolio.tables.settings.question
    for decision in decisions:
        if decision.offer == question:
            return question_answer(assembled, decision)
    open_ones = [one for one in decisions if one.action != "keep"]
    signed = [one.name for one in open_ones if one.action in {"sign", "sign part"}]
    waiting = [one.name for one in open_ones if one.action == "wait"]
    left = [one.name for one in open_ones if one.action == "leave"]
    if not open_ones:
        return "There is nothing to sign: every contract is signed already."
    parts = [
        f"Sign {listing(signed)}" if signed else "Sign nothing now" if waiting else "Sign nothing",
        f"wait with {listing(waiting)}" if waiting else "",
        f"leave {listing(left)}" if left else "",
    ]
    return "; ".join(part for part in parts if part) + "."


def question_answer(assembled: Assembled, decision: Decision) -> str:
    """Return the answer on the questioned offer."""
    terms = assembled.inputs.portfolio.offers[decision.offer]
    if decision.action in {"leave", "keep", "wait"}:
        return decision.sentence
    dates = (assembled.problem.vintages.offer == assembled.problem.axes.offers.index(decision.offer)).sum()
    by = f" by {terms.row.sign_by}" if terms.row.sign_by and dates == 1 else f" on {first_date(decision)}"
    part = f"{count(decision.units_now)} of {count(decision.units_max)} units of "
    part = part if decision.action == "sign part" else ""
    more = f", more of it later in {percent(decision.later_share)} of futures," if decision.later_share > 0 else ""
    return f"Sign {part}{decision.name}{by}{more} and keep it {until(assembled, decision)}."


def until(assembled: Assembled, decision: Decision) -> str:
    """Say until when something is kept."""
    last = day(int(assembled.inputs.calendar.edges[-1]) - 1)
    if decision.notice_share > 0:
        return f"until {decision.kept_until} at most, with notice given in {percent(decision.notice_share)} of futures"
    if decision.kept_until == last:
        return f"to the end of the plan ({last})"
    return f"until {decision.kept_until}"
