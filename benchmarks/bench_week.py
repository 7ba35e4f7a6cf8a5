"""Rehearse 44.1 million requests: the week of two of Azure's services, at the rates that were published.

Rates from ``../shared/data/azure-2024-week-rates.csv`` (coding and conversation, May 2024), lengths of the profiles
``azure-2023-code`` and ``azure-2023-conv``. The fleet is 24 replicas at four sites, enough for the busiest minute. A
process of its own generates, serves, tallies and verifies the whole week; what was compiled before is used. The work is
the number of requests and their tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, Skipped
from benchmarks.process import Spent, in_new_process
from benchmarks.scenes import deployments, fleet_of
from offtake.demand.generate import mix
from offtake.demand.rates import read_rates
from offtake.demand.workload import Week, traffic_at_rates
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import rehearse
from offtake.units import HOURS_PER_WEEK, S_PER_HOUR

RATES = Path(__file__).resolve().parents[2] / "shared" / "data" / "azure-2024-week-rates.csv"
PROFILES = ("azure-2023-code", "azure-2023-conv")
REPLICAS, POOLS, GOODPUT_RPS = 24, 4, 11.0
PUBLISHED = 44_107_694  # requests; what a seed draws is within a few standard deviations of it
SECONDS_BAR, MEMORY_BAR_MB = 90.0, 1_000.0  # the goals


def hours(duration: float, policy: Policy = Policy.LEAST_LOADED) -> dict[str, Any]:
    """Rehearse the first hours of the week; return what was served and how it went."""
    week = Week(seed=1, duration_s=duration * S_PER_HOUR)
    load = mix(traffic_at_rates(read_rates(RATES), PROFILES, week))
    fleet, options = fleet_of(REPLICAS, POOLS, GOODPUT_RPS, PROFILES), Options(policy, span_s=week.duration_s)
    summary = rehearse(fleet, deployments(), load, options).summary
    total = summary.total
    return {
        "requests": total.requests,
        "tokens": total.input_tokens + total.output_tokens,
        "ended": total.served + total.refused + total.failed,
        "status": summary.status,
        "ttft_ms_p99": total.ttft_ms_p99,
        "checks": len(summary.checks),
    }


def warm() -> dict[str, Any]:
    """Compile what the week needs."""
    return {policy.name: hours(0.1, policy)["requests"] for policy in (Policy.LEAST_LOADED, Policy.BID_PRICE)}


def week_least_loaded() -> dict[str, Any]:
    """Rehearse the whole week under the least loaded policy."""
    return hours(HOURS_PER_WEEK)


def week_bid_price() -> dict[str, Any]:
    """Rehearse the whole week under the bid price."""
    return hours(HOURS_PER_WEEK, Policy.BID_PRICE)


def figures(name: str, spent: Spent) -> list[Figure]:
    """Return time and memory beside the goals."""
    found = spent.returned
    assert found["requests"] == found["ended"] > 0.99 * PUBLISHED, "every request of the week has an end"
    said = json.dumps(found)
    return [
        Figure(f"week, {name}, {said}: by the clock", spent.wall_s, "s", SECONDS_BAR),
        Figure(f"week, {name}: CPU seconds of all threads", spent.cpu_s, "s", SECONDS_BAR),
        Figure(f"week, {name}: most memory", spent.memory_mb, "MB", MEMORY_BAR_MB),
    ]


def run() -> list[Figure]:
    """Rehearse the week under two policies."""
    if not RATES.exists():
        message = "the published rates of Azure's week are not beside this checkout"
        raise Skipped(message)
    in_new_process("bench_week", "warm")
    lines = figures("least loaded", in_new_process("bench_week", "week_least_loaded"))
    return [*lines, *figures("bid price", in_new_process("bench_week", "week_bid_price"))]
