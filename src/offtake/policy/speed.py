"""Say how fast a replica is for the requests its pool serves, from its step table and their mean lengths.

Comes in: a fleet and the dense step tables of its pools. Goes out: a few numbers per pool that a policy can use in
nanoseconds of its own time. In a steady state every answer token brings with it ``input / output`` prompt tokens of the
requests that come, so the mean time per answer token with b requests in flight on a replica is

    TPOT(b) = step(1) + b · (slope of step by batch + input / output · time per prompt token).

A prompt of t tokens takes t · (read + t · read2), because attention grows with its square; at the mean length that is
the time per prompt token above, and read2 is the attention of the longest prompt over its square.

The places of a replica are those its batch limit and memory allow, and no more than keep TPOT(b) within the SLO.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from offtake.fleet import Fleet, Pool
from offtake.performance.dense import Tables
from offtake.policy.view import Bools, Floats, Ints
from offtake.units import NS_PER_MS

TINY_RPS = 2.0**-30  #: so that workloads without a rate still have a mean
UNLIMITED = 2.0**40  #: places of an API without a rate limit


class Speed(NamedTuple):
    """Hold what one replica, or an API, does: see ``POOL_VIEW``."""

    prefill_ns_per_token: float
    read_ns_per_token: float
    read_ns_per_token2: float
    own_ns: float
    tpot_ns: float
    load_ns: float
    slots: float
    places: float
    service_ns: float


class Lengths(NamedTuple):
    """Hold the mean lengths of what a pool serves (tokens), and the tightest TPOT it promises (ns)."""

    input_tokens: float
    output_tokens: float
    slo_tpot_ns: float


def speeds_of(fleet: Fleet, tables: Tables, deployment: Ints, allowed: Bools) -> list[Speed]:
    """Return the speed of every pool; ``deployment [pool]`` is -1 for an API."""
    asked = lengths_of(fleet, allowed)
    return [
        replica_speed(tables, int(index), lengths) if index >= 0 else api_speed(pool, lengths)
        for pool, index, lengths in zip(fleet.pools, deployment, asked, strict=True)
    ]


def lengths_of(fleet: Fleet, allowed: Bools) -> list[Lengths]:
    """Return the mean lengths by pool, weighted by rate; of all workloads where a pool may serve none."""
    rate = np.array([workload.rate_rps for workload in fleet.workloads]) + TINY_RPS
    inputs = np.array([workload.input_tokens_mean for workload in fleet.workloads])
    outputs = np.array([workload.output_tokens_mean for workload in fleet.workloads])
    slo_ns = np.array([workload.tpot_ms_p95 for workload in fleet.workloads]) * NS_PER_MS
    found = []
    for row in allowed:
        mine = row if row.any() else np.ones_like(row)
        weight = rate * mine / (rate * mine).sum()
        found.append(Lengths(float(weight @ inputs), float(weight @ outputs), float(slo_ns[mine].min())))
    return found


def api_speed(pool: Pool, lengths: Lengths) -> Speed:
    """Return the speed of a token-priced API; its places are the requests that its limit allows in a minute."""
    tpot_ns = pool.tpot_ms * NS_PER_MS
    minute = pool.tokens_per_minute_max / (lengths.input_tokens + lengths.output_tokens)
    slots = max(1.0, minute) if pool.tokens_per_minute_max > 0 else UNLIMITED
    service_ns = pool.ttft_ms * NS_PER_MS + tpot_ns * lengths.output_tokens
    return Speed(0.0, 0.0, 0.0, pool.ttft_ms * NS_PER_MS, tpot_ns, 0.0, slots, UNLIMITED, service_ns)


def replica_speed(tables: Tables, index: int, lengths: Lengths) -> Speed:
    """Return the speed of one replica of deployment ``index``."""
    limits, token_ns = tables.limits[index], tables.token_ns[index]
    budget, held = int(limits.step_tokens_max), lengths.input_tokens + lengths.output_tokens
    places = max(1.0, min(float(limits.batch_max), limits.kv_blocks * limits.block_tokens / held))
    attention_ns = prompt_attention_ns(tables, index, lengths.input_tokens) / lengths.input_tokens
    prefill_ns, longest = float(token_ns[budget]) / budget + attention_ns, float(limits.context_tokens_max)
    curve_ns = prompt_attention_ns(tables, index, longest) / (longest * longest)
    more_ns = float(token_ns[budget] - token_ns[min(1, budget)]) / max(budget - 1, 1) + attention_ns
    context = lengths.input_tokens + lengths.output_tokens / 2
    alone_ns, full_ns = (step_at(tables, index, batch, context) for batch in (1, int(places)))
    slope_ns = (full_ns - alone_ns) / max(int(places) - 1, 1) + lengths.input_tokens / lengths.output_tokens * more_ns
    slots = max(1.0, min(places, (lengths.slo_tpot_ns - alone_ns) / max(slope_ns, 1.0)))
    return Speed(
        prefill_ns_per_token=prefill_ns,
        read_ns_per_token=prefill_ns - curve_ns * lengths.input_tokens,
        read_ns_per_token2=curve_ns,
        own_ns=step_at(tables, index, max(1, int(slots / 2)), context),
        tpot_ns=alone_ns,
        load_ns=slope_ns,
        slots=slots,
        places=places,
        service_ns=(alone_ns + slope_ns * slots / 2) * lengths.output_tokens,
    )


def prompt_attention_ns(tables: Tables, index: int, tokens: float) -> float:
    """Return the attention of prefilling a whole prompt, ns."""
    grid = tables.prefill_grid[index, : tables.limits[index].prefill_cells + 1]
    cell = _cell(grid, tokens)
    into = tokens - float(grid[cell])
    return float(tables.prefill_ns[index, cell] + tables.prefill_slope[index, cell] * into)


def step_at(tables: Tables, index: int, batch: int, context: float) -> float:
    """Return a pure decode step of ``batch`` requests at a mean context, ns."""
    grid = tables.context_grid[index, : tables.limits[index].context_cells + 1]
    cell = _cell(grid, context)
    edge, slope = tables.cells[index, batch, cell, :2]
    return float(edge + slope * (context - grid[cell]))


def _cell(grid: Floats, x: float) -> int:
    """Return the cell of ``grid`` that holds ``x``; the first or last one outside."""
    return int(np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2))
