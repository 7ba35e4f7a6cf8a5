"""Draw the scenarios: what may happen to demand growth, deliveries, exits, sites and throughput, with probabilities.

Comes in: a portfolio and a seed. Goes out: a :class:`Tree`, in first form a fan of leaves under one root. The
reduction is stated and seeded. Scenarios are shared out over *strata*: the branches of growth, times the
readings of the questioned offer's exits where there are scenarios enough; a stratum's scenarios share its exact
weight. Everything else is a weighted Latin hypercube: each source of chance cuts [0, 1] into one piece per
scenario, as long as its probability, in an order of its own, and draws once in each piece. Each source has its
own stream, named after the offer, site or deployment, so adding or taking away an offer leaves every other
draw as it was. It must never know a price.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, pdtrik

from offtake.plan.given import ways_of
from offtake.schema.tables import DeploymentRow, SiteRow, TrancheRow
from offtake.supply.delivery import Draw
from offtake.supply.offer import NEVER, Terms, provider_exit_day, provider_exit_usd
from offtake.supply.portfolio import Portfolio
from offtake.units import DAYS_PER_YEAR, HOURS_PER_YEAR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ROOT = -1
THROUGHPUT_LEAST = 0.05  #: assumption: no deployment runs slower than this share of its table


@dataclass(frozen=True, kw_only=True)
class Luck:
    """Hold what chance decided for one offer: ``there``, ``reading``, ``wait_years [S]``; ``slip_days [S, R]``.

    ``swapped [S, R]``: the provider delivers the other chip that it may.
    """

    there: Bools
    reading: Ints
    wait_years: Floats
    slip_days: Ints
    swapped: Bools


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Hold the scenarios [S]: ``probability``, ``parent`` (``ROOT`` in a fan), ``growth`` (branch), ``way`` (−1: none).

    ``lost_day [S]`` by site is an ordinal (``NEVER``: it stands); ``curtailed_hours [S]`` by site are those of a year,
    the same in every year; ``throughput [S]`` by (model, chip) multiplies the goodput.
    """

    names: list[str]
    probability: Floats
    parent: Ints
    growth: Ints
    way: Ints
    luck: dict[str, Luck]
    lost_day: dict[str, Ints]
    curtailed_hours: dict[str, Floats]
    throughput: dict[tuple[str, str], Floats]

    @property
    def scenarios(self) -> int:
        """Count the scenarios."""
        return len(self.names)

    def draw(self, terms: Terms, sign_day: int) -> Draw:
        """Return what chance decided for an offer signed on a day (ordinal)."""
        luck = self.luck[terms.row.offer]
        return Draw(
            there=luck.there,
            slip_days=luck.slip_days,
            exit_day=provider_exit_day(terms, sign_day, luck.reading, luck.wait_years),
            lost_day=np.stack([self.lost_day[tranche.site] for tranche in terms.tranches], axis=1),
            exit_usd=provider_exit_usd(terms, luck.reading),
            swapped=luck.swapped,
        )


@dataclass(frozen=True, kw_only=True)
class Strata:
    """Hold the strata [S]: ``probability``, branch of ``growth``, ``reading`` of the questioned offer, ``way``.

    −1 is free; the way is the one through the tree that the user gives.
    """

    probability: Floats
    growth: Ints
    reading: Ints
    way: Ints


def tree_of(portfolio: Portfolio) -> Tree:
    """Draw ``settings.scenarios`` scenarios of a portfolio, or one per branch of growth if that is more."""
    strata = strata_of(portfolio)
    return tree_from(portfolio, strata, Chance(portfolio.tables.settings.seed, strata.probability))


def tree_from(portfolio: Portfolio, strata: Strata, chance: Chance) -> Tree:
    """Draw one scenario for each entry of the strata."""
    settings = portfolio.tables.settings
    fixed = {settings.question: strata.reading} if (strata.reading >= 0).all() else {}
    luck = {name: luck_of(terms, chance, fixed.get(name)) for name, terms in portfolio.offers.items()}
    start = settings.start.toordinal()
    width = max(2, len(str(len(strata.probability))))
    return Tree(
        names=[f"s{index + 1:0{width}d}" for index in range(len(strata.probability))],
        probability=strata.probability,
        parent=np.full(len(strata.probability), ROOT, dtype=np.int64),
        growth=strata.growth,
        way=strata.way,
        luck=luck,
        lost_day={
            name: start + wait_days(chance.uniform(f"lost {name}"), site.loss_per_year)
            for name, site in portfolio.sites.items()
        },
        curtailed_hours={name: curtailed_hours(site, chance) for name, site in portfolio.sites.items()},
        throughput={key: throughput_of(row, chance) for key, row in portfolio.deployments.items()},
    )


class Chance:
    """Give one weighted Latin hypercube sample for each named source of chance."""

    def __init__(self, seed: int, probability: Floats) -> None:
        self.seed = seed
        self.probability = probability

    def generator(self, source: str) -> np.random.Generator:
        """Return the random numbers of a source."""
        return np.random.default_rng([self.seed, crc32(source.encode())])

    def uniform(self, source: str) -> Floats:
        """Return one number in (0, 1) for each scenario [S]: together they cover it in proportion to probability.

        A single scenario takes the middle.
        """
        if len(self.probability) == 1:
            return np.full(1, 0.5)
        generator = self.generator(source)
        order = generator.permutation(len(self.probability))
        length = self.probability[order]
        inside = generator.random(len(length))
        numbers = np.empty(len(length))
        numbers[order] = np.cumsum(length) - length * (1.0 - inside)
        return np.clip(numbers, 1e-12, 1.0 - 1e-12)


