"""Hold what several benchmarks run: requests like Azure's conversations, and fleets of one measured deployment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.demand.request import Requests, requests_of
from offtake.fleet import FORMAT, Fleet, Pool, Site, Workload
from offtake.performance.library import load_shipped
from offtake.performance.replica import simulate_replica
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.units import HOURS_PER_WEEK, NS_PER_S

DEPLOYMENT = "llama-3.1-70b-h100-tp4"
CHIPS = 4  # of one replica
LOAD = 0.83


def deployments() -> dict[str, tuple[StepTable, ReplicaLimits]]:
    """Return the step table that every pool here names."""
    stored = load_shipped(DEPLOYMENT)
    return {DEPLOYMENT: (stored.table, stored.limits)}


def lengths(rng: np.random.Generator, mean: float, sigma: float, count: int) -> npt.NDArray[np.int32]:
    """Return log-normal lengths of a mean, in tokens."""
    drawn = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
    return np.clip(drawn, 1, 16_000).astype(np.int32)


def requests_at(rate_rps: float, count: int) -> Requests:
    """Return Poisson requests."""
    rng = np.random.default_rng(2023)
    arrival_ns = np.cumsum(rng.exponential(NS_PER_S / rate_rps, count)).astype(np.int64)
    return requests_of(arrival_ns, lengths(rng, 1155.0, 0.9, count), lengths(rng, 211.0, 0.75, count))


def saturation_rps() -> float:
    """Return the requests per second of one replica that always has work."""
    stored, load = load_shipped(DEPLOYMENT), requests_at(1e9, 20_000)
    outcome = simulate_replica(stored.table, stored.limits, load.arrival_ns, load.input_tokens, load.output_tokens)
    return float(20_000 / outcome.finish_ns.max() * NS_PER_S)


def fleet_of(replicas: int, pools: int, goodput_rps: float, profiles: tuple[str, ...] = ("azure-2023-conv",)) -> Fleet:
    """Return a fleet of ``pools`` equal pools, each at its own site, with ``replicas`` in all, for some workloads."""
    sites = [
        Site(name=f"site-{i}", residency="any", security=0, power_kw_max=1.0, rtt_ms=[10.0 + i]) for i in range(pools)
    ]
    return Fleet(
        format=FORMAT,
        name="benchmark",
        week="2026-05-04",
        seed=1,
        version="0",
        portfolio_hash="",
        regions=["here"],
        block_of_hour=[0] * HOURS_PER_WEEK,
        block_share=[1.0],
        sites=sites,
        workloads=[workload_of(profile) for profile in profiles],
        pools=[pool_of(i, replicas // pools, goodput_rps, len(profiles)) for i in range(pools)],
    )


def workload_of(profile: str) -> Workload:
    """Return an interactive workload with Azure's mean lengths."""
    return Workload(
        name=profile,
        model="model",
        kind="interactive",
        profile=profile,
        rate_rps=1.0,
        level=[1.0],
        region_share=[1.0],
        input_tokens_mean=1155.0,
        output_tokens_mean=211.0,
        ttft_ms_p95=5_000.0,
        tpot_ms_p95=200.0,
        value_usd_per_request=0.01,
        refusal_usd_per_request=0.01,
    )


def pool_of(index: int, replicas: int, goodput_rps: float, workloads: int) -> Pool:
    """Return pool number ``index``."""
    return Pool(
        name=f"pool-{index}",
        kind="chips",
        provider="p",
        site=f"site-{index}",
        chip="h100",
        model="model",
        deployment=DEPLOYMENT,
        replicas=replicas,
        chips_per_replica=CHIPS,
        offers=[],
        goodput_rps=[goodput_rps] * workloads,
        allotment_rps=[[1.0] * workloads],
        bid_usd_per_chip_s=[0.0002],
    )
