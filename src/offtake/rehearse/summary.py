"""Sum a rehearsal up: attainment, cost, refusals and load, by workload, class, site and pool.

Comes in: the tally of the ends, the engine at rest, the fleet. Goes out: one ``Summary``, written as ``rehearse.json``.
A percentile is printed only where the group was stationary; elsewhere it is null and ``status`` says why. With
thinning n, counts and money are those of the full fleet: the simulated ones times n.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from offtake.fleet import Fleet
from offtake.performance.stationary import REQUESTS_MIN, Stationarity, stationarity, worst
from offtake.policy.view import Reason
from offtake.rehearse.costs import Costs
from offtake.rehearse.options import Options
from offtake.rehearse.outcome import NOWHERE
from offtake.rehearse.state import Engine
from offtake.rehearse.tally import E2E, ENTERED, LEFT, RESOLUTION, TPOT, TTFT, Tally, percentile_ns, requests_in
from offtake.rehearse.told import EventApplied
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, S_PER_MINUTE

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

ALL = "all"
NOT_MEASURED = "; not measured beside a thinner run"
FORMAT = "offtake-rehearsal-1"
SHORT_S = 2.0**-30  #: so that a load of one instant has a rate
P95 = 95
P99_REQUESTS_MIN = 5 * REQUESTS_MIN  #: a P99 of fewer is the maximum


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Say how one group of requests fared; percentiles are null unless ``status`` is ``stationary``.

    Shares are of all requests offered, so that a refusal counts as a miss. They say what happened in the run; only
    where ``status`` is ``stationary`` do they say what would happen in a longer one.
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
    share_within_slo: float  #: Both; holds for longer than the run only where `status` is `stationary`.
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
    cut_short: int = 0  #: Served, but only up to the longest context their replica can hold.
    cached_tokens: int = 0  #: Prompt tokens of served requests that a prefix cache had.
    cache_hits: int = 0  #: Served requests that found some.


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
    preemptions: int = 0  #: Times a request was pushed back for lack of memory.
    not_owed_usd: float = 0.0  #: Fee of chip time that was late, taken back or lost for good: not paid.


class Tenants(msgspec.Struct, frozen=True, kw_only=True):
    """Say how evenly tenants were served."""

    count: int  #: Tenants with any request.
    jain_index: float  #: Of their shares served: 1 if all are equal, 1/count if one has all.
    share_served_min: float  #: Of the tenant that fared worst.
    share_served_max: float  #: Of the one that fared best.


class ThinFigure(msgspec.Struct, frozen=True, kw_only=True):
    """Say how far a figure may be off because the rehearsal was thinned."""

    figure: str  #: Its name, as in a group.
    kind: str  #: Kind of workload, or `all`.
    value: float | None  #: As rehearsed; null where it does not exist.
    value_thinner: float | None  #: Thinned twice as far, on half of the same requests.
    error: float | None  #: The error to expect of `value`; null where one of the two does not exist.


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
    offered: int = 0  #: Requests offered, each try of each client counted.
    amplification: float = 1.0  #: Requests offered over requests.
    tenants: Tenants | None = None  #: How evenly tenants were served.
    percentile_error: float = 0.0  #: Most relative error of a percentile by counting in bins.
    events_applied: list[EventApplied] = []  #: What each event of the timeline did.
    scenario: str = ""  #: The plan's scenario that was rehearsed; empty: the fleet's own week.
    outcome_kept: bool = True  #: False if the requests were too many for a table of each.
    extrapolated: list[str] = []  #: Pools whose step times were extrapolated from a data sheet.
    thin_figures: list[ThinFigure] = []  #: The main figures, each with its error by thinning; none where not thinned.


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a summary is made of."""

    engine: Engine
    tally: Tally
    costs: Costs
    fleet: Fleet
    options: Options
    capacity_errors: dict[str, float]
    complete: bool
    done_share: float
    outcome_kept: bool
    checks: list[str]
    events: list[EventApplied]

    @property
    def span_ns(self) -> int:
        """Return the time from the first to the last arrival."""
        return max(int(self.engine.book["last_ns"][0] - self.tally.clock[0]), 0)


class Scope(NamedTuple):
    """Hold a group's label, and what belongs to it: cells and histograms as masks [pool + 1, workload]."""

    workload: str
    kind: str
    site: str
    cells: Bools
    histograms: Bools


