"""Run a fleet: route each arrival through the policy and step the replicas, in order of time.

Comes in: an ``Engine`` and a range of arrivals. Goes out: nothing; the engine's arrays tell. At one instant arrivals
come first, then timers by request, then replicas by index, then a site that is lost or comes back (``loss``). A
request is taken to reach its pool at the instant it is routed; the round trip is added to what the user sees, in
``outcome``. Within a pool the replica with the fewest requests in flight takes it (in turn under round robin).

A token-priced API is a delay: it starts a request when its tokens-per-minute limit allows (a bucket of one minute),
gives the first token after its TTFT and one token per TPOT after that. Cost: O(pools + log replicas) per request,
O(log replicas) per step, no allocation. This module must never read a clock or draw a random number.
"""

from __future__ import annotations

from offtake.performance.compiled import entry, kernel
from offtake.performance.replica import NEVER_NS, NONE, arrive, boundary
from offtake.policy.admit import admit
from offtake.policy.choose import choose
from offtake.policy.update import update
from offtake.policy.view import BUCKET_NS, NO_POOL, NO_RETRY_NS, Event, EventKind, Policy, Reason, Request
from offtake.rehearse.queues import least_leaf, pop_timer, push_timer, set_key
from offtake.rehearse.state import FIRST_LEAF, TIMER_LEAF, Engine, Status
from offtake.units import NS_PER_HOUR, NS_PER_S, S_PER_MINUTE

DEFER_NS_MIN = S_PER_MINUTE * NS_PER_S  #: a deferred request is not offered again sooner (assumption)


@entry
def advance(engine: Engine, first: int, last: int, until_ns: int) -> None:
    """Route arrivals ``first`` to ``last`` (excluded), and process what happens before ``until_ns``."""
    following = first
    leaves = engine.tree.shape[0] >> 1
    while True:
        now_ns = engine.tree[1]
        request = NONE
        if following < last and engine.flow[following].arrival_ns <= now_ns:
            request, now_ns = following, engine.flow[following].arrival_ns
            following += 1
        elif following == last and now_ns >= until_ns:
            break
        else:
            leaf = least_leaf(engine.tree, 0, leaves)
            if leaf == TIMER_LEAF:
                request = _timer(engine, now_ns)
            else:
                _step(engine, leaf - FIRST_LEAF)
        if request != NONE:
            _offer(engine, request, now_ns)


@kernel
def _step(engine: Engine, replica: int) -> None:
    """End a step of ``replica``, begin its next, and tell the policy what changed."""
    row = engine.plant.replicas.rows[replica]
    pool = engine.pool_of_replica[replica]
    now_ns = row.next_ns
    waiting, firsts, finished, queued = row.waiting, row.firsts, row.finished, row.queued_tokens
    wait_ns, service_ns = row.wait_ns, row.service_ns
    boundary(engine.plant, replica)
    set_next(engine, FIRST_LEAF + replica, row.next_ns)
    if row.waiting != waiting:
        update(engine.seen, Event(EventKind.ADMITTED, pool, 0, waiting - row.waiting, 0, 0, now_ns))
    if row.firsts != firsts:
        tokens, given = queued - row.queued_tokens, row.firsts - firsts
        update(engine.seen, Event(EventKind.FIRST_TOKEN, pool, 0, given, tokens, row.wait_ns - wait_ns, now_ns))
    if row.finished != finished:
        done = row.finished - finished
        update(engine.seen, Event(EventKind.FINISHED, pool, 0, done, 0, row.service_ns - service_ns, now_ns))
        count(engine, pool, -done, now_ns)
        show_in_flight(engine, pool, replica)


@kernel
def set_next(engine: Engine, leaf: int, at_ns: int) -> None:
    """Say when ``leaf`` of the tree of what happens next is due."""
    set_key(engine.tree, 0, engine.tree.shape[0] >> 1, leaf, at_ns)


@kernel
def show_in_flight(engine: Engine, pool: int, replica: int) -> None:
    """Put the requests in flight at ``replica`` into its pool's tree."""
    row = engine.pools[pool]
    in_flight = engine.plant.replicas.rows[replica].in_flight
    set_key(engine.pool_tree, row.tree_at, row.leaves, replica - row.first, in_flight)


@kernel
def count(engine: Engine, pool: int, change: int, now_ns: int) -> None:
    """Change the number of requests present in ``pool``, and its integral over time."""
    pools = engine.pools
    pools[pool].present_ns += float(pools[pool].present) * float(now_ns - pools[pool].last_ns)
    pools[pool].last_ns = now_ns
    pools[pool].present += change
    if change > 0:
        pools[pool].arrived += change
    else:
        pools[pool].left -= change


