"""Live through fresh paths as a planner does: at each stage date, plan anew on what is known, keeping what is signed.

Comes in: a case. Goes out: :class:`~offtake.plan.result.Replanned`: what planning anew adds to following the first
plan's tree. What may come after a date is drawn given what was seen before it: of many draws, those whose past is
nearest to the path's, each with the path's own past in the place of theirs (nearest neighbours: Bertsimas and Kallus
2020). It must never look at a path's future.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from offtake.plan.judging import Case, attempt
from offtake.plan.nodes import Moments, Shape, node_as, nodes_from, seen_before, stages_of
from offtake.plan.problem import Bools, Deliveries, Held, Ints, Problem
from offtake.plan.result import Replanned
from offtake.plan.sample import alone, along, beside, independent, nodes_on, operate, prolonged
from offtake.plan.solution import Solution
from offtake.plan.solve import Options
from offtake.plan.spread import mean_range

DRAWS = 20  #: draws for each scenario of a new plan, of which the nearest are kept (assumption)
PATHS_NUMBER, DRAWS_NUMBER = 1_000_000, 1_000_001  #: of the fresh draws: of the paths, and of what may follow


@dataclass(frozen=True, kw_only=True)
class Life:
    """Hold one path, what the first plan's tree decides on it (``path.held``), and what its planner has.

    ``store`` are draws of what may come; ``stages`` the periods in which it is planned anew, for ``scenarios`` each.
    """

    path: Problem
    store: Problem
    moments: Moments
    stages: list[int]
    shape: Shape
    scenarios: int


@dataclass(frozen=True, kw_only=True)
class Lived:
    """Hold the net value of a path in USD, with the tree followed and planned anew, and the dates without a plan."""

    followed_usd: float
    replanned_usd: float
    stuck: int


def replanned_of(case: Case) -> Replanned | None:
    """Return what re-planning adds on ``options.replan`` fresh paths; None where nothing is decided later."""
    problem, moments, settings = case.problem, case.assembled.contracts.moments, case.settings
    stages = stages_of(problem, moments, settings.stages)
    if not stages:
        return None
    drawn = independent(case.assembled, case.options.replan, PATHS_NUMBER)
    held = along(problem, moments, case.solution, nodes_on(case.assembled, drawn))
    fresh = replace(drawn.problem, held=held)
    scenarios = problem.probability.size
    lives = [
        Life(
            path=alone(fresh, path),
            store=independent(case.assembled, DRAWS * scenarios, DRAWS_NUMBER + path).problem,
            moments=moments,
            stages=stages,
            shape=Shape(stages=settings.stages, branches=settings.branches),
            scenarios=scenarios,
        )
        for path in range(case.options.replan)
    ]
    found = case.each("planning anew", lived, lives)
    replanned, follows = (np.array([getattr(one, name) for one in found]) for name in ("replanned_usd", "followed_usd"))
    return Replanned(
        paths=len(lives),
        dates=[problem.axes.periods[stage] for stage in stages],
        followed_usd=float(follows.mean()),
        replanned_usd=float(replanned.mean()),
        gain_usd=mean_range(replanned - follows),
        stuck=sum(one.stuck for one in found),
    )


def lived(life: Life, options: Options) -> Lived:
    """Live through one path twice: following the first plan's tree, and planning anew at each stage date.

    Where no new plan meets the limits, the tree is followed until the next date.
    """
    tree = life.path.held
    if tree is None:
        raise AssertionError("a path is lived with the decisions of a tree")
    ends = [*life.stages[1:], life.path.period_hours.size]
    decided, stuck = between(tree, life.moments, (0, life.stages[0])), 0
    for date, end in zip(life.stages, ends, strict=True):
        found = attempt(planned_anew(life, decided, date), options)
        new = made(found) if isinstance(found, Solution) else tree
        stuck += not isinstance(found, Solution)
        decided = merged(decided, between(new, life.moments, (date, end)))
    held = prolonged(decided, life.store)
    return Lived(
        followed_usd=operate(life.path, options).net_usd,
        replanned_usd=operate(replace(life.path, held=held), options).net_usd,
        stuck=stuck,
    )


def made(solution: Solution) -> Held:
    """Return what a plan decides in its first scenario; before nodes part it is the same in every one."""
    return Held(signed=solution.signed[:, :1], kept=solution.kept[:, :1], hosts=solution.hosts.astype(np.float64))


def between(held: Held, moments: Moments, dates: tuple[int, int]) -> Held:
    """Return what of some decisions is made from one date until before another; the rest is open."""
    first, end = dates
    sign, keep = moments.sign[:, np.newaxis], moments.keep[:, np.newaxis]
    return Held(
        signed=np.where((sign >= first) & (sign < end), held.signed, np.nan),
        kept=np.where((keep >= first) & (keep < end), held.kept, np.nan),
        hosts=held.hosts,
    )


def merged(first: Held, second: Held) -> Held:
    """Return the decisions of both; those of the first where both decide."""
    return Held(
        signed=np.where(np.isnan(first.signed), second.signed, first.signed),
        kept=np.where(np.isnan(first.kept), second.kept, first.kept),
        hosts=first.hosts,
    )


def planned_anew(life: Life, decided: Held, date: int) -> Problem:
    """Return the problem of a planner on a path at a date, with what was decided before held in every scenario."""
    problem = given_the_past(life, date)
    count = problem.probability.size
    later = [stage for stage in life.stages if stage > date]
    return replace(
        problem,
        nodes=nodes_from(node_as(problem, later, life.shape), life.moments),
        held=replace(
            decided, signed=np.repeat(decided.signed, count, axis=1), kept=np.repeat(decided.kept, count, axis=1)
        ),
    )


def given_the_past(life: Life, date: int) -> Problem:
    """Return what may come after a date, given a path up to it: the nearest draws, with the past of the path.

    Draws are measured by what is seen before the date, as the nodes of a tree are. The speed of chips that have served
    on the path is the path's.
    """
    path, store, count = life.path, life.store, life.scenarios
    points = seen_before(beside(store, path), date)
    chosen = np.sort(np.argsort(((points[:-1] - points[-1]) ** 2).sum(axis=1), kind="stable")[:count])
    past = np.arange(store.period_hours.size) < date
    seen = np.zeros(store.cells.site.size, dtype=np.bool_)
    seen[path.deliveries.cell[past[path.deliveries.period]]] = True
    goodput = store.lanes.goodput_rps_per_chip[:, chosen]
    vintages = store.vintages
    paid = np.where(past, path.vintages.paid_usd, vintages.paid_usd[:, chosen])
    cancel = np.where(past, path.vintages.cancel_usd, vintages.cancel_usd[:, chosen])
    return replace(
        store,
        axes=replace(store.axes, scenarios=[store.axes.scenarios[one] for one in chosen]),
        probability=np.full(count, 1.0 / count),
        demand_rps=np.where(past[:, np.newaxis, np.newaxis], path.demand_rps, store.demand_rps[chosen]),
        power_kw=store.power_kw[chosen],
        lanes=replace(
            store.lanes,
            goodput_rps_per_chip=np.where(
                seen[store.lanes.cell][:, np.newaxis], path.lanes.goodput_rps_per_chip, goodput
            ),
        ),
        vintages=replace(vintages, paid_usd=paid, cancel_usd=cancel, terminal_usd=vintages.terminal_usd[:, chosen]),
        deliveries=joined(path.deliveries, store.deliveries, (chosen, past)),
        nodes=None,
    )


def joined(path: Deliveries, store: Deliveries, which: tuple[Ints, Bools]) -> Deliveries:
    """Return the deliveries of chosen draws, with those of the path in the past of each."""
    chosen, past = which
    place = np.full(int(max(store.scenario.max(initial=0), chosen.max())) + 1, -1, dtype=np.int64)
    place[chosen] = np.arange(chosen.size)
    old = np.flatnonzero(past[path.period])
    later = np.flatnonzero(~past[store.period] & (place[store.scenario] >= 0))
    parts = {
        name: np.concatenate([np.concatenate([getattr(path, name)[old]] * chosen.size), getattr(store, name)[later]])
        for name in vars(path)
    }
    parts["scenario"] = np.concatenate([np.repeat(np.arange(chosen.size), old.size), place[store.scenario[later]]])
    return Deliveries(**parts)
