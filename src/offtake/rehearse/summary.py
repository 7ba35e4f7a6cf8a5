"""Sum a rehearsal up: attainment, cost, refusals and load, by workload, class, site and pool.

Comes in: the outcome's table, the engine at rest, the fleet. Goes out: one ``Summary``, written as ``rehearse.json``. A
percentile is printed only where the group was stationary; elsewhere it is null and ``status`` says why. With thinning
n, counts and money are those of the full fleet: the simulated ones times n.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from offtake.fleet import Fleet
from offtake.rehearse.options import Options
from offtake.rehearse.state import Engine
from offtake.rehearse.stationary import REQUESTS_MIN, Stationarity, stationarity, worst
from offtake.units import NS_PER_HOUR, NS_PER_S, S_PER_MINUTE

FORMAT = "offtake-rehearsal-1"
SHORT_S = 2.0**-30  #: so that a load of one instant has a rate
P95 = 95
P99_REQUESTS_MIN = 5 * REQUESTS_MIN  #: a P99 of fewer is the maximum


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Say how one group of requests fared; percentiles are null unless ``status`` is ``stationary``.

    Shares are of all requests offered, so that a refusal counts as a miss.
    """

    workload: str  #: Workload, or `all`.
    kind: str  #: Kind of workload, or `all`.
    site: str  #: Site, `none` (not served), or `all`.
    status: str  #: `stationary`, `too few requests`, `too short`, `interrupted` or `not stationary`.
    requests: int  #: Requests offered.
    served: int  #: Of them, answered in full.
    refused: int  #: Turned away by the policy.
    failed: int  #: Lost after their first token.
    refused_by_reason: dict[str, int]  #: Refusals by reason; see the policies.
    share_served: float  #: Served.
    share_within_ttft: float  #: Served with a first token in time.
    share_within_tpot: float  #: Served with tokens fast enough.
    share_within_slo: float  #: Both.
    ttft_ms_p50: float | None  #: Median time to first token, round trip included.
    ttft_ms_p95: float | None  #: 95th percentile.
    ttft_ms_p99: float | None  #: 99th percentile; needs 100 requests.
    tpot_ms_p50: float | None  #: Median time per output token after the first.
    tpot_ms_p95: float | None  #: 95th percentile.
    e2e_ms_p95: float | None  #: 95th percentile of the time to the last token.
    input_tokens: int  #: Prompt tokens of served requests.
    output_tokens: int  #: Answer tokens of served requests.
    value_usd: float  #: Value of the requests served.
    cost_usd: float  #: Chip time, use and tokens of the requests.
    value_in_time_usd: float = 0.0  #: Value of the requests served within both limits.


class PoolLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Say how hard one pool worked; means are those of the simulated pool."""

    pool: str  #: Name of the pool.
    site: str  #: Its site.
    status: str  #: As of a group.
    replicas_simulated: int  #: Replicas simulated, after thinning.
    capacity_error: float  #: Relative error of its capacity by thinning.
    requests: int  #: Requests that were sent there.
    busy_share: float  #: Of time, replicas at work.
    places_share: float  #: Of running places, taken.
    memory_share: float  #: Of KV cache, held.
    load_planned: float  #: What came, over what the plan says it serves within the SLO.
    in_system_mean: float  #: L of Little's law.
    arrivals_rps: float  #: λ of Little's law.
    stay_s_mean: float  #: W of Little's law.
    queue_ms_mean: float | None  #: Mean wait before a request runs; null unless stationary.
    held_usd: float  #: Fee of the chip time that requests took.
    idle_usd: float  #: Fee of the rest.


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the answer of one rehearsal."""

    format: str  #: `offtake-rehearsal-1`.
    portfolio_hash: str  #: As in `plan.json`.
    fleet: str  #: Name of the fleet.
    week: str  #: Its Monday.
    policy: str  #: `bid_price`, `least_loaded` or `round_robin`.
    seed: int  #: Seed of the traffic.
    thin: int  #: 1 in so many replicas and requests was simulated; counts and money here are scaled back.
    thin_error: str  #: What thinning did, in a sentence.
    complete: bool  #: False if it was interrupted.
    done_share: float  #: Of requests, followed to their end.
    hours: float  #: From the first to the last arrival.
    requests_simulated: int  #: Requests simulated.
    status: str  #: Worst status of any workload.
    total: Group  #: All requests.
    workloads: list[Group]  #: By workload.
    kinds: list[Group]  #: By kind of workload.
    sites: list[Group]  #: By site.
    cells: list[Group]  #: By workload and site.
    pools: list[PoolLoad]  #: By pool.
    idle_usd: float  #: Fees of chip time that nobody took.
    cost_usd: float  #: Fees of all chips, use and tokens.
    lost_sites: list[str]  #: Sites that were lost, and when.
    checks: list[str]  #: Laws that were checked and hold, a sentence each.


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a summary is made of."""

    frame: pl.DataFrame
    engine: Engine
    fleet: Fleet
    options: Options
    capacity_errors: dict[str, float]
    complete: bool
    done_share: float
    checks: list[str]


class Scope(NamedTuple):
    """Hold the load's first and last arrival (ns), the thinning, and whether the rehearsal came to its end."""

    span_ns: tuple[int, int]
    thin: int
    complete: bool