@kernel
def _offer(engine: Engine, request: int, now_ns: int) -> None:
    """Let the policy decide on ``request``, and do what it says."""
    flow, work = engine.flow, engine.plant.work
    asked = Request(
        int(flow[request].workload),
        int(flow[request].region),
        int(work[request].input_tokens),
        int(work[request].output_tokens),
    )
    flow[request].attempts += 1
    reason = admit(engine.seen, asked, now_ns)
    retry_ns = NO_RETRY_NS
    pool = NO_POOL
    if reason == Reason.NONE:
        choice = choose(engine.policy, engine.seen, asked, now_ns, flow[request].u)
        pool, reason, retry_ns = choice.pool, choice.reason, choice.retry_after_ns
    if pool == NO_POOL:
        _decline(engine, request, now_ns, reason, retry_ns)
    else:
        _send(engine, request, pool, now_ns)


@kernel
def _decline(engine: Engine, request: int, now_ns: int, reason: int, retry_ns: int) -> None:
    """Defer ``request`` if its workload can wait until it pays, else refuse it."""
    flow = engine.flow
    flow[request].pool = NO_POOL
    flow[request].reason = reason
    flow[request].retry_after_ns = retry_ns
    if reason == Reason.NO_CAPACITY:
        retry_ns = NS_PER_HOUR
    again_ns = now_ns + max(retry_ns, DEFER_NS_MIN)
    if retry_ns > 0 and again_ns <= flow[request].arrival_ns + engine.defer_ns[flow[request].workload]:
        flow[request].status = Status.DEFERRED
        set_timer(engine, again_ns, request)
    else:
        flow[request].status = Status.REFUSED
        engine.plant.work[request].finish_ns = now_ns


@kernel
def set_timer(engine: Engine, at_ns: int, request: int) -> None:
    """Come back to ``request`` at ``at_ns``."""
    push_timer(engine.timers, at_ns, request)
    show_timer(engine)


@kernel
def show_timer(engine: Engine) -> None:
    """Put the first timer into the tree of what happens next."""
    key = engine.timers.at_ns[0] if engine.timers.size[0] > 0 else NEVER_NS
    set_next(engine, TIMER_LEAF, key)


@kernel
def _send(engine: Engine, request: int, pool: int, now_ns: int) -> None:
    """Send ``request`` to ``pool``."""
    flow, pools = engine.flow, engine.pools
    tokens = int(engine.plant.work[request].input_tokens)
    update(engine.seen, Event(EventKind.ROUTED, pool, flow[request].workload, 1, tokens, 0, now_ns))
    count(engine, pool, 1, now_ns)
    flow[request].pool = pool
    flow[request].status = Status.RUNNING
    flow[request].reason = Reason.NONE
    flow[request].entered_ns = now_ns
    if pools[pool].deployment < 0:
        _call_api(engine, request, pool, now_ns)
        return
    if engine.policy == Policy.ROUND_ROBIN:
        leaf = pools[pool].turn % pools[pool].replicas
        pools[pool].turn += 1
    else:
        leaf = least_leaf(engine.pool_tree, pools[pool].tree_at, pools[pool].leaves)
    replica = pools[pool].first + leaf
    arrive(engine.plant, replica, request, now_ns)
    set_next(engine, FIRST_LEAF + replica, engine.plant.replicas.rows[replica].next_ns)
    show_in_flight(engine, pool, replica)


@kernel
def _call_api(engine: Engine, request: int, pool: int, now_ns: int) -> None:
    """Start ``request`` at a token-priced API as soon as its rate limit allows; its times are then known."""
    work, view = engine.plant.work, engine.seen
    inputs, outputs = int(work[request].input_tokens), int(work[request].output_tokens)
    start_ns = max(now_ns, view.pools[pool].free_ns)
    taken_ns = int((inputs + outputs) * view.pools[pool].token_ns + 0.5)
    view.pools[pool].free_ns = max(view.pools[pool].free_ns + BUCKET_NS, now_ns) + taken_ns - BUCKET_NS
    work[request].start_ns = start_ns
    work[request].first_token_ns = start_ns + int(view.pools[pool].ttft_ns + 0.5)
    end_ns = work[request].first_token_ns + int((outputs - 1) * engine.pools[pool].tpot_ns + 0.5)
    update(view, Event(EventKind.ADMITTED, pool, 0, 1, 0, 0, now_ns))
    set_timer(engine, end_ns, request)


@kernel
def _timer(engine: Engine, now_ns: int) -> int:
    """Take the first timer: a request that was deferred or moved is returned, one at an API is finished."""
    flow, work = engine.flow, engine.plant.work
    request = pop_timer(engine.timers)
    show_timer(engine)
    if flow[request].status == Status.DEFERRED:
        work[request].arrival_ns = now_ns
        return request
    if flow[request].status == Status.MOVED:
        return request
    pool = flow[request].pool
    tokens, wait_ns = work[request].input_tokens, work[request].first_token_ns - flow[request].entered_ns
    work[request].finish_ns = now_ns
    count(engine, pool, -1, now_ns)
    update(engine.seen, Event(EventKind.FIRST_TOKEN, pool, 0, 1, tokens, wait_ns, now_ns))
    service_ns = now_ns - work[request].start_ns
    update(engine.seen, Event(EventKind.FINISHED, pool, 0, 1, 0, service_ns, now_ns))
    return NONE
