"""Make the view of a fleet, as it stands before the first request.

Comes in: a fleet and the dense step tables of its pools. Goes out: a ``View``. A chip-second per token is the plan's
chip-second per request, ``chips / goodput``, split between prompt and answer as the step table splits it. Lists of a
fleet become arrays here once, so that no policy ever sees an object.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet, Pool, Workload, stand_ins
from offtake.performance.compiled import Rows
from offtake.performance.dense import Tables, nothing, prepare
from offtake.performance.named import load_named
from offtake.policy.speed import Lengths, Speed, replica_speed, speeds_of
from offtake.policy.view import BUCKET_NS, POOL_VIEW, WORKLOAD_VIEW, Bools, Floats, Ints, View
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, S_PER_HOUR, S_PER_MINUTE, TOKENS_PER_MILLION

ANY_ZONE = "any"
UNLIMITED_TOKENS = 2**40  #: the context of a pool that states none


def live_view(fleet: Fleet, start_hour: float, folder: Path | None = None) -> View:
    """Return the view of ``fleet`` on the step tables that its pools name; see ``view_of``.

    ``folder``: where tables that do not ship with the package are kept.
    """
    names = sorted({pool.deployment for pool in fleet.pools if pool.kind == "chips"})
    stored = [load_named(name, folder) for name in names]
    tables = prepare([(one.table, one.limits) for one in stored] or [nothing()])
    deployment = np.array([names.index(p.deployment) if p.kind == "chips" else -1 for p in fleet.pools], np.int64)
    return view_of(fleet, tables, deployment, start_hour)


def view_of(fleet: Fleet, tables: Tables, deployment: Ints, start_hour: float = 0.0) -> View:
    """Return the view of ``fleet`` with every replica up and idle.

    Parameters
    ----------
    fleet
        Pools, workloads, sites and regions.
    tables, deployment
        Dense step tables, and ``deployment [pool]``: which of them a pool runs, -1 for an API.
    start_hour
        Hour of the week (from Monday 00:00 UTC) at ns 0.

    Raises
    ------
    InputError
        If the fleet has no pool.
    """
    if not fleet.pools:
        mend = "The plan signs nothing for this week: let it serve demand, then plan again."
        raise InputError([Fault("fleet.json", "the fleet has no pool", mend)])
    allowed = allowed_of(fleet)
    rtt_ms = {site.name: site.rtt_ms for site in fleet.sites}
    rtt_ns = (np.array([rtt_ms[pool.site] for pool in fleet.pools]) * NS_PER_MS).astype(np.int64)
    rtt_ns += np.where(deployment >= 0, tables.limits["request_ns"][deployment], 0)[:, None]
    chip_s, load_ns = _chip_seconds(fleet, tables, deployment)
    need = np.where(np.array([pool.kind == "api" for pool in fleet.pools])[:, None, None], 1.0, chip_s)
    workloads = _workload_rows(fleet, allowed)
    pools = _pool_rows(fleet, tables, deployment, allowed)
    pools["density_usd"] = _density(fleet, allowed, need, workloads["worth_usd"])
    return View(
        pools=pools,
        workloads=workloads,
        allowed=allowed,
        fit=np.argsort(~allowed.T, axis=1, kind="stable").astype(np.int64),
        rtt_ns=rtt_ns,
        chip_s_per_token=chip_s,
        need=need,
        load_ns=load_ns,
        rate=_rates(fleet, pools, rtt_ns),
        running=np.zeros(allowed.shape, np.int64),
        weight=_weights(fleet),
        bid_usd=_bids(fleet),
        block_of_hour=np.array(fleet.block_of_hour, np.int64),
        clock_ns=np.array([round(start_hour * NS_PER_HOUR)], np.int64),
    )


def _workload_rows(fleet: Fleet, allowed: Bools) -> Rows:
    """Return what a policy knows of each workload."""
    rows = np.zeros(len(fleet.workloads), WORKLOAD_VIEW).view(np.recarray)
    rows["worth_usd"] = [w.value_usd_per_request + w.refusal_usd_per_request for w in fleet.workloads]
    rows["slo_ttft_ns"] = [w.ttft_ms_p95 * NS_PER_MS for w in fleet.workloads]
    rows["slo_tpot_ns"] = [w.tpot_ms_p95 * NS_PER_MS for w in fleet.workloads]
    rows["output_tokens_mean"] = [w.output_tokens_mean for w in fleet.workloads]
    rows["defer_ns"] = [w.deferral_hours * NS_PER_HOUR for w in fleet.workloads]
    rows["admit_share_min"] = [w.admit_share_min for w in fleet.workloads]
    rows["fits"] = allowed.sum(axis=0)
    return rows


def _pool_rows(fleet: Fleet, tables: Tables, deployment: Ints, allowed: Bools) -> Rows:
    """Return what a policy knows of each pool, up and idle (rows of ``POOL_VIEW``)."""
    pools = fleet.pools
    api = np.array([pool.kind == "api" for pool in pools])
    rows = np.zeros(len(pools), POOL_VIEW).view(np.recarray)
    rows["is_api"] = api
    held = np.where(deployment < 0, UNLIMITED_TOKENS, _room(tables)[deployment])
    rows["context_tokens_max"] = np.minimum(held, [pool.context_tokens_max or UNLIMITED_TOKENS for pool in pools])
    rows["usd_per_chip_s_used"] = [pool.usd_per_chip_hour_used / S_PER_HOUR for pool in pools]
    rows["usd_per_input_token"] = [pool.usd_per_million_input_tokens / TOKENS_PER_MILLION for pool in pools]
    rows["usd_per_output_token"] = [pool.usd_per_million_output_tokens / TOKENS_PER_MILLION for pool in pools]
    speeds = speeds_of(fleet, tables, deployment, allowed)
    for name in set(Speed._fields) & set(POOL_VIEW.names or ()):
        rows[name] = [getattr(speed, name) for speed in speeds]
    rows["tpot_now_ns"] = rows["tpot_ns"]
    rows["ttft_ns"] = [pool.ttft_ms * NS_PER_MS * (pool.kind == "api") for pool in pools]
    rows["token_ns"] = [_ns_per_token(pool) for pool in pools]
    rows["chips"] = [pool.chips_per_replica for pool in pools]
    rows["replicas_up"] = [pool.replicas if pool.kind == "chips" else 1 for pool in pools]
    rows["free_ns"] = -BUCKET_NS
    rows["reach"] = 1.0
    return rows


def allowed_of(fleet: Fleet) -> Bools:
    """Return [pool, workload]: whether the pool may serve the workload.

    Its model must be the asked one or stand in its group; residency, security class and goodput must allow it too.
    """
    sites = {site.name: site for site in fleet.sites}
    able = [stand_ins(fleet, workload.model) for workload in fleet.workloads]

    def fits(pool: Pool, index: int, workload: Workload) -> bool:
        site = sites[pool.site]
        at_home = workload.residency in {ANY_ZONE, site.residency}
        safe = site.security >= workload.security
        return pool.model in able[index] and at_home and safe and pool.goodput_rps[index] > 0

    return np.array(
        [[fits(pool, index, workload) for index, workload in enumerate(fleet.workloads)] for pool in fleet.pools],
        np.bool_,
    ).reshape(len(fleet.pools), len(fleet.workloads))


def _room(tables: Tables) -> Ints:
    """Return [deployment]: the longest request a replica can hold, tokens."""
    limits = tables.limits
    held = limits["kv_blocks"] * limits["block_tokens"]
    return np.asarray(np.minimum(limits["context_tokens_max"], held), np.int64)


def _bids(fleet: Fleet) -> Floats:
    """Return the plan's bid prices [block, pool]: per chip-second, or per token of an API (0 where it gives none)."""
    none = [0.0] * len(fleet.block_share)
    rows = [(p.bid_usd_per_token or none) if p.kind == "api" else p.bid_usd_per_chip_s for p in fleet.pools]
    return np.array(rows, np.float64).T.copy()


