"""List what could turn out otherwise than assumed: each hazard and forecast moved to both ends of a stated range.

Comes in: an assembled problem and the offer in question. Goes out: :class:`Variation` records, each the same problem
under another assumption, on the same draws and the same tree. Hazards are halved and doubled; what is a level goes down
and up by a stated step. None of these ranges is measured: each is an assumption. It must never know a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from offtake.plan.assemble import Assembled
from offtake.plan.clauses import FEES
from offtake.plan.nodes import nodes_from
from offtake.plan.problem import Floats, Ints
from offtake.plan.sample import drawn
from offtake.plan.tree import Tree, tree_of
from offtake.plan.words import percent, significant
from offtake.schema.portfolio import Tables
from offtake.schema.tables import OfferRow, TrancheRow
from offtake.supply.portfolio import portfolio_of

HALF, TWICE = 0.5, 2.0  #: of hazards, spreads and the weight of risk (assumption)
DOWN, UP = 0.8, 1.25  #: of demand, values and fees (assumption)

Change = Callable[[Tables, float], Tables]


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Hold one assumption moved to one end of its range: what it is, how far it is moved, and the problem then."""

    name: str
    setting: str
    assembled: Assembled


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """Hold one assumption: its name, the ends of its range, in words too, and whether it is there to be moved."""

    name: str
    ends: tuple[float, float]
    words: tuple[str, str]
    change: Change


def variations(assembled: Assembled, offer: str) -> Iterator[tuple[Variation, Variation]]:
    """Yield the low and the high end of each assumption that the portfolio makes; what it does not make is left out."""
    tables = assembled.inputs.portfolio.tables
    for one in assumptions(tables, offer):
        low, high = (
            Variation(name=one.name, setting=words, assembled=under(assembled, one.change(tables, end)))
            for end, words in zip(one.ends, one.words, strict=True)
        )
        yield low, high
    yield from tilts(assembled, offer)


def assumptions(tables: Tables, offer: str) -> list[Assumption]:
    """List the assumptions that are there to be moved."""
    row = next(one for one in tables.offers if one.offer == offer)
    rate, weight = row.reclaim_per_year, tables.risk.weight
    found = [
        hazard("the provider takes it back", reclaim_of(offer), (f"{percent(rate * end)} a year" for end in ENDS)),
        hazard("a site is lost", losses, (f"{words} as often" for words in TIMES)),
        hazard("deliveries slip", slips, (f"{words} the days" for words in TIMES)),
        hazard("offers come at all", chances, ("odds halved", "odds doubled")),
        hazard("throughput error", errors, (f"{words} the deviation" for words in TIMES)),
        hazard("surges of demand", surges, (f"{words} as often" for words in TIMES)),
        level("demand", demand, "of the rates assumed"),
        level("value of a request", values, "of the values assumed"),
        level("fees of other offers", others(offer), "of the fees asked"),
        hazard("weight of risk", risk, (significant(weight * end) for end in ENDS)),
    ]
    return [one for one in found if one.change(tables, one.ends[0]) != tables]


def hazard(name: str, change: Change, words: Iterator[str] | tuple[str, str]) -> Assumption:
    """Return an assumption whose range is half to twice."""
    low, high = words
    return Assumption(name=name, ends=ENDS, words=(low, high), change=change)


def level(name: str, change: Change, of: str) -> Assumption:
    """Return an assumption whose range is a fifth down to a quarter up."""
    return Assumption(name=name, ends=(DOWN, UP), words=(f"{DOWN:.0%} {of}", f"{UP:.0%} {of}"), change=change)


ENDS = (HALF, TWICE)
TIMES = ("half", "twice")


def under(assembled: Assembled, tables: Tables) -> Assembled:
    """Return the problem under other tables: the same draws, parted alike, and the same shape of a week."""
    portfolio = portfolio_of(tables)
    return parted_alike(assembled, drawn(assembled, portfolio, tree_of(portfolio)))


def parted_alike(before: Assembled, after: Assembled) -> Assembled:
    """Return a problem whose scenarios part as those of another do, so that no difference comes from another tree."""
    nodes = nodes_from(before.problem.decided.node_as, after.contracts.moments)
    return replace(after, problem=replace(after.problem, nodes=nodes))


# ── what is moved ────────────────────────────────────────────────────────────────────────────────────────────────────
def reclaim_of(offer: str) -> Change:
    """Return the change of the hazard that the provider uses its exit."""

    def change(tables: Tables, end: float) -> Tables:
        return of_offers(
            tables,
            lambda row: {"reclaim_per_year": row.reclaim_per_year * end} if row.offer == offer else {},
        )

    return change


def others(offer: str) -> Change:
    """Return the change of the fees of every other open offer, APIs with them."""

    def change(tables: Tables, end: float) -> Tables:
        return of_offers(
            tables,
            lambda row: {} if row.signed or row.offer == offer else {name: getattr(row, name) * end for name in FEES},
        )

    return change


def chances(tables: Tables, end: float) -> Tables:
    """Move the odds that an offer can be had: p/(1 − p)."""
    return of_offers(tables, lambda row: {"probability": at_odds(row.probability, end)})


