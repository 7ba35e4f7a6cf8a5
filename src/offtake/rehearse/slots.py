"""Give each request a slot when it becomes known, write its end down, and give the slot back.

Comes in: the engine, a row of the feed, or a slot. Goes out: the engine changed in place. The end of a request lets the
next of its session come after its think time; a client that asks again keeps its slot. Cost: O(log slots), no
allocation. This module must never know a replica or a policy.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.performance.replica import NEVER_NS, NONE, ask
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Reason
from offtake.rehearse.queues import push_timer, set_key
from offtake.rehearse.sessions import NOBODY, place_of
from offtake.rehearse.state import TIMER_LEAF, Engine, Feed, Status

GOLDEN = 0.6180339887498949  #: steps of this length spread evenly over a circle


@kernel
def take_slot(engine: Engine, feed: Feed, at: int) -> int:
    """Put row ``at`` of the feed into a free slot; return the slot, or ``NONE`` if the request must wait to arrive."""
    book = engine.book[0]
    if book.given_back > 0:
        book.given_back -= 1
        slot = engine.free[book.given_back]
    else:
        slot = engine.flow.shape[0] - book.free
    book.free -= 1
    flow, work = engine.flow[slot], engine.plant.work[slot]
    flow.serial = book.known
    book.known += 1
    flow.u = feed.u[at]
    flow.think_ns = feed.think_ns[at]
    flow.session = feed.session[at]
    flow.workload = feed.workload[at]
    flow.region = feed.region[at]
    flow.tenant = feed.tenant[at]
    flow.asked_tokens = feed.output_tokens[at]
    flow.follower = flow.pool = flow.entered_ns = NONE
    flow.retry_after_ns = NO_RETRY_NS
    flow.rtt_ns = flow.given_tokens = flow.attempts = flow.tries = 0
    flow.status = Status.PENDING
    flow.reason = Reason.NONE
    ask(work, feed.arrival_ns[at], feed.input_tokens[at], feed.output_tokens[at])
    work.session = feed.session[at]
    work.priority = engine.priority[flow.workload]
    work.shared_tokens = feed.shared_tokens[at]
    if flow.session != NOBODY and _must_wait(engine, slot, feed.arrival_ns[at]):
        return NONE
    arrive_at(engine, slot, feed.arrival_ns[at])
    return slot


@kernel
def arrive_at(engine: Engine, slot: int, now_ns: int) -> None:
    """Let the request arrive now."""
    engine.flow[slot].arrival_ns = engine.plant.work[slot].arrival_ns = now_ns
    engine.book[0].last_ns = now_ns
    engine.book[0].offered += 1


@kernel
def _must_wait(engine: Engine, slot: int, now_ns: int) -> bool:
    """Put the request at the end of its session; tell whether it comes only some time after the one before it."""
    flow, sessions = engine.flow, engine.sessions
    place = place_of(sessions, int(flow[slot].session))
    before, ended_ns = sessions.last[place], sessions.ended_ns[place]
    sessions.last[place] = slot
    think_ns = flow[slot].think_ns
    if think_ns < 0:
        return False
    sessions.think_ns_most[0] = max(sessions.think_ns_most[0], think_ns)
    flow[slot].status = Status.WAITING
    if before != NOBODY:
        flow[before].follower = slot
        return True
    if ended_ns < 0 or ended_ns + think_ns <= now_ns:
        return False
    set_timer(engine, ended_ns + think_ns, slot)
    return True


@kernel
def set_timer(engine: Engine, at_ns: int, slot: int) -> None:
    """Come back to the request in ``slot`` at ``at_ns``."""
    push_timer(engine.timers, at_ns, engine.flow[slot].serial, slot)
    show_timer(engine)


@kernel
def show_timer(engine: Engine) -> None:
    """Put the first timer into the tree of what happens next."""
    key = engine.timers.at_ns[0] if engine.timers.size[0] > 0 else NEVER_NS
    set_key(engine.tree, 0, engine.leaves, TIMER_LEAF, key)


@kernel
def ask_again(engine: Engine, slot: int, now_ns: int) -> bool:
    """Let the client of a request that was refused or failed ask again later, if it is one that does."""
    flow, work = engine.flow[slot], engine.plant.work[slot]
    for at in range(engine.storms.shape[0]):
        storm = engine.storms[at]
        comes = (flow.u + GOLDEN * (flow.tries + 1)) % 1.0 < storm.share
        if storm.start_ns <= now_ns < storm.end_ns and flow.tries + 1 < storm.attempts_max and comes:
            flow.tries += 1
            flow.status = Status.RETRYING
            flow.pool = NO_POOL
            flow.given_tokens = 0
            work.start_ns = work.first_token_ns = work.finish_ns = NONE
            work.given_tokens = work.cached_tokens = 0
            set_timer(engine, now_ns + storm.backoff_ns, slot)
            return True
    return False


@kernel
def end(engine: Engine, slot: int, now_ns: int) -> None:
    """Write down how the request in ``slot`` ended, let the next of its session come, and give the slot back."""
    book, flow, work = engine.book[0], engine.flow[slot], engine.plant.work[slot]
    row = engine.ended[book.ended]
    book.ended += 1
    row.serial = flow.serial
    row.arrival_ns = flow.arrival_ns
    row.released_ns = work.arrival_ns
    row.entered_ns = flow.entered_ns
    row.start_ns = work.start_ns
    row.first_token_ns = work.first_token_ns
    row.finish_ns = work.finish_ns
    row.retry_after_ns = flow.retry_after_ns
    row.rtt_ns = flow.rtt_ns
    row.input_tokens = work.input_tokens
    row.output_tokens = work.output_tokens if flow.status != Status.FAILED else flow.given_tokens
    row.asked_tokens = flow.asked_tokens
    row.cached_tokens = work.cached_tokens
    row.pool = flow.pool
    row.workload = flow.workload
    row.region = flow.region
    row.tenant = flow.tenant
    row.attempts = flow.attempts
    row.tries = flow.tries
    row.status = flow.status
    row.reason = flow.reason
    if flow.session != NOBODY:
        _let_follow(engine, slot, now_ns)
    engine.free[book.given_back] = slot
    book.given_back += 1
    book.free += 1


@kernel
def _let_follow(engine: Engine, slot: int, now_ns: int) -> None:
    """Let the request that waits for this one arrive after its think time."""
    flow, sessions = engine.flow, engine.sessions
    place = place_of(sessions, int(flow[slot].session))
    if sessions.last[place] == slot:
        sessions.last[place] = NOBODY
        sessions.ended_ns[place] = now_ns
    follower = flow[slot].follower
    if follower != NONE:
        set_timer(engine, now_ns + flow[follower].think_ns, follower)
