"""Choose the pool that serves a request, by one of the built-in policies.

Comes in: a view, a request that ``admit`` let through, the time, and one uniform random number ``u`` in [0, 1) that
breaks ties. Goes out: a ``Choice``; nothing is changed. A pool that is down or unfit is never chosen. Cost: O(pools),
no allocation.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.policy.admit import can_serve
from offtake.policy.price import load, margin_usd, retry_after_ns
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Choice, Policy, Reason, Request, View


@kernel
def choose(policy: int, view: View, request: Request, now_ns: int, u: float) -> Choice:
    """Return the pool for ``request`` under ``policy``; only ``BID_PRICE`` ever refuses."""
    if policy == Policy.BID_PRICE:
        return by_bid_price(view, request, now_ns, u)
    pool = round_robin(view, request) if policy == Policy.ROUND_ROBIN else least_loaded(view, request, u)
    reason = Reason.NO_CAPACITY.value if pool == NO_POOL else Reason.NONE.value
    return Choice(pool, reason, 0.0, NO_RETRY_NS)


@kernel
def by_bid_price(view: View, request: Request, now_ns: int, u: float) -> Choice:
    """Take the pool with the largest margin; if none is worth it, refuse and say when it would be."""
    pools = view.pools.shape[0]
    best, best_usd = NO_POOL, 0.0
    first = int(u * pools)
    for turn in range(pools):
        pool = (first + turn) % pools
        if can_serve(view, request, pool):
            usd = margin_usd(view, request, pool, now_ns, 0.0)
            if best == NO_POOL or usd > best_usd:
                best, best_usd = pool, usd
    if best == NO_POOL:
        return Choice(NO_POOL, Reason.NO_CAPACITY.value, 0.0, NO_RETRY_NS)
    if best_usd < 0.0:
        return Choice(NO_POOL, Reason.BELOW_BID.value, best_usd, retry_after_ns(view, request, best, now_ns))
    return Choice(best, Reason.NONE.value, best_usd, NO_RETRY_NS)


@kernel
def least_loaded(view: View, request: Request, u: float) -> int:
    """Take the pool with the smallest share of its running places taken."""
    pools = view.pools.shape[0]
    best, best_load = NO_POOL, 0.0
    first = int(u * pools)
    for turn in range(pools):
        pool = (first + turn) % pools
        if can_serve(view, request, pool):
            share = load(view, pool, 0.0)
            if best == NO_POOL or share < best_load:
                best, best_load = pool, share
    return best


@kernel
def round_robin(view: View, request: Request) -> int:
    """Take the next pool in turn that can serve; each workload has its own turn."""
    pools = view.pools.shape[0]
    for turn in range(pools):
        pool = (view.workloads[request.workload].cursor + turn) % pools
        if can_serve(view, request, pool):
            return pool  # type: ignore[no-any-return]
    return NO_POOL
