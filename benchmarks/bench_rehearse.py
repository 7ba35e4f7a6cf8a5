"""Time the rehearsal of requests like Azure's conversations (mean 1,155 in, 211 out) at 83% of saturation.

One replica against its plain twin; then fleets of 64 and 1,000 replicas under each policy against that one replica on
as many requests. The work is the number of requests served, and every rehearsal is verified before it is timed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Measure, Side, compare
from offtake.demand.request import Requests, part, requests_of
from offtake.fleet import FORMAT, Fleet, Pool, Site, Workload
from offtake.performance.dense import prepare
from offtake.performance.library import load_shipped
from offtake.performance.replica import simulate_prepared, simulate_replica
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.run import Drive, cut
from offtake.rehearse.run import run as drive
from offtake.rehearse.state import new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.verify import ledger_of, verify
from offtake.units import HOURS_PER_WEEK, NS_PER_S
from tests.performance.replica_twin import Request, walk

DEPLOYMENT = "llama-3.1-70b-h100-tp4"
LOAD = 0.83
REQUESTS, TWIN_REQUESTS = 400_000, 1_500
FLEET_BAR = 0.2  # a share of one replica's speed: the goals ask 1 M/s of a fleet and 5 M/s of a replica


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


def fleet_of(replicas: int, pools: int, goodput_rps: float) -> Fleet:
    """Return a fleet of ``pools`` equal pools, each at its own site, with ``replicas`` in all."""
    sites = [
        Site(name=f"site-{i}", residency="any", security=0, power_kw_max=1.0, rtt_ms=[10.0 + i]) for i in range(pools)
    ]
    workload = Workload(
        name="chat",
        model="model",
        kind="interactive",
        profile="azure-2023-conv",
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
    each = [
        Pool(
            name=f"pool-{i}",
            kind="chips",
            provider="p",
            site=f"site-{i}",
            chip="h100",
            model="model",
            deployment=DEPLOYMENT,
            replicas=replicas // pools,
            chips_per_replica=4,
            offers=[],
            goodput_rps=[goodput_rps],
            allotment_rps=[[1.0]],
            bid_usd_per_chip_s=[0.0002],
        )
        for i in range(pools)
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
        workloads=[workload],
        pools=each,
    )


def rehearsal(replicas: int, pools: int, policy: Policy, peak_rps: float) -> Side:
    """Return the work of one fleet under one policy."""
    stored = load_shipped(DEPLOYMENT)
    fleet, load = fleet_of(replicas, pools, LOAD * peak_rps), requests_at(LOAD * peak_rps * replicas, REQUESTS)
    options = Options(policy=policy)

    def work() -> int:
        engine = new_engine(fleet, {DEPLOYMENT: (stored.table, stored.limits)}, options)
        course = Drive(engine, new_tally(fleet, int(load.arrival_ns[0])))
        drive(course, cut([load], options.batch), [], options.seed, lambda _now_ns: None)
        if "verified" not in seen:
            seen.add("verified")
            verify(ledger_of(course.engine, course.tally))
        return int((course.tally.cells["served"] + course.tally.cells["refused"]).sum())

    seen: set[str] = set()
    return Side(f"{replicas} replicas in {pools} pools, {policy.name.lower()}", work)


def one_replica(count: int, peak_rps: float) -> Side:
    """Return the work of one replica."""
    stored, load = load_shipped(DEPLOYMENT), part(requests_at(LOAD * peak_rps, REQUESTS), 0, count)
    tables = prepare([(stored.table, stored.limits)])

    def work() -> int:
        outcome = simulate_prepared(tables, load.arrival_ns, load.input_tokens, load.output_tokens)
        return int((outcome.finish_ns > 0).sum())

    return Side("one replica", work)


def twin(count: int, peak_rps: float) -> Side:
    """Return the work of the plain twin."""
    stored, load = load_shipped(DEPLOYMENT), part(requests_at(LOAD * peak_rps, REQUESTS), 0, count)
    asked = [load.arrival_ns.tolist(), load.input_tokens.tolist(), load.output_tokens.tolist()]

    def work() -> int:
        requests = [Request(*each) for each in zip(*asked, strict=True)]
        walk(stored.table, stored.limits, requests)
        return sum(request.finish_ns > 0 for request in requests)

    return Side("plain twin, every iteration", work)


def run() -> list[Measure]:
    """Compare one replica with its twin, and fleets with one replica."""
    peak_rps = saturation_rps()
    small = compare(one_replica(TWIN_REQUESTS, peak_rps), twin(TWIN_REQUESTS, peak_rps), turns=1)
    yardstick = one_replica(REQUESTS, peak_rps)
    fleets = [
        compare(rehearsal(replicas, pools, policy, peak_rps), yardstick)._replace(bar=FLEET_BAR)
        for replicas, pools in ((64, 8), (1_000, 20))
        for policy in Policy
    ]
    return [small, *fleets]
