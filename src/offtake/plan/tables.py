"""Lay a solved plan out as tables: capacity, demand, placement, cost, prices, scenarios and lanes.

Comes in: an assembled problem and its solution. Goes out: Polars frames, one for each Parquet file of the plan's
folder. Money is discounted to the first day, so that it adds up to the plan's. It must never know a file.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from offtake.plan.assemble import Assembled
from offtake.plan.prices import cells_with_chips
from offtake.plan.problem import Problem
from offtake.plan.solution import Solution
from offtake.plan.story import describe_scenarios, growth_name

Floats = npt.NDArray[np.float64]
Frames = dict[str, pl.DataFrame]
Schema = dict[str, type[pl.DataType]]

LOW, HIGH = 0.1, 0.9
NOTHING = 1e-9


def frames_of(assembled: Assembled, solution: Solution) -> Frames:
    """Return every table of a plan, by the name of its file."""
    return {
        "capacity": capacity_frame(assembled, solution),
        "demand": demand_frame(assembled, solution),
        "placement": placement_frame(assembled, solution),
        "cost": cost_frame(assembled, solution),
        "prices": prices_frame(assembled, solution),
        "scenarios": scenarios_frame(assembled, solution),
        "lanes": lanes_frame(assembled),
    }


def weighted_quantile(values: Floats, weights: Floats, share: float) -> Floats:
    """Return the smallest value that scenarios of weight ``share`` do not pass: [S, ...] → [...]."""
    order = np.argsort(values, axis=0, kind="stable")
    mass = np.cumsum(weights[order], axis=0)
    first = np.argmax(mass >= share - NOTHING, axis=0)
    rank = np.take_along_axis(order, first[np.newaxis], axis=0)
    return np.asarray(np.take_along_axis(values, rank, axis=0)[0], dtype=np.float64)


def chips_by_offer(assembled: Assembled, solution: Solution) -> dict[tuple[int, int], Floats]:
    """Return the chips of kept units that are there, [S, T] by offer and cell."""
    problem = assembled.problem
    shape = (problem.probability.size, problem.period_hours.size)
    deliveries = problem.deliveries
    offers = problem.vintages.offer[deliveries.vintage]
    amount = deliveries.chips * solution.kept[deliveries.unit]
    found: dict[tuple[int, int], Floats] = {}
    for offer, cell in sorted(set(zip(offers.tolist(), deliveries.cell.tolist(), strict=True))):
        at = (offers == offer) & (deliveries.cell == cell)
        chips = np.zeros(shape)
        np.add.at(chips, (deliveries.scenario[at], deliveries.period[at]), amount[at])
        found[offer, cell] = chips
    return found


def period_columns(assembled: Assembled) -> pl.DataFrame:
    """Return the number and first day of each period."""
    names = assembled.problem.axes.periods
    starts = [date.fromisoformat(name) for name in names]
    return pl.DataFrame({"period": range(len(names)), "start": starts}, schema={"period": pl.Int64, "start": pl.Date})


def long_frame(assembled: Assembled, axes: dict[str, list[str]], values: dict[str, Floats]) -> pl.DataFrame:
    """Return one row for each element of ``[T, *axes]``: period, start, a name for each axis, and the values."""
    lengths = [len(names) for names in axes.values()]
    periods = assembled.problem.period_hours.size
    index = np.indices((periods, *lengths)).reshape(1 + len(lengths), -1)
    columns: dict[str, Any] = {"period": index[0].astype(np.int64)}
    for place, (axis, names) in enumerate(axes.items(), start=1):
        columns[axis] = pl.Series(names, dtype=pl.String).gather(index[place])
    columns |= {name: array.reshape(-1) for name, array in values.items()}
    frame = pl.DataFrame(columns).join(period_columns(assembled), on="period", maintain_order="left")
    return frame.select("period", "start", *axes, *values)


def capacity_frame(assembled: Assembled, solution: Solution) -> pl.DataFrame:
    """Return what each offer brings to each cell, of units that are kept; offers that bring nothing are left out.

    Columns
    -------
    period, start
        Number and first day of the period.
    provider, offer, site, chip
        Keys of the portfolio; the chip is ``api`` for a token-priced API.
    firmness
        How firm the offer is; ``firm`` once it is signed.
    chips_mean, chips_p10, chips_p90
        Chips there, after slips, ramps and losses, over scenarios; for an API, its mean requests per second.
    kw_mean
        Power of the mean chips, all of them busy.
    """
    problem = assembled.problem
    rows = []
    terms = list(assembled.inputs.portfolio.offers.values())
    for (offer, cell), chips in chips_by_offer(assembled, solution).items():
        place, row = assembled.cells[cell], terms[offer].row
        mean = problem.probability @ chips
        rows.append(
            period_columns(assembled).with_columns(
                provider=pl.lit(row.provider),
                offer=pl.lit(row.offer),
                site=pl.lit(place.site),
                chip=pl.lit(place.chip or "api"),
                firmness=pl.lit("firm" if row.signed else str(row.firmness)),
                chips_mean=pl.Series(mean),
                chips_p10=pl.Series(weighted_quantile(chips, problem.probability, LOW)),
                chips_p90=pl.Series(weighted_quantile(chips, problem.probability, HIGH)),
                kw_mean=pl.Series(mean * problem.cells.kw_per_chip[cell]),
            )
        )
    schema: Schema = {"period": pl.Int64, "start": pl.Date}
    schema |= dict.fromkeys(("provider", "offer", "site", "chip", "firmness"), pl.String)
    schema |= dict.fromkeys(("chips_mean", "chips_p10", "chips_p90", "kw_mean"), pl.Float64)
    none = pl.DataFrame(schema=schema)
    return pl.concat([none, *rows]).filter(pl.col("chips_mean").max().over("offer") > 0)


def demand_frame(assembled: Assembled, solution: Solution) -> pl.DataFrame:
    """Return the rate asked, served and refused, by block and workload.

    Columns
    -------
    period, start
        Number and first day of the period.
    block, workload
        Block of the week, busiest first, and key of the workload.
    rps_mean, rps_p10, rps_p90
        Rate asked, over scenarios.
    served_mean, refused_mean
        Rate served and refused, mean over scenarios, requests/s; what is deferred is served in another block. Refusals
        of work that may be deferred are told where it was asked and not served, so never above what was asked.
    """
    problem, weights = assembled.problem, assembled.problem.probability
    served = np.zeros(problem.demand_rps.shape)
    for lane, work in enumerate(problem.lanes.workload):
        served[..., work] += solution.served_rps[..., lane]
    values = {
        "rps_mean": np.einsum("s,stbk->tbk", weights, problem.demand_rps),
        "rps_p10": weighted_quantile(problem.demand_rps, weights, LOW),
        "rps_p90": weighted_quantile(problem.demand_rps, weights, HIGH),
        "served_mean": np.einsum("s,stbk->tbk", weights, served),
        "refused_mean": np.einsum("s,stbk->tbk", weights, refused_where_asked(problem, served, solution)),
    }
    return long_frame(assembled, {"block": problem.axes.blocks, "workload": problem.axes.workloads}, values)


def refused_where_asked(problem: Problem, served_rps: Floats, solution: Solution) -> Floats:
    """Return the rate refused [S, T, B, K], that of deferrable work spread over the blocks in which it was asked.

    The plan may defer work into a block and refuse it there, so that more is refused than was asked. A period's
    refusals are spread in proportion to what each block asked beyond what it served, so that none is above that, and
    the period's requests stay the same.
    """
    share = problem.block_share[:, np.newaxis]
    refused = np.maximum(solution.refused_rps, 0.0)
    short = np.maximum(problem.demand_rps - served_rps, 0.0)
    total, room = ((share * rate).sum(axis=-2, keepdims=True) for rate in (refused, short))
    part = np.divide(total, room, out=np.zeros_like(total), where=room > NOTHING)
    spread: Floats = np.where(problem.deferrable & (room > NOTHING), short * part, refused)
    return spread


def placement_frame(assembled: Assembled, solution: Solution) -> pl.DataFrame:
    """Return the mean rate of each lane, where there is any.

    Columns
    -------
    period, start
        Number and first day of the period.
    block, workload, site, chip
        Block of the week, and where the workload runs in it.
    rps_mean
        Rate served there, mean over scenarios.
    """
    problem = assembled.problem
    lanes = [str(lane) for lane in range(problem.lanes.cell.size)]
    names = pl.DataFrame(
        {
            "lane": lanes,
            "workload": [problem.axes.workloads[work] for work in problem.lanes.workload],
            "site": [assembled.cells[cell].site for cell in problem.lanes.cell],
            "chip": [assembled.cells[cell].chip or "api" for cell in problem.lanes.cell],
        },
        schema=dict.fromkeys(("lane", "workload", "site", "chip"), pl.String),
    )
    mean = np.einsum("s,stbl->tbl", problem.probability, solution.served_rps)
    frame = long_frame(assembled, {"block": problem.axes.blocks, "lane": lanes}, {"rps_mean": mean})
    frame = frame.filter(pl.col("rps_mean") > NOTHING).join(names, on="lane", maintain_order="left")
    return frame.select("period", "start", "block", "workload", "site", "chip", "rps_mean")


def cost_frame(assembled: Assembled, solution: Solution) -> pl.DataFrame:
    """Return each part of the money by scenario and period, discounted; costs are positive amounts too.

    Columns
    -------
    scenario, probability
        Name and weight of the scenario.
    period, start
        Number and first day of the period.
    part
        ``value_served``, ``terminal_value`` (of what is left of terms, in the last period), ``fees`` (with prepayment),
        ``used_fees``, ``energy``, ``request_fees``, ``refusal`` or ``training_missed``: the first two less all the
        others are the scenario's net value.
    usd
        The amount.
    """
    problem, money = assembled.problem, solution.money
    missed = np.zeros_like(money.fees_usd)
    last = np.minimum(problem.jobs.last_period, problem.discount.size - 1)
    np.add.at(missed.T, last, (solution.missed_chip_hours * problem.jobs.missed_usd).T)
    parts = {
        "value_served": money.value_usd,
        "fees": money.fees_usd + money.prepay_usd,
        "used_fees": money.used_usd,
        "energy": money.energy_usd,
        "request_fees": money.request_usd,
        "refusal": money.refusal_usd,
        "training_missed": missed,
    }
    discounted = {name: part * problem.discount for name, part in parts.items()}
    if money.terminal_usd.any():
        discounted["terminal_value"] = np.zeros_like(money.fees_usd)
        discounted["terminal_value"][:, -1] = problem.end_discount * money.terminal_usd
    usd = np.stack(list(discounted.values()), axis=-1).transpose(1, 0, 2)
    frame = long_frame(assembled, {"scenario": problem.axes.scenarios, "part": list(discounted)}, {"usd": usd})
    weights = pl.DataFrame({"scenario": problem.axes.scenarios, "probability": problem.probability})
    frame = frame.join(weights, on="scenario", maintain_order="left")
    return frame.select("scenario", "probability", "period", "start", "part", "usd")


def prices_frame(assembled: Assembled, solution: Solution) -> pl.DataFrame:
    """Return the shadow prices by family, place, period and block; those without a place or block leave it empty.

    Prices of chips are given where there are chips: see :func:`~offtake.plan.prices.cells_with_chips`.

    Columns
    -------
    family
        ``chips``, ``work`` (a busy chip-hour: the chip, its power beyond idling, and its link), ``power``, ``link`` or
        ``concentration``.
    site, chip
        Where it is scarce; for ``concentration`` the site is the group.
    period, start
        Number and first day of the period.
    block
        Block of the week.
    price, unit
        What one more adds to the plan's value, and its unit.
    """
    problem, prices = assembled.problem, solution.prices
    blocks = {"block": problem.axes.blocks}
    cells = blocks | {"cell": [str(cell) for cell in range(len(assembled.cells))]}
    sites = blocks | {"site": problem.axes.sites}
    names = pl.DataFrame(
        {
            "cell": cells["cell"],
            "site": [cell.site for cell in assembled.cells],
            "chip": [cell.chip or "api" for cell in assembled.cells],
        },
        schema=dict.fromkeys(("cell", "site", "chip"), pl.String),
    )
    there = np.broadcast_to(cells_with_chips(problem, solution)[:, np.newaxis], prices.chips_usd_per_chip_hour.shape)
    chips, work = (
        long_frame(assembled, cells, {"price": price, "there": there.astype(np.float64)})
        .filter(pl.col("there") > 0)
        .drop("there")
        .join(names, on="cell", maintain_order="left")
        for price in (prices.chips_usd_per_chip_hour, prices.work_usd_per_chip_hour)
    )
    power = long_frame(assembled, sites, {"price": prices.power_usd_per_kwh})
    link = long_frame(assembled, sites, {"price": prices.link_usd_per_gb})
    groups = long_frame(assembled, {"site": problem.axes.groups}, {"price": prices.concentration_usd_per_point})
    families = [
        (chips, "chips", "USD per chip-hour"),
        (work, "work", "USD per chip-hour"),
        (power, "power", "USD per kWh"),
        (link, "link", "USD per GB"),
        (groups, "concentration", "USD per percentage point"),
    ]
    return pl.concat([price_rows(*family) for family in families])


def price_rows(frame: pl.DataFrame, family: str, unit: str) -> pl.DataFrame:
    """Return one family's rows in the columns that all share."""
    known = frame.with_columns(family=pl.lit(family), unit=pl.lit(unit))
    missing = [pl.lit("").alias(name) for name in ("site", "chip", "block") if name not in known.columns]
    return known.with_columns(missing).select("family", "site", "chip", "period", "start", "block", "price", "unit")


