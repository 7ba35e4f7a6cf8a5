"""Part the scenarios into the nodes of a tree: those that look alike so far are decided alike.

Comes in: a problem and when each decision is made. Goes out: :class:`~offtake.plan.problem.Nodes`. At a few dates each
node is parted in two or more by what has been seen before that date: demand, deliveries, exits and losses, and how fast
the chips are that serve already. The scenarios themselves stay as they were drawn, so that means, spreads and the worst
tail are those of the sample. A node keeps several scenarios, because one that stood alone would know its own future.
The cut is Ward's (1963): where the squared distances within the parts fall most, along the first principal axis. It
must never read what comes later than the date.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offtake.plan.problem import Bools, Floats, Ints, Nodes, Problem

LEAST = 4  #: scenarios in a node (assumption: the out-of-sample value shows what a tree this fine is worth)
FLOOR = 1e-9
ALIKE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Say in which period a decision is made: signing ``sign [V]``, keeping units through a period ``keep [V, T]``.

    What is known is what was seen before that period began.
    """

    sign: Ints
    keep: Ints


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Choose the tree: at how many dates nodes part at most, into how many each, and the fewest scenarios in one."""

    stages: int
    branches: int
    least: int = LEAST


def nodes_of(problem: Problem, moments: Moments, shape: Shape) -> Nodes:
    """Part the scenarios at the dates at which something is decided, at most ``shape.stages`` of them.

    Notes
    -----
    Cost: O(stages × scenarios × features).
    """
    return nodes_from(node_as(problem, stages_of(problem, moments, shape.stages), shape), moments)


def nodes_from(node: Ints, moments: Moments) -> Nodes:
    """Return what each decision knows, given the nodes ``[S, T]``; nothing is known before the first period."""
    last = node.shape[1] - 1
    sign_as = node[:, np.clip(moments.sign, 0, last)].T
    keep_as = node[:, np.clip(moments.keep, 0, last)].transpose(1, 0, 2)
    return Nodes(node_as=node, sign_as=sign_as, keep_as=keep_as)


def known_by(some: Nodes, others: Nodes, of: Bools) -> Nodes:
    """Return nodes in which some vintages ``of [V]`` are decided by ``some``, and the other ones by ``others``."""
    return Nodes(
        node_as=others.node_as,
        sign_as=np.where(of[:, np.newaxis], some.sign_as, others.sign_as),
        keep_as=np.where(of[:, np.newaxis, np.newaxis], some.keep_as, others.keep_as),
    )


def in_hindsight(problem: Problem, moments: Moments) -> Nodes:
    """Return nodes in which whoever decides after the first day knows all that ever comes: the bound on learning."""
    scenarios, periods = problem.demand_rps.shape[:2]
    node = np.repeat(np.arange(scenarios, dtype=np.int64)[:, np.newaxis], periods, axis=1)
    node[:, 0] = 0
    return nodes_from(node, moments)


def stages_of(problem: Problem, moments: Moments, most: int) -> list[int]:
    """List the periods in which nodes part: those of later decisions, thinned evenly to ``most``."""
    return thinned(dates_of(problem, moments), most)


def dates_of(problem: Problem, moments: Moments, of: Bools | None = None) -> Ints:
    """Return the later periods in which something is decided, in order: on some vintages ``of [V]``, or on all."""
    vintages = problem.vintages
    period = np.arange(problem.period_hours.size)
    mine = np.ones(vintages.offer.size, dtype=np.bool_) if of is None else of
    open_ones = (vintages.lock_until[:, np.newaxis] <= period) & (period < vintages.term_until[:, np.newaxis])
    open_ones &= ~vintages.renewed & mine[:, np.newaxis]
    found = np.unique(np.concatenate([moments.keep[open_ones], moments.sign[~vintages.signed & mine]]))
    dates: Ints = found[(found > 0) & (found < period.size)]
    return dates


def thinned(dates: Ints, most: int) -> list[int]:
    """Take ``most`` of some dates, evenly."""
    if dates.size <= most:
        return [int(one) for one in dates]
    places = np.unique(np.linspace(0, dates.size - 1, most + 2).round().astype(np.int64)[1:-1])
    return [int(dates[place]) for place in places]


def node_as(problem: Problem, stages: list[int], shape: Shape) -> Ints:
    """Return the first scenario of the node of each scenario in each period [S, T]."""
    scenarios, periods = problem.demand_rps.shape[:2]
    node = np.zeros((scenarios, periods), dtype=np.int64)
    now = np.zeros(scenarios, dtype=np.int64)
    for period in range(periods):
        if period in stages:
            points = seen_before(problem, period)
            now = parted(points, problem.probability, now, shape)
        node[:, period] = now
    return node


def parted(points: Floats, weight: Floats, now: Ints, shape: Shape) -> Ints:
    """Part each node of ``now [S]`` by ``points [S, F]``; return the first scenario of the new node of each [S]."""
    then = now.copy()
    for first in np.unique(now):
        members = np.flatnonzero(now == first)
        for part in parts_of(points[members], weight[members], shape):
            then[members[part]] = members[part].min()
    return then


def parts_of(points: Floats, weight: Floats, shape: Shape) -> list[Ints]:
    """Part points into at most ``branches``, always by the cut that lowers the squared distances most."""
    parts = [np.arange(len(points), dtype=np.int64)]
    while len(parts) < shape.branches:
        cuts = [best_cut(points[part], weight[part], shape.least) for part in parts]
        gains = [gain for gain, _ in cuts]
        most = int(np.argmax(gains))
        if gains[most] <= ALIKE:
            break
        side = cuts[most][1]
        part = parts.pop(most)
        parts += [part[side], part[~side]]
    return parts


def best_cut(points: Floats, weight: Floats, least: int) -> tuple[float, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return how much the best cut lowers the weighted squared distances, and which points are on one side.

    The points are ordered along their first principal axis, and cut where each side has ``least`` points.
    """
    count = len(points)
    none = np.zeros(count, dtype=np.bool_)
    if count < 2 * least or points.shape[1] == 0:
        return 0.0, none
    from_mean = points - np.average(points, axis=0, weights=weight)
    axis = np.linalg.svd(from_mean * np.sqrt(weight)[:, np.newaxis], full_matrices=False)[2][0]
    order = np.argsort(from_mean @ axis, kind="stable")
    mass = np.cumsum(weight[order])
    total = np.cumsum(from_mean[order] * weight[order][:, np.newaxis], axis=0)
    rest = np.maximum(mass[-1] - mass, FLOOR)
    between = (total**2).sum(axis=1) * (1.0 / mass + 1.0 / rest)  # the means of the two sides sum to 0
    between[: least - 1] = between[count - least :] = 0.0
    cut = int(np.argmax(between))
    side = none.copy()
    side[order[: cut + 1]] = True
    return float(between[cut]), side


