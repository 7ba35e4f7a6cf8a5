"""State the simple rules that people sign by, as decisions on every date, so that a plan can be held against them.

Comes in: a planning problem. Goes out: for each rule the units that it signs on the first day; on a later date no rule
signs anything, or it would be the planner's rule. What is signed already stays; notice, and how work is served, are
left to the planner; so is what is paid by use, where a rule says nothing of it. It must never know a solver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offtake.plan.problem import Bools, Floats, Held, Ints, Problem

PERCENTILE = 0.95
ENOUGH = 1e-9


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Hold one rule: its key, what it does in words, and the units it signs [V], NaN where the planner decides."""

    key: str
    words: str
    units: Floats

    def held(self, problem: Problem) -> Held:
        """Return the decisions of a rule, in every scenario."""
        scenarios, periods = problem.probability.size, problem.period_hours.size
        shape = (self.units.size, scenarios, periods)
        return Held(
            signed=np.repeat(self.units[:, np.newaxis], scenarios, axis=1),
            kept=np.full(shape, np.nan),
            hosts=np.full((problem.jobs.chip_hours.size, len(problem.axes.sites)), np.nan),
        )


def rules_of(problem: Problem) -> list[Rule]:
    """Return the rules, on the offers that are open on the first day; none where nothing is."""
    today = open_today(problem)
    if not today.any():
        return []
    vintages = problem.vintages
    nothing = np.where(vintages.signed, np.nan, 0.0)
    everything = np.where(today, vintages.units_max, nothing)
    use_alone = np.where(today & on_demand(problem), vintages.units_max, nothing)
    cheapest, longest = price_of_cover(problem), -vintages.term_until.astype(np.float64)
    percentile = round(100 * PERCENTILE)
    covered = f"cover the {percentile}th percentile of today's demand with the"
    return [
        Rule(key="look-back", words=f"{covered} cheapest commitments", units=covering(problem, cheapest)),
        Rule(key="all on demand", words="commit to nothing on any date, pay by use", units=use_alone),
        Rule(key="longest terms", words=f"{covered} longest commitments", units=covering(problem, longest)),
        Rule(key="sign everything", words="sign every open offer in full", units=everything),
        Rule(key="sign nothing", words="sign nothing on any date", units=nothing),
    ]


def open_today(problem: Problem) -> Bools:
    """Tell which vintages may be signed on the first day [V]."""
    vintages = problem.vintages
    return np.asarray(~vintages.signed & (vintages.sign_period <= 0), dtype=np.bool_)


def on_demand(problem: Problem) -> Bools:
    """Tell which vintages are paid by use alone [V]: those that bring elastic chips, or an API."""
    deliveries = problem.deliveries
    by_use = deliveries.elastic | problem.cells.is_api[deliveries.cell]
    found = np.zeros(problem.vintages.offer.size, dtype=np.bool_)
    found[deliveries.vintage[by_use]] = True
    return found


def covering(problem: Problem, rank: Floats) -> Floats:
    """Return the units [V] that cover what today's contracts leave of today's demand, by ``rank [V]``, lowest first.

    Whole units are rounded up; a lot is taken whole; of an exclusive set the first one taken shuts out the others. What
    is paid by use is left to the planner.
    """
    vintages, cover = problem.vintages, cover_of_unit(problem)
    units = np.where(vintages.signed | on_demand(problem), np.nan, 0.0)
    left = 1.0 - covered_today(problem)
    shut: set[int] = set()
    for vintage in np.argsort(rank, kind="stable"):
        offer = int(vintages.offer[vintage])
        may = open_today(problem)[vintage] and not on_demand(problem)[vintage] and offer not in shut
        if left <= ENOUGH or not may or cover[vintage] <= 0:
            continue
        asked = left / cover[vintage]
        asked = np.ceil(asked - ENOUGH) if vintages.whole_units[vintage] else asked
        asked = vintages.units_max[vintage] if vintages.all_or_nothing[vintage] else asked
        units[vintage] = np.clip(asked, vintages.units_min[vintage], vintages.units_max[vintage])
        left -= units[vintage] * cover[vintage]
        shut |= {one for some in problem.exclusive if offer in some for one in some}
    return units


def cover_of_unit(problem: Problem) -> Floats:
    """Return the share of today's demand that one unit serves when it is all there [V]."""
    chips = mean_chips(problem)  # [V, T, N]
    most: Floats = (chips @ cover_of_chip(problem)).max(axis=1, initial=0.0)
    return most


def covered_today(problem: Problem) -> float:
    """Return the share of today's demand that signed contracts serve in the first period."""
    vintages = problem.vintages
    chips = (
        mean_chips(problem)[:, 0] * np.where(vintages.signed & ~on_demand(problem), vintages.units_max, 0.0)[:, None]
    )
    return float(chips.sum(axis=0) @ cover_of_chip(problem))


def price_of_cover(problem: Problem) -> Floats:
    """Return what a unit costs for each hour of today's demand that it serves, over its term, in USD [V]."""
    vintages, weight = problem.vintages, problem.probability
    paid = np.einsum("s,vst,t->v", weight, vintages.paid_usd, problem.discount) + vintages.prepay_usd
    hours = mean_chips(problem) @ cover_of_chip(problem) @ problem.period_hours
    price: Floats = paid / np.maximum(hours, ENOUGH)
    return price


def cover_of_chip(problem: Problem) -> Floats:
    """Return the share of today's demand that one chip of each cell serves [N].

    Requests count by the chips that they take where they run best. A chip serves those that may run in its cell.
    """
    lanes = problem.lanes
    asked, goodput = todays_demand(problem), lanes.goodput_rps_per_chip @ problem.probability
    best = np.zeros(asked.size)
    np.maximum.at(best, lanes.workload, goodput)
    work = np.where(best > 0, asked / np.where(best > 0, best, 1.0), 0.0)
    share = work / max(float(work.sum()), ENOUGH)
    served, chips = np.zeros(problem.cells.site.size), np.zeros(problem.cells.site.size)
    np.add.at(served, lanes.cell, share[lanes.workload])
    np.add.at(chips, lanes.cell, asked[lanes.workload] / goodput)
    cover: Floats = np.where(chips > 0, served / np.where(chips > 0, chips, 1.0), 0.0)
    return cover


def todays_demand(problem: Problem) -> Floats:
    """Return the rate of each workload that is not exceeded in 95% of the hours of the first period [K], rps."""
    rates = np.tensordot(problem.probability, problem.demand_rps[:, 0], 1)  # [B, K]
    order: Ints = np.argsort(rates, axis=0, kind="stable")
    hours = np.cumsum(problem.block_share[order], axis=0)
    place = np.argmax(hours >= PERCENTILE - ENOUGH, axis=0)
    rate: Floats = np.take_along_axis(np.sort(rates, axis=0), place[np.newaxis], axis=0)[0]
    return rate


def mean_chips(problem: Problem) -> Floats:
    """Return the chips that one unit brings, in the mean over scenarios [V, T, N]."""
    deliveries = problem.deliveries
    chips = np.zeros((problem.vintages.offer.size, problem.period_hours.size, problem.cells.site.size))
    amount = problem.probability[deliveries.scenario] * deliveries.chips
    np.add.at(chips, (deliveries.vintage, deliveries.period, deliveries.cell), amount)
    return chips
