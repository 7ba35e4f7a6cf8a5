"""Rehearse one of the plan's own futures: the timeline and the demand of a scenario of the fleet.

Comes in: a fleet and the name of a scenario, ``worst`` or ``all``. Goes out: fleets with that scenario's demand and the
timelines that go with them. The worst is the one with the most demand for each chip that is left, over the week. This
module must never know an engine.
"""

from __future__ import annotations

import msgspec

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet, Scenario, ScenarioEvent
from offtake.rehearse.timeline import (
    FOREVER_HOURS,
    Curtailment,
    LateTranche,
    LostSite,
    Reclaim,
    SlowReplica,
    SurgeRow,
    Timeline,
)
from offtake.schema.read import nearest
from offtake.schema.tables import Row
from offtake.units import HOURS_PER_WEEK

WORST, ALL = "worst", "all"


def chosen_scenarios(fleet: Fleet, name: str) -> list[Scenario]:
    """Return the scenarios of a name: one, the ``worst``, or ``all`` of them, the worst first.

    Raises
    ------
    InputError
        If the fleet has none of this name, or none at all.
    """
    if not fleet.scenarios:
        mend = "Plan again with this version, or leave --scenario out."
        raise InputError([Fault("--scenario", "the fleet holds no scenarios of a plan", mend, value=name)])
    known = {scenario.name: scenario for scenario in fleet.scenarios}
    if name in {ALL, WORST}:
        found = sorted(fleet.scenarios, key=lambda scenario: strain(fleet, scenario), reverse=True)
        return found if name == ALL else found[:1]
    if name not in known:
        mend = nearest(name, [*known, WORST, ALL])
        raise InputError([Fault("--scenario", "the plan has no such scenario", mend, value=name)])
    return [known[name]]


def strain(fleet: Fleet, scenario: Scenario) -> float:
    """Return demand over the capacity that is left, both as means over the week relative to the fleet's."""
    worth = [one.rate_rps * (one.value_usd_per_request + one.refusal_usd_per_request) for one in fleet.workloads]
    calm = sum(weight * factor for weight, factor in zip(worth, scenario.demand_factor, strict=True))
    demand = calm / sum(worth) if sum(worth) > 0 else 1.0
    capacity = 0.0
    for pool in fleet.pools:
        chips = float(pool.replicas * pool.chips_per_replica)
        away = 0.0
        for event in scenario.events:
            share = event.hours / HOURS_PER_WEEK
            if event.target == pool.name and event.kind != "slow_replica":
                away += event.value * share
            elif event.target == pool.name:
                away += (1.0 - 1.0 / event.value) * share
            elif event.target == pool.site:
                away += event.value * share
        capacity += chips * max(0.0, 1.0 - away)
    whole = float(sum(pool.replicas * pool.chips_per_replica for pool in fleet.pools))
    for event in scenario.events:
        demand *= 1.0 + (event.value - 1.0) * event.hours / HOURS_PER_WEEK if event.kind == "surge" else 1.0
    left = capacity / whole if whole > 0 else 1.0
    return demand / left if left > 0 else float("inf")


def with_demand(fleet: Fleet, scenario: Scenario) -> Fleet:
    """Return the fleet asked for what a scenario asks; its surges are events."""
    workloads = [
        msgspec.structs.replace(workload, rate_rps=workload.rate_rps * factor)
        for workload, factor in zip(fleet.workloads, scenario.demand_factor, strict=True)
    ]
    return msgspec.structs.replace(fleet, workloads=workloads)


def timeline_of_scenario(scenario: Scenario, start_hour: float) -> Timeline:
    """Return what happens in a scenario, counted from an hour of the week; what is over by then is left out."""
    rows: list[Row] = []
    for event in scenario.events:
        first = max(event.start_hour - start_hour, 0.0)
        hours = event.start_hour + event.hours - start_hour - first
        if hours > 0:
            rows.append(_row(event, first, hours, late=event.start_hour < start_hour))
    return Timeline(tuple(rows))


def _row(event: ScenarioEvent, first: float, hours: float, *, late: bool) -> Row:
    """Return one event as a user would write it; a reclaim drains in its last hour, unless it is past."""
    match event.kind:
        case "lost_site":
            return LostSite(site=event.target, start_hour=first, hours=FOREVER_HOURS)
        case "curtailment":
            return Curtailment(site=event.target, start_hour=first, hours=hours, cut_share=event.value)
        case "surge":
            return SurgeRow(start_hour=first, hours=hours, factor=event.value)
        case "slow_replica":
            return SlowReplica(pool=event.target, share=1.0, factor=event.value, start_hour=first, hours=hours)
        case "reclaim":
            drain = 0.0 if late else 1.0
            return Reclaim(pool=event.target, share=event.value, notice_hour=0.0, notice_hours=first, drain_hours=drain)
        case _:
            return LateTranche(pool=event.target, share=event.value, start_hour=first, until_hour=first + hours)