def seen_before(problem: Problem, period: int) -> Floats:
    """Return what each scenario has shown before a period [S, F], each figure by the share of the plan it concerns.

    Scenarios of no probability are measured by the others and change nothing in them.
    """
    return np.concatenate(
        [demand_seen(problem, period), chips_seen(problem, period), speed_seen(problem, period)], axis=1
    )


def demand_seen(problem: Problem, period: int) -> Floats:
    """Return the log of the last rate seen of each workload over its mean, times its share of the value [S, K]."""
    rate = np.einsum("sbk,b->sk", problem.demand_rps[:, period - 1], problem.block_share)
    mean = problem.probability @ rate
    worth = mean * (problem.value_usd + problem.refusal_usd)
    share = worth / max(float(worth.sum()), FLOOR)
    seen: Floats = share * np.log(np.maximum(rate, FLOOR) / np.maximum(mean, FLOOR))
    return seen


def chips_seen(problem: Problem, period: int) -> Floats:
    """Return what each offer delivered before a period and in the last one, as shares of all chips on offer [S, 2·O].

    What is late, missing, taken back or lost shows here. Of several signing dates the first stands for the offer.
    """
    deliveries, vintages = problem.deliveries, problem.vintages
    scenarios = problem.probability.size
    chips = np.zeros((scenarios, period, len(problem.axes.offers)))
    first = np.array([np.argmax(vintages.offer == offer) for offer in range(len(problem.axes.offers))])
    some = (deliveries.period < period) & (first[vintages.offer[deliveries.vintage]] == deliveries.vintage)
    at = (deliveries.scenario[some], deliveries.period[some], vintages.offer[deliveries.vintage[some]])
    np.add.at(chips, at, deliveries.chips[some] * vintages.units_max[deliveries.vintage[some]])
    most = max(float(chips[problem.probability > 0].max(axis=(0, 1), initial=0.0).sum()), FLOOR)
    mean = problem.period_hours[:period] / problem.period_hours[:period].sum()
    return np.concatenate([np.einsum("t,sto->so", mean, chips), chips[:, period - 1]], axis=1) / most


def speed_seen(problem: Problem, period: int) -> Floats:
    """Return the log of goodput over its mean on lanes where signed chips served before a period in every scenario."""
    deliveries, lanes = problem.deliveries, problem.lanes
    there = np.zeros((problem.probability.size, problem.cells.site.size), dtype=np.bool_)
    old = (deliveries.period < period) & problem.vintages.signed[deliveries.vintage] & (deliveries.chips > 0)
    there[deliveries.scenario[old], deliveries.cell[old]] = True
    known = np.flatnonzero(np.all(there[problem.probability > 0], axis=0)[lanes.cell])
    goodput = lanes.goodput_rps_per_chip[known].T  # [S, L]
    mean = np.maximum(problem.probability @ goodput, FLOOR)
    seen: Floats = np.log(np.maximum(goodput, FLOOR) / mean) / max(lanes.cell.size, 1)
    return np.where(there[:, lanes.cell[known]], seen, 0.0)
