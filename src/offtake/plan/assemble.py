"""Put the planning problem together from a portfolio, its scenarios, its demand and its goodputs.

Comes in: :class:`Inputs`. Goes out: an :class:`Assembled` problem with what is needed to read its solution, or one
``InputError`` with every fault. It must never know a solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from offtake.plan.calendar import Calendar, end_discount
from offtake.plan.contracts import Cell, Contracts, Frame, cells_of, contracts_of
from offtake.plan.given import node_as, ways_of
from offtake.plan.jobs import jobs_of
from offtake.plan.load import Load
from offtake.plan.nodes import Shape, dates_of, known_by, nodes_from, nodes_of, stages_of, thinned
from offtake.plan.nodes import node_as as parted_at
from offtake.plan.placement import GoodputOf, Placement, place
from offtake.plan.problem import Axes, Cells, Lanes, Limits, Nodes, Problem
from offtake.plan.tree import Tree, tree_of
from offtake.schema.portfolio import Tables
from offtake.schema.tables import OfferRow
from offtake.supply.chip import kw_at_site
from offtake.supply.link import bandwidth_bytes_per_s
from offtake.supply.portfolio import EACH_PARTNER, Portfolio, portfolio_of
from offtake.supply.site import curtailed_share, power_kw_by_day
from offtake.units import BYTES_PER_GB, HOURS_PER_DAY, KW_PER_MW, TOKENS_PER_MILLION

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]

BYTES_PER_TOKEN = 4.0  #: assumption: about four letters a token (English text), sent as plain text
DEFERRABLE_HOURS = HOURS_PER_DAY


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Hold what a problem is made from."""

    portfolio: Portfolio
    calendar: Calendar
    tree: Tree
    load: Load
    goodput_of: GoodputOf


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """Hold a problem with what it was made from: ``cells [N]``, lanes in ``placement``, vintages in ``contracts``."""

    problem: Problem
    inputs: Inputs
    cells: list[Cell]
    placement: Placement
    contracts: Contracts


def silent(stage: str, share: float) -> None:
    """Report progress to nobody."""
    del stage, share


def assemble(inputs: Inputs, progress: Progress = silent) -> Assembled:
    """Put the problem together.

    Raises
    ------
    InputError
        Where a workload may run nowhere.
    """
    portfolio = inputs.portfolio
    cells = cells_of(portfolio)
    progress("goodput", 0.0)
    placement = place(portfolio, cells, inputs.goodput_of)
    progress("contracts", 0.0)
    groups, limits = groups_and_limits(inputs)
    frame = Frame(
        portfolio=portfolio,
        calendar=inputs.calendar,
        tree=inputs.tree,
        cells=cells,
        groups=groups,
        tokens_per_request=tokens_per_request(inputs, cells, placement),
    )
    contracts = contracts_of(frame)
    progress("contracts", 1.0)
    problem = problem_of(frame, inputs, (placement, contracts), limits)
    problem = replace(problem, nodes=learnt(inputs, problem, contracts))
    return Assembled(problem=problem, inputs=inputs, cells=cells, placement=placement, contracts=contracts)


def amended(assembled: Assembled, tables: Tables) -> Assembled:
    """Return the problem under other terms: the same demand, the same draws, the same tree."""
    portfolio = portfolio_of(tables)
    inputs = replace(assembled.inputs, portfolio=portfolio, tree=tree_of(portfolio))
    found = assemble(inputs)
    node_as = assembled.problem.decided.node_as
    return replace(found, problem=replace(found.problem, nodes=nodes_from(node_as, found.contracts.moments)))


def told_alike(before: Assembled, after: Assembled, offer: int) -> list[tuple[Problem, Problem]]:
    """Return pairs of problems under two terms of an offer, each pair told the same; the better plans are compared.

    Other terms may be decided on other dates: a shorter notice later. A tree that parts at the dates of the terms as
    they are has no news for these. So where there are new dates, a second pair decides this offer by a tree that parts
    at them too, all else as before. Neither tree tells more on every date, because few scenarios can be parted but a
    few times; whoever decides may go by either, under either terms.
    """
    base, settings = before.problem, before.inputs.portfolio.tables.settings
    dates, new = (
        dates_of(one.problem, one.contracts.moments, one.problem.vintages.offer == offer) for one in (before, after)
    )
    if before.inputs.portfolio.tables.nodes or settings.stages == 0 or np.isin(new, dates).all():
        return [(base, after.problem)]
    stages = {*stages_of(base, before.contracts.moments, settings.stages), *thinned(new, settings.stages)}
    node = parted_at(base, sorted(stages), Shape(stages=len(stages), branches=settings.branches))

    def knowing(one: Assembled) -> Problem:
        nodes = nodes_from(node, one.contracts.moments)
        mine = one.problem.vintages.offer == offer
        return replace(one.problem, nodes=known_by(nodes, one.problem.decided, mine))

    return [(base, after.problem), (knowing(before), knowing(after))]


