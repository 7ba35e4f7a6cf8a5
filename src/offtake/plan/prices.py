"""Pick the shadow prices worth telling: what is scarce, where and when, and what that means.

Comes in: a problem and its solution. Goes out: a few :class:`~offtake.plan.result.Price` records, the dearest places of
each family first. A shadow price is the worth of one more of something scarce, not the value of an offer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offtake.plan.problem import Problem
from offtake.plan.result import Price
from offtake.plan.solution import Solution
from offtake.plan.words import significant
from offtake.units import BYTES_PER_GB, S_PER_HOUR

Floats = npt.NDArray[np.float64]

PLACES_SHOWN = 4
NOTHING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Family:
    """Hold one family of prices: ``price [T, B, place]``, the places, the unit, and one more of what it is."""

    name: str
    price: Floats
    places: list[str]
    unit: str
    one_more: str


def cells_with_chips(problem: Problem, solution: Solution) -> npt.NDArray[np.bool_]:
    """Tell where kept units put chips in any scenario [T, N].

    Elsewhere the price of a chip is not settled: any number above what the first chip would earn is as good a dual.
    """
    deliveries = problem.deliveries
    there = deliveries.chips * solution.kept[deliveries.unit]
    chips = np.zeros((problem.period_hours.size, problem.cells.site.size))
    np.add.at(chips, (deliveries.period, deliveries.cell), there)
    return chips > NOTHING


def gb_per_chip_hour(problem: Problem, served_rps: Floats) -> Floats:
    """Give what a busy chip-hour sends over the link of its site, in GB: ``served_rps [..., L]`` → [..., N].

    It is the mean over the work that is served there, or, where none is, over all that may be. Goodputs are means over
    scenarios.
    """
    lanes = problem.lanes
    goodput = lanes.goodput_rps_per_chip @ problem.probability
    there = (lanes.cell[:, np.newaxis] == np.arange(problem.cells.site.size)).astype(np.float64)  # [L, N]
    busy = (served_rps / goodput) @ there
    sent = (served_rps * lanes.bytes_per_request) @ there
    lanes_there = there.sum(axis=0)
    usual = (goodput * lanes.bytes_per_request) @ there / np.maximum(lanes_there, 1.0)
    rate = np.divide(sent, busy, out=np.broadcast_to(usual, busy.shape).copy(), where=busy > NOTHING)
    gigabytes: Floats = rate * S_PER_HOUR / BYTES_PER_GB
    return gigabytes


def prices_of(problem: Problem, solution: Solution) -> list[Price]:
    """Return the dearest places of each family, with their dearest period; of chips, only where there are some."""
    return [price for family in families_of(problem, solution) for price in dearest(problem, family)]


def families_of(problem: Problem, solution: Solution) -> list[Family]:
    """Lay the families out alike; those without blocks get one that is the whole week."""
    prices, axes, is_api = solution.prices, problem.axes, problem.cells.is_api
    capacity = prices.chips_usd_per_chip_hour * cells_with_chips(problem, solution)[:, np.newaxis]
    return [
        Family(
            name="chips",
            price=capacity * ~is_api,
            places=axes.cells,
            unit="USD per chip-hour",
            one_more="one more chip-hour",
        ),
        Family(
            name="rate limit",
            price=capacity * is_api,
            places=axes.cells,
            unit="USD per request/s for an hour",
            one_more="one more request a second for an hour",
        ),
        Family(
            name="power",
            price=prices.power_usd_per_kwh,
            places=axes.sites,
            unit="USD per kWh",
            one_more="one more kWh of facility power",
        ),
        Family(
            name="link",
            price=prices.link_usd_per_gb,
            places=axes.sites,
            unit="USD per GB",
            one_more="one more gigabyte to users",
        ),
        Family(
            name="concentration",
            price=prices.concentration_usd_per_point[:, np.newaxis],
            places=axes.groups,
            unit="USD per percentage point",
            one_more="one more percentage point of firm power",
        ),
    ]


def dearest(problem: Problem, family: Family) -> list[Price]:
    """Return the places of a family with the highest mean price, above zero."""
    if family.price.shape[1] == problem.block_share.size:
        by_period = np.einsum("tbn,b->tn", family.price, problem.block_share)
    else:
        by_period = family.price.mean(axis=1)
    mean = problem.period_hours @ by_period / problem.period_hours.sum()
    order = np.argsort(-mean, kind="stable")[:PLACES_SHOWN]
    return [price_of(problem, family, by_period, int(place)) for place in order if mean[place] > NOTHING]


def price_of(problem: Problem, family: Family, by_period: Floats, place: int) -> Price:
    """Return one price: its mean over the plan, with the period in which it is highest."""
    mean = float(problem.period_hours @ by_period[:, place] / problem.period_hours.sum())
    peak = int(np.argmax(by_period[:, place]))
    where, when = family.places[place], problem.axes.periods[peak]
    sentence = (
        f"At {where} {family.one_more} adds {significant(mean)} USD on average, "
        f"and {significant(float(by_period[peak, place]))} USD in the period from {when}."
    )
    return Price(
        family=family.name,
        where=where,
        when=f"mean; highest from {when}",
        price=mean,
        unit=family.unit,
        sentence=sentence,
    )


def budget_prices(problem: Problem, solution: Solution) -> list[Price]:
    """Return the price of a dollar of budget in each year where it binds."""
    return [
        Price(
            family="budget",
            where="the budget",
            when=year,
            price=float(price),
            unit="USD per USD",
            sentence=f"One more dollar to spend in {year} adds {significant(float(price))} USD.",
        )
        for year, price in zip(problem.axes.years, solution.prices.budget_usd_per_usd, strict=True)
        if price > NOTHING
    ]
