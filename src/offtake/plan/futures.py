"""Tell what each of the plan's scenarios brings in the week of a fleet, so that a rehearsal can run them.

Comes in: the cut of a week and its fleet. Goes out: the fleet with its scenarios: demand over that of the fleet, and
events by the hour: chips that are late or reclaimed, sites lost, power curtailed, surges, and step times that are
worse than the table's. What a scenario has beyond the fleet is left out: a rehearsal cannot run chips that the fleet
does not hold. This module must never know a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.demand.shock import sample_shocks, shock_paths, shocks_of
from offtake.fleet import Fleet, Pool, Scenario, ScenarioEvent
from offtake.plan.cuts import NOTHING, Cut
from offtake.plan.tree import Chance
from offtake.supply.delivery import Delivery, Draw, deliver, end_day, first_days, kinds
from offtake.supply.offer import Terms
from offtake.units import DAYS_PER_WEEK, DAYS_PER_YEAR, HOURS_PER_DAY, HOURS_PER_WEEK

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CURTAILMENT_HOURS = 2.0  #: mean length of a curtailment (Norris et al., *Rethinking Load Growth*, Duke, 2025)
SMALLEST_SHARE = 1e-3  #: a smaller share of a pool is not told
HALF = 0.5  #: an API is there or not: it is away where more than half of it is


class Present(NamedTuple):
    """Hold chips of one offer in one cell: ``share [S, 7]`` of what the fleet counts, and the day it ends ``[S]``."""

    offer: str
    site: str
    chip: str
    share: Floats
    end_day: Ints


def with_futures(cut: Cut, fleet: Fleet) -> Fleet:
    """Return the fleet with every scenario of the plan for its week.

    A curtailment falls into the first hours of the busiest block, at every site at once: the grid cuts when it is
    short (an assumption). Its number in a week is drawn so that the mean over scenarios is that of the year.
    """
    assembled = cut.assembled
    names, probability = assembled.problem.axes.scenarios, assembled.problem.probability
    presents, factors = list(presents_of(cut)), demand_factors(cut)
    curtailed = curtailments(cut, fleet)
    scenarios = []
    for index, name in enumerate(names):
        found = [
            *lost_events(cut, fleet, index),
            *capacity_events(cut, fleet, presents, index),
            *curtailed[index],
            *surge_events(cut, index),
            *slow_events(cut, fleet, index),
        ]
        found.sort(key=lambda event: (event.start_hour, event.kind, event.target))
        weight = float(probability[index])
        scenarios.append(Scenario(name=name, probability=weight, demand_factor=factors[index].tolist(), events=found))
    return msgspec.structs.replace(fleet, scenarios=scenarios)


def week_days(cut: Cut) -> Ints:
    """List the seven days of the week, as ordinals."""
    return np.arange(cut.week.toordinal(), cut.week.toordinal() + DAYS_PER_WEEK, dtype=np.int64)


def presents_of(cut: Cut) -> Iterator[Present]:
    """Yield what each offer has in each cell in the week, over its mean in the fleet's period and scenario."""
    assembled = cut.assembled
    calendar, portfolio = assembled.inputs.calendar, assembled.inputs.portfolio
    period = np.arange(calendar.edges[cut.period], calendar.edges[cut.period + 1], dtype=np.int64)
    offers = list(portfolio.offers.values())
    found: dict[tuple[int, str, str], list[tuple[Floats, float, Ints]]] = {}
    units = cut.solution.kept[:, :, cut.period]
    for vintage in np.flatnonzero(units[:, cut.scenario] > NOTHING):
        offer = int(assembled.problem.vintages.offer[vintage])
        terms, sign_day = offers[offer], int(assembled.contracts.sign_days[vintage])
        draw = assembled.inputs.tree.draw(terms, sign_day)
        ends = end_day(terms, first_days(terms, sign_day, draw), draw)
        now, mean = (deliver(terms, sign_day, draw, days) for days in (week_days(cut), period))
        for (site, chip), (week, usual) in chips_by_cell(terms, (now, mean), draw, cut.scenario).items():
            kept = (units[vintage, :, np.newaxis] * week, float(units[vintage, cut.scenario]) * usual, ends)
            found.setdefault((offer, site, chip), []).append(kept)
    for (offer, site, chip), parts in found.items():
        base = sum(usual for _, usual, _ in parts)
        if base > NOTHING:
            share = np.sum([week for week, _, _ in parts], axis=0) / base
            ends = np.max([ends for _, _, ends in parts], axis=0)
            yield Present(offers[offer].row.offer, site, chip, share, ends)