def learnt(inputs: Inputs, problem: Problem, contracts: Contracts) -> Nodes:
    """Return what each decision knows: by the user's own tree, or by what the scenarios show."""
    tables = inputs.portfolio.tables
    if tables.nodes:
        return nodes_from(node_as(ways_of(tables.nodes), inputs.tree.way, inputs.calendar), contracts.moments)
    shape = Shape(stages=tables.settings.stages, branches=tables.settings.branches)
    return nodes_of(problem, contracts.moments, shape)


def problem_of(frame: Frame, inputs: Inputs, parts: tuple[Placement, Contracts], limits: Limits) -> Problem:
    """Lay everything out as arrays."""
    placement, contracts = parts
    tables, calendar, load = inputs.portfolio.tables, inputs.calendar, inputs.load
    return Problem(
        axes=axes_of(frame, load, contracts),
        probability=inputs.tree.probability,
        period_hours=calendar.hours,
        discount=calendar.discount(tables.settings.discount_per_year),
        block_share=load.block_share,
        demand_rps=load.demand_rps,
        value_usd=np.array([row.value_usd_per_request for row in tables.workloads]),
        refusal_usd=np.array([row.refusal_usd_per_request for row in tables.workloads]),
        deferrable=np.array([row.deferral_hours >= DEFERRABLE_HOURS for row in tables.workloads], dtype=np.bool_),
        power_kw=power_of(inputs),
        link_bytes_per_s=np.array(
            [bandwidth_bytes_per_s(inputs.portfolio.links, site) for site in inputs.portfolio.sites]
        ),
        cells=cell_arrays(inputs.portfolio, frame.cells),
        lanes=lane_arrays(inputs, frame, placement),
        vintages=contracts.vintages,
        deliveries=contracts.deliveries,
        jobs=jobs_of(inputs.portfolio, calendar, frame.cells),
        limits=limits,
        risk_weight=tables.risk.weight,
        risk_alpha=tables.risk.alpha,
        end_discount=end_discount(calendar, tables.settings.discount_per_year),
        exclusive=exclusive_of(inputs.portfolio),
    )


def axes_of(frame: Frame, load: Load, contracts: Contracts) -> Axes:
    """Name every element of every axis."""
    tables = frame.portfolio.tables
    return Axes(
        scenarios=frame.tree.names,
        periods=frame.calendar.names,
        blocks=load.blocks,
        sites=list(frame.portfolio.sites),
        cells=[cell.name for cell in frame.cells],
        workloads=[row.workload for row in tables.workloads],
        offers=list(frame.portfolio.offers),
        vintages=contracts.names,
        jobs=[row.job for row in tables.training],
        groups=frame.groups,
        years=[str(year) for year in frame.calendar.years],
    )


def power_of(inputs: Inputs) -> Floats:
    """Return each site's power less curtailment, in kW at the meter [S, T, B, I]."""
    portfolio, calendar, load = inputs.portfolio, inputs.calendar, inputs.load
    shape = (inputs.tree.scenarios, calendar.periods, len(load.blocks), len(portfolio.sites))
    power = np.empty(shape)
    for index, site in enumerate(portfolio.sites.values()):
        cap = calendar.mean(power_kw_by_day(site, portfolio.tables.power, calendar.days))
        for scenario, hours in enumerate(inputs.tree.curtailed_hours[site.site].tolist()):
            left = 1.0 - curtailed_share(site, hours, load.block_share, load.busiest_first)
            power[scenario, ..., index] = cap[:, np.newaxis] * left
    return power


def cell_arrays(portfolio: Portfolio, cells: list[Cell]) -> Cells:
    """Lay the cells out as arrays; an API draws no power of ours."""
    sites = list(portfolio.sites)
    chips = [None if cell.is_api else portfolio.chips[cell.chip] for cell in cells]
    at = [portfolio.sites[cell.site] for cell in cells]
    return Cells(
        site=np.array([sites.index(cell.site) for cell in cells], dtype=np.int64),
        is_api=np.array([cell.is_api for cell in cells], dtype=np.bool_),
        kw_per_chip=np.array(
            [0.0 if chip is None else kw_at_site(chip, site) for chip, site in zip(chips, at, strict=True)]
        ),
        idle_share=np.array([0.0 if chip is None else chip.idle_share for chip in chips]),
        usd_per_kwh=np.array([site.energy_usd_per_mwh / KW_PER_MW for site in at]),
    )