def _weights(fleet: Fleet) -> Floats:
    """Return [block, pool, workload]: requests/s that the plan places, or the goodput where it places none at all."""
    placed = np.array([pool.allotment_rps for pool in fleet.pools], np.float64).transpose(1, 0, 2)
    replicas = np.array([max(pool.replicas, 1) for pool in fleet.pools], np.float64)
    goodput = np.array([pool.goodput_rps for pool in fleet.pools], np.float64) * replicas[:, None]
    return np.where(placed.sum(axis=1, keepdims=True) > 0, placed, goodput[None]).copy()


def _rates(fleet: Fleet, pools: Rows, rtt_ns: Ints) -> Floats:
    """Return [pool, workload, 2]: 1 over what an empty pool leaves of the TPOT and the TTFT limit, 1/ns."""
    inputs = np.array([workload.input_tokens_mean for workload in fleet.workloads])
    slo_ms = np.array([[workload.tpot_ms_p95, workload.ttft_ms_p95] for workload in fleet.workloads])
    first_ns = pools["own_ns"][:, None] + pools["prefill_ns_per_token"][:, None] * inputs + rtt_ns.min(axis=1)[:, None]
    taken_ns = np.stack([np.broadcast_to(pools["tpot_ns"][:, None], first_ns.shape), first_ns], axis=-1)
    return np.asarray(1.0 / np.maximum(slo_ms * NS_PER_MS - taken_ns, NS_PER_MS), np.float64)


