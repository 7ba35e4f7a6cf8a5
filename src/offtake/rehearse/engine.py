"""Run a fleet: route each arrival through the policy and step the replicas, in order of time.

Comes in: an ``Engine`` and a batch of arrivals. Goes out: the engine's arrays, and why it stopped. At one instant
arrivals come first, then timers by the order in which requests became known, then replicas by index, then actions
(``actions``). A request is taken to reach its pool at the instant it is routed; the round trip is added to what the
user sees, in ``outcome``. Within a pool the replica with the fewest requests in flight takes it (in turn under round
robin).

A token-priced API is a delay: it starts a request when its tokens-per-minute limit allows (a bucket of one minute),
gives the first token after its TTFT and one token per TPOT after that. Cost: O(pools + log replicas) per request,
O(log replicas) per step, no allocation. This module must never read a clock or draw a random number.
"""

from __future__ import annotations

from enum import IntEnum

from offtake.performance.compiled import entry, kernel
from offtake.performance.replica import NEVER_NS, NONE, arrive, boundary
from offtake.policy.admit import admit
from offtake.policy.choose import choose
from offtake.policy.update import late_by_load, update
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Answer, Event, EventKind, Policy, Reason, Request
from offtake.rehearse.ahead import look_at_door, look_at_replica, look_at_requests
from offtake.rehearse.queues import ROOT, least_leaf, pop_timer, second_leaf, set_key
from offtake.rehearse.scaling import became_ready, stopped
from offtake.rehearse.sessions import is_full
from offtake.rehearse.slots import arrive_at, ask_again, end, set_timer, show_timer, take_slot
from offtake.rehearse.state import FIRST_LEAF, TIMER_LEAF, Engine, Feed, Replica, Status
from offtake.units import NS_PER_HOUR, NS_PER_S, S_PER_MINUTE

DEFER_NS_MIN = S_PER_MINUTE * NS_PER_S  #: a deferred request is not offered again sooner (assumption)


class Stop(IntEnum):
    """Say why the engine stopped."""

    DONE = 0  # as far as it was asked to go
    ENDED = 1  # no room for the ends of further requests: count them
    SLOTS = 2  # no free slot: make more
    SESSIONS = 3  # no room for another session: make the table again


@entry
def advance(engine: Engine, feed: Feed, stop: int, until_ns: int) -> int:
    """Route the feed's arrivals up to row ``stop`` (excluded), and process what happens before ``until_ns``."""
    book = engine.book[0]
    while book.ended < book.ended_most:
        now_ns = engine.tree[ROOT]
        at = feed.at[0]
        slot = NONE
        if at < stop and feed.arrival_ns[at] <= now_ns:
            if book.free == 0:
                return Stop.SLOTS.value
            if is_full(engine.sessions):
                return Stop.SESSIONS.value
            now_ns = feed.arrival_ns[at]
            feed.at[0] = at + 1
            slot = take_slot(engine, feed, at)
        elif at == stop and now_ns >= until_ns:
            return Stop.DONE.value
        else:
            leaf = least_leaf(engine.tree, 0, engine.leaves)
            if leaf == TIMER_LEAF:
                slot = _timer(engine, now_ns)
            else:
                _step_looking_ahead(engine, leaf)
        if slot != NONE:
            _offer(engine, slot, now_ns)
    return Stop.ENDED.value


@kernel
def _step_looking_ahead(engine: Engine, leaf: int) -> None:
    """Step the replica of ``leaf``, and have what the step after it needs fetched meanwhile."""
    following = max(second_leaf(engine.tree, 0, engine.leaves, leaf), FIRST_LEAF) - FIRST_LEAF
    look_at_replica(engine, following)
    _step(engine, leaf - FIRST_LEAF)
    look_at_requests(engine, following)


