"""Choose a pool as other systems do: the policies that bid price is compared with. None of them ever refuses.

Comes in: a view, a request, perhaps one uniform random number ``u`` in [0, 1). Goes out: a pool that can serve, or
``NO_POOL`` if none can. Nothing is changed. Cost: O(pools), no allocation.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.policy.admit import can_serve, is_open
from offtake.policy.price import block_at, load, paid_when_used_usd, ttft_ns
from offtake.policy.view import NO_POOL, PRIME, Request, View

BOUND = 1.25  #: times the mean load, beyond which a session's own pool is passed over (Mirrokni et al., 2018)


@kernel
def round_robin(view: View, request: Request) -> int:
    """Take the next pool in turn that can serve; each workload has its own turn."""
    pools = view.pools.shape[0]
    for turn in range(pools):
        pool = (view.workloads[request.workload].cursor + turn) % pools
        if can_serve(view, request, pool):
            return pool
    return NO_POOL


@kernel
def ranked(view: View, request: Request, turn: int, u: float) -> int:
    """Return the pool at ``turn`` in the list of those the workload may use, begun at a random place."""
    fits = view.workloads[request.workload].fits
    rank = int(u * fits) + turn
    return view.fit[request.workload, rank - fits if rank >= fits else rank]


@kernel
def least_loaded(view: View, request: Request, u: float) -> int:
    """Take the pool with the smallest share of its running places taken."""
    best, best_load = NO_POOL, 0.0
    for turn in range(view.workloads[request.workload].fits):
        pool = ranked(view, request, turn, u)
        if is_open(view, request, pool):
            share = load(view, pool)
            if best == NO_POOL or share < best_load:
                best, best_load = pool, share
    return best


@kernel
def weighted(view: View, request: Request, now_ns: int, u: float) -> int:
    """Take a pool at random, weighted by what the plan places there in this block, else by its goodput."""
    block = block_at(view, now_ns)
    fits = view.workloads[request.workload].fits
    total = 0.0
    for rank in range(fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool):
            total += view.weight[block, pool, request.workload]
    mark, last = u * total, NO_POOL
    for rank in range(fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool) and view.weight[block, pool, request.workload] > 0.0:
            mark -= view.weight[block, pool, request.workload]
            last = pool
            if mark < 0.0:
                break
    return last if last != NO_POOL else least_loaded(view, request, u)


@kernel
def power_of_two(view: View, request: Request, u: float) -> int:
    """Draw two of the pools that can serve and take the less loaded (Mitzenmacher, 2001)."""
    fits = view.workloads[request.workload].fits
    count = 0
    for rank in range(fits):
        count += is_open(view, request, view.fit[request.workload, rank])
    if count == 0:
        return NO_POOL
    first = int(u * count)
    second = int((u * count - first) * (count - 1))
    second += second >= first
    one, other, seen = NO_POOL, NO_POOL, 0
    for rank in range(fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool):
            one = pool if seen == first else one
            other = pool if seen == second else other
            seen += 1
    return other if other != NO_POOL and load(view, other) < load(view, one) else one


@kernel
def cheapest_first(view: View, request: Request, u: float) -> int:
    """Take the pool with a free place at which the least is paid for being used; if none is free, the least loaded."""
    best, best_usd = NO_POOL, 0.0
    for turn in range(view.workloads[request.workload].fits):
        pool = ranked(view, request, turn, u)
        if is_open(view, request, pool) and load(view, pool) < 1.0:
            usd = paid_when_used_usd(view, request, pool)
            if best == NO_POOL or usd < best_usd:
                best, best_usd = pool, usd
    return best if best != NO_POOL else least_loaded(view, request, u)


@kernel
def latency_first(view: View, request: Request, now_ns: int, u: float) -> int:
    """Take the pool with the shortest predicted time to first token."""
    best, best_ns = NO_POOL, 0.0
    for turn in range(view.workloads[request.workload].fits):
        pool = ranked(view, request, turn, u)
        if is_open(view, request, pool):
            first_ns = ttft_ns(view, request, pool, now_ns)
            if best == NO_POOL or first_ns < best_ns:
                best, best_ns = pool, first_ns
    return best


@kernel
def prefix_affinity(view: View, request: Request, u: float) -> int:
    """Take the session's own pool by rendezvous hashing, passing over those above 1.25 times the mean load.

    A request without a session goes to the least loaded. Sources: Thaler and Ravishankar, 1998; bounded loads:
    Mirrokni, Thorup and Zadimoghaddam, 2018.
    """
    if request.session < 0:
        return least_loaded(view, request, u)
    fits = view.workloads[request.workload].fits
    total, count = 0.0, 0
    for rank in range(fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool):
            total += load(view, pool)
            count += 1
    best, best_hash = NO_POOL, -1
    for rank in range(fits):
        pool = view.fit[request.workload, rank]
        if is_open(view, request, pool) and load(view, pool) * count <= BOUND * total:
            mixed = mix(request.session, pool)
            if mixed > best_hash:
                best, best_hash = pool, mixed
    return best


@kernel
def mix(session: int, pool: int) -> int:
    """Return a hash of a session and a pool, from 0 to 2³¹ - 2."""
    found = (session * 48_271 + 11) % PRIME
    found = (found * found + (pool + 1) * 69_621) % PRIME
    return (found * found + 7) % PRIME