def lane_arrays(inputs: Inputs, frame: Frame, placement: Placement) -> Lanes:
    """Lay the lanes out as arrays: goodput with its error, fees and traffic of a request."""
    portfolio, load = inputs.portfolio, inputs.load
    workloads = portfolio.tables.workloads
    tokens = load.input_tokens + load.output_tokens
    goodput = np.empty((len(placement.lanes), inputs.tree.scenarios))
    usd = np.empty(len(placement.lanes))
    for index, lane in enumerate(placement.lanes):
        cell, work = frame.cells[lane.cell], lane.workload
        usd[index] = (
            load.output_tokens[work] * BYTES_PER_TOKEN / BYTES_PER_GB * portfolio.sites[cell.site].egress_usd_per_gb
        )
        if cell.is_api:
            row = portfolio.offers[cell.api_offer].row
            goodput[index] = frame.tokens_per_request[lane.cell] / tokens[work]
            usd[index] += token_fee_usd(inputs, row, work)
        else:
            goodput[index] = lane.rps_per_chip * inputs.tree.throughput[workloads[work].model, cell.chip]
    work_of = np.array([lane.workload for lane in placement.lanes], dtype=np.int64)
    return Lanes(
        workload=work_of,
        cell=np.array([lane.cell for lane in placement.lanes], dtype=np.int64),
        goodput_rps_per_chip=goodput,
        usd_per_request=usd,
        bytes_per_request=tokens[work_of] * BYTES_PER_TOKEN,
    )


def token_fee_usd(inputs: Inputs, row: OfferRow, work: int) -> float:
    """Return what a mean request of a workload costs at a token-priced API in USD, egress left out."""
    asked = inputs.load.input_tokens[work] * row.fee_usd_per_million_input_tokens
    answered = inputs.load.output_tokens[work] * row.fee_usd_per_million_output_tokens
    return float(asked + answered) / TOKENS_PER_MILLION


def token_fees_usd(inputs: Inputs, cells: list[Cell], lanes: Lanes) -> Floats:
    """Return the token fees of a mean request on each lane in USD [L]; 0 where chips are paid, not tokens."""
    offers = inputs.portfolio.offers
    fees = np.zeros(len(lanes.cell))
    for lane, (cell, work) in enumerate(zip(lanes.cell, lanes.workload, strict=True)):
        if cells[cell].is_api:
            fees[lane] = token_fee_usd(inputs, offers[cells[cell].api_offer].row, int(work))
    return fees


def tokens_per_request(inputs: Inputs, cells: list[Cell], placement: Placement) -> Floats:
    """Return the mean tokens of a request that may go to each cell [N], weighted by the rates now; 0 where none may."""
    load, rows = inputs.load, inputs.portfolio.tables.workloads
    tokens = load.input_tokens + load.output_tokens
    means = np.zeros(len(cells))
    for index in range(len(cells)):
        works = [lane.workload for lane in placement.lanes if lane.cell == index]
        rates = np.array([rows[work].rate_rps for work in works])
        if works:
            means[index] = np.average(tokens[works], weights=rates if rates.sum() > 0 else None)
    return means


def groups_and_limits(inputs: Inputs) -> tuple[list[str], Limits]:
    """Return the correlated-loss groups that a limit names, and the limits.

    A limit on ``*`` is one on each partner. Each partner, and each group that ``survive_groups`` names, is one whose
    loss is to be survived, where ``survive_share`` is set; a cap that begins later stands on its own, since survival
    holds from the first day. A year that the plan holds in part has that part of its budget.
    """
    tables, calendar = inputs.portfolio.tables, inputs.calendar
    partners = inputs.portfolio.partners()
    caps: list[tuple[str, float, int]] = []
    for row in tables.concentration:
        first = 0 if row.start is None else int(np.searchsorted(calendar.edges[:-1], row.start.toordinal()))
        caps += [(group, row.share_max, first) for group in (partners if row.group == EACH_PARTNER else [row.group])]
    survived = inputs.portfolio.groups_to_survive() if tables.limits.survive_share > 0 else []
    guarded = [group in survived and first == 0 for group, _, first in caps]
    named = {group for (group, _, _), guard in zip(caps, guarded, strict=True) if guard}
    rest = [group for group in survived if group not in named]
    budget = tables.limits.budget_usd_per_year
    prepay = tables.limits.prepay_usd_max
    limits = Limits(
        group_cap=np.array([cap for _, cap, _ in caps] + [1.0] * len(rest)),
        group_cap_from=np.array([first for _, _, first in caps] + [0] * len(rest), dtype=np.int64),
        survive_group=np.array(guarded + [True] * len(rest), dtype=np.bool_),
        survive_share=tables.limits.survive_share,
        critical=np.array([row.critical for row in tables.workloads], dtype=np.bool_),
        budget_usd=(np.inf if budget is None else budget) * calendar.share_of_year,
        period_year=calendar.year_of_period,
        prepay_usd_max=np.inf if prepay is None else prepay,
    )
    return [group for group, _, _ in caps] + rest, limits


def exclusive_of(portfolio: Portfolio) -> list[list[int]]:
    """Return the sets of offers that shut each other out."""
    words = [terms.row.exclusive_group for terms in portfolio.offers.values()]
    sets = [[index for index, other in enumerate(words) if other == word] for word in dict.fromkeys(words) if word]
    return [some for some in sets if len(some) > 1]