def strata_of(portfolio: Portfolio) -> Strata:
    """Share the scenarios out over branches of growth, ways through a given tree, and readings of the questioned offer.

    Every stratum has at least one scenario, and its scenarios share its exact weight.
    """
    tables = portfolio.tables
    ways = [(index, way.probability) for index, way in enumerate(ways_of(tables.nodes)) if way.probability > 0]
    growth = [(index, row.weight) for index, row in enumerate(tables.growth) if row.weight > 0] or [(-1, 1.0)]
    branches = [((branch, way), w * v) for branch, w in growth for way, v in ways or [(-1, 1.0)]]
    readings = [(-1, 1.0)]
    if tables.settings.question in portfolio.offers:
        terms = portfolio.offers[tables.settings.question]
        weighted = [(index, one.weight) for index, one in enumerate(terms.readings) if one.weight > 0]
        readings = weighted if len(branches) * len(weighted) <= tables.settings.scenarios else readings
    cells = [(branch, reading, w * v) for branch, w in branches for reading, v in readings]
    quota = share_out(np.array([weight for _, _, weight in cells]), tables.settings.scenarios)
    return Strata(
        probability=np.repeat([weight for _, _, weight in cells] / quota, quota),
        growth=np.repeat(np.array([branch for (branch, _), _, _ in cells], dtype=np.int64), quota),
        way=np.repeat(np.array([way for (_, way), _, _ in cells], dtype=np.int64), quota),
        reading=np.repeat(np.array([reading for _, reading, _ in cells], dtype=np.int64), quota),
    )


def share_out(weights: Floats, total: int) -> Ints:
    """Share ``total`` out by weight in whole numbers, at least one each, by the largest remainders."""
    total = max(total, len(weights))
    ideal = weights / weights.sum() * total
    quota: Ints = np.maximum(np.floor(ideal), 1.0).astype(np.int64)
    while quota.sum() < total:
        quota[np.argmax(ideal - quota)] += 1
    while quota.sum() > total:
        excess = np.where(quota > 1, quota - ideal, -np.inf)
        quota[np.argmax(excess)] -= 1
    return quota


def luck_of(terms: Terms, chance: Chance, reading: Ints | None) -> Luck:
    """Draw what happens to one offer; ``reading [S]`` where the strata fix it.

    Tranches at one site slip together: deliveries slip with the building, not with the chips. A provider that has
    other chips has them for all its tranches.
    """
    name = terms.row.offer
    if reading is None:
        edges = np.cumsum([one.weight for one in terms.readings])[:-1]
        reading = np.searchsorted(edges, chance.uniform(f"reading {name}"), side="right").astype(np.int64)
    odds = np.array([one.substitute_probability for one in terms.tranches])
    slips = [slip_days(one, chance.uniform(f"slip {one.site}")) for one in terms.tranches]
    return Luck(
        there=chance.uniform(f"there {name}") < terms.row.probability,
        reading=reading,
        wait_years=wait_years(chance.uniform(f"exit {name}"), terms.row.reclaim_per_year),
        slip_days=np.stack(slips, axis=1),
        swapped=chance.uniform(f"substitute {name}")[:, np.newaxis] < odds,
    )


def slip_days(tranche: TrancheRow, u: Floats) -> Ints:
    """Return whole days of slip [S]: the inverse of a triangular distribution, or of a uniform one without a mode."""
    low, high, mode = tranche.slip_days_min, tranche.slip_days_max, tranche.slip_days_mode
    if high == low:
        return np.full(len(u), low, dtype=np.int64)
    if mode is None:
        return np.rint(low + u * (high - low)).astype(np.int64)
    peak = (mode - low) / (high - low)
    rising = low + np.sqrt(u * (high - low) * (mode - low))
    falling = high - np.sqrt((1.0 - u) * (high - low) * (high - mode))
    return np.rint(np.where(u < peak, rising, falling)).astype(np.int64)


def wait_years(u: Floats, per_year: float) -> Floats:
    """Return years until an event of a constant hazard [S]; inf where it cannot happen."""
    if per_year == 0:
        return np.full(len(u), np.inf)
    waits: Floats = -np.log1p(-u) / per_year
    return waits


def wait_days(u: Floats, per_year: float) -> Ints:
    """Return whole days until an event of a constant hazard [S]; as good as never where it cannot happen."""
    days: Ints = np.minimum(wait_years(u, per_year) * DAYS_PER_YEAR, NEVER).astype(np.int64)
    return days


def curtailed_hours(site: SiteRow, chance: Chance) -> Floats:
    """Return the hours a year in which the grid cuts a site [S]: a Poisson number of curtailments of equal length.

    Without a length, the mean.
    """
    mean, length = site.curtailment_hours_per_year, site.curtailment_event_hours
    u = chance.uniform(f"curtailed {site.site}")
    if mean == 0 or length == 0:
        return np.full(len(u), mean)
    events = np.ceil(np.nan_to_num(pdtrik(u, mean / length)))
    hours: Floats = np.clip(events * length, 0.0, HOURS_PER_YEAR)
    return hours


def throughput_of(row: DeploymentRow, chance: Chance) -> Floats:
    """Return the factor on a deployment's goodput [S]: lognormal with mean 1 and the row's relative deviation."""
    if row.throughput_sd == 0:
        return np.ones(len(chance.probability))
    variance = np.log1p(row.throughput_sd**2)
    z = ndtri(chance.uniform(f"throughput {row.model} {row.chip}"))
    factors: Floats = np.maximum(np.exp(np.sqrt(variance) * z - variance / 2), THROUGHPUT_LEAST)
    return factors
