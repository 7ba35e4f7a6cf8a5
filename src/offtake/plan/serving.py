"""Say who serves: what share of the requests runs on reserved chips, on chips paid by use, and through APIs.

Comes in: an assembled problem and its solution. Goes out: :class:`~offtake.plan.result.Supply` records and a sentence.
Where a place has chips of both kinds at work, its requests are counted by the chips of each. It must never know a file.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.plan.assemble import Assembled
from offtake.plan.decisions import fees_by_offer
from offtake.plan.problem import Problem
from offtake.plan.result import Supply
from offtake.plan.rules import on_demand
from offtake.plan.solution import Solution
from offtake.plan.words import count, listing, money, percent, significant

Floats = npt.NDArray[np.float64]

RESERVED, BY_USE, API = "reserved", "by use", "API"
NAMES = {RESERVED: "on reserved chips", BY_USE: "on chips paid by use", API: "through APIs"}
MANY = 10_000  #: chips that are told in full up to here
LEAST_SHARE = 5e-5  #: a smaller share of the requests is not told


def supplies_of(assembled: Assembled, solution: Solution) -> list[Supply]:
    """Return the three kinds of supply, each with its share of all requests asked for, its chips and its fees."""
    problem = assembled.problem
    shares, chips, fees = shares_by_kind(problem, solution), chips_by_kind(problem, solution), dict.fromkeys(NAMES, 0.0)
    for offer, usd in enumerate(fees_by_offer(assembled, solution)):
        fees[kind_of(assembled, offer)] += float(usd)
    hours = problem.period_hours[:, np.newaxis] * problem.block_share / problem.period_hours.sum()
    return [
        Supply(
            kind=kind,
            share=shares[kind],
            chips_mean=float(problem.probability @ np.einsum("stb,tb->s", chips[kind], hours)),
            chips_most=float(chips[kind].max(initial=0.0)),
            fees_usd=fees[kind],
        )
        for kind in NAMES
    ]


def kind_of(assembled: Assembled, offer: int) -> str:
    """Return the kind of supply that an offer is."""
    if list(assembled.inputs.portfolio.offers.values())[offer].is_api:
        return API
    return BY_USE if on_demand(assembled.problem)[assembled.problem.vintages.offer == offer].any() else RESERVED


def shares_by_kind(problem: Problem, solution: Solution) -> dict[str, float]:
    """Return the share of all requests asked for that each kind of supply serves, over all scenarios."""
    lanes, paid = problem.lanes, by_use(problem, solution)
    busy = solution.training_chips.sum(axis=3) + solution.research_chips[:, :, np.newaxis]
    for lane, cell in enumerate(lanes.cell):
        busy[..., cell] += solution.served_rps[..., lane] / lanes.goodput_rps_per_chip[lane][:, np.newaxis, np.newaxis]
    part = np.clip(np.divide(paid, busy, out=np.zeros_like(busy), where=busy > 0), 0.0, 1.0)
    weight = np.einsum("s,t,b->stb", problem.probability, problem.period_hours, problem.block_share)
    served = {API: 0.0, BY_USE: 0.0, RESERVED: 0.0}
    for lane, cell in enumerate(lanes.cell):
        requests = weight * solution.served_rps[..., lane]
        of_use = float((requests * part[..., cell]).sum())
        served[API if problem.cells.is_api[cell] else RESERVED] += float(requests.sum())
        if not problem.cells.is_api[cell]:
            served[BY_USE] += of_use
            served[RESERVED] -= of_use
    asked = max(float(np.einsum("stb,stbk->", weight, problem.demand_rps)), 1e-9)
    return {kind: max(requests, 0.0) / asked for kind, requests in served.items()}


def by_use(problem: Problem, solution: Solution) -> Floats:
    """Return the chips at work that are paid by use [S, T, B, N]."""
    deliveries = problem.deliveries
    found = np.zeros((*problem.demand_rps.shape[:3], problem.cells.site.size))
    by_cell = np.moveaxis(found, 3, 2)
    np.add.at(by_cell, (deliveries.scenario, deliveries.period, deliveries.cell), solution.used_chips)
    return found


def chips_by_kind(problem: Problem, solution: Solution) -> dict[str, Floats]:
    """Return the chips of each kind [S, T, B]: reserved ones that are there, those by use that work; APIs have none."""
    deliveries, chips = problem.deliveries, ~problem.cells.is_api
    firm = chips[deliveries.cell] & ~deliveries.elastic
    there = np.zeros(problem.demand_rps.shape[:2])
    amount = deliveries.chips * solution.kept[deliveries.unit]
    np.add.at(there, (deliveries.scenario[firm], deliveries.period[firm]), amount[firm])
    paid = by_use(problem, solution)[..., chips].sum(axis=3)
    return {RESERVED: np.broadcast_to(there[..., np.newaxis], paid.shape), BY_USE: paid, API: np.zeros_like(paid)}


def sentence_of(supplies: list[Supply], refused_share: float) -> str:
    """Say in a sentence who serves, and what is refused."""
    told = [one for one in supplies if one.share > LEAST_SHARE]
    parts = [
        f"{percent(one.share)}{'' if place else ' are served'} {NAMES[one.kind]}{details(one)}"
        for place, one in enumerate(told)
    ]
    refused = f"{percent(refused_share)} are refused" if refused_share > LEAST_SHARE else "none are refused"
    return f"Of all requests, {'; '.join([*([listing(parts)] if parts else []), refused])}."


def details(one: Supply) -> str:
    """Say in brackets how many chips a kind of supply has, and what it costs."""
    most = f"{chips_words(one.chips_most)} at most"
    mean = f"{chips_words(one.chips_mean)} on average, {most}" if one.kind == BY_USE else most
    words = [mean if one.kind != API else "", f"{money(one.fees_usd)} in fees" if one.fees_usd > 0 else ""]
    return f" ({', '.join(word for word in words if word)})" if any(words) else ""


def chips_words(chips: float) -> str:
    """Write a number of chips as exactly as it is of use.

    >>> chips_words(23.6), chips_words(6391508.0)
    ('24', '6,390,000')
    """
    return count(round(chips)) if chips < MANY else significant(chips)