@kernel
def _step(engine: Engine, replica: int) -> None:
    """End a step of ``replica``, begin its next, and tell the policy; or let it serve once it is loaded."""
    if engine.replica_state[replica] == Replica.LOADING:
        became_ready(engine, replica)
        return
    row = engine.plant.replicas.rows[replica]
    pool = engine.pool_of_replica[replica]
    now_ns = row.next_ns
    waiting, firsts, queued = row.waiting, row.firsts, row.queued_tokens
    finished, served_ns = row.finished, row.service_ns
    boundary(engine.plant, replica)
    set_next(engine, FIRST_LEAF + replica, row.next_ns)
    if row.waiting != waiting:
        update(engine.seen, Event(EventKind.ADMITTED, pool, 0, waiting - row.waiting, 0, 0, now_ns))
    if row.firsts != firsts:
        tokens = queued - row.queued_tokens
        update(engine.seen, Event(EventKind.FIRST_TOKEN, pool, 0, row.firsts - firsts, tokens, 0, now_ns))
    slot = row.done
    if slot != NONE:
        row.done = NONE
        late = 0
        while slot != NONE:
            following = engine.plant.work[slot].link
            late += _leave(engine, pool, slot, now_ns)
            slot = following
        done, service_ns = row.finished - finished, row.service_ns - served_ns
        update(engine.seen, Event(EventKind.FINISHED, pool, 0, done, late, service_ns, now_ns))
        show_in_flight(engine, pool, replica)
        stopped(engine, replica)


@kernel
def _leave(engine: Engine, pool: int, slot: int, now_ns: int) -> int:
    """Let the finished request leave its pool and its slot; return 1 if the pool's load made it late, else 0."""
    flow, work = engine.flow[slot], engine.plant.work[slot]
    ttft_ns = work.first_token_ns - work.arrival_ns + flow.rtt_ns
    gap_ns = (work.finish_ns - work.first_token_ns) / max(work.output_tokens - 1, 1)
    read = int(work.input_tokens) - int(work.cached_tokens)
    late = late_by_load(engine.seen, pool, Answer(int(flow.workload), read, int(flow.rtt_ns), int(ttft_ns), gap_ns))
    update(engine.seen, Event(EventKind.GONE, pool, flow.workload, 0, 0, 0, now_ns))
    count(engine, pool, -1, now_ns)
    flow.status = Status.SERVED
    end(engine, slot, now_ns)
    return late


@kernel
def set_next(engine: Engine, leaf: int, at_ns: int) -> None:
    """Say when ``leaf`` of the tree of what happens next is due."""
    set_key(engine.tree, 0, engine.leaves, leaf, at_ns)


@kernel
def show_in_flight(engine: Engine, pool: int, replica: int) -> None:
    """Put the requests in flight at ``replica`` into its pool's tree; one that takes none is never the least."""
    row = engine.pools[pool]
    key = NEVER_NS
    if engine.replica_state[replica] == Replica.UP:
        key = engine.plant.replicas.rows[replica].in_flight
    set_key(engine.pool_tree, row.tree_at, row.leaves, replica - row.first, key)


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
def _offer(engine: Engine, slot: int, now_ns: int) -> None:
    """Let the policy decide on the request in ``slot``, and do what it says."""
    flow, work = engine.flow, engine.plant.work
    asked = Request(
        int(flow[slot].workload),
        int(flow[slot].region),
        int(work[slot].input_tokens),
        0,  # nobody knows how long an answer will be
        int(work[slot].input_tokens) + 1,
        int(flow[slot].session),
        int(flow[slot].arrival_ns + engine.defer_ns[flow[slot].workload]),
    )
    flow[slot].attempts += 1
    reason = admit(engine.seen, asked, now_ns) if engine.book[0].control == 1 else Reason.CONTROL_PLANE.value
    retry_ns = NO_RETRY_NS
    pool = NO_POOL
    if reason == Reason.NONE:
        choice = choose(engine.policy, engine.seen, asked, now_ns, flow[slot].u)
        pool, reason, retry_ns = choice.pool, choice.reason, choice.retry_after_ns
    if pool == NO_POOL:
        _decline(engine, slot, now_ns, reason, retry_ns)
    else:
        _send(engine, slot, pool, now_ns)


@kernel
def _decline(engine: Engine, slot: int, now_ns: int, reason: int, retry_ns: int) -> None:
    """Defer the request if its workload can wait until it pays, else refuse it."""
    flow = engine.flow
    flow[slot].pool = NO_POOL
    flow[slot].reason = reason
    flow[slot].retry_after_ns = retry_ns
    update(engine.seen, Event(EventKind.DECLINED, NO_POOL, flow[slot].workload, 1, 0, 0, now_ns))
    if reason == Reason.NO_CAPACITY:
        retry_ns = NS_PER_HOUR
    elif reason == Reason.CONTROL_PLANE:
        retry_ns = DEFER_NS_MIN
    last_ns = flow[slot].arrival_ns + engine.defer_ns[flow[slot].workload]
    again_ns = min(now_ns + max(retry_ns, DEFER_NS_MIN), last_ns)
    if retry_ns > 0 and again_ns > now_ns:
        flow[slot].status = Status.DEFERRED
        set_timer(engine, again_ns, slot)
    elif not ask_again(engine, slot, now_ns):
        flow[slot].status = Status.REFUSED
        engine.plant.work[slot].finish_ns = now_ns
        end(engine, slot, now_ns)