def scenarios_frame(assembled: Assembled, solution: Solution) -> pl.DataFrame:
    """Return each scenario with its probability, its story and its net value.

    Columns
    -------
    scenario, probability
        Name and weight of the scenario.
    growth_branch
        Its branch of growth; ``none`` without a fan.
    description
        What happens in it, in words.
    net_usd
        Net value of the plan in it, discounted.
    """
    names = assembled.problem.axes.scenarios
    return pl.DataFrame(
        {
            "scenario": names,
            "probability": assembled.problem.probability,
            "growth_branch": [growth_name(assembled.inputs, scenario) for scenario in range(len(names))],
            "description": describe_scenarios(assembled.inputs),
            "net_usd": solution.money.net_usd,
        }
    )


def lanes_frame(assembled: Assembled) -> pl.DataFrame:
    """Return each pair of workload and cell: whether it is a lane, its round trip and goodput, or why it is not.

    Columns
    -------
    workload, site, chip
        Keys of the portfolio; the chip is ``api`` for a token-priced API.
    allowed
        Whether the workload may run there.
    rtt_ms
        Round trip that counts against its time to first token; null where it may not run.
    goodput_rps_per_chip
        What one chip serves within the limits; null for an API, and where it may not run.
    reason
        What rules it out, or what stops one more request.
    """
    axes = assembled.problem.axes
    allowed = [
        {
            "workload": axes.workloads[lane.workload],
            "site": assembled.cells[lane.cell].site,
            "chip": assembled.cells[lane.cell].chip or "api",
            "allowed": True,
            "rtt_ms": lane.rtt_ms,
            "goodput_rps_per_chip": None if assembled.cells[lane.cell].is_api else lane.rps_per_chip,
            "reason": "" if lane.goodput is None else f"stopped by {lane.goodput.stopped_by}",
        }
        for lane in assembled.placement.lanes
    ]
    ruled_out = [
        {
            "workload": axes.workloads[one.workload],
            "site": assembled.cells[one.cell].site,
            "chip": assembled.cells[one.cell].chip or "api",
            "allowed": False,
            "rtt_ms": None,
            "goodput_rps_per_chip": None,
            "reason": one.reason,
        }
        for one in assembled.placement.excluded
    ]
    schema: Schema = dict.fromkeys(("workload", "site", "chip"), pl.String)
    schema |= {"allowed": pl.Boolean, "rtt_ms": pl.Float64, "goodput_rps_per_chip": pl.Float64, "reason": pl.String}
    return pl.DataFrame([*allowed, *ruled_out], schema=schema)