def summarise(parts: Parts) -> Summary:
    """Return the summary of a rehearsal."""
    frame, fleet, options = parts.frame, parts.fleet, parts.options
    arrival_ns = frame["arrival_ns"].to_numpy()
    span_ns = (int(arrival_ns.min()), int(arrival_ns.max())) if len(frame) else (0, 0)
    scope = Scope(span_ns, options.thin, parts.complete)
    groups = {key: _groups(frame, key.split(), scope) for key in ("workload kind", "kind", "site")}
    pools = [_pool_load(parts, index, scope) for index in range(len(fleet.pools))]
    found = [Stationarity(group.status) for group in groups["workload kind"]]
    total = _group(frame, {}, scope)
    idle_usd = sum(pool.idle_usd for pool in pools)
    return Summary(
        format=FORMAT,
        portfolio_hash=fleet.portfolio_hash,
        fleet=fleet.name,
        week=fleet.week,
        policy=options.policy.name.lower(),
        seed=options.seed,
        thin=options.thin,
        thin_error=_thin_error(parts),
        complete=parts.complete,
        done_share=parts.done_share,
        hours=(span_ns[1] - span_ns[0]) / NS_PER_HOUR,
        requests_simulated=len(frame),
        status=str(worst(found)),
        total=total,
        workloads=groups["workload kind"],
        kinds=groups["kind"],
        sites=groups["site"],
        cells=_groups(frame, ["workload", "kind", "site"], scope),
        pools=pools,
        idle_usd=idle_usd,
        cost_usd=total.cost_usd + idle_usd,
        lost_sites=[
            f"{loss.site} from {loss.start_ns / NS_PER_HOUR:g} h to {loss.end_ns / NS_PER_HOUR:g} h"
            for loss in options.losses
        ],
        checks=parts.checks,
    )


def _thin_error(parts: Parts) -> str:
    """State what thinning did, in a sentence."""
    if parts.options.thin == 1:
        return "not thinned"
    worst_pool = max(parts.capacity_errors, key=lambda name: abs(parts.capacity_errors[name]), default="none")
    error = parts.capacity_errors.get(worst_pool, 0.0)
    return (
        f"1 in {parts.options.thin} replicas and requests; the capacity of pool {worst_pool} is off by {error:+.1%}, "
        "of the others by less; smaller pools wait longer than large ones, so waits are not underestimated by "
        "pooling; the error was not measured against a fuller run"
    )


def _groups(frame: pl.DataFrame, keys: list[str], scope: Scope) -> list[Group]:
    """Return the groups of ``frame`` by ``keys``, in order of name."""
    parts = frame.partition_by(keys, maintain_order=False, as_dict=True)
    return [_group(part, dict(zip(keys, name, strict=True)), scope) for name, part in sorted(parts.items())]


def _group(frame: pl.DataFrame, label: dict[str, Any], scope: Scope) -> Group:
    """Return how the requests of ``frame`` fared."""
    served = frame.filter(pl.col("status") == "served")
    status = _status(frame, scope)
    counts = dict(frame.group_by("status").len().iter_rows())
    reasons = frame.filter(pl.col("status") == "refused").group_by("reason").len().sort("reason").iter_rows()
    whole, thin = max(len(frame), 1), scope.thin
    return Group(
        workload=label.get("workload", "all"),
        kind=label.get("kind", "all"),
        site=label.get("site", "all"),
        status=str(status),
        requests=len(frame) * thin,
        served=counts.get("served", 0) * thin,
        refused=counts.get("refused", 0) * thin,
        failed=counts.get("failed", 0) * thin,
        refused_by_reason={reason: count * thin for reason, count in reasons},
        share_served=len(served) / whole,
        share_within_ttft=float(frame["within_ttft"].sum()) / whole,
        share_within_tpot=float(frame["within_tpot"].sum()) / whole,
        share_within_slo=float(frame["within_slo"].sum()) / whole,
        ttft_ms_p50=_percentile(served, "ttft_ms", 50, status),
        ttft_ms_p95=_percentile(served, "ttft_ms", 95, status),
        ttft_ms_p99=_percentile(served, "ttft_ms", 99, status),
        tpot_ms_p50=_percentile(served, "tpot_ms", 50, status),
        tpot_ms_p95=_percentile(served, "tpot_ms", 95, status),
        e2e_ms_p95=_percentile(served, "e2e_ms", 95, status),
        input_tokens=int(served["input_tokens"].sum()) * thin,
        output_tokens=int(served["output_tokens"].sum()) * thin,
        value_usd=float(frame["value_usd"].sum()) * thin,
        value_in_time_usd=float(frame.filter("within_slo")["value_usd"].sum()) * thin,
        cost_usd=float(frame["cost_usd"].sum()) * thin,
    )