@kernel
def _send(engine: Engine, slot: int, pool: int, now_ns: int) -> None:
    """Send the request to ``pool``."""
    flow, pools = engine.flow, engine.pools
    tokens = int(engine.plant.work[slot].input_tokens)
    replica = NONE
    if pools[pool].deployment >= 0:
        replica = pools[pool].first + _leaf_in_turn(engine, pool)
        look_at_door(engine, replica)
    update(engine.seen, Event(EventKind.ROUTED, pool, flow[slot].workload, 1, tokens, 0, now_ns))
    count(engine, pool, 1, now_ns)
    flow[slot].pool = pool
    flow[slot].status = Status.RUNNING
    flow[slot].reason = Reason.NONE
    flow[slot].entered_ns = now_ns
    flow[slot].rtt_ns = engine.seen.rtt_ns[pool, flow[slot].region]
    room = engine.seen.pools[pool].context_tokens_max - tokens
    engine.plant.work[slot].output_tokens = min(int(flow[slot].asked_tokens), room)  # the context ends the answer
    if replica == NONE:
        _call_api(engine, slot, pool, now_ns)
        return
    arrive(engine.plant, replica, slot, now_ns)
    set_next(engine, FIRST_LEAF + replica, engine.plant.replicas.rows[replica].next_ns)
    show_in_flight(engine, pool, replica)


@kernel
def _leaf_in_turn(engine: Engine, pool: int) -> int:
    """Return the place in ``pool`` of the replica that takes the next request: one that is up."""
    row = engine.pools[pool]
    leaf = least_leaf(engine.pool_tree, row.tree_at, row.leaves)
    if engine.policy == Policy.ROUND_ROBIN:
        for _ in range(row.replicas):
            turn = row.turn % row.replicas
            row.turn += 1
            if engine.replica_state[row.first + turn] == Replica.UP:
                return turn
    return leaf


@kernel
def _call_api(engine: Engine, slot: int, pool: int, now_ns: int) -> None:
    """Start the request at a token-priced API as soon as its rate limit allows; its times are then known."""
    work, view = engine.plant.work, engine.seen
    inputs, outputs = int(work[slot].input_tokens), int(work[slot].output_tokens)
    start_ns = max(now_ns, view.pools[pool].free_ns)
    update(view, Event(EventKind.TAKEN, pool, 0, 1, inputs + outputs, 0, now_ns))
    work[slot].start_ns = start_ns
    work[slot].first_token_ns = start_ns + int(view.pools[pool].ttft_ns + 0.5)
    end_ns = work[slot].first_token_ns + int((outputs - 1) * engine.pools[pool].tpot_ns + 0.5)
    update(view, Event(EventKind.ADMITTED, pool, 0, 1, 0, 0, now_ns))
    set_timer(engine, end_ns, slot)


@kernel
def _timer(engine: Engine, now_ns: int) -> int:
    """Take the first timer: a request to be offered now is returned, one at an API is finished."""
    flow, work = engine.flow, engine.plant.work
    slot = pop_timer(engine.timers)
    show_timer(engine)
    status = flow[slot].status
    if status == Status.WAITING:
        arrive_at(engine, slot, now_ns)
        return slot
    if status == Status.DEFERRED or status == Status.RETRYING:  # noqa: PLR1714  # a set cannot be compiled here
        work[slot].arrival_ns = now_ns
        engine.book[0].offered += status == Status.RETRYING
        return slot
    if status == Status.MOVED:
        return slot
    pool = flow[slot].pool
    work[slot].finish_ns = now_ns
    update(engine.seen, Event(EventKind.FIRST_TOKEN, pool, 0, 1, work[slot].input_tokens, 0, now_ns))
    service_ns = now_ns - work[slot].start_ns
    late = _leave(engine, pool, slot, now_ns)
    update(engine.seen, Event(EventKind.FINISHED, pool, 0, 1, late, service_ns, now_ns))
    return NONE
