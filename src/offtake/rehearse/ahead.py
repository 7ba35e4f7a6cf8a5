"""Ask early for the memory that the next events of a fleet need, so that they need not wait for it.

Comes in: the engine and a replica that is about to step, or to be given a request. Goes out: nothing but hints to the
processor. This module must never change anything.
"""

from __future__ import annotations

from offtake.performance.compiled import kernel
from offtake.performance.heap import least_child
from offtake.performance.lines import LINE_BYTES, look_ahead
from offtake.performance.replica_state import MIXED, REQUEST_BITS, REQUEST_MASK, WORK
from offtake.performance.schedule import most_urgent
from offtake.rehearse.state import FLOW, Engine

STEP_BYTES = 4 * LINE_BYTES  #: of a row of ``REPLICA``, the part that most steps touch
LEVELS_BYTES = 3 * LINE_BYTES  #: of a heap, its first three levels
ENTRY_BYTES = 8  #: of a heap
WORK_END, FLOW_END = WORK.itemsize - 1, FLOW.itemsize - 1


@kernel
def look_at_replica(engine: Engine, replica: int) -> None:
    """Ask for what an event at ``replica`` touches."""
    held = engine.plant.replicas
    for byte in range(0, STEP_BYTES, LINE_BYTES):
        look_ahead(held.rows, replica, byte)
    for byte in range(0, LEVELS_BYTES, LINE_BYTES):
        look_ahead(held.heap, replica, byte)
    look_ahead(held.queues, replica, 0)
    look_ahead(held.deployment, replica, 0)
    look_ahead(held.phase, replica, 0)
    look_ahead(engine.pool_of_replica, replica, 0)


@kernel
def look_at_door(engine: Engine, replica: int) -> None:
    """Ask for what an arrival at ``replica`` touches."""
    look_ahead(engine.plant.replicas.rows, replica, 0)
    look_ahead(engine.plant.replicas.queues, replica, 0)


@kernel
def look_at_requests(engine: Engine, replica: int) -> None:
    """Ask for the requests that the next step of ``replica`` will end or admit, and for its place in its pool."""
    held, row = engine.plant.replicas, engine.plant.replicas.rows[replica]
    if row.batch > 0:
        look_ahead(held.heap, replica, ENTRY_BYTES * (row.batch - 1))
        steps = 1 if row.planned == MIXED else row.planned
        if held.heap[replica, 0] >> REQUEST_BITS == row.iteration + steps:
            _look_at_finish(engine, replica)
    if row.completing > 0:
        _look_at_work(engine, row.head)
    if row.waiting > 0:
        _look_at_work(engine, held.queues[replica, 2 * most_urgent(engine.plant, replica)])


@kernel
def _look_at_finish(engine: Engine, replica: int) -> None:
    """Ask for the request that finishes first, and for the way of what is put in its place down the heap."""
    heap, row = engine.plant.replicas.heap, engine.plant.replicas.rows[replica]
    request = heap[replica, 0] & REQUEST_MASK
    _look_at_work(engine, request)
    look_ahead(engine.flow, request, 0)
    look_ahead(engine.flow, request, FLOW_END)
    pool = engine.pools[engine.pool_of_replica[replica]]
    look_ahead(engine.pool_tree, pool.tree_at + pool.leaves + replica - pool.first, 0)
    last = row.batch - 1
    child = least_child(heap, replica, 1, last)
    if 4 * child + 1 < last:
        child = least_child(heap, replica, 4 * child + 1, last)
        look_ahead(heap, replica, ENTRY_BYTES * (4 * child + 1))
        for byte in range(0, 2 * LINE_BYTES, LINE_BYTES):
            look_ahead(heap, replica, ENTRY_BYTES * (16 * child + 5) + byte)


@kernel
def _look_at_work(engine: Engine, request: int) -> None:
    """Ask for the work of ``request``."""
    look_ahead(engine.plant.work, request, 0)
    look_ahead(engine.plant.work, request, WORK_END)
