"""Decide where each workload may run: the lanes, and a sentence for each that is not there.

Comes in: a portfolio, its cells and a goodput for each workload, chip and round trip. Goes out:
:class:`Placement`, or one ``InputError`` for workloads that may run nowhere. The rule: a lane exists where the
data may stay (residency), the site is secure enough, the model runs on the chip, and requests meet their times:
the median round trip, weighted by the share of requests from each region, is taken off the time to first token
(rounded up to a step of 50 ms), and the goodput of a replica under what is left must be above zero. A
token-priced API serves any model, and is taken to meet its times if the round trip alone does. It must never
know a price.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from offtake.errors import Fault, InputError
from offtake.performance.goodput import Goodput
from offtake.plan.admission import nowhere, refused_by_terms
from offtake.plan.contracts import Cell
from offtake.schema.settings import WorkloadRow
from offtake.supply.link import rtt_ms
from offtake.supply.portfolio import Portfolio
from offtake.units import PERCENT

RTT_STEP_MS = 50  #: round trips are rounded up to this, so that few goodputs are sought (assumption)

STOPPED = {
    "length": "{share:.0f}% of its requests are longer than a replica can hold",
    "ttft": "even an idle replica misses its time to first token after a round trip of {rtt:.0f} ms",
    "tpot": "even an idle replica misses its time per token",
    "saturated": "a replica cannot serve it at any steady rate",
}

GoodputOf = Callable[[WorkloadRow, str, int], Goodput]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Hold one lane: workload, cell, round trip, and goodput of one chip in requests per second (1 for an API)."""

    workload: int
    cell: int
    rtt_ms: float
    rps_per_chip: float
    goodput: Goodput | None


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """Hold a pair of workload and cell that is no lane, and why; ``sentence`` says it whole."""

    workload: int
    cell: int
    reason: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Hold the lanes, and each pair of workload and cell that is not one."""

    lanes: list[Lane]
    excluded: list[Excluded]


def place(portfolio: Portfolio, cells: list[Cell], goodput_of: GoodputOf) -> Placement:
    """Find every lane.

    Raises
    ------
    InputError
        With one fault for each workload that no cell may serve, and why not.
    """
    lanes: list[Lane] = []
    excluded: list[Excluded] = []
    faults: list[Fault] = []
    for index, workload in enumerate(portfolio.tables.workloads):
        reasons: list[str] = []
        for number, cell in enumerate(cells):
            found = lane_or_reason(portfolio, workload, cell, goodput_of)
            if isinstance(found, str):
                reasons.append(f"{workload.workload} cannot run on {cell.name}: {found}.")
                excluded.append(Excluded(workload=index, cell=number, reason=found, sentence=reasons[-1]))
                continue
            rtt, rps, goodput = found
            lanes.append(Lane(workload=index, cell=number, rtt_ms=rtt, rps_per_chip=rps, goodput=goodput))
        if len(reasons) == len(cells):
            faults.append(nowhere(workload, reasons))
    if faults:
        raise InputError(faults)
    return Placement(lanes=lanes, excluded=excluded)


def lane_or_reason(
    portfolio: Portfolio, workload: WorkloadRow, cell: Cell, goodput_of: GoodputOf
) -> tuple[float, float, Goodput | None] | str:
    """Return a lane's round trip (ms), goodput per chip (requests/s) and its origin; or why there is no lane."""
    rtt = rtt_ms(portfolio.links, cell.site, workload.regions)
    reason = refused_by_terms(portfolio, workload, cell)
    if reason or rtt is None:
        return reason
    if cell.is_api:
        return rtt, 1.0, None
    deployment = portfolio.deployments[workload.model, cell.chip]
    goodput = goodput_of(workload, cell.chip, RTT_STEP_MS * ceil(rtt / RTT_STEP_MS))
    if goodput.requests_per_s <= 0:
        return STOPPED[goodput.stopped_by].format(share=goodput.too_long_share * PERCENT, rtt=rtt)
    return rtt, goodput.requests_per_s / deployment.chips_per_replica, goodput
