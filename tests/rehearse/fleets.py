"""Small fleets and loads for the tests of policy and rehearsal."""

from __future__ import annotations

from typing import Any

import numpy as np

from offtake.demand.request import Requests, requests_of
from offtake.fleet import FORMAT, Fleet, Pool, Site, Workload
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.units import HOURS_PER_WEEK

PAIR = np.array([1.0, 2.0])


def constant_table(time_ns: float) -> StepTable:
    """Make a table in which every step takes the same time."""
    square = np.zeros((2, 2))
    return StepTable(PAIR, np.full(2, time_ns), PAIR - 1.0, np.zeros(2), PAIR, PAIR, square, square + time_ns, 0.0)


def rising_table(seed: int) -> StepTable:
    """Make a random table in milliseconds with the shapes of a real one."""
    rng = np.random.default_rng([seed, 1])
    batch, context = np.array([1.0, 3.0, 8.0, 20.0]), np.array([1.0, 20.0, 50.0, 120.0, 1000.0])
    attention = 1e3 * np.cumsum(np.cumsum(rng.uniform(5, 300, (4, 5)), axis=0), axis=1)
    token = 1e4 * np.cumsum(rng.uniform(50, 900, 4))
    prefill = 1e3 * np.concatenate([[0.0], np.cumsum(rng.uniform(10, 5000, 3))])
    grids = np.array([1.0, 16.0, 70.0, 300.0]), np.array([0.0, 30.0, 100.0, 400.0])
    return StepTable(grids[0], token, grids[1], prefill, batch, context, attention, attention * 1.3 + 4e5, 17_000.25)


def pool(name: str, site: str, **changes: Any) -> Pool:
    """Make a pool of chips that serves both workloads."""
    fields: dict[str, Any] = {
        "name": name,
        "kind": "chips",
        "provider": "someone",
        "site": site,
        "chip": "chip",
        "model": "model",
        "deployment": "one",
        "replicas": 3,
        "chips_per_replica": 2,
        "offers": [],
        "goodput_rps": [20.0, 20.0],
        "allotment_rps": [[1.0, 1.0]],
        "bid_usd_per_chip_s": [0.0],
    }
    return Pool(**{**fields, **changes})


def workload(name: str, **changes: Any) -> Workload:
    """Make an interactive workload."""
    fields: dict[str, Any] = {
        "name": name,
        "model": "model",
        "kind": "interactive",
        "profile": "none",
        "rate_rps": 1.0,
        "level": [1.0],
        "region_share": [0.5, 0.5],
        "input_tokens_mean": 60.0,
        "output_tokens_mean": 20.0,
        "ttft_ms_p95": 500.0,
        "tpot_ms_p95": 100.0,
        "value_usd_per_request": 0.01,
        "refusal_usd_per_request": 0.0,
    }
    return Workload(**{**fields, **changes})


def fleet(pools: list[Pool], sites: list[Site] | None = None, workloads: list[Workload] | None = None) -> Fleet:
    """Make a fleet with one block a week, two user regions and sites A and B."""
    both = [
        Site(name="A", residency="us", security=1, power_kw_max=100.0, rtt_ms=[10.0, 80.0]),
        Site(name="B", residency="eu", security=0, power_kw_max=100.0, rtt_ms=[90.0, 20.0]),
    ]
    return Fleet(
        format=FORMAT,
        name="test",
        week="2026-05-04",
        seed=1,
        version="0",
        portfolio_hash="",
        regions=["us", "eu"],
        block_of_hour=[0] * HOURS_PER_WEEK,
        block_share=[1.0],
        sites=sites or both,
        workloads=workloads or [workload("chat"), workload("code", residency="us")],
        pools=pools,
    )


def small_fleet() -> Fleet:
    """Make three chip pools of different sizes at two sites, and one API behind a rate limit."""
    return fleet(
        [
            pool("a-one", "A", replicas=3, bid_usd_per_chip_s=[0.001]),
            pool("a-two", "A", replicas=1, deployment="two", usd_per_chip_hour_used=1.5),
            pool("b-one", "B", replicas=4, bid_usd_per_chip_s=[0.004], usd_per_chip_hour=2.0),
            pool("api", "B", kind="api", replicas=0, tokens_per_minute_max=40_000.0, ttft_ms=300.0, tpot_ms=12.5),
        ]
    )


def small_deployments(seed: int) -> dict[str, tuple[StepTable, ReplicaLimits]]:
    """Make the tables that ``small_fleet`` names."""
    return {
        "one": (rising_table(seed), ReplicaLimits(90, 16, 12, 64, 1_200)),
        "two": (rising_table(seed + 100), ReplicaLimits(40, 8, 20, 128, 300)),
    }


def talk(seed: int, count: int, spacing_ns: float) -> Requests:
    """Make random requests of which two thirds belong to forty sessions, most of them after some thought."""
    rng = np.random.default_rng([seed, 3])
    session = np.where(rng.random(count) < 2 / 3, rng.integers(0, 40, count), -1).astype(np.int32)
    think_ns = rng.integers(0, 50, count) * 1_000_000 * (rng.random(count) > 0.2)
    think_ns[(rng.random(count) < 0.2) | (session < 0)] = -1
    return load(seed, count, spacing_ns)._replace(session=session, think_ns=think_ns)


def load(seed: int, count: int, spacing_ns: float) -> Requests:
    """Make random requests of both workloads from both regions, some of them at the same instant."""
    rng = np.random.default_rng([seed, 2])
    arrival = np.cumsum(rng.exponential(spacing_ns, count) * (rng.random(count) > 0.1)).astype(np.int64)
    lengths = [rng.integers(1, high, count).astype(np.int32) for high in (250, 120)]
    labels = [rng.integers(0, 2, count).astype(np.int16) for _ in range(2)]
    return requests_of(arrival, lengths[0], lengths[1])._replace(workload=labels[0], region=labels[1])
