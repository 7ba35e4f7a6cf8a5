"""Choose the solver's unit for each quantity of a problem, so that its tolerances mean the same everywhere.

Comes in: a problem in the user's units (requests/s, chips, kW, USD). Goes out: :class:`Units`, powers of ten
such that the largest quantity of each kind is between 10 and 100 of its unit. The units are handed to the
blocks as ``Span.unit`` and applied in ``Blocks.build``, once. A problem whose money or chips are multiplied
by a power of ten is then the very same program. It must never know a constraint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offtake.plan.problem import Floats, Problem
from offtake.units import S_PER_HOUR

LEAST_USD = 1.0  # below a dollar a plan's money is nothing, and a unit of it would blow every other figure up


@dataclass(frozen=True)
class Units:
    """Hold how much of the user's unit is one solver's unit.

    ``chips [N]`` by cell (requests/s for an API cell), ``lane_rps [L]`` (about one unit of chips),
    ``demand_rps [K]``, ``kw``, ``bytes_per_s``, ``usd``.
    """

    chips: Floats
    lane_rps: Floats
    demand_rps: Floats
    kw: float
    bytes_per_s: float
    usd: float


def choose_units(problem: Problem) -> Units:
    """Choose the units from the largest chips, demand, power, traffic and money of the problem."""
    lanes, cells = problem.lanes, problem.cells
    offered = _chips_offered(problem)
    chips = np.where(cells.is_api, 1.0, decade(float(offered[~cells.is_api].max(initial=0.0))))
    chips[cells.is_api] = [decade(float(x)) for x in offered[cells.is_api]]
    lane_rps = chips[lanes.cell] * np.array([_near(float(g)) for g in lanes.goodput_rps_per_chip.mean(axis=1)])
    demand_max = problem.demand_rps.max(axis=(0, 1, 2), initial=0.0)
    power = problem.power_kw[np.isfinite(problem.power_kw)]
    traffic = problem.link_bytes_per_s[np.isfinite(problem.link_bytes_per_s)]
    return Units(
        chips=chips,
        lane_rps=lane_rps,
        demand_rps=np.array([decade(float(x)) for x in demand_max]),
        kw=decade(float(power.max(initial=0.0))),
        bytes_per_s=decade(float(traffic.max(initial=0.0))),
        usd=_usd_unit(problem),
    )


def decade(largest: float) -> float:
    """Give the power of ten that brings ``largest`` between 10 and 100; 1 for nothing."""
    if not 0 < largest < np.inf:
        return 1.0
    return float(10.0 ** (np.floor(np.log10(largest)) - 1))


def _near(x: float) -> float:
    """Round to the nearest power of ten; 1 for nothing."""
    return float(10.0 ** np.round(np.log10(x))) if x > 0 else 1.0


def _chips_offered(problem: Problem) -> Floats:
    """Give the most chips any scenario and period could bring to each cell [N]."""
    deliveries, axes = problem.deliveries, problem.axes
    shape = (len(axes.scenarios), len(axes.periods), len(axes.cells))
    total = np.zeros(shape)
    chips = deliveries.chips * problem.vintages.units_max[deliveries.vintage]
    np.add.at(total, (deliveries.scenario, deliveries.period, deliveries.cell), chips)
    most: Floats = total.max(axis=(0, 1), initial=0.0)
    return most


def _usd_unit(problem: Problem) -> float:
    """Take the larger of a period's worth of demand and a period's fees."""
    worth_usd_per_request = np.maximum(problem.value_usd, problem.refusal_usd)
    rate = np.einsum("stbk,k,b->st", problem.demand_rps, worth_usd_per_request, problem.block_share)
    worth = float((rate * problem.period_hours * S_PER_HOUR).max(initial=0.0))
    fees = problem.vintages.paid_usd * problem.vintages.units_max[:, None, None]
    return decade(max(worth, float(fees.sum(axis=0).max(initial=0.0)), LEAST_USD))
