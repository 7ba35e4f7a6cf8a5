"""Declare every variable of the plan, each over its axes, with its bounds and its unit.

Comes in: a :class:`~offtake.plan.problem.Problem`. Goes out: a :class:`Model`: the blocks of columns, and what
exists where. A variable that could only be zero is not made: a lane before its cell has chips, a job outside
its window. First-stage variables (what is signed, kept, hosted) have no scenario axis. This module knows no
constraint; the bounds it sets are those of single variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from offtake.plan.blocks import Block, Blocks, Floats, Index, Names, Span
from offtake.plan.problem import Bools, Ints, Problem
from offtake.plan.scale import Units, choose_units

SCENARIO_PERIOD = ("scenario", "period")
LANES = ("scenario", "period", "block", "lane")
TRAINING = ("scenario", "period", "block", "job", "cell")


@dataclass(frozen=True)
class Model:
    """Hold a problem with its blocks; ``owned``, ``rented [S, T, N]``: fixed and elastic chips can be there.

    What is signed and kept has a column for each node, at the node's first scenario; ``signed [V, S]`` and
    ``kept [V, S, T]`` give every scenario the column of its node (−1: none).
    """

    problem: Problem
    blocks: Blocks
    units: Units
    owned: Bools
    rented: Bools

    @cached_property
    def signed(self) -> Index:
        """Give the column of what is signed, in every scenario [V, S]."""
        return shared(self["signed"].ids, self.problem.decided.sign_as)

    @cached_property
    def kept(self) -> Index:
        """Give the column of what is kept, in every scenario [V, S, T]."""
        return shared(self["kept"].ids, keep_as(self.problem))

    @cached_property
    def kept_before(self) -> Index:
        """Give the column of what was kept through the period before, or, in the first one, of what is signed."""
        before = np.roll(self.kept, 1, axis=2)
        before[..., :1] = -1
        started: Index = np.where(before >= 0, before, self.signed[..., None])
        return started

    @cached_property
    def kept_like(self) -> Ints:
        """Give the first scenario in which all is kept as in this one, by period [S, T]."""
        kept = self.kept
        return np.stack([first_like(kept[:, :, t]) for t in range(kept.shape[2])], axis=1)

    def offer_like(self, offers: list[int]) -> Ints:
        """Give the first scenario in which some offers are signed as in this one [S]."""
        offer = self.problem.vintages.offer
        return first_like(self.signed[np.any([offer == one for one in offers], axis=0)])

    def __getitem__(self, name: str) -> Block:
        """Give the block of columns of that name."""
        return self.blocks.columns[name]


def keep_as(problem: Problem) -> Ints:
    """Give the first scenario of the node that decides what is kept [V, S, T]: while locked, the one that signed."""
    nodes, vintages = problem.decided, problem.vintages
    locked = np.arange(problem.period_hours.size) < vintages.lock_until[:, None]
    return np.where(locked[:, None, :], nodes.sign_as[:, :, None], nodes.keep_as)


def shared(ids: Index, first: Ints) -> Index:
    """Give every scenario (axis 1) what stands at the first scenario of its node."""
    taken: Index = np.take_along_axis(ids, first, axis=1)
    return taken


def first_like(ids: Index) -> Ints:
    """Give the first scenario whose column of ``ids [A, S]`` equals this one's [S]."""
    first: dict[bytes, int] = {}
    like = [first.setdefault(column.tobytes(), scenario) for scenario, column in enumerate(ids.T)]
    return np.array(like, dtype=np.int64)


def firsts(like: Ints) -> Bools:
    """Tell which scenarios (axis 0) are the first of their kind."""
    here = np.arange(like.shape[0]).reshape(-1, *[1] * (like.ndim - 1))
    first: Bools = like == here
    return first


