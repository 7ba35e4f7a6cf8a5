"""Bound what any policy could have served in time, knowing everything: the yardstick of a comparison.

Comes in: a fleet, its step tables and the requests of a window. Goes out: US dollars that no policy can exceed. It is a
bound by weak duality, in three steps.

1. *Work.* Let a step of a replica with t prompt and b answer tokens last at least f(t, b), the table's time for t + b
   tokens plus the attention of b answers. An answer in time takes at most slo per token after the first, so over the
   steps that give tokens to answers in time Σ (length - slo) · b ≤ 0. For any μ ≥ 0, and α, κ with
   f(t, b) · (1 + μ b) ≥ α t + κ b for all t + b within the step's budget, a replica is therefore busy for at least

       Σ length ≥ Σ length + μ Σ (length - slo) b ≥ Σ over requests in time of w,
       w = α · prompt tokens not shared + attention of prompt and answer + (κ - μ slo) · (answer tokens - 1).

   (Attention is added to a step whole, and 1 + μ b ≥ 1. That of an answer is a slope that the table keeps for every
   batch, times the contexts of its tokens; f holds what the table has above it.) α, κ and μ are chosen to make w large.
   Where an empty pool is too slow, a prompt too long to be read within its TTFT limit among them, it serves no value.
2. *Time.* What arrives in an interval I and is in time is done before I's end plus the longest stay S that the limits
   allow. So Σ w ≤ replicas · (length of I + S), over those whose own longest stay is within S; others are counted as
   no work at all. Each I is taken with several S, so that work that may wait for a day hides no rush hour. Of an API,
   tokens ≤ rate · (length of I + TTFT limit) + a full bucket.
3. *Value.* For any prices λ ≥ 0 of these limits, value in time ≤ Σ λ · limit + Σ max(0, max over pools (v - Σ λ w)).
   Good prices come from a small linear program (HiGHS); the sum is then taken over every single request, so that
   neither the sampling nor the solver's tolerance can break the bound.

It assumes that replicas are never faster than their tables nor more than in the fleet file, and that a prompt's shared
tokens are the only ones a cache can save. It must never know a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import coo_array

from offtake.demand.request import Requests, count_of
from offtake.fleet import Fleet, Pool
from offtake.performance.dense import Tables, prepare
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.policy.build import allowed_of
from offtake.policy.view import BUCKET_NS
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S, S_PER_MINUTE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Deployment = tuple[StepTable, ReplicaLimits]

STAY_SHARES = (0.5, 0.8, 0.98)  #: of requests whose longest stay is within S; the others count as no work
PARTS = (1, 2, 4, 8, 16, 32, 64)  #: into which the window is divided
SAMPLE = 2_000  #: requests in the linear program that finds the prices
CONTEXT_MIN = 1_024.0  #: tokens from which on the slope of attention is kept; measured tables are uneven below
MULTIPLIERS, MU_MIN, MU_MAX = 40, 1e-5, 10.0  #: values of μ that are tried
GRID = 40  #: batches among which α and κ are sought; they are then held to every batch
ROUNDING_NS = 1.0  #: that a step may be shorter than its table, because times are whole nanoseconds


class Load(NamedTuple):
    """Hold what the bound needs of each request [request], in order of arrival."""

    arrival_ns: Ints
    value_usd: Floats
    work: Floats  #: [request, pool]: busy ns of a replica, or tokens of an API; infinite where it may not go.
    stay_ns: Floats  #: [request, pool]: longest stay in time.


class Limit(NamedTuple):
    """Hold one limit of step 2: on a pool, for the requests from ``first`` up to ``last`` (excluded)."""

    first: int
    last: int
    pool: int
    stay_ns: float  #: S: requests that may stay longer are not counted.
    most: float  #: Busy ns of the replicas, or tokens.


class Rates(NamedTuple):
    """Hold α and κ (ns per token) and μ of step 1."""

    alpha: float
    kappa: float
    mu: float


def hindsight_usd(fleet: Fleet, deployments: Mapping[str, Deployment], requests: Requests) -> float:
    """Return an upper bound on the value that any policy can serve in time, US dollars.

    ``requests`` are all those of the window, sorted by arrival.
    """
    if count_of(requests) == 0:
        return 0.0
    load = load_of(fleet, deployments, requests)
    limits = limits_of(fleet, load)
    prices = prices_of(load, limits)
    return min(bound_usd(load, limits, each) for each in (prices, np.zeros(len(limits))))  # those of a sample may err


def load_of(fleet: Fleet, deployments: Mapping[str, Deployment], requests: Requests) -> Load:
    """Return value, least work and longest stay of each request at each pool."""
    kind = requests.workload.astype(np.int64)
    allowed = allowed_of(fleet)
    shape = (count_of(requests), len(fleet.pools))
    work, stay = np.empty(shape), np.empty(shape)
    for index, pool in enumerate(fleet.pools):
        if pool.kind == "api":
            work[:, index], stay[:, index] = requests.input_tokens + requests.output_tokens, _ttft_ns(fleet)[kind]
            first_ns = np.full(len(kind), pool.ttft_ms * NS_PER_MS)
        else:
            place = (pool, *deployments[pool.deployment])
            work[:, index] = _work_ns(fleet, place, requests, allowed[index])
            stay[:, index] = _ttft_ns(fleet)[kind] + _tpot_ns(fleet)[kind] * requests.output_tokens
            first_ns = _first_ns(place, requests)
        rtt_ns = np.array(next(site.rtt_ms for site in fleet.sites if site.name == pool.site)) * NS_PER_MS
        hopeless = first_ns + rtt_ns[requests.region] > _ttft_ns(fleet)[kind] + 2 * ROUNDING_NS
        work[~allowed[index][kind] | hopeless, index] = np.inf
    stay += np.array([workload.deferral_hours * NS_PER_HOUR for workload in fleet.workloads])[kind][:, None]
    value = np.array([workload.value_usd_per_request for workload in fleet.workloads])[kind]
    return Load(requests.arrival_ns, value, work, stay)


def _ttft_ns(fleet: Fleet) -> Floats:
    """Return the limit on the time to first token, ns [workload]."""
    return np.array([workload.ttft_ms_p95 * NS_PER_MS for workload in fleet.workloads])


def _tpot_ns(fleet: Fleet) -> Floats:
    """Return the limit on the time per output token, ns [workload]."""
    return np.array([workload.tpot_ms_p95 * NS_PER_MS for workload in fleet.workloads])


def _first_ns(place: tuple[Pool, StepTable, ReplicaLimits], requests: Requests) -> Floats:
    """Return the least time that an empty replica takes to read each prompt, ns [request]."""
    _, table, limits = place
    tables = prepare([(table, limits)])
    tokens = np.arange(1, limits.step_tokens_max + 1)
    per_token = float((tables.token_ns[0][tokens] / tokens).min())
    prompt = (requests.input_tokens - requests.shared_tokens).astype(np.float64)
    steps = np.ceil(prompt / limits.step_tokens_max)
    return np.asarray(per_token * prompt - ROUNDING_NS * steps + _attention_ns(tables, requests), np.float64)


def _attention_ns(tables: Tables, requests: Requests) -> Floats:
    """Return the attention of the part of each prompt that is not shared, ns [request]."""
    grid, values = tables.prefill_grid[0], tables.prefill_ns[0]
    whole = np.interp(requests.input_tokens, grid, values)
    return np.asarray(np.maximum(whole - np.interp(requests.shared_tokens, grid, values), 0.0), np.float64)


def _work_ns(
    fleet: Fleet, place: tuple[Pool, StepTable, ReplicaLimits], requests: Requests, allowed: npt.NDArray[np.bool_]
) -> Floats:
    """Return the least time that each request keeps a replica busy, ns [request]: w of step 1."""
    kind = requests.workload.astype(np.int64)
    mine = allowed[kind]
    prompt = (requests.input_tokens - requests.shared_tokens).astype(np.float64)
    pool, table, limits = place
    room = min(limits.context_tokens_max, limits.kv_blocks * limits.block_tokens)
    room = min(room, pool.context_tokens_max or room)
    answer = np.clip(requests.output_tokens, 1, np.maximum(room - requests.input_tokens, 1)) - 1.0  # it ends there
    slo_ns = _tpot_ns(fleet)[kind]
    if not mine.any():
        return np.zeros(len(kind))
    mix = np.array([prompt[mine].mean(), answer[mine].mean(), (slo_ns * answer)[mine].mean()])
    rates = _coefficients((table, limits), mix)
    tables = prepare([(table, limits)])
    attention = _attention_ns(tables, requests)
    attention += _slope_ns(tables) * answer * (requests.input_tokens + (answer - 1.0) / 2.0)
    work = rates.alpha * prompt + attention + (rates.kappa - rates.mu * slo_ns) * answer
    return np.asarray(work - ROUNDING_NS * requests.output_tokens, np.float64)


def _coefficients(deployment: Deployment, mix: Floats) -> Rates:
    """Return the α, κ and μ of step 1 that give the mean request (prompt, answer, slo · answer) the most work."""
    table, limits = deployment
    tables = prepare([deployment])
    budget = limits.step_tokens_max
    every = np.arange(min(limits.batch_max, budget) + 1)
    few = np.unique(np.geomspace(1, len(every), GRID).astype(np.int64)) - 1
    corners = np.concatenate([np.floor(table.token_grid), np.ceil(table.token_grid), [budget]]).astype(np.int64)
    t, b, f = _steps(tables, few, np.clip(corners, 0, budget))
    best, found = -np.inf, Rates(0.0, 0.0, 0.0)
    for mu in [0.0, *np.geomspace(MU_MIN, MU_MAX, MULTIPLIERS)]:
        top = linprog(-mix[:2], A_ub=np.column_stack([t, b]), b_ub=f * (1.0 + mu * b), bounds=(0, None))
        work = float(top.x @ mix[:2]) - mu * mix[2] if top.success else -np.inf
        if work > best:
            best, found = work, Rates(float(top.x[0]), float(top.x[1]), float(mu))
    t, b, f = _steps(tables, every, np.clip(corners, 0, budget))
    over = float(np.max((found.alpha * t + found.kappa * b) / (f * (1.0 + found.mu * b))))
    return Rates(found.alpha / max(over, 1.0), found.kappa / max(over, 1.0), found.mu)


def _steps(tables: Tables, batches: Ints, totals: Ints) -> tuple[Floats, Floats, Floats]:
    """Return t, b and f(t, b) where f can bend: at each batch without prompts, and at the corners of token times."""
    above = _slope_ns(tables) * batches[:, None] * tables.context_grid[0][None]
    step, attention = ((_by_context(tables, batches, at) - above).min(axis=1) for at in (0, 2))
    attention[batches == 0] = 0.0
    b, n = (axis.ravel() for axis in np.meshgrid(np.arange(len(batches)), totals, indexing="ij"))
    mixed = n > batches[b]
    f = tables.token_ns[0][n[mixed]] + attention[b[mixed]]
    begun = tables.token_ns[0][np.minimum(batches + 1, tables.token_ns.shape[1] - 1)] + attention
    decode = np.minimum(step, begun)
    alone = batches > 0
    t = np.concatenate([n[mixed] - batches[b[mixed]], np.zeros(alone.sum()), np.ones(len(batches))])
    held = np.concatenate([batches[b[mixed]], batches[alone], batches])
    return t.astype(np.float64), held.astype(np.float64), np.concatenate([f, decode[alone], begun])


def _by_context(tables: Tables, batches: Ints, at: int) -> Floats:
    """Return a column of the cells at every point of the context grid, ns [batch, context]."""
    cells, grid = tables.cells[0][batches], tables.context_grid[0]
    last = cells[:, -1, at] + cells[:, -1, at + 1] * (grid[-1] - grid[-2])
    return np.column_stack([cells[:, :, at], last])


def _slope_ns(tables: Tables) -> float:
    """Return what a token of context adds at least to the attention of one answer in a step, ns."""
    grid = tables.context_grid[0]
    batches = np.arange(1, tables.cells.shape[1])
    far = grid >= CONTEXT_MIN
    if not far.any() or batches.size == 0:
        return 0.0
    slopes = []
    for at in (0, 2):
        points = _by_context(tables, batches, at)
        rise = (points[:, far] - points[:, :1]) / (batches[:, None] * (grid[far] - grid[0]))
        slopes.append(float(rise.min()))
    return max(0.0, min(slopes))


def limits_of(fleet: Fleet, load: Load) -> list[Limit]:
    """Return what step 2 allows each pool, in the window and in its parts, down to a 64th."""
    begin, end = int(load.arrival_ns[0]), int(load.arrival_ns[-1])
    found = []
    for index, pool in enumerate(fleet.pools):
        if pool.kind == "api" and pool.tokens_per_minute_max <= 0.0:
            continue
        here = load.stay_ns[np.isfinite(load.work[:, index]), index]
        stays = sorted({float(np.quantile(here, share, method="lower")) for share in STAY_SHARES}) if here.size else []
        for parts, stay_ns in product(PARTS, stays):
            edges = np.linspace(begin, end, parts + 1)
            at = np.searchsorted(load.arrival_ns, edges, side="left")
            at[-1] = len(load.arrival_ns)
            most = _most(pool, (end - begin) / parts + stay_ns)
            found += [Limit(int(a), int(b), index, stay_ns, most) for a, b in pairwise(at)]
    return found


def _most(pool: Pool, time_ns: float) -> float:
    """Return what a pool can do in a time: busy ns of its replicas, or tokens."""
    if pool.kind == "chips":
        return pool.replicas * time_ns
    return pool.tokens_per_minute_max / (S_PER_MINUTE * NS_PER_S) * (time_ns + BUCKET_NS)


def prices_of(load: Load, limits: list[Limit]) -> Floats:
    """Return prices of the limits, US dollars per unit, from a linear program over a sample of the requests."""
    sample = np.arange(0, len(load.value_usd), max(1, len(load.value_usd) // SAMPLE))
    share = len(sample) / len(load.value_usd)
    row, pool = np.nonzero(np.isfinite(load.work[sample]))
    request = sample[row]
    if not request.size:
        return np.zeros(len(limits))
    rows, columns, values = [row], [np.arange(len(row))], [np.ones(len(row))]
    scale = np.array([max(limit.most * share, 1.0) for limit in limits])
    for index, limit in enumerate(limits):
        mine = np.flatnonzero(_counts(load, limit, request, pool))
        rows.append(np.full(len(mine), len(sample) + index))
        columns.append(mine)
        values.append(load.work[request[mine], limit.pool] / scale[index])
    shape = (len(sample) + len(limits), len(row))
    matrix = coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    most = np.concatenate([np.ones(len(sample)), np.array([limit.most * share for limit in limits]) / scale])
    answer = linprog(-load.value_usd[request], A_ub=matrix.tocsr(), b_ub=most, bounds=(0, None), method="highs")
    if not answer.success:
        return np.zeros(len(limits))
    return np.asarray(np.maximum(-answer.ineqlin.marginals[len(sample) :] / scale, 0.0), np.float64)


def bound_usd(load: Load, limits: list[Limit], prices: Floats) -> float:
    """Return Σ λ · limit + Σ max(0, max over pools (v - Σ λ w)): a bound for any prices λ ≥ 0."""
    charge = np.where(np.isfinite(load.work), 0.0, np.inf)
    every = np.arange(len(load.value_usd))
    total = 0.0
    for limit, price in zip(limits, prices, strict=True):
        counted = every[_counts(load, limit, every, np.full(len(every), limit.pool))]
        charge[counted, limit.pool] += price * load.work[counted, limit.pool]
        total += price * limit.most
    margin = load.value_usd - charge.min(axis=1)
    return float(total + np.where(np.isfinite(margin), np.maximum(margin, 0.0), 0.0).sum())


def _counts(load: Load, limit: Limit, request: Ints, pool: Ints) -> npt.NDArray[np.bool_]:
    """Tell which of some requests at some pools a limit counts."""
    here = (pool == limit.pool) & (request >= limit.first) & (request < limit.last)
    short = load.stay_ns[request, limit.pool] <= limit.stay_ns
    return np.asarray(here & short & np.isfinite(load.work[request, limit.pool]), np.bool_)
