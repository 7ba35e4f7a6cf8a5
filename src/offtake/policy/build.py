"""Make the view of a fleet, as it stands before the first request.

Comes in: a fleet and the dense step tables of its pools. Goes out: a ``View``. A chip-second per token is the plan's
chip-second per request, ``chips / goodput``, split between prompt and answer as the step table splits it. Lists of a
fleet become arrays here once, so that no policy ever sees an object.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet, Pool, Workload
from offtake.performance.dense import Tables
from offtake.policy.speed import Lengths, Speed, replica_speed, speeds_of
from offtake.policy.view import BUCKET_NS, POOL_VIEW, WORKLOAD_VIEW, Bools, Floats, Ints, View
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, S_PER_HOUR, S_PER_MINUTE, TOKENS_PER_MILLION

ANY_ZONE = "any"
UNLIMITED_TOKENS = 2**40  #: the context of a pool that states none


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
    chip_s = _chip_seconds(fleet, tables, deployment)
    bids = [[pool.bid_usd_per_chip_s, _token_bids(pool, len(fleet.block_share))] for pool in fleet.pools]
    workloads = _workload_rows(fleet)
    return View(
        pools=_pool_rows(fleet, tables, deployment, allowed, _surge_unit(fleet, workloads["worth_usd"], chip_s)),
        workloads=workloads,
        allowed=allowed,
        rtt_ns=(np.array([rtt_ms[pool.site] for pool in fleet.pools]) * NS_PER_MS).astype(np.int64),
        chip_s_per_token=chip_s,
        bid_usd=np.array(bids, np.float64).transpose(2, 0, 1).copy(),
        block_of_hour=np.array(fleet.block_of_hour, np.int64),
        clock_ns=np.array([round(start_hour * NS_PER_HOUR)], np.int64),
    )


def _workload_rows(fleet: Fleet) -> Any:  # noqa: ANN401  # rows of WORKLOAD_VIEW
    """Return what a policy knows of each workload."""
    rows = np.zeros(len(fleet.workloads), WORKLOAD_VIEW).view(np.recarray)
    rows["worth_usd"] = [w.value_usd_per_request + w.refusal_usd_per_request for w in fleet.workloads]
    rows["slo_ttft_ns"] = [w.ttft_ms_p95 * NS_PER_MS for w in fleet.workloads]
    rows["slo_tpot_ns"] = [w.tpot_ms_p95 * NS_PER_MS for w in fleet.workloads]
    rows["output_tokens_mean"] = [w.output_tokens_mean for w in fleet.workloads]
    return rows


def _pool_rows(fleet: Fleet, tables: Tables, deployment: Ints, allowed: Bools, surge_usd: Floats) -> Any:  # noqa: ANN401  # rows
    """Return what a policy knows of each pool, up and idle (rows of ``POOL_VIEW``)."""
    pools = fleet.pools
    api = np.array([pool.kind == "api" for pool in pools])
    rows = np.zeros(len(pools), POOL_VIEW).view(np.recarray)
    rows["is_api"] = api
    rows["context_tokens_max"] = np.where(deployment < 0, UNLIMITED_TOKENS, _room(tables)[deployment])
    rows["usd_per_chip_s_used"] = [pool.usd_per_chip_hour_used / S_PER_HOUR for pool in pools]
    rows["usd_per_input_token"] = [pool.usd_per_million_input_tokens / TOKENS_PER_MILLION for pool in pools]
    rows["usd_per_output_token"] = [pool.usd_per_million_output_tokens / TOKENS_PER_MILLION for pool in pools]
    speeds = speeds_of(fleet, tables, deployment, allowed)
    for name in Speed._fields:
        rows[name] = [getattr(speed, name) for speed in speeds]
    rows["ttft_ns"] = [pool.ttft_ms * NS_PER_MS * (pool.kind == "api") for pool in pools]
    rows["token_ns"] = [_ns_per_token(pool) for pool in pools]
    slo_ns = np.array([workload.ttft_ms_p95 for workload in fleet.workloads]) * NS_PER_MS
    rows["slo_ns"] = np.where(allowed, slo_ns, np.inf).min(axis=1, initial=float(NS_PER_HOUR))
    rows["surge_usd"] = surge_usd
    rows["chips"] = [pool.chips_per_replica for pool in pools]
    rows["replicas_up"] = [pool.replicas if pool.kind == "chips" else 1 for pool in pools]
    rows["free_ns"] = -BUCKET_NS
    return rows


def allowed_of(fleet: Fleet) -> Bools:
    """Return [pool, workload]: model, residency, security class and goodput let the pool serve the workload."""
    sites = {site.name: site for site in fleet.sites}

    def fits(pool: Pool, index: int, workload: Workload) -> bool:
        site = sites[pool.site]
        at_home = workload.residency in {ANY_ZONE, site.residency}
        safe = site.security >= workload.security
        return pool.model == workload.model and at_home and safe and pool.goodput_rps[index] > 0

    return np.array(
        [[fits(pool, index, workload) for index, workload in enumerate(fleet.workloads)] for pool in fleet.pools],
        np.bool_,
    ).reshape(len(fleet.pools), len(fleet.workloads))


def _room(tables: Tables) -> Ints:
    """Return [deployment]: the longest request a replica can hold, tokens."""
    limits = tables.limits
    held = limits["kv_blocks"] * limits["block_tokens"]
    return np.asarray(np.minimum(limits["context_tokens_max"], held), np.int64)


def _token_bids(pool: Pool, blocks: int) -> list[float]:
    """Return the bid price per token in each block, 0 where the plan gives none."""
    return pool.bid_usd_per_token or [0.0] * blocks


def _ns_per_token(pool: Pool) -> float:
    """Return the time that one token takes of an API's rate limit, ns; 0 without a limit."""
    return S_PER_MINUTE * NS_PER_S / pool.tokens_per_minute_max if pool.tokens_per_minute_max > 0 else 0.0


def _chip_seconds(fleet: Fleet, tables: Tables, deployment: Ints) -> Floats:
    """Return chip-seconds per prompt token and per answer token, [pool, workload, 2]; 0 for an API."""
    chip_s = np.zeros((len(fleet.pools), len(fleet.workloads), 2))
    for p, pool in enumerate(fleet.pools):
        for k, workload in enumerate(fleet.workloads):
            if pool.kind == "chips" and pool.goodput_rps[k] > 0:
                slo_ns = workload.tpot_ms_p95 * NS_PER_MS
                lengths = Lengths(workload.input_tokens_mean, workload.output_tokens_mean, slo_ns)
                speed = replica_speed(tables, int(deployment[p]), lengths)
                answer_ns = (speed.tpot_ns + speed.tpot_ns_per_request * speed.slots) / speed.slots
                split = np.array([speed.prefill_ns_per_token, answer_ns])
                work = split @ np.array(lengths[:2])
                chip_s[p, k] = split * (pool.chips_per_replica / pool.goodput_rps[k] / work)
    return chip_s


def _surge_unit(fleet: Fleet, worth_usd: Floats, chip_s_per_token: Floats) -> Floats:
    """Return the least worth of a chip-second among the workloads a pool serves, [pool], US dollars."""
    tokens = np.array([[workload.input_tokens_mean, workload.output_tokens_mean] for workload in fleet.workloads])
    chip_s = (chip_s_per_token * tokens).sum(axis=2)
    unit = np.where(chip_s > 0, worth_usd / np.where(chip_s > 0, chip_s, 1.0), np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(unit), unit, 0.0)