def summarise(parts: Parts) -> Summary:
    """Return the summary of a rehearsal."""
    fleet, options, book = parts.fleet, parts.options, parts.engine.book[0]
    workloads = _groups(parts, "workload kind")
    pools = [_pool_load(parts, index) for index in range(len(fleet.pools))]
    total = _group(parts, _scope(parts, ALL, ALL, ALL))
    idle_usd = sum(pool.idle_usd for pool in pools)
    unique = requests_in(parts.tally)
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
        hours=parts.span_ns / NS_PER_HOUR,
        requests_simulated=unique,
        status=str(worst([Stationarity(group.status) for group in workloads])),
        total=total,
        workloads=workloads,
        kinds=_groups(parts, "kind"),
        sites=_groups(parts, "site"),
        cells=_groups(parts, "workload kind site"),
        pools=pools,
        idle_usd=idle_usd,
        cost_usd=total.cost_usd + idle_usd,
        lost_sites=[
            f"{each.target} from {each.from_hour:g} h" + (f" to {each.to_hour:g} h" if each.to_hour else "")
            for each in parts.events
            if each.kind == "lost_site"
        ],
        checks=parts.checks,
        offered=int(book.offered) * options.thin,
        amplification=int(book.offered) / max(int(book.known), 1),
        tenants=_tenants(parts.tally),
        percentile_error=RESOLUTION,
        outcome_kept=parts.outcome_kept,
        events_applied=parts.events,
        scenario=options.scenario,
        extrapolated=[pool.name for pool in fleet.pools if pool.extrapolated],
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
        f"pooling{NOT_MEASURED}"
    )


def _tenants(tally: Tally) -> Tenants:
    """Return how evenly tenants were served."""
    asked, served = tally.tenants[tally.tenants[:, 0] > 0].T
    share = served / np.maximum(asked, 1)
    squares = len(share) * float((share**2).sum())
    return Tenants(
        count=len(share),
        jain_index=float(share.sum()) ** 2 / squares if squares > 0 else 1.0,
        share_served_min=float(share.min(initial=1.0)),
        share_served_max=float(share.max(initial=0.0)),
    )


def _groups(parts: Parts, keys: str) -> list[Group]:
    """Return the groups of requests by ``keys``, in order of name, without those that nobody is in."""
    fleet = parts.fleet
    kinds = {workload.name: workload.kind for workload in fleet.workloads}
    workloads = sorted(kinds) if "workload" in keys else [ALL]
    sites = sorted({*(site.name for site in fleet.sites), NOWHERE}) if "site" in keys else [ALL]
    labels = [
        (workload, kind, site)
        for workload in workloads
        for kind in ([kinds[workload]] if workload != ALL else sorted({*kinds.values()}) if "kind" in keys else [ALL])
        for site in sites
    ]
    scopes = [_scope(parts, *label) for label in labels]
    return [_group(parts, scope) for scope in scopes if parts.tally.cells["requests"][scope.cells].any()]


def _scope(parts: Parts, workload: str, kind: str, site: str) -> Scope:
    """Return what belongs to a group; ``all`` leaves nothing out."""
    fleet = parts.fleet
    mine = [workload in {ALL, each.name} and kind in {ALL, each.kind} for each in fleet.workloads]
    places = [site in {ALL, name} for name in [*(each.name for each in fleet.sites), NOWHERE]]
    at = np.array(places)[parts.tally.site_of]
    return Scope(workload, kind, site, np.outer(at, mine), np.outer(places, mine))


def _group(parts: Parts, scope: Scope) -> Group:
    """Return how the requests of a group fared."""
    tally, thin, status = parts.tally, parts.options.thin, _status(parts, scope.cells)
    count = {name: int(tally.cells[name][scope.cells].sum()) for name in tally.cells.dtype.names}
    value = np.array([workload.value_usd_per_request for workload in parts.fleet.workloads])
    reasons = dict(zip(Reason, tally.reasons[scope.cells].sum(axis=0).tolist(), strict=True))
    whole = max(count["requests"], 1)
    return Group(
        workload=scope.workload,
        kind=scope.kind,
        site=scope.site,
        status=str(status),
        requests=count["requests"] * thin,
        served=count["served"] * thin,
        refused=count["refused"] * thin,
        failed=count["failed"] * thin,
        refused_by_reason={why.name.lower(): reasons[why] * thin for why in sorted(Reason, key=_word) if reasons[why]},
        share_served=count["served"] / whole,
        share_within_ttft=count["within_ttft"] / whole,
        share_within_tpot=count["within_tpot"] / whole,
        share_within_slo=count["within_slo"] / whole,
        ttft_ms_p50=_percentile_ms(parts, scope, (TTFT, 50), status),
        ttft_ms_p95=_percentile_ms(parts, scope, (TTFT, 95), status),
        ttft_ms_p99=_percentile_ms(parts, scope, (TTFT, 99), status),
        tpot_ms_p50=_percentile_ms(parts, scope, (TPOT, 50), status),
        tpot_ms_p95=_percentile_ms(parts, scope, (TPOT, 95), status),
        e2e_ms_p95=_percentile_ms(parts, scope, (E2E, 95), status),
        input_tokens=count["input_tokens"] * thin,
        output_tokens=count["output_tokens"] * thin,
        value_usd=float((tally.cells["served"] * value)[scope.cells].sum()) * thin,
        value_in_time_usd=float((tally.cells["within_slo"] * value)[scope.cells].sum()) * thin,
        cost_usd=float(_costs_usd(parts)[0][scope.cells].sum()) * thin,
        cut_short=count["cut_short"] * thin,
        cached_tokens=count["cached_tokens"] * thin,
        cache_hits=count["cache_hits"] * thin,
    )


def _word(reason: Reason) -> str:
    """Return a reason's name, by which reasons are sorted."""
    return reason.name.lower()


