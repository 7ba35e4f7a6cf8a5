"""Bring replicas up and take them down, until as many serve as may.

A replica is *up*, *draining* (it finishes what it has and gets nothing new), *loading* (its weights come over the
site's link, once for all replicas of a pool that wait for them, then it warms up) or *down*. At most

    min(replicas - held - training - failed, power - training, wanted)

of a pool's are up or loading; interruptible training yields to power and to what is wanted. A replica more: first one
that drains goes on, then the lowest that is down loads. One fewer: first one that loads stops, then the highest that is
up drains. Comes in: the engine and a pool. Goes out: the engine changed in place, and the policy told. Cost: O(replicas
of the pool), no allocation. This module must never know a request.
"""

from __future__ import annotations

import math

import numpy as np

from offtake.performance.compiled import kernel
from offtake.performance.replica import NEVER_NS
from offtake.policy.update import update
from offtake.policy.view import Event, EventKind
from offtake.rehearse.capacity import ALL, FAILED, FAILED_RUNNING
from offtake.rehearse.queues import set_key
from offtake.rehearse.state import FIRST_LEAF, Engine, Replica

TOLERANCE = 0.1  #: of its target, within which it does nothing: Kubernetes' horizontal-pod-autoscaler-tolerance


@kernel
def cause(engine: Engine) -> np.record:
    """Return where the effects of the event that happens now are counted."""
    row: np.record = engine.capacity.effects[engine.capacity.event[0]]
    return row


@kernel
def runnable(engine: Engine, pool: int) -> int:
    """Return how many replicas of ``pool`` may run at most, whoever wants them."""
    row = engine.capacity.pools[pool]
    if row.lost == 1:
        return 0
    whole = engine.pools[pool].replicas if engine.pools[pool].deployment >= 0 else 1
    left = max(0, whole - row.held - row.training - row.failed)
    yields = max(0, left - row.wanted)
    spare = row.spare_training if row.wanted == ALL else min(row.spare_training, yields)
    return max(0, min(left - spare, row.power - row.training))


@kernel
def settle(engine: Engine, pool: int, now_ns: int) -> None:
    """Start or drain replicas of ``pool`` until as many serve as may, and tell the policy how many take requests."""
    row = engine.capacity.pools[pool]
    allowed = min(runnable(engine, pool), row.wanted)
    if engine.pools[pool].deployment < 0:
        _count_up(engine, pool, min(allowed, 1) - row.up, now_ns)
    elif row.up + row.loading < allowed:
        _start(engine, pool, allowed, now_ns)
    elif row.up + row.loading > allowed:
        _drain(engine, pool, allowed, now_ns)
    if row.up != engine.seen.pools[pool].replicas_up:
        tell_capacity(engine, pool, now_ns)


@kernel
def tell_capacity(engine: Engine, pool: int, now_ns: int) -> None:
    """Tell the policy how many replicas take requests."""
    up = engine.capacity.pools[pool].up
    update(engine.seen, Event(EventKind.CAPACITY, pool, 0, up, 0, 0, now_ns))


@kernel
def _start(engine: Engine, pool: int, allowed: int, now_ns: int) -> None:
    """Let replicas that drain go on, then load others."""
    row, first = engine.capacity.pools[pool], engine.pools[pool].first
    for replica in range(first, first + engine.pools[pool].replicas):
        if row.up + row.loading < allowed and engine.replica_state[replica] == Replica.DRAINING:
            row.draining -= 1
            _go_up(engine, pool, replica, now_ns)
    for replica in range(first, first + engine.pools[pool].replicas):
        down = engine.replica_state[replica] == Replica.DOWN and engine.capacity.failed[replica] == 0
        if row.up + row.loading < allowed and down:
            _load(engine, pool, replica, now_ns)
            cause(engine).loaded += 1


@kernel
def _load(engine: Engine, pool: int, replica: int, now_ns: int) -> None:
    """Begin to load ``replica``: it waits for its pool's weights if they are on their way, else it sends for them."""
    row, site = engine.capacity.pools[pool], engine.pools[pool].site
    ready_ns = now_ns + row.warm_ns
    if row.transfer_ns > 0:
        if row.weights_ns <= now_ns:
            free_ns = max(now_ns, engine.capacity.link_free_ns[site])
            row.weights_ns = engine.capacity.link_free_ns[site] = free_ns + row.transfer_ns
        ready_ns = row.weights_ns + row.warm_ns
    if ready_ns <= now_ns:
        _go_up(engine, pool, replica, now_ns)
        return
    row.loading += 1
    engine.replica_state[replica] = Replica.LOADING
    engine.ready_ns[replica] = ready_ns
    _show_time(engine, replica, ready_ns)


@kernel
def _go_up(engine: Engine, pool: int, replica: int, now_ns: int) -> None:
    """Let ``replica`` take requests."""
    _count_up(engine, pool, 1, now_ns)
    engine.replica_state[replica] = Replica.UP
    _show_key(engine, pool, replica, engine.plant.replicas.rows[replica].in_flight)


