"""Read the scenario tree that a user gives: its ways from the first day to the last, and what is known on each.

Comes in: rows of `[[node]]`. Goes out: :class:`Way` records, and from them demand factors and nodes. It must never know
an offer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offtake.plan.calendar import Calendar
from offtake.schema.settings import NodeRow

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Way:
    """Hold one way through the tree: its nodes from first to last, and its probability."""

    nodes: tuple[NodeRow, ...]
    probability: float

    @property
    def name(self) -> str:
        """Name it by its nodes."""
        return ", ".join(node.node for node in self.nodes)


def ways_of(rows: Sequence[NodeRow]) -> list[Way]:
    """List the ways through a tree, in the order of its rows; none without rows."""
    found: list[Way] = []

    def go(way: tuple[NodeRow, ...], probability: float) -> None:
        parent = way[-1].node if way else ""
        following = [row for row in rows if row.parent == parent]
        if not following and way:
            found.append(Way(nodes=way, probability=probability))
        for row in following:
            go((*way, row), probability * row.weight)

    go((), 1.0)
    return found


def demand_factors(ways: Sequence[Way], calendar: Calendar) -> Floats:
    """Return what each way multiplies demand by, the mean over the days of each period [W, T]."""
    factors = np.ones((len(ways), calendar.days.size))
    for place, way in enumerate(ways):
        for node in way.nodes:
            factors[place] *= np.where(calendar.days >= node.start.toordinal(), node.demand_factor, 1.0)
    return calendar.mean(factors)


def node_as(ways: Sequence[Way], way_of: Ints, calendar: Calendar) -> Ints:
    """Return the first scenario of the node of each scenario in each period [S, T]: known since its first day.

    A node that begins within a period is known when the next one begins.
    """
    node = np.zeros((way_of.size, calendar.periods), dtype=np.int64)
    for period, first_day in enumerate(calendar.edges[:-1]):
        known = [tuple(n.node for n in way.nodes if n.start.toordinal() <= first_day) for way in ways]
        labels = [known[way] for way in way_of]
        node[:, period] = [labels.index(label) for label in labels]
    return node
