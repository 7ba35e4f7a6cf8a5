"""Rehearse a day of 220,000 GPUs, thinned, and measure what thinning did against fuller runs of one of its hours.

55,000 replicas of four GPUs in 11 pools, the size of one frontier buyer's contracts; requests like Azure's
conversations with their day, up to 83% of saturation: 39 billion. One request and one replica in 2,500 is run. The
error is measured: a quarter of the busiest hour is rehearsed at 1 in 2,500 and, with five times the replicas and
requests, at 1 in 500, under five seeds each; beside the difference of the means stands what the seeds alone explain.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np

from benchmarks.harness import Figure
from benchmarks.process import in_new_process
from benchmarks.scenes import CHIPS, LOAD, deployments, fleet_of
from offtake.demand.generate import mix
from offtake.demand.profile import load_profile
from offtake.demand.workload import Week, traffic_of
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import rehearse
from offtake.units import S_PER_HOUR

GPUS, POOLS = 220_000, 11
THIN, FULLER = 2_500, 500
PEAK_RPS = 13.6  # of one replica that always has work, as ``scenes.saturation_rps`` finds
LOAD_MEAN = 0.5  # of saturation over the week: the busiest hour of the profile then has 83%
PROFILE = "chat"
SEEDS = range(5)
SECONDS_BAR = 60.0  # the goal


def hours(start: float, duration: float, thin: int, seed: int) -> dict[str, Any]:
    """Rehearse some hours of the week from Monday on, 1 in ``thin``; return what was served and how it went."""
    replicas = GPUS // CHIPS
    fleet = fleet_of(replicas, POOLS, LOAD * PEAK_RPS, (PROFILE,))
    week = Week(seed=seed, start_hour_of_week=start, duration_s=duration * S_PER_HOUR, keep_one_in=thin)
    load = mix(traffic_of([PROFILE], [LOAD_MEAN * PEAK_RPS * replicas], [[1.0]], week))
    options = Options(Policy.LEAST_LOADED, seed, thin=thin, thinned_load=True, start_hour=start, span_s=week.duration_s)
    summary = rehearse(fleet, deployments(), load, options).summary
    total = summary.total
    return {
        "requests": total.requests,
        "simulated": summary.requests_simulated,
        "ended": total.served + total.refused + total.failed,
        "status": summary.status,
        "ttft_ms_p50": total.ttft_ms_p50,
        "ttft_ms_p95": total.ttft_ms_p95,
        "tpot_ms_p50": total.tpot_ms_p50,
        "e2e_ms_p95": total.e2e_ms_p95,
        "within_slo": total.share_within_slo,
    }


def day() -> dict[str, Any]:
    """Rehearse Tuesday."""
    return hours(24.0, 24.0, THIN, seed=1)


def warm() -> dict[str, Any]:
    """Compile what a day needs."""
    return hours(24.0, 0.05, THIN, seed=1)


def errors() -> list[tuple[str, float, float]]:
    """Return by figure: the relative difference of means between thinnings, and the half-width that seeds explain."""
    busiest = float(np.argmax(load_profile(PROFILE).hour_of_week))
    thin, full = ([hours(busiest, 0.25, n, seed) for seed in SEEDS] for n in (THIN, FULLER))
    found = []
    for name in ("ttft_ms_p50", "ttft_ms_p95", "tpot_ms_p50", "e2e_ms_p95", "within_slo"):
        a, b = ([run[name] for run in runs] for runs in (thin, full))
        spread = 2.306 * math.sqrt((statistics.variance(a) + statistics.variance(b)) / len(a))  # Student, 8 degrees
        mean = statistics.fmean(b)
        found.append((name, statistics.fmean(a) / mean - 1.0, spread / mean))
    return found


def run() -> list[Figure]:
    """Rehearse the day, and then its errors."""
    in_new_process("bench_day", "warm")
    spent = in_new_process("bench_day", "day")
    said = spent.returned
    assert said["ended"] == said["requests"], "every request of the day has an end"
    lines = [
        Figure(f"a day of {GPUS:,} GPUs, 1 in {THIN:,}, {said}: by the clock", spent.wall_s, "s", SECONDS_BAR),
        Figure("the same, CPU seconds of all threads", spent.cpu_s, "s", SECONDS_BAR),
        Figure("the same, most memory", spent.memory_mb, "MB"),
    ]
    for name, error, half in in_new_process("bench_day", "errors").returned:
        title = f"{name}, 1 in {THIN:,} against 1 in {FULLER:,} (95% of chance: ±{100 * half:.2g})"
        lines.append(Figure(title, 100 * error, "% apart"))
    return lines
