"""Choose the pool that serves a request, by one of the built-in policies.

Comes in: a view, a request that ``admit`` let through, the time, and one uniform random number ``u`` in [0, 1) that
breaks ties. Goes out: a ``Choice``; nothing is changed. A pool that is down or unfit is never chosen. Cost: O(pools),
no allocation.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.policy.admit import is_open
from offtake.policy.baselines import (
    cheapest_first,
    latency_first,
    least_loaded,
    power_of_two,
    prefix_affinity,
    ranked,
    round_robin,
    weighted,
)
from offtake.policy.price import EVEN, expected_output, margin_usd, need, patience, retry_after_ns
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Choice, Policy, Reason, Request, View


@kernel
def choose(policy: int, view: View, request: Request, now_ns: int, u: float) -> Choice:
    """Return the pool for ``request`` under ``policy``; only ``BID_PRICE`` ever refuses."""
    if policy == Policy.BID_PRICE:
        return by_bid_price(view, request, now_ns, u)
    if policy == Policy.ROUND_ROBIN:
        pool = round_robin(view, request)
    elif policy == Policy.WEIGHTED:
        pool = weighted(view, request, now_ns, u)
    elif policy == Policy.POWER_OF_TWO:
        pool = power_of_two(view, request, u)
    elif policy == Policy.CHEAPEST_FIRST:
        pool = cheapest_first(view, request, u)
    elif policy == Policy.LATENCY_FIRST:
        pool = latency_first(view, request, now_ns, u)
    elif policy == Policy.PREFIX_AFFINITY:
        pool = prefix_affinity(view, request, u)
    else:
        pool = least_loaded(view, request, u)
    reason = Reason.NO_CAPACITY.value if pool == NO_POOL else Reason.NONE.value
    return Choice(pool, reason, 0.0, NO_RETRY_NS)


@kernel
def by_bid_price(view: View, request: Request, now_ns: int, u: float) -> Choice:
    """Take the pool with the largest margin, with caution if one will do; if none pays, refuse and say when it would.

    A workload that is owed admissions by its floor is served at the best pool whatever the margin.
    """
    best, best_usd, calm, calm_usd, calm_score = NO_POOL, 0.0, NO_POOL, 0.0, 0.0
    kind = view.workloads[request.workload]
    paying, even_usd = patience(view, request, now_ns), EVEN * kind.worth_usd
    output = expected_output(view, request)
    for turn in range(kind.fits):
        pool = ranked(view, request, turn, u)
        if is_open(view, request, pool):
            row = view.pools[pool]
            usd = margin_usd(view, request, pool, now_ns, paying)
            score = usd - even_usd * row.pressure - row.caution_usd * need(view, request, pool, output)
            if calm == NO_POOL or score > calm_score:
                calm, calm_usd, calm_score = pool, usd, score
            if best == NO_POOL or usd > best_usd:
                best, best_usd = pool, usd
    if calm_usd >= 0.0:
        best, best_usd = calm, calm_usd
    if best == NO_POOL:
        return Choice(NO_POOL, Reason.NO_CAPACITY.value, 0.0, NO_RETRY_NS)
    if best_usd < 0.0 and kind.owed + kind.admit_share_min < 1.0:
        retry_ns = _retry_ns(view, request, best, now_ns, paying)
        return Choice(NO_POOL, Reason.BELOW_BID.value, best_usd, retry_ns)
    return Choice(best, Reason.NONE.value, best_usd, NO_RETRY_NS)


@kernel
def _retry_ns(view: View, request: Request, best: int, now_ns: int, paying: float) -> int:
    """Return after how long ``best`` takes ``request``, or if it never does, the first of the other pools."""
    retry_ns = retry_after_ns(view, request, best, now_ns, paying)
    if retry_ns != NO_RETRY_NS:
        return retry_ns
    for rank in range(view.workloads[request.workload].fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool):
            other_ns = retry_after_ns(view, request, pool, now_ns, paying)
            if other_ns != NO_RETRY_NS and (retry_ns == NO_RETRY_NS or other_ns < retry_ns):
                retry_ns = other_ns
    return retry_ns