def within(held: Floats | None, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Give the least and the most of a decision: what it is where it is held, else the bounds given."""
    if held is None:
        return lower, upper
    return np.where(np.isnan(held), lower, held), np.where(np.isnan(held), upper, held)


class DeliveryNames:
    """Name deliveries when asked, not before: there are many, and few are ever shown."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __len__(self) -> int:
        return self.problem.deliveries.chips.size

    def __getitem__(self, entry: int) -> str:
        axes, deliveries = self.problem.axes, self.problem.deliveries
        return ", ".join(
            (
                axes.vintages[deliveries.vintage[entry]],
                axes.cells[deliveries.cell[entry]],
                axes.scenarios[deliveries.scenario[entry]],
                axes.periods[deliveries.period[entry]],
            )
        )


def declare(problem: Problem, units: Units | None = None) -> Model:
    """Declare all variables of a problem, in units that fit it where none are given."""
    axes, lanes = problem.axes, problem.lanes
    labels: dict[str, Names] = {
        "scenario": axes.scenarios,
        "period": axes.periods,
        "block": axes.blocks,
        "site": axes.sites,
        "cell": axes.cells,
        "workload": axes.workloads,
        "offer": axes.offers,
        "vintage": axes.vintages,
        "job": axes.jobs,
        "group": axes.groups,
        "year": axes.years,
        "lane": [f"{axes.workloads[k]} on {axes.cells[n]}" for k, n in zip(lanes.workload, lanes.cell, strict=True)],
        "delivery": DeliveryNames(problem),
        "exclusion": [" or ".join(axes.offers[o] for o in sorted(some)) for some in problem.exclusive],
    }
    owned, rented = _presence(problem)
    model = Model(problem, Blocks(labels), units or choose_units(problem), owned, rented)
    _sign(model)
    _serve(model)
    _train(model)
    _survive(model)
    _account(model)
    return model


def _presence(problem: Problem) -> tuple[Bools, Bools]:
    """Tell where fixed and elastic chips can be [S, T, N]."""
    axes, deliveries = problem.axes, problem.deliveries
    shape = (len(axes.scenarios), len(axes.periods), len(axes.cells))
    owned, rented = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    for presence, some in ((owned, ~deliveries.elastic), (rented, deliveries.elastic)):
        at = some & (deliveries.chips > 0)
        presence[deliveries.scenario[at], deliveries.period[at], deliveries.cell[at]] = True
    return owned, rented


def _sign(model: Model) -> None:
    """Declare what is signed and kept: a lot that is all or nothing is counted in lots, so that it is 0 or 1.

    Whole units bind what is signed. A lot or a single unit is also kept or ended whole; of several units a planned
    notice may end a fraction, because notice is only given when its date comes and the plan is then made anew.
    """
    problem, vintages, blocks = model.problem, model.problem.vintages, model.blocks
    lot, size = lots(problem)[:, None], vintages.units_max[:, None]
    whole = vintages.whole_units | vintages.all_or_nothing
    first = firsts(problem.decided.sign_as.T).T
    lower = np.where(vintages.signed[:, None], size, 0.0)
    least, most = within(problem.held.signed if problem.held else None, lower, size)
    open_whole = (whole & ~vintages.signed)[:, None] & (least < most)
    span = Span(lower=least, upper=most, where=first, unit=lot, whole=open_whole)
    blocks.var("signed", ("vintage", "scenario"), span)
    smallest = (vintages.units_min > 0) & ~vintages.all_or_nothing & ~vintages.signed
    blocks.var("chosen", ("vintage", "scenario"), Span(upper=1.0, where=first & smallest[:, None], whole=True))
    exclusive = np.zeros((len(problem.axes.offers), len(problem.axes.scenarios)), dtype=np.bool_)
    for offer in {o for some in problem.exclusive for o in some}:
        exclusive[offer] = firsts(model.offer_like([offer]))
    blocks.var("taken", ("offer", "scenario"), Span(upper=1.0, where=exclusive, whole=True))
    period = np.arange(len(problem.axes.periods))
    lives = (period >= vintages.sign_period[:, None]) & (period < vintages.term_until[:, None])
    single = vintages.all_or_nothing | (vintages.whole_units & (vintages.units_max <= 1))
    may_end = lives & (period >= vintages.lock_until[:, None]) & single[:, None]
    where = lives[:, None, :] & firsts(keep_as(problem).transpose(1, 0, 2)).transpose(1, 0, 2)
    least, most = within(problem.held.kept if problem.held else None, np.zeros((1, 1, 1)), size[..., None])
    span = Span(lower=least, upper=most, where=where, unit=lot[..., None], whole=may_end[:, None, :] & (least < most))
    blocks.var("kept", ("vintage", "scenario", "period"), span)


def _serve(model: Model) -> None:
    """Declare chips there, what is served, refused and deferred, and the use of elastic chips."""
    problem, blocks, units = model.problem, model.blocks, model.units
    blocks.var("capacity", ("scenario", "period", "cell"), Span(where=model.owned, unit=units.chips))
    lanes, movable = problem.lanes, problem.deferrable
    asked = (problem.demand_rps > 0) | movable
    there = (model.owned | model.rented)[:, :, None, lanes.cell]
    blocks.var("served", LANES, Span(where=there & asked[..., lanes.workload], unit=units.lane_rps))
    most = np.where(movable, np.inf, problem.demand_rps)
    blocks.var("refused", ("scenario", "period", "block", "workload"), Span(0.0, most, asked, units.demand_rps))
    span = Span(-np.inf, problem.demand_rps, np.broadcast_to(movable, asked.shape), units.demand_rps)
    blocks.var("deferred", ("scenario", "period", "block", "workload"), span)
    deliveries = problem.deliveries
    span = Span(where=deliveries.elastic[:, None], unit=units.chips[deliveries.cell][:, None])
    blocks.var("used", ("delivery", "block"), span)


def _train(model: Model) -> None:
    """Declare training chips, their chip-hours, hosts of single-site jobs, running gangs and research chips."""
    problem, blocks, units = model.problem, model.blocks, model.units
    jobs, cells = problem.jobs, problem.cells
    there = model.owned | model.rented
    period = np.arange(len(problem.axes.periods))[:, None]
    window = (period >= jobs.first_period) & (period <= jobs.last_period)
    may = window[None, :, None, :, None] & (jobs.speed > 0) & ~cells.is_api & there[:, :, None, None, :]
    blocks.var("training", TRAINING, Span(where=may, unit=units.chips))
    hours = float(np.mean(problem.period_hours)) if problem.period_hours.size else 1.0
    chips = float(units.chips[~cells.is_api].max(initial=1.0))
    span = Span(where=window & (jobs.chip_hours > 0), unit=chips * hours)
    blocks.var("trained", ("scenario", "period", "job"), span)
    blocks.var("missed", ("scenario", "job"), Span(upper=jobs.chip_hours, unit=chips * hours))
    sites = np.zeros((len(problem.axes.jobs), len(problem.axes.sites)), dtype=np.bool_)
    job, cell = np.nonzero((jobs.speed > 0) & ~cells.is_api)
    sites[job, cells.site[cell]] = True
    least, most = within(problem.held.hosts if problem.held else None, np.zeros((1, 1)), np.ones((1, 1)))
    span = Span(lower=least, upper=most, where=sites & jobs.single_site[:, None], whole=least < most)
    blocks.var("hosts", ("job", "site"), span)
    gang = window[None] & (jobs.gang_chips > 0)
    blocks.var("runs", ("scenario", "period", "job"), Span(upper=1.0, where=gang, whole=True))
    steady = window[None] & jobs.steady & (jobs.chip_hours > 0)
    blocks.var("goes", ("scenario", "period", "job"), Span(upper=1.0, where=steady, whole=True))
    blocks.var("begins", ("scenario", "period", "job"), Span(upper=1.0, where=steady))
    floor = np.outer(jobs.floor_chips > 0, research_speed(problem) > 0)
    blocks.var("research", ("scenario", "period", "cell"), Span(where=np.logical_and(floor, there), unit=units.chips))


def _survive(model: Model) -> None:
    """Declare where critical work would run if a group were lost."""
    problem, limits = model.problem, model.problem.limits
    period = np.arange(len(problem.axes.periods))
    guarded = limits.survive_group[:, None] & (period >= limits.group_cap_from[:, None])
    there: Bools = np.any(model.owned | model.rented, axis=0)  # [T, N]
    there = there[:, problem.lanes.cell]
    where = guarded[:, :, None] & limits.critical[problem.lanes.workload] & there
    where = where & firsts(model.kept_like)[:, None, :, None]
    axes = ("scenario", "group", "period", "lane")
    model.blocks.var("fallback", axes, Span(where=where, unit=model.units.lane_rps))


def _account(model: Model) -> None:
    """Declare money committed, money spent on work and value served by period, and the tail's two variables."""
    free = Span(lower=-np.inf, unit=model.units.usd)
    model.blocks.var("committed", SCENARIO_PERIOD, free)
    model.blocks.var("operating", SCENARIO_PERIOD, free)
    model.blocks.var("worth", SCENARIO_PERIOD, free)
    risky = np.asarray(model.problem.risk_weight > 0)
    model.blocks.var("value_at_risk", (), Span(lower=-np.inf, where=risky, unit=model.units.usd))
    model.blocks.var("shortfall", ("scenario",), Span(where=risky, unit=model.units.usd))


def lots(problem: Problem) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the size of what a vintage is counted in [V]: its whole size where it is all or nothing, else a unit."""
    vintages = problem.vintages
    size: np.ndarray[tuple[int], np.dtype[np.float64]] = np.where(
        vintages.all_or_nothing & (vintages.units_max > 0), vintages.units_max, 1.0
    )
    return size


def research_speed(problem: Problem) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the speed of research in each cell [N]: that of the fastest job there; 1 on chips when there is no job."""
    if problem.jobs.speed.shape[0] == 0:
        return (~problem.cells.is_api).astype(np.float64)
    best: np.ndarray[tuple[int], np.dtype[np.float64]] = np.where(
        problem.cells.is_api, 0.0, problem.jobs.speed.max(axis=0)
    )
    return best
