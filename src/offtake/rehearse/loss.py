"""Take away what a replica or an API runs.

A request that has begun to answer fails, and every other is offered to the policy again at the same instant, as a live
router would before the first byte. Comes in: the engine between two events, and a replica or a pool. Goes out: the
engine changed in place. Cost: O(requests there · log requests), no allocation. This module must never know why.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.performance.replica import NONE, REQUEST_BITS, REQUEST_MASK, clear, halt
from offtake.policy.update import update
from offtake.policy.view import BUCKET_NS, Event, EventKind, Reason
from offtake.rehearse.engine import count
from offtake.rehearse.queues import push_timer
from offtake.rehearse.scaling import cause, go_down
from offtake.rehearse.slots import ask_again, end, set_timer, show_timer
from offtake.rehearse.state import Engine, Replica, Status


@kernel
def lose_replica(engine: Engine, replica: int, now_ns: int) -> None:
    """Take ``replica`` down at once: fail the requests that decode there, take the others away."""
    pool = engine.pool_of_replica[replica]
    state = engine.replica_state[replica]
    if (state == Replica.UP) | (state == Replica.DRAINING):
        cause(engine).stopped += 1
        _empty(engine, pool, replica, now_ns)
    go_down(engine, pool, replica, now_ns)


@kernel
def _empty(engine: Engine, pool: int, replica: int, now_ns: int) -> None:
    """Fail the requests that decode at ``replica``; take the others away."""
    plant = engine.plant
    row = plant.replicas.rows[replica]
    halt(plant, replica, now_ns)
    for place in range(row.batch):
        held = plant.replicas.heap[replica, place]
        request = held & REQUEST_MASK
        left = (held >> REQUEST_BITS) - row.iteration
        _fail(engine, request, plant.work[request].output_tokens - left, 0, now_ns)
    request = row.head
    waits = 0
    while request != NONE:
        following = plant.work[request].link
        waits = 1 if request == row.front else waits
        if plant.work[request].given_tokens > 0:  # pushed back after it had begun to answer
            _fail(engine, request, int(plant.work[request].given_tokens), waits, now_ns)
        else:
            if plant.work[request].start_ns >= 0:
                engine.pools[pool].evicted_service_ns += float(now_ns - plant.work[request].start_ns)
            _take_away(engine, request, waits, now_ns)
        request = following
    clear(plant, replica)


@kernel
def _fail(engine: Engine, request: int, given_tokens: int, waits: int, now_ns: int) -> None:
    """End a request that had begun to answer; ``waits`` is 1 where it was in the queue, 0 where it ran."""
    flow, work = engine.flow, engine.plant.work
    pool = flow[request].pool
    engine.pools[pool].evicted_ns += float(now_ns - flow[request].entered_ns)
    engine.pools[pool].evicted_service_ns += float(now_ns - work[request].start_ns)
    cause(engine).failed += 1
    _gone(engine, request, pool, waits, now_ns)
    if engine.pools[pool].deployment >= 0:
        engine.pools[pool].failed_read += work[request].input_tokens
        engine.pools[pool].failed_wrote += given_tokens - 1
    if ask_again(engine, request, now_ns):
        return
    flow[request].status = Status.FAILED
    flow[request].reason = Reason.SITE_LOST
    flow[request].given_tokens = given_tokens
    work[request].finish_ns = now_ns
    end(engine, request, now_ns)


@kernel
def _gone(engine: Engine, request: int, pool: int, waits: int, now_ns: int) -> None:
    """Tell the engine's books and the policy that a request leaves its pool unfinished."""
    row = engine.plant.work[request]
    chips = engine.pools[pool].deployment >= 0
    unread = row.first_token_ns < 0 if chips else True  # of an API the policy learns of a first token at the end
    tokens = int(row.input_tokens) if unread else 0
    count(engine, pool, -1, now_ns)
    update(engine.seen, Event(EventKind.GONE, pool, int(engine.flow[request].workload), waits, tokens, 0, now_ns))


@kernel
def _take_away(engine: Engine, request: int, waits: int, now_ns: int) -> None:
    """Take a request that had not begun to answer from its pool; it is routed again at this instant."""
    flow, work = engine.flow, engine.plant.work
    pool = flow[request].pool
    engine.pools[pool].evicted_ns += float(now_ns - flow[request].entered_ns)
    cause(engine).moved += 1
    _gone(engine, request, pool, waits, now_ns)
    work[request].start_ns = work[request].first_token_ns = -1
    work[request].cached_tokens = 0
    flow[request].status = Status.MOVED
    set_timer(engine, now_ns, request)


@kernel
def lose_calls(engine: Engine, pool: int, now_ns: int) -> None:
    """Take the requests at an API away, or fail those that had begun to answer; its rate limit starts afresh."""
    flow, work, timers = engine.flow, engine.plant.work, engine.timers
    engine.seen.pools[pool].free_ns = -BUCKET_NS
    count = timers.size[0]
    timers.size[0] = 0
    for place in range(count):
        at_ns, serial, request = timers.at_ns[place], timers.serial[place], timers.slot[place]
        if flow[request].status != Status.RUNNING or flow[request].pool != pool:
            push_timer(timers, at_ns, serial, request)
        elif work[request].first_token_ns <= now_ns:
            past_ns = float(now_ns - work[request].first_token_ns)
            tpot_ns = engine.pools[pool].tpot_ns
            given = 1 + int(past_ns / tpot_ns) if tpot_ns > 0.0 else 1
            _fail(engine, request, min(given, int(work[request].output_tokens)), 0, now_ns)
        else:
            engine.pools[pool].evicted_service_ns += float(max(0, now_ns - work[request].start_ns))
            _take_away(engine, request, 0, now_ns)
    show_timer(engine)