def chips_by_cell(
    terms: Terms, deliveries: tuple[Delivery, Delivery], draw: Draw, scenario: int
) -> dict[tuple[str, str], tuple[Floats, float]]:
    """Return chips of one unit by site and chip: on each day of the week [S, 7], and their mean in one scenario.

    ``deliveries`` are those of the week and of the fleet's period.
    """
    now, mean = deliveries
    found: dict[tuple[str, str], tuple[Floats, float]] = {}
    brought = [(place, one, kind) for place, one in enumerate(terms.tranches) for kind in kinds(terms, place, draw)]
    for place, tranche, (chip, ratio) in brought:
        size = (1.0 if terms.is_api else tranche.chips_per_unit) * ratio
        week, usual = found.get((tranche.site, chip), (np.zeros(1), 0.0))
        usual += float(size[scenario] * mean.counted[scenario, place].mean())
        found[tranche.site, chip] = (week + size[:, np.newaxis] * now.counted[:, place], usual)
    return found


def lost_events(cut: Cut, fleet: Fleet, scenario: int) -> Iterator[ScenarioEvent]:
    """Yield the sites that are gone for good by the end of the week."""
    for site in fleet.sites:
        day = int(cut.assembled.inputs.tree.lost_day[site.name][scenario]) - cut.week.toordinal()
        if day < DAYS_PER_WEEK:
            start = float(max(day, 0) * HOURS_PER_DAY)
            yield event("lost_site", site.name, start, HOURS_PER_WEEK - start, 1.0)


def capacity_events(cut: Cut, fleet: Fleet, presents: list[Present], scenario: int) -> Iterator[ScenarioEvent]:
    """Yield the shares of pools that are late or reclaimed in a scenario, by runs of days."""
    days = week_days(cut)
    lost_day = cut.assembled.inputs.tree.lost_day
    for one in presents:
        there = days < int(lost_day[one.site][scenario])  # a lost site is told as such
        missing = np.where(there, np.clip(1.0 - one.share[scenario], 0.0, 1.0), 0.0)
        gone = days >= int(one.end_day[scenario])
        for pool in pools_of_offer(fleet, one):
            shares = missing * share_of(pool, one.offer)
            for first, last in runs(np.round(shares, 6)):
                share = float(shares[first])
                if pool.kind == "api":
                    share = float(share > HALF)
                if share >= SMALLEST_SHARE:
                    kind = "reclaim" if gone[first] else "late_tranche"
                    hours = float((last - first) * HOURS_PER_DAY)
                    yield event(kind, pool.name, float(first * HOURS_PER_DAY), hours, share)


def pools_of_offer(fleet: Fleet, one: Present) -> list[Pool]:
    """List the pools that an offer's chips in a cell are in."""
    return [pool for pool in fleet.pools if (pool.site, pool.chip) == (one.site, one.chip) and one.offer in pool.offers]


def share_of(pool: Pool, offer: str) -> float:
    """Return the share of a pool's chips that an offer brings."""
    return pool.offer_share[pool.offers.index(offer)] if pool.offer_share else 1.0 / len(pool.offers)