def at_odds(share: float, ratio: float) -> float:
    """Return a probability whose odds are ``ratio`` times those of another.

    >>> at_odds(0.5, 2.0), at_odds(1.0, 0.5)
    (0.6666666666666666, 1.0)
    """
    return share * ratio / (share * ratio + 1.0 - share)


def losses(tables: Tables, end: float) -> Tables:
    """Move the hazard that a site is lost."""
    rows = tuple(row.model_copy(update={"loss_per_year": row.loss_per_year * end}) for row in tables.sites)
    return replace(tables, sites=rows)


def slips(tables: Tables, end: float) -> Tables:
    """Move every slip of a delivery."""

    def longer(row: TrancheRow) -> TrancheRow:
        mode = row.slip_days_mode
        days = {name: round(getattr(row, name) * end) for name in ("slip_days_min", "slip_days_max")}
        return row.model_copy(update=days | {"slip_days_mode": None if mode is None else round(mode * end)})

    return replace(tables, tranches=tuple(longer(row) for row in tables.tranches))


def errors(tables: Tables, end: float) -> Tables:
    """Move the deviation of the throughput of every deployment."""
    rows = tuple(row.model_copy(update={"throughput_sd": row.throughput_sd * end}) for row in tables.deployments)
    return replace(tables, deployments=rows)


def surges(tables: Tables, end: float) -> Tables:
    """Move how often demand surges."""
    rows = tuple(row.model_copy(update={"per_year": row.per_year * end}) for row in tables.shocks)
    return replace(tables, shocks=rows)


def demand(tables: Tables, end: float) -> Tables:
    """Move the rate of every workload."""
    rows = tuple(row.model_copy(update={"rate_rps": row.rate_rps * end}) for row in tables.workloads)
    return replace(tables, workloads=rows)


def values(tables: Tables, end: float) -> Tables:
    """Move what a request is worth, and what refusing it costs."""
    names = ("value_usd_per_request", "refusal_usd_per_request")
    rows = tuple(row.model_copy(update={name: getattr(row, name) * end for name in names}) for row in tables.workloads)
    return replace(tables, workloads=rows)


def risk(tables: Tables, end: float) -> Tables:
    """Move the weight of risk."""
    return replace(tables, risk=tables.risk.model_copy(update={"weight": tables.risk.weight * end}))


def of_offers(tables: Tables, update: Callable[[OfferRow], dict[str, float]]) -> Tables:
    """Return tables with other values in the rows of offers."""
    return replace(tables, offers=tuple(row.model_copy(update=update(row)) for row in tables.offers))


# ── weights of branches and readings ─────────────────────────────────────────────────────────────────────────────────
def tilts(assembled: Assembled, offer: str) -> Iterator[tuple[Variation, Variation]]:
    """Yield weights tilted to slow and to fast growth, and to the first and to the last exit that a reading gives.

    The weight of each branch is multiplied by ½ to 2 in even steps of its logarithm, in the order of the branches, and
    all are scaled to sum to 1. The scenarios stay as they were drawn.
    """
    inputs = assembled.inputs
    rows = inputs.portfolio.tables.growth
    if len({row.per_year for row in rows if row.weight > 0}) > 1:
        pace = np.array([row.per_year for row in rows])
        yield tilted(assembled, "growth of demand", pace[inputs.tree.growth], ("to slow growth", "to fast growth"))
    readings = inputs.portfolio.offers[offer].readings
    exits = {one.reading: one.exit_from.toordinal() for one in inputs.portfolio.tables.exits if one.offer == offer}
    if len(set(exits.values())) > 1:
        day = np.array([exits.get(one.name, 0) for one in readings])
        of_scenario = day[inputs.tree.luck[offer].reading]
        yield tilted(assembled, "how its exits are read", of_scenario, ("to the first exit", "to the last exit"))


def tilted(
    assembled: Assembled, name: str, order: Floats | Ints, words: tuple[str, str]
) -> tuple[Variation, Variation]:
    """Return the weights of scenarios tilted to the low and to the high end of an order [S]."""
    low, high = (
        Variation(
            name=name,
            setting=f"weights tilted {said}",
            assembled=reweighted(assembled, leaning(assembled.inputs.tree.probability, order, sign)),
        )
        for said, sign in zip(words, (-1.0, 1.0), strict=True)
    )
    return low, high


def leaning(weight: Floats, order: Floats | Ints, sign: float) -> Floats:
    """Return weights times ½ to 2 along the ranks of an order; ``sign`` −1 favours its low end.

    >>> leaning(np.array([0.5, 0.5]), np.array([3.0, 6.0]), 1.0)
    array([0.2, 0.8])
    """
    ranks = np.unique(order, return_inverse=True)[1]
    share = 2.0 * ranks / max(int(ranks.max()), 1) - 1.0
    new = weight * TWICE ** (sign * share)
    scaled: Floats = new / new.sum()
    return scaled


def reweighted(assembled: Assembled, probability: Floats) -> Assembled:
    """Return the problem with other weights of its scenarios."""
    tree: Tree = replace(assembled.inputs.tree, probability=probability)
    return parted_alike(assembled, drawn(assembled, assembled.inputs.portfolio, tree))
