"""Price a week of lead time: what the plan would be worth if an offer were promised a week sooner, or a week later.

Comes in: a case: a plan with its pool of cuts. Goes out: a :class:`~offtake.plan.result.Price` for each offer that the
plan takes and that is not wholly there yet. No row of the program is a lead time, so that there is no dual to read:
the price is a finite difference. As with the other prices, what is signed is held; where work runs, and what notice is
given, is decided anew. An offer that is left has no such price: a change of its lead time that would make it worth
signing is in its appraisal. It must never change the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from offtake.plan.assemble import amended
from offtake.plan.judging import Case
from offtake.plan.problem import Floats, Held, Problem
from offtake.plan.result import Price
from offtake.plan.solution import Solution
from offtake.plan.words import money
from offtake.schema.portfolio import Tables
from offtake.schema.tables import TrancheRow
from offtake.supply.offer import Terms, promised_day
from offtake.units import DAYS_PER_WEEK

NOTHING_UNITS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Lead:
    """Hold what moving an offer's delivery by a week changes, in USD; None where it cannot move, or no plan is left."""

    sooner_usd: float | None
    later_usd: float | None


def lead_prices(case: Case) -> list[Price]:
    """Return the price of a week of lead time of each offer that the plan takes and that is still to come.

    What the solver's gap could hide is told as nothing.
    """
    base = case.ask(holding(case, case.problem))
    if not isinstance(base, Solution):
        return []
    offers = list(awaited(case))
    found = case.in_turn("lead time", lambda terms: lead_of(case, terms, base), offers)
    start = case.settings.start.toordinal()
    prices = (price_of(terms, lead, start) for terms, lead in zip(offers, found, strict=True))
    return [price for price in prices if price is not None]


def awaited(case: Case) -> Iterator[Terms]:
    """Yield the offers of which the plan signs or keeps some, and of which some is still to come."""
    problem, start = case.problem, case.settings.start.toordinal()
    for index, terms in enumerate(case.assembled.inputs.portfolio.offers.values()):
        taken = case.solution.signed[problem.vintages.offer == index].max(initial=0.0) > NOTHING_UNITS
        if taken and any(movable(terms, row, start) for row in terms.tranches):
            yield terms


def movable(terms: Terms, row: TrancheRow, start: int) -> bool:
    """Tell whether a tranche is still to come: what a signed contract has delivered by the first day is there."""
    return not terms.row.signed or promised_day(row, start, signed=True) > start


def lead_of(case: Case, terms: Terms, base: Solution) -> Lead:
    """Return what a week sooner and a week later change."""
    start = case.settings.start.toordinal()
    sooner = any(
        movable(terms, row, start) and promised_day(row, start, signed=terms.row.signed) >= start + DAYS_PER_WEEK
        for row in terms.tranches
    )
    return Lead(
        sooner_usd=change_usd(case, terms, base, -DAYS_PER_WEEK) if sooner else None,
        later_usd=change_usd(case, terms, base, DAYS_PER_WEEK),
    )


def change_usd(case: Case, terms: Terms, base: Solution, days: int) -> float | None:
    """Return what the plan is worth more if an offer is promised some days later; None where no plan is left."""
    tables = moved(case.assembled.inputs.portfolio.tables, terms, days)
    found = case.ask(holding(case, amended(case.assembled, tables).problem))
    if not isinstance(found, Solution):
        return None
    change = found.objective_usd - base.objective_usd
    doubt = sum(one.bound_usd - one.objective_usd for one in (found, base))
    return change if abs(change) > doubt else 0.0


def moved(tables: Tables, terms: Terms, days: int) -> Tables:
    """Return the tables in which what is still to come of an offer is promised some days later."""
    start = tables.settings.start
    rows = tuple(
        shifted(row, days, start) if row.offer == terms.row.offer and movable(terms, row, start.toordinal()) else row
        for row in tables.tranches
    )
    return replace(tables, tranches=rows)


def shifted(row: TrancheRow, days: int, start: date) -> TrancheRow:
    """Return a tranche whose day and lead time are some days later; sooner than the plan's first day it never is."""
    later = row.available + timedelta(days=days)
    available = later if days > 0 else min(row.available, max(later, start))
    return row.model_copy(update={"available": available, "lead_days": max(row.lead_days + days, 0)})


def holding(case: Case, problem: Problem) -> Problem:
    """Return a problem in which just what the plan signs is signed, and single-site jobs stay where the plan has them.

    A signing date that the plan does not know is not used.
    """
    place = {name: index for index, name in enumerate(case.problem.axes.vintages)}
    known = [place.get(name, -1) for name in problem.axes.vintages]
    none: Floats = np.zeros_like(case.solution.signed[:1])
    signed = np.concatenate([case.solution.signed, none])[known]
    signed = np.where(signed > NOTHING_UNITS, signed, 0.0)
    return replace(
        problem,
        held=Held(
            signed=signed,
            kept=np.full((*signed.shape, problem.period_hours.size), np.nan),
            hosts=case.solution.hosts.astype(np.float64),
        ),
    )


def price_of(terms: Terms, lead: Lead, start: int) -> Price | None:
    """Return the price in words; None where nothing could be told."""
    name = terms.row.offer
    later = None if lead.later_usd is None else -lead.later_usd
    price = later if lead.sooner_usd is None else lead.sooner_usd
    if price is None:
        return None
    known = (("sooner", lead.sooner_usd), ("later", lead.later_usd))
    told = [f"a week {when} {adds(usd)}" for when, usd in known if usd is not None]
    first = min(promised_day(row, start, signed=terms.row.signed) for row in terms.tranches)
    return Price(
        family="lead time",
        where=name,
        when=f"promised for {date.fromordinal(first)}",
        price=price,
        unit="USD per week",
        sentence=f"Delivery of {name}: {', '.join(told)}, with what is signed held.",
    )


def adds(usd: float) -> str:
    """Say what a change adds or costs."""
    if usd == 0:
        return "changes nothing"
    return f"{'adds' if usd > 0 else 'costs'} {money(abs(usd))}"
