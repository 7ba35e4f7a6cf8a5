"""Make the load of a rehearsal: the fleet's own workloads over some hours of its week, or a trace scaled to them.

Comes in: a fleet, a :class:`Window`, perhaps a trace. Goes out: batches of requests, thinned as asked, and the
choices a person would make first: the busiest hour, how far to thin, the largest site. It must never know a policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offtake.demand.generate import mix
from offtake.demand.request import Requests
from offtake.demand.trace import read_trace
from offtake.demand.workload import Week, traffic_of
from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.schema.read import nearest
from offtake.units import HOURS_PER_WEEK, S_PER_HOUR

TRACE_STREAM = 3  #: stream of random numbers that gives a trace's requests their regions


@dataclass(frozen=True, kw_only=True)
class Window:
    """Choose the hours of the week that are rehearsed, from Monday 00:00 UTC; ``surge`` multiplies every rate."""

    seed: int
    start_hour: float = 0.0
    hours: float = 1.0
    thin: int = 1
    surge: float = 1.0


def check_window(window: Window) -> None:
    """Refuse hours that the week does not have.

    Raises
    ------
    InputError
        With every fault of the window.
    """
    checks = [
        (0 <= window.start_hour < HOURS_PER_WEEK, "--from-hour", f"Give an hour from 0 to {HOURS_PER_WEEK - 1}."),
        (0 < window.hours <= HOURS_PER_WEEK, "--hours", f"Give more than 0 and at most {HOURS_PER_WEEK} hours."),
        (window.surge > 0, "--surge", "Give a factor above 0."),
        (window.thin >= 1, "--thin", "Give a whole number from 1 on."),
    ]
    faults = [Fault(flag, "the value cannot be", mend) for good, flag, mend in checks if not good]
    if faults:
        raise InputError(faults)


def generated(fleet: Fleet, window: Window) -> Iterator[Requests]:
    """Yield the traffic of the fleet's workloads, 1 request in ``thin`` made."""
    week = Week(
        seed=window.seed,
        start_hour_of_week=window.start_hour,
        duration_s=window.hours * S_PER_HOUR,
        keep_one_in=window.thin,
        surge=window.surge,
    )
    workloads = fleet.workloads
    names = [workload.profile for workload in workloads]
    rates = [workload.rate_rps for workload in workloads]
    return mix(traffic_of(names, rates, [workload.region_share for workload in workloads], week))


def replayed(path: Path, fleet: Fleet, workload: str, seed: int) -> Iterator[Requests]:
    """Yield a trace as the traffic of one workload, its requests spread over that workload's regions.

    Raises
    ------
    InputError
        If the fleet has no such workload, or the trace is faulty.
    """
    names = [one.name for one in fleet.workloads]
    if workload not in names:
        raise InputError(
            [Fault("--workload", "the fleet has no such workload", nearest(workload, names), value=workload)]
        )
    index = names.index(workload)
    edges = np.cumsum(fleet.workloads[index].region_share)[:-1]
    rng = np.random.default_rng([seed, TRACE_STREAM])
    for batch in read_trace(path):
        region = np.searchsorted(edges, rng.random(len(batch.arrival_ns)), side="right").astype(np.int16)
        yield batch._replace(workload=np.full(len(region), index, np.int16), region=region)


def rate_by_hour_rps(fleet: Fleet) -> list[float]:
    """Return the fleet's demand in each hour of the week, in requests per second, by its blocks."""
    by_block = [
        sum(workload.rate_rps * workload.level[block] for workload in fleet.workloads)
        for block in range(len(fleet.block_share))
    ]
    return [by_block[block] for block in fleet.block_of_hour]


def busiest_hour(fleet: Fleet) -> int:
    """Return the first of the busiest hours of the week."""
    return int(np.argmax(rate_by_hour_rps(fleet)))


def thin_for(fleet: Fleet, window: Window, requests_max: int) -> int:
    """Return the least whole n for which 1 in n of the window's requests is at most ``requests_max``."""
    rates = rate_by_hour_rps(fleet)
    first = int(window.start_hour)
    hours = range(first, first + max(1, int(np.ceil(window.hours))))
    mean_rps = float(np.mean([rates[hour % HOURS_PER_WEEK] for hour in hours])) * window.surge
    return max(1, int(np.ceil(mean_rps * window.hours * S_PER_HOUR / requests_max)))


def largest_site(fleet: Fleet) -> str:
    """Return the site that the plan gives the most requests per second over the week."""
    share = fleet.block_share
    placed = {site.name: 0.0 for site in fleet.sites}
    for pool in fleet.pools:
        placed[pool.site] += sum(part * sum(row) for part, row in zip(share, pool.allotment_rps, strict=True))
    return max(placed, key=lambda name: placed[name])