def _status(parts: Parts, cells: Bools) -> Stationarity:
    """Judge the requests of some cells that entered a pool and left it."""
    if not parts.complete:
        return Stationarity.INTERRUPTED
    tally = parts.tally
    entered, left = (tally.windows[:, :, what][cells].sum(axis=0, dtype=np.int64) for what in (ENTERED, LEFT))
    window_ns = float(1 << int(tally.clock[1]))
    stay_ns = float((tally.cells["stay_ns"] + tally.cells["failed_stay_ns"])[cells].sum())
    stay_mean = stay_ns / window_ns / max(int(entered.sum()), 1)
    return stationarity(entered, left, parts.span_ns / window_ns, stay_mean)


def _percentile_ms(parts: Parts, scope: Scope, asked: tuple[int, int], status: Stationarity) -> float | None:
    """Return a percentile (which histogram, which rank), null unless the group was stationary and large enough."""
    what, rank = asked
    histogram = parts.tally.histograms[:, :, what][scope.histograms].sum(axis=0, dtype=np.int64)
    enough = histogram.sum() >= (P99_REQUESTS_MIN if rank > P95 else REQUESTS_MIN)
    if status is not Stationarity.STATIONARY or not enough:
        return None
    return percentile_ns(histogram, rank) / NS_PER_MS


def _costs_usd(parts: Parts) -> tuple[Floats, Floats]:
    """Return [pool + 1, workload]: what the served requests cost, and of it the fee of the chip time they took."""
    costs, cells = parts.costs, parts.tally.cells
    tokens = np.stack([cells["input_tokens"], cells["output_tokens"]], axis=-1)
    chip_s = (costs.chip_s_per_token * tokens).sum(axis=2)
    held_usd = chip_s * costs.held_usd[:, None]
    return held_usd + chip_s * costs.used_usd[:, None] + (tokens * costs.token_usd[:, None]).sum(axis=2), held_usd


def _pool_load(parts: Parts, index: int) -> PoolLoad:
    """Return how hard pool ``index`` worked over the load's span."""
    engine, pool, thin, span_ns = parts.engine, parts.fleet.pools[index], parts.options.thin, parts.span_ns
    mine = {name: parts.tally.cells[name][index].sum() for name in ("requests", "served", "stay_ns", "queue_ns")}
    rows = engine.plant.replicas.rows[engine.pool_of_replica == index]
    limits = engine.plant.tables.limits[max(int(engine.pools["deployment"][index]), 0)]
    last_ns = max(int(engine.pools["last_ns"][index] - parts.tally.clock[0]), span_ns, 1)
    time_ns = float(last_ns) * max(len(rows), 1)
    fee_usd = len(rows) * pool.chips_per_replica * pool.usd_per_chip_hour * (span_ns / NS_PER_HOUR) * thin
    paid_usd = fee_usd * float(parts.costs.paid_share[index])
    used_usd = float(_costs_usd(parts)[1][index].sum()) * thin
    here = np.zeros(parts.tally.cells.shape, np.bool_)
    here[index] = True
    status, served = _status(parts, here), int(mine["served"])
    sound = status is Stationarity.STATIONARY and served > 0
    return PoolLoad(
        pool=pool.name,
        site=pool.site,
        status=str(status),
        replicas_simulated=len(rows),
        capacity_error=parts.capacity_errors.get(pool.name, 0.0),
        requests=int(mine["requests"]) * thin,
        busy_share=float(rows["busy_ns"].sum()) / time_ns,
        places_share=float(rows["running_ns"].sum()) / (time_ns * int(limits.batch_max)),
        memory_share=float(rows["kv_held_ns"].sum()) / (time_ns * int(limits.kv_blocks)),
        load_planned=_load_planned(parts, index),
        in_system_mean=float(engine.pools["present_ns"][index]) / float(last_ns),
        arrivals_rps=int(mine["requests"]) / max(span_ns / NS_PER_S, SHORT_S),
        stay_s_mean=float(mine["stay_ns"]) / max(served, 1) / NS_PER_S,
        queue_ms_mean=float(mine["queue_ns"]) / served / NS_PER_MS if sound else None,
        held_usd=used_usd,
        idle_usd=max(0.0, paid_usd - used_usd),
        preemptions=int(rows["preemptions"].sum()) * thin,
        not_owed_usd=fee_usd - paid_usd,
    )


def _load_planned(parts: Parts, index: int) -> float:
    """Return what came to pool ``index`` over what the plan says it can serve within the SLO."""
    pool, cells = parts.fleet.pools[index], parts.tally.cells[index]
    seconds = max(parts.span_ns / NS_PER_S, SHORT_S)
    if pool.kind == "api":
        tokens = int(cells["tokens_all"].sum())
        return tokens / (pool.tokens_per_minute_max / S_PER_MINUTE * seconds) if pool.tokens_per_minute_max > 0 else 0.0
    came = zip(cells["requests"].tolist(), pool.goodput_rps, strict=True)
    needed = float(sum(count / goodput for count, goodput in came if goodput > 0))
    return needed / (max(pool.replicas, 1) * seconds)