def _status(frame: pl.DataFrame, scope: Scope) -> Stationarity:
    """Judge the requests of ``frame`` that entered a pool and left it."""
    if not scope.complete:
        return Stationarity.INTERRUPTED
    inside = frame.filter((pl.col("entered_ns") >= 0) & pl.col("status").is_in(["served", "failed"]))
    return stationarity(inside["entered_ns"].to_numpy(), inside["finish_ns"].to_numpy(), scope.span_ns)


def _percentile(served: pl.DataFrame, column: str, rank: int, status: Stationarity) -> float | None:
    """Return a percentile, null unless the group was stationary and large enough."""
    enough = len(served) >= (P99_REQUESTS_MIN if rank > P95 else REQUESTS_MIN)
    if status is not Stationarity.STATIONARY or not enough:
        return None
    return float(np.percentile(served[column].to_numpy(), rank))


def _pool_load(parts: Parts, index: int, scope: Scope) -> PoolLoad:
    """Return how hard pool ``index`` worked over the load's span."""
    engine, fleet, thin, span_ns = parts.engine, parts.fleet, scope.thin, scope.span_ns
    pool, mine = fleet.pools[index], parts.frame.filter(pl.col("pool") == fleet.pools[index].name)
    rows = engine.plant.replicas.rows[engine.pool_of_replica == index]
    limits = engine.plant.tables.limits[max(int(engine.pools["deployment"][index]), 0)]
    last_ns = max(int(engine.pools["last_ns"][index]), span_ns[1])
    time_ns = float(max(last_ns - span_ns[0], 1)) * max(len(rows), 1)
    hours = (span_ns[1] - span_ns[0]) / NS_PER_HOUR
    paid_usd = len(rows) * pool.chips_per_replica * pool.usd_per_chip_hour * hours * thin
    used_usd = float(mine["held_usd"].sum()) * thin
    served = mine.filter(pl.col("status") == "served")
    stay_ns = float((served["finish_ns"] - served["entered_ns"]).mean() or 0.0)  # type: ignore[arg-type]  # polars types a mean widely
    queue_ms = served["queue_ms"].mean()
    status = _status(mine, scope)
    return PoolLoad(
        pool=pool.name,
        site=pool.site,
        status=str(status),
        replicas_simulated=len(rows),
        capacity_error=parts.capacity_errors.get(pool.name, 0.0),
        requests=len(mine) * thin,
        busy_share=float(rows["busy_ns"].sum()) / time_ns,
        places_share=float(rows["running_ns"].sum()) / (time_ns * int(limits.batch_max)),
        memory_share=float(rows["kv_held_ns"].sum()) / (time_ns * int(limits.kv_blocks)),
        load_planned=_load_planned(parts, index, scope),
        in_system_mean=float(engine.pools["present_ns"][index]) / float(max(last_ns - span_ns[0], 1)),
        arrivals_rps=len(mine) / max((span_ns[1] - span_ns[0]) / NS_PER_S, SHORT_S),
        stay_s_mean=stay_ns / NS_PER_S,
        queue_ms_mean=float(queue_ms) if isinstance(queue_ms, float) and status is Stationarity.STATIONARY else None,
        held_usd=used_usd,
        idle_usd=max(0.0, paid_usd - used_usd),
    )


def _load_planned(parts: Parts, index: int, scope: Scope) -> float:
    """Return what came to pool ``index`` over what the plan says it can serve within the SLO."""
    pool = parts.fleet.pools[index]
    mine = parts.frame.filter(pl.col("pool") == pool.name)
    seconds = max((scope.span_ns[1] - scope.span_ns[0]) / NS_PER_S, SHORT_S)
    if pool.kind == "api":
        tokens = int((mine["input_tokens"] + mine["output_tokens"]).sum())
        return tokens / (pool.tokens_per_minute_max / S_PER_MINUTE * seconds) if pool.tokens_per_minute_max > 0 else 0.0
    came = dict(mine.group_by("workload").len().iter_rows())
    goodput = {workload.name: pool.goodput_rps[k] for k, workload in enumerate(parts.fleet.workloads)}
    needed = float(sum(count / goodput[name] for name, count in came.items() if goodput[name] > 0))
    return needed / (max(pool.replicas, 1) * seconds)