def runs(values: Floats) -> Iterator[tuple[int, int]]:
    """Yield first and last (excluded) of each run of equal values above 0."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for first, last in pairwise(edges):
        if values[first] > 0:
            yield first, last


def curtailments(cut: Cut, fleet: Fleet) -> list[list[ScenarioEvent]]:
    """Return the curtailments of each scenario."""
    load, probability = cut.assembled.inputs.load, cut.assembled.problem.probability
    chance = Chance(cut.assembled.inputs.portfolio.tables.settings.seed, probability)
    start = float(load.block_of_hour.index(load.busiest_first[0]))
    found: list[list[ScenarioEvent]] = [[] for _ in probability]
    for site in fleet.sites:
        if site.curtailment_hours_per_year * site.curtailment_share <= 0:
            continue
        in_week = site.curtailment_hours_per_year / CURTAILMENT_HOURS * DAYS_PER_WEEK / DAYS_PER_YEAR
        counts = np.floor(in_week + chance.uniform(f"curtailment {site.name}"))
        for index, count in enumerate(counts):
            hours = min(float(count) * CURTAILMENT_HOURS, HOURS_PER_WEEK - start)
            if hours > 0:
                found[index].append(event("curtailment", site.name, start, hours, site.curtailment_share))
    return found


def demand_factors(cut: Cut) -> Floats:
    """Return the rate of each workload over that of the fleet, surges left out [S, K]."""
    inputs = cut.assembled.inputs
    rates = inputs.load.rate_rps[:, cut.period]
    shocks, edges = shocks_of(inputs.portfolio.tables.shocks), inputs.calendar.edges
    settings = inputs.portfolio.tables.settings
    events = sample_shocks(shocks, float(edges[-1] - edges[0]), len(rates), settings.seed)
    since = (edges - edges[0]).astype(np.float64)
    surge = shock_paths(shocks, events, since, len(rates))[:, cut.period]
    calm = np.divide(rates, surge[:, None], out=np.zeros_like(rates), where=surge[:, None] > 0)
    factors: Floats = np.divide(calm, rates[cut.scenario], out=np.ones_like(rates), where=rates[cut.scenario] > 0)
    return factors


def surge_events(cut: Cut, scenario: int) -> Iterator[ScenarioEvent]:
    """Yield the surges of demand that strike in the week."""
    inputs = cut.assembled.inputs
    shocks, edges = shocks_of(inputs.portfolio.tables.shocks), inputs.calendar.edges
    seed, scenarios = inputs.portfolio.tables.settings.seed, len(inputs.load.rate_rps)
    found = sample_shocks(shocks, float(edges[-1] - edges[0]), scenarios, seed)
    monday = cut.week.toordinal() - int(edges[0])
    for place in np.flatnonzero(found.scenario == scenario):
        shock = shocks[int(found.kind[place])]
        first = max(float(found.start_day[place]) - monday, 0.0)
        last = min(float(found.start_day[place]) - monday + shock.days, float(DAYS_PER_WEEK))
        if last > first:
            yield event("surge", "", first * HOURS_PER_DAY, (last - first) * HOURS_PER_DAY, shock.multiplier)


def slow_events(cut: Cut, fleet: Fleet, scenario: int) -> Iterator[ScenarioEvent]:
    """Yield the pools whose steps take another time than in the fleet's own scenario."""
    throughput = cut.assembled.inputs.tree.throughput
    for pool in fleet.pools:
        if pool.kind == "chips":
            speeds = throughput[pool.model, pool.chip]
            factor = float(speeds[cut.scenario] / speeds[scenario])
            if abs(factor - 1.0) > NOTHING:
                yield event("slow_replica", pool.name, 0.0, float(HOURS_PER_WEEK), factor)


def event(kind: str, target: str, start_hour: float, hours: float, value: float) -> ScenarioEvent:
    """Return one event."""
    return ScenarioEvent(kind=kind, target=target, start_hour=start_hour, hours=hours, value=value)