@kernel
def became_ready(engine: Engine, replica: int) -> None:
    """Let ``replica`` serve: it has loaded and warmed up."""
    pool, now_ns = engine.pool_of_replica[replica], engine.ready_ns[replica]
    engine.capacity.pools[pool].loading -= 1
    _show_time(engine, replica, NEVER_NS)
    _go_up(engine, pool, replica, now_ns)
    tell_capacity(engine, pool, now_ns)


@kernel
def _drain(engine: Engine, pool: int, allowed: int, now_ns: int) -> None:
    """Stop replicas that load, then let others finish what they have."""
    row, first = engine.capacity.pools[pool], engine.pools[pool].first
    last = first + engine.pools[pool].replicas - 1
    for replica in range(last, first - 1, -1):
        if row.up + row.loading > allowed and engine.replica_state[replica] == Replica.LOADING:
            go_down(engine, pool, replica, now_ns)
    for replica in range(last, first - 1, -1):
        if row.up + row.loading > allowed and engine.replica_state[replica] == Replica.UP:
            cause(engine).drained += 1
            _count_up(engine, pool, -1, now_ns)
            row.draining += 1
            engine.replica_state[replica] = Replica.DRAINING
            _show_key(engine, pool, replica, NEVER_NS)
            stopped(engine, replica)


@kernel
def stopped(engine: Engine, replica: int) -> None:
    """Take ``replica`` down if it drains and has nothing left."""
    if engine.replica_state[replica] == Replica.DRAINING and engine.plant.replicas.rows[replica].in_flight == 0:
        engine.capacity.pools[engine.pool_of_replica[replica]].draining -= 1
        engine.replica_state[replica] = Replica.DOWN


@kernel
def go_down(engine: Engine, pool: int, replica: int, now_ns: int) -> None:
    """Take ``replica`` down at once; what it ran is the caller's to take away first."""
    row, state = engine.capacity.pools[pool], engine.replica_state[replica]
    if state == Replica.UP:
        _count_up(engine, pool, -1, now_ns)
    elif state == Replica.LOADING:
        row.loading -= 1
    elif state == Replica.DRAINING:
        row.draining -= 1
    engine.replica_state[replica] = Replica.DOWN
    _show_time(engine, replica, NEVER_NS)
    _show_key(engine, pool, replica, NEVER_NS)


@kernel
def mark_failed(engine: Engine, pool: int, replica: int) -> None:
    """Mark ``replica``, still as it ran, as failed: it cannot come up until it is mended."""
    ran = engine.replica_state[replica] != Replica.DOWN
    engine.capacity.failed[replica] = FAILED_RUNNING if ran else FAILED
    engine.capacity.pools[pool].failed += ran


@kernel
def mend(engine: Engine, pool: int, replica: int) -> None:
    """Let ``replica`` come up again."""
    engine.capacity.pools[pool].failed -= engine.capacity.failed[replica] == FAILED_RUNNING
    engine.capacity.failed[replica] = 0


@kernel
def look(engine: Engine, scaler: int, now_ns: int) -> None:
    """Let an autoscaler look at its pool: it wants ceil(requests present / (places × target)) replicas."""
    rule = engine.capacity.scalers[scaler]
    pool = rule.pool
    row = engine.capacity.pools[pool]
    most = min(rule.most, engine.pools[pool].replicas)
    now_wanted = min(max(row.up + row.loading, rule.least), most)
    places = engine.seen.pools[pool].slots * rule.load_target
    needed = engine.pools[pool].present / places
    wanted = now_wanted
    if abs(needed - now_wanted) > TOLERANCE * now_wanted:
        wanted = min(max(math.ceil(needed), rule.least), most)
    if wanted > now_wanted and now_ns - rule.up_at_ns >= rule.up_after_ns:
        rule.up_at_ns = now_ns
    elif wanted < now_wanted and now_ns - max(rule.up_at_ns, rule.down_at_ns) >= rule.down_after_ns:
        rule.down_at_ns = now_ns
    else:
        wanted = now_wanted
    row.wanted = wanted
    settle(engine, pool, now_ns)


@kernel
def _count_up(engine: Engine, pool: int, change: int, now_ns: int) -> None:
    """Change the number of replicas that are up, and its integral over time."""
    row = engine.capacity.pools[pool]
    row.up_ns += float(row.up) * float(max(0, now_ns - row.up_at_ns))
    row.up_at_ns = max(0, now_ns)
    row.up += change


@kernel
def _show_time(engine: Engine, replica: int, at_ns: int) -> None:
    """Say when something next happens at ``replica``."""
    set_key(engine.tree, 0, engine.leaves, FIRST_LEAF + replica, at_ns)


@kernel
def _show_key(engine: Engine, pool: int, replica: int, key: int) -> None:
    """Put ``replica`` into its pool's tree of who takes the next request."""
    row = engine.pools[pool]
    set_key(engine.pool_tree, row.tree_at, row.leaves, replica - row.first, key)
