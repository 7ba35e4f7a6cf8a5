"""Keep a view true: apply what happened at a pool.

Comes in: a view and one event. Goes out: nothing; the view is changed in place. The same events come from the
rehearsal's replicas and from the router's upstreams, so the same log gives the same decisions in both.

What a pool really bears is learned here: its *reach* is moved until the share of late answers is the one that the
service level allows (stochastic approximation of a quantile: Robbins and Monro, 1951). At the limit 5 % may be late,
and below it 5 % · y¹⁶, with y as in ``price``; a late answer lowers the reach, one in time raises it, so that it rests
where the late are as many as that. Only what is late by the load counts (``late_by_load``). The gain is one over the
requests in flight, because what is decided now shows only after as many have finished.
"""

from __future__ import annotations

import math

from offtake.performance.compiled import kernel
from offtake.policy.price import REACH_MIN, block_at, caution_at, nearness, own_ns, predicted_wait_ns, price_at
from offtake.policy.view import BUCKET_NS, Answer, Event, EventKind, View

SMOOTHING = 0.02  #: weight of one finished request in the smoothed service time (assumption)
LATE_SHARE = 0.05  #: of answers may be late, since limits are on the 95th percentile
#: Change of reach while as many finish as are in flight, all of them late. Swept over 0.2, 0.5, 1 and 2 on the starter,
#: three-contracts and may-2026 fleets at 0.8 to 4 times their load, seeds 1 and 2: value in time 96.7, 97.4, 97.6
#: and 97.5 % of what was offered; a target of 0.02 instead of 0.05 late gave 0.1 points less at a gain of 0.5.
TURNOVER_GAIN = 1.0
FEW = 20.0  #: requests in flight below which the gain no longer grows (assumption)
REACH_MAX = 2.0  #: most that measurement may find (assumption)


@kernel
def update(view: View, event: Event) -> None:
    """Apply ``event`` to ``view``. Cost: O(1), and O(workloads) when a workload comes to a pool or leaves it."""
    if event.kind == EventKind.DECLINED:
        kind = view.workloads[event.workload]
        kind.owed = min(kind.owed + kind.admit_share_min, 1.0)
        return
    row = view.pools[event.pool]
    if event.kind == EventKind.ROUTED:
        row.in_flight += 1
        row.waiting += 1
        row.queued_tokens += event.tokens
        _count(view, event.pool, event.workload, 1)
        kind = view.workloads[event.workload]
        kind.cursor = event.pool + 1
        kind.owed = max(kind.owed + kind.admit_share_min - 1.0, 0.0)
    elif event.kind == EventKind.ADMITTED:
        row.waiting -= event.size
    elif event.kind == EventKind.FIRST_TOKEN:
        row.queued_tokens -= event.tokens
    elif event.kind == EventKind.FINISHED:
        weight = min(1.0, SMOOTHING * event.size)
        row.service_ns += weight * (event.sum_ns / event.size - row.service_ns)
        _learn_reach(view, event.pool, event.size, event.tokens)
    elif event.kind == EventKind.GONE:
        row.in_flight -= 1
        row.waiting -= event.size
        row.queued_tokens -= event.tokens
        _count(view, event.pool, event.workload, -1)
    elif event.kind == EventKind.CAPACITY:
        row.replicas_up = event.size
    elif event.kind == EventKind.ELSEWHERE:
        row.in_flight += event.size
        row.queued_tokens += event.tokens
        _count(view, event.pool, event.workload, event.size)
    elif event.kind == EventKind.TAKEN:
        full_ns = event.now_ns - BUCKET_NS
        taken_ns = math.floor(event.tokens * row.token_ns + 0.5)
        row.free_ns = max(max(row.free_ns, full_ns) + taken_ns, full_ns)
    _see(view, event.pool, event.now_ns)


@kernel
def late_by_load(view: View, pool: int, answer: Answer) -> int:
    """Return 1 if an answer missed a limit of its workload by the load of ``pool``, else 0.

    A prompt too long to be read in time is late at an empty pool too, and says nothing of what the pool bears. So a
    late first token counts only if the load took more than the time that the mean prompt leaves.
    """
    kind = view.workloads[answer.workload]
    if answer.ttft_ns > kind.slo_ttft_ns:
        added_ns = answer.ttft_ns - answer.rtt_ns - own_ns(view, pool, answer.tokens)
        if added_ns * view.rate[pool, answer.workload, 1] > 1.0:
            return 1
    return 1 if answer.tpot_ns > kind.slo_tpot_ns else 0


@kernel
def _learn_reach(view: View, pool: int, answers: int, late: int) -> None:
    """Move the reach of ``pool`` after some answers, towards the share of late ones that its pressure stands for."""
    row = view.pools[pool]
    held = max(float(row.in_flight), FEW)
    near = min(nearness(row.pressure, held / max(row.pressure, 1.0 / held)), 1.0)
    fourth = near * near * near * near
    expected = LATE_SHARE * fourth * fourth * fourth * fourth
    moved = row.reach + TURNOVER_GAIN / held * (expected * answers - late)
    row.reach = min(max(moved, REACH_MIN), REACH_MAX)


@kernel
def _count(view: View, pool: int, workload: int, change: int) -> None:
    """Count requests of ``workload`` in or out of ``pool``."""
    row = view.pools[pool]
    before = view.running[pool, workload]
    view.running[pool, workload] = before + change
    row.work_ns += change * view.load_ns[pool, workload]
    if before == 0 or before + change == 0:
        _tighten(view, pool)


@kernel
def _tighten(view: View, pool: int) -> None:
    """Find the tightest limits among the workloads that ``pool`` has in flight."""
    row = view.pools[pool]
    row.tpot_rate = row.ttft_rate = 0.0
    for workload in range(view.running.shape[1]):
        if view.running[pool, workload] > 0:
            row.tpot_rate = max(row.tpot_rate, view.rate[pool, workload, 0])
            row.ttft_rate = max(row.ttft_rate, view.rate[pool, workload, 1])


@kernel
def _see(view: View, pool: int, now_ns: int) -> None:
    """Work out anew what a decision reads of ``pool``: wait, TPOT, pressure and price."""
    row = view.pools[pool]
    if row.replicas_up == 0:
        return
    if row.is_api:
        row.pressure = row.in_flight / row.slots
        row.price_usd = view.bid_usd[block_at(view, now_ns), pool]
        return
    row.wait_ns = predicted_wait_ns(view, pool)
    more_ns = row.work_ns / row.replicas_up
    row.tpot_now_ns = row.tpot_ns + more_ns
    pressure = max(more_ns * row.tpot_rate, row.wait_ns * row.ttft_rate)
    pressure = max(pressure, row.in_flight / (row.places * row.replicas_up)) / row.reach
    row.pressure = pressure
    near = nearness(pressure, row.in_flight / pressure) if pressure > 0.0 else 0.0
    bid_usd = view.bid_usd[block_at(view, now_ns), pool]
    row.price_usd = price_at(near, bid_usd, row.density_usd)
    row.caution_usd = caution_at(near, bid_usd, row.density_usd)
