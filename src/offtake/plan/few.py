"""Sketch a problem of many scenarios by a few of them, and lay the sketch's plan out over all.

Comes in: a problem, then values of the columns of its sketch. Goes out: a :class:`Few`, a problem of some of the
scenarios, each standing for those most like it in the worth of their demand; and a point of the whole problem's
columns in which every scenario does as its stand-in. Such a point proves nothing: it is where a search begins, and its
whole numbers are the first that are tried. It must never know a solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from offtake.plan.blocks import Floats, Index
from offtake.plan.problem import Deliveries, Ints, Nodes, Problem
from offtake.plan.variables import Model

SHARE, LEAST = 9, 4  #: one scenario in so many is sketched, and no fewer than so many


@dataclass(frozen=True)
class Few:
    """Hold a sketch: its problem, the scenarios in it, and which of these stands for each scenario [S]."""

    problem: Problem
    chosen: Ints
    stand_in: Ints


def few_of(problem: Problem) -> Few | None:
    """Sketch a problem by one scenario in nine; None where that leaves too few.

    Scenarios are put in the order of what their demand is worth and cut into groups of like number; the middle one of
    each group stands for it, with the probability of all of it.
    """
    count = problem.probability.size // SHARE
    if count < LEAST:
        return None
    groups = np.array_split(np.argsort(_worth(problem), kind="stable"), count)
    middle = np.array([group[group.size // 2] for group in groups])
    order = np.argsort(middle)
    stand_in = np.zeros(problem.probability.size, dtype=np.int64)
    for place, group in enumerate(order):
        stand_in[groups[group]] = place
    chosen = middle[order]
    weight: Floats = np.bincount(stand_in, problem.probability, count).astype(np.float64)
    return Few(some_of(problem, chosen, weight), chosen, stand_in)


def laid_out(few: Few, sketch: Model, whole: Model, values: Floats) -> Floats:
    """Give every column of the whole model the value, in the user's units, of the column that stands for it.

    0 where there is none.
    """
    result = np.zeros(sum(block.size for block in whole.blocks.columns.values()))
    for name, block in whole.blocks.columns.items():
        if "scenario" in block.axes:
            theirs = _of_node(sketch, name)
            ids = np.take(theirs, few.stand_in, axis=block.axes.index("scenario"))
        elif "delivery" in block.axes:
            continue
        else:
            ids = sketch[name].ids
        there = (block.ids >= 0) & (ids >= 0)
        result[block.ids[there]] = values[ids[there]]
    return result


def _of_node(model: Model, name: str) -> Index:
    """Give the columns of a block, each scenario with those of its node."""
    if name == "signed":
        return model.signed
    if name == "kept":
        return model.kept
    block, like = model[name], model.kept_like
    if name == "fallback":
        return np.take_along_axis(block.ids, np.broadcast_to(like[:, None, :, None], block.ids.shape), axis=0)
    if name == "chosen":
        return np.take_along_axis(block.ids, model.problem.decided.sign_as, axis=1)
    if name == "taken":
        place = [model.offer_like([offer]) for offer in range(block.ids.shape[0])]
        return np.take_along_axis(block.ids, np.array(place).reshape(block.ids.shape), axis=1)
    return block.ids


def _worth(problem: Problem) -> Floats:
    """Give what the demand of each scenario is worth [S]."""
    hours = problem.period_hours[:, None] * problem.block_share
    worth: Floats = np.einsum("stbk,k,tb->s", problem.demand_rps, problem.value_usd, hours)
    return worth


def some_of(problem: Problem, chosen: Ints, weight: Floats) -> Problem:
    """Return the problem of some scenarios of other weights, which know of each other what they knew."""
    place = np.full(problem.probability.size, -1)
    place[chosen] = np.arange(chosen.size)
    vintages, deliveries, held, nodes = problem.vintages, problem.deliveries, problem.held, problem.nodes
    mine = place[deliveries.scenario] >= 0
    only = {name: getattr(deliveries, name)[mine] for name in vars(deliveries)}
    only["scenario"] = place[deliveries.scenario[mine]]
    return replace(
        problem,
        axes=replace(problem.axes, scenarios=[problem.axes.scenarios[one] for one in chosen]),
        probability=weight,
        demand_rps=problem.demand_rps[chosen],
        power_kw=problem.power_kw[chosen],
        lanes=replace(problem.lanes, goodput_rps_per_chip=problem.lanes.goodput_rps_per_chip[:, chosen]),
        vintages=replace(
            vintages,
            paid_usd=vintages.paid_usd[:, chosen],
            cancel_usd=vintages.cancel_usd[:, chosen],
            terminal_usd=vintages.terminal_usd[:, chosen],
        ),
        deliveries=Deliveries(**only),
        nodes=None if nodes is None else _nodes(nodes, chosen),
        held=None if held is None else replace(held, signed=held.signed[:, chosen], kept=held.kept[:, chosen]),
    )


def _nodes(nodes: Nodes, chosen: Ints) -> Nodes:
    """Give the nodes of some scenarios: each is named by the first of them that is in it."""
    return Nodes(
        node_as=_first_of_a_kind(nodes.node_as[chosen].T).T,
        sign_as=_first_of_a_kind(nodes.sign_as[:, chosen]),
        keep_as=_first_of_a_kind(nodes.keep_as[:, chosen].transpose(0, 2, 1)).transpose(0, 2, 1),
    )


def _first_of_a_kind(labels: Ints) -> Ints:
    """Give for each entry along the last axis the place of the first one that has its label."""
    rows = labels.reshape(-1, labels.shape[-1])
    key = rows + np.arange(rows.shape[0])[:, None] * (int(rows.max(initial=0)) + 1)
    _, first, back = np.unique(key.ravel(), return_index=True, return_inverse=True)
    result: Ints = (first[back.ravel()] % labels.shape[-1]).reshape(labels.shape)
    return result
