"""Let the actions of a timeline happen to an engine.

Comes in: the engine between two events, and one action. Goes out: the engine changed in place, with what it did counted
under the action's event. Cost: O(replicas and requests that it touches), no allocation. This module must never choose
when something happens.
"""

from __future__ import annotations

from offtake.performance.compiled import entry, kernel
from offtake.rehearse.loss import lose_calls, lose_replica
from offtake.rehearse.scaling import look, mark_failed, mend, runnable, settle
from offtake.rehearse.state import Engine, Replica
from offtake.rehearse.timeline import Action, Kind


@entry
def apply(engine: Engine, action: Action) -> None:
    """Let ``action`` happen now."""
    kind, target = action.kind, action.target
    engine.capacity.event[0] = action.event
    if (kind == Kind.LOST) | (kind == Kind.LINK):
        for pool in range(engine.pools.shape[0]):
            if engine.pools[pool].site == target:
                _strike_pool(engine, pool, action)
    elif (kind == Kind.FAILED) | (kind == Kind.SLOW):
        for replica in range(target, target + action.size):
            _strike_replica(engine, replica, action)
    elif kind == Kind.CONTROL:
        engine.book[0].control = 1 - int(action.value)
    elif kind == Kind.HALT:
        _halt_drained(engine, target, action.at_ns)
    elif kind == Kind.TICK:
        look(engine, target, action.at_ns)
    else:
        _limit(engine, action)
        settle(engine, target, action.at_ns)


@kernel
def _strike_pool(engine: Engine, pool: int, action: Action) -> None:
    """Lose a pool of a site, bring it back, or change its round trip to one user region."""
    if action.kind == Kind.LOST:
        _lose_pool(engine, pool, int(action.value), action)
    else:
        engine.seen.rtt_ns[pool, action.size] = engine.capacity.rtt_ns[pool, action.size] + int(action.value)


@kernel
def _strike_replica(engine: Engine, replica: int, action: Action) -> None:
    """Break a replica, mend it, or change its speed."""
    if action.kind == Kind.FAILED:
        _break(engine, replica, int(action.value), action)
    else:
        engine.plant.replicas.rows[replica].slowdown = action.value


@kernel
def _limit(engine: Engine, action: Action) -> None:
    """Write down how many replicas of a pool something takes away, leaves, or wants."""
    row = engine.capacity.pools[action.target]
    if action.kind == Kind.HELD:
        row.held = action.size
    elif action.kind == Kind.POWER:
        row.power = action.size
    elif action.kind == Kind.TRAINING:
        row.training = action.size
    elif action.kind == Kind.SPARE_TRAINING:
        row.spare_training = action.size
    elif action.kind == Kind.SCALE:
        row.wanted = action.size


@kernel
def _lose_pool(engine: Engine, pool: int, lost: int, action: Action) -> None:
    """Take everything of ``pool`` down at once, or let it load again."""
    engine.capacity.pools[pool].lost = lost
    if lost == 1 and engine.pools[pool].deployment >= 0:
        first = engine.pools[pool].first
        for replica in range(first, first + engine.pools[pool].replicas):
            lose_replica(engine, replica, action.at_ns)
    settle(engine, pool, action.at_ns)
    if lost == 1 and engine.pools[pool].deployment < 0:
        lose_calls(engine, pool, action.at_ns)


@kernel
def _break(engine: Engine, replica: int, broken: int, action: Action) -> None:
    """Let one replica fail, or come up again."""
    pool = engine.pool_of_replica[replica]
    if broken == 1:
        mark_failed(engine, pool, replica)
        lose_replica(engine, replica, action.at_ns)
    else:
        mend(engine, pool, replica)
    settle(engine, pool, action.at_ns)


@kernel
def _halt_drained(engine: Engine, pool: int, now_ns: int) -> None:
    """Stop what ``pool`` still drains beyond what may run: the highest replica first."""
    row, most = engine.capacity.pools[pool], runnable(engine, pool)
    if engine.pools[pool].deployment < 0:
        if most == 0:
            lose_calls(engine, pool, now_ns)
        return
    first = engine.pools[pool].first
    for replica in range(first + engine.pools[pool].replicas - 1, first - 1, -1):
        beyond = row.up + row.loading + row.draining > most
        if beyond and engine.replica_state[replica] == Replica.DRAINING:
            lose_replica(engine, replica, now_ns)