def _density(fleet: Fleet, allowed: Bools, need: Floats, worth_usd: Floats) -> Floats:
    """Return [pool]: the most worth of a unit of its need among the workloads it serves, US dollars."""
    tokens = np.array([[workload.input_tokens_mean, workload.output_tokens_mean] for workload in fleet.workloads])
    taken = (need * tokens).sum(axis=2)
    worth = np.divide(worth_usd[None], taken, out=np.zeros_like(taken), where=allowed & (taken > 0))
    return np.asarray(worth.max(axis=1, initial=0.0), np.float64)


def _ns_per_token(pool: Pool) -> float:
    """Return the time that one token takes of an API's rate limit, ns; 0 without a limit."""
    return S_PER_MINUTE * NS_PER_S / pool.tokens_per_minute_max if pool.tokens_per_minute_max > 0 else 0.0


def _chip_seconds(fleet: Fleet, tables: Tables, deployment: Ints) -> tuple[Floats, Ints]:
    """Return what requests take; 0 for an API.

    Chip-seconds per prompt token and per answer token, [pool, workload, 2]; and what a request in flight adds to the
    TPOT of its replica, [pool, workload], ns.
    """
    chip_s = np.zeros((len(fleet.pools), len(fleet.workloads), 2))
    load_ns = np.zeros(chip_s.shape[:2], np.int64)
    for p, pool in enumerate(fleet.pools):
        for k, workload in enumerate(fleet.workloads):
            if pool.kind == "chips" and pool.goodput_rps[k] > 0:
                slo_ns = workload.tpot_ms_p95 * NS_PER_MS
                lengths = Lengths(workload.input_tokens_mean, workload.output_tokens_mean, slo_ns)
                speed = replica_speed(tables, int(deployment[p]), lengths)
                answer_ns = (speed.tpot_ns + speed.load_ns * speed.slots) / speed.slots
                split = np.array([speed.prefill_ns_per_token, answer_ns])
                work = split @ np.array(lengths[:2])
                chip_s[p, k] = split * (pool.chips_per_replica / pool.goodput_rps[k] / work)
                load_ns[p, k] = round(speed.load_ns)
    return chip_s, load_ns
