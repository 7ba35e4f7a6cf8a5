"""Count the KV blocks of a replica, and push requests back when there are none left.

A decoding request needs a new block once in as many iterations as a block has tokens. How many need one at each
iteration, modulo the block, is kept in a small histogram per replica; so the blocks of a whole stretch follow without
looking at a request, and a stretch is cut exactly where they run out. Comes in: a plant and a replica. Goes out: its
row, heap, queues and cache changed in place. Cost: O(1) per step, O(block) where memory is short, O(batch) per
push-back, no allocation. A push-back frees a request's blocks at once (vLLM keeps them in its cache as long as
nobody wants them, which is seldom long). This module must never know how long a step takes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from offtake.performance.compiled import aside, kernel
from offtake.performance.heap import push, remove
from offtake.performance.prefix import evict
from offtake.performance.replica_state import NONE, REQUEST_BITS, REQUEST_MASK
from offtake.performance.steps import RETRACT_STEPS, Scheduler

if TYPE_CHECKING:
    import numpy as np

    from offtake.performance.replica_state import Plant


@kernel
def whole_blocks(limits: np.record, tokens: int) -> int:
    """Return the blocks that ``tokens`` fill, rounded down: exact up to 2^40 tokens, as half a token is left over."""
    return math.floor((tokens + 0.5) * limits.block_share)


@kernel
def place_in_block(limits: np.record, tokens: int) -> int:
    """Return ``tokens`` modulo the block."""
    return tokens - whole_blocks(limits, tokens) * limits.block_tokens


@kernel
def blocks_of(plant: Plant, deployment: int, request: int, tokens: int) -> int:
    """Return the blocks that ``request`` holds with ``tokens`` of it computed: under TRT-LLM, all it may need."""
    limits = plant.tables.limits[deployment]
    if limits.scheduler == Scheduler.TRTLLM:
        tokens = int(plant.work[request].input_tokens) + int(plant.work[request].output_tokens_max)
    return whole_blocks(limits, tokens + int(limits.block_tokens) - 1)


@kernel
def length_of(plant: Plant, request: int) -> int:
    """Return the tokens that ``request`` must have computed before it gives its next one."""
    return int(plant.work[request].input_tokens) + int(plant.work[request].given_tokens)


@kernel
def take(plant: Plant, replica: int, blocks: int) -> None:
    """Take ``blocks``; the prefix cache gives up what it must."""
    row = plant.replicas.rows[replica]
    row.kv_free -= blocks
    row.kv_free_min = min(row.kv_free_min, row.kv_free)
    if row.kv_cached > row.kv_free:
        evict(plant.replicas.cache, row)


@kernel
def join(plant: Plant, replica: int, request: int, given: int) -> None:
    """Let ``request`` decode from the next iteration on; ``given`` tokens of its answer are out."""
    row = plant.replicas.rows[replica]
    limits = plant.tables.limits[plant.replicas.deployment[replica]]
    held = int(plant.work[request].input_tokens) + given - 1
    if row.batch == 0:
        row.iteration = 0  # an empty replica's clock begins anew, so that it never outgrows its bits of a heap entry
    last = row.iteration + plant.work[request].output_tokens - given
    push(plant.replicas.heap, replica, row.batch, (last << REQUEST_BITS) | request)
    row.batch += 1
    row.context_sum += held + 1
    if limits.scheduler == Scheduler.SGLANG:
        row.future_tokens += plant.work[request].output_tokens_max - given
    if limits.scheduler != Scheduler.TRTLLM:
        plant.replicas.phase[replica, place_in_block(limits, row.iteration - held)] += 1


@kernel
def leave(plant: Plant, replica: int, request: int, given: int) -> None:
    """Count ``request`` out of the decoding ones, when it is off the heap and ``given`` tokens are out."""
    row = plant.replicas.rows[replica]
    limits = plant.tables.limits[plant.replicas.deployment[replica]]
    held = int(plant.work[request].input_tokens) + given - 1
    row.batch -= 1
    row.context_sum -= held + 1
    if limits.scheduler == Scheduler.SGLANG:
        row.future_tokens -= plant.work[request].output_tokens_max - given
        row.full = 0
    if limits.scheduler != Scheduler.TRTLLM:
        plant.replicas.phase[replica, place_in_block(limits, row.iteration - held)] -= 1


@kernel
def make_room(plant: Plant, replica: int) -> bool:
    """Take the blocks of the next decode iteration, and tell whether requests had to be pushed back for them."""
    row = plant.replicas.rows[replica]
    limits = plant.tables.limits[plant.replicas.deployment[replica]]
    if limits.scheduler == Scheduler.TRTLLM:
        return False
    at = place_in_block(limits, row.iteration)
    short = plant.replicas.phase[replica, at] > row.kv_free
    if short:
        _push_back(plant, replica, at)
    take(plant, replica, plant.replicas.phase[replica, at])
    return short


@kernel
def steps_with_room(plant: Plant, replica: int, steps: int) -> int:
    """Return how many of ``steps`` decode iterations have blocks; those of the first one are taken already."""
    row = plant.replicas.rows[replica]
    if plant.tables.limits[plant.replicas.deployment[replica]].scheduler == Scheduler.TRTLLM:
        return steps
    if row.batch * steps <= row.kv_free:
        return steps
    return _steps_with_room(plant, replica, steps)


@aside
def _steps_with_room(plant: Plant, replica: int, steps: int) -> int:
    """Return it exactly: whole turns of the histogram first, then place by place."""
    row, phase = plant.replicas.rows[replica], plant.replicas.phase
    size = plant.tables.limits[plant.replicas.deployment[replica]].block_tokens
    turns = min(row.kv_free // row.batch, (steps - 1) // size)
    free = row.kv_free - turns * row.batch
    found = 1 + turns * size
    at = (row.iteration + found) % size
    while found < steps and phase[replica, at] <= free:
        free -= phase[replica, at]
        found += 1
        at = at + 1 if at + 1 < size else 0
    return found


@kernel
def take_later(plant: Plant, replica: int, steps: int) -> None:
    """Take the blocks of all iterations but the first of a stretch of ``steps``, before they are counted."""
    row = plant.replicas.rows[replica]
    limits = plant.tables.limits[plant.replicas.deployment[replica]]
    if limits.scheduler == Scheduler.TRTLLM or steps == 1:
        return
    size = limits.block_tokens
    blocks = 0
    more = steps - 1
    if more >= size:
        turns = whole_blocks(limits, more)
        blocks = turns * row.batch
        more -= turns * size
    at = place_in_block(limits, row.iteration + 1)
    for _ in range(more):
        blocks += plant.replicas.phase[replica, at]
        at = at + 1 if at + 1 < size else 0
    take(plant, replica, blocks)


@aside
def _push_back(plant: Plant, replica: int, at: int) -> None:
    """Push requests back until the iteration at ``at`` has its blocks."""
    row = plant.replicas.rows[replica]
    scheduler = plant.tables.limits[plant.replicas.deployment[replica]].scheduler
    while plant.replicas.phase[replica, at] > row.kv_free:
        if scheduler == Scheduler.SGLANG:
            _push_back_decoding(plant, replica, _least_given(plant, replica))
        else:
            place = _last_admitted(plant, replica)
            if place == NONE:
                _push_back_prompt(plant, replica)
            else:
                _push_back_decoding(plant, replica, place)
    if scheduler == Scheduler.SGLANG:
        _set_ratio(plant, replica)


@kernel
def _last_admitted(plant: Plant, replica: int) -> int:
    """Return the place in the heap of the least urgent, last admitted request; NONE for the prompt under way."""
    row, work, heap = plant.replicas.rows[replica], plant.work, plant.replicas.heap
    best = NONE
    priority, admitted = -1, -1
    if row.chunk_done > 0:
        priority, admitted = work[row.head].priority, work[row.head].admitted
    for place in range(row.batch):
        request = heap[replica, place] & REQUEST_MASK
        mine, number = work[request].priority, work[request].admitted
        if mine > priority or (mine == priority and number > admitted):
            best, priority, admitted = place, mine, number
    return best


@kernel
def _least_given(plant: Plant, replica: int) -> int:
    """Return the place of the least urgent request; of equals, with least given, longest prompt, last admitted."""
    row, work, heap = plant.replicas.rows[replica], plant.work, plant.replicas.heap
    best = 0
    for place in range(1, row.batch):
        mine, other = heap[replica, place], heap[replica, best]
        a, b = mine & REQUEST_MASK, other & REQUEST_MASK
        if work[a].priority != work[b].priority:
            worse = work[a].priority > work[b].priority
        else:
            given_a = work[a].output_tokens - (mine >> REQUEST_BITS)
            given_b = work[b].output_tokens - (other >> REQUEST_BITS)
            if given_a != given_b:
                worse = given_a < given_b
            elif work[a].input_tokens != work[b].input_tokens:
                worse = work[a].input_tokens > work[b].input_tokens
            else:
                worse = work[a].admitted > work[b].admitted
        if worse:
            best = place
    return best


@kernel
def _push_back_decoding(plant: Plant, replica: int, place: int) -> None:
    """Push the decoding request at ``place`` of the heap back."""
    row, work = plant.replicas.rows[replica], plant.work
    deployment = plant.replicas.deployment[replica]
    entry = plant.replicas.heap[replica, place]
    request = entry & REQUEST_MASK
    given = work[request].output_tokens - ((entry >> REQUEST_BITS) - row.iteration)
    remove(plant.replicas.heap, replica, row.batch, place)
    leave(plant, replica, request, given)
    work[request].given_tokens = given
    row.kv_free += blocks_of(plant, deployment, request, int(work[request].input_tokens) + given - 1)
    _queue_again(plant, replica, request)


@kernel
def _push_back_prompt(plant: Plant, replica: int) -> None:
    """Push the prompt under way back."""
    row, work = plant.replicas.rows[replica], plant.work
    request = row.head
    tokens = length_of(plant, request)
    row.kv_free += blocks_of(plant, plant.replicas.deployment[replica], request, tokens)
    row.prefill_lost += row.chunk_done - work[request].cached_tokens
    row.chunk_done = 0
    row.head = row.tail = NONE
    _queue_again(plant, replica, request)


@kernel
def _queue_again(plant: Plant, replica: int, request: int) -> None:
    """Put ``request`` first in the queue of its class (SGLang: last)."""
    row, work, queues = plant.replicas.rows[replica], plant.work, plant.replicas.queues
    first = 2 * work[request].priority
    scheduler = plant.tables.limits[plant.replicas.deployment[replica]].scheduler
    if scheduler == Scheduler.SGLANG:
        enqueue(plant, replica, request)
    else:
        work[request].link = queues[replica, first]
        if queues[replica, first] == NONE:
            queues[replica, first + 1] = request
        queues[replica, first] = request
    work[request].cached_tokens = 0
    work[request].preemptions += 1
    row.waiting += 1
    row.pushed_back += 1
    row.preemptions += 1


@kernel
def enqueue(plant: Plant, replica: int, request: int) -> None:
    """Put ``request`` last in the queue of its class."""
    work, queues = plant.work, plant.replicas.queues
    last = 2 * work[request].priority + 1
    work[request].link = NONE
    if queues[replica, last] == NONE:
        queues[replica, last - 1] = request
    else:
        work[queues[replica, last]].link = request
    queues[replica, last] = request


@kernel
def _set_ratio(plant: Plant, replica: int) -> None:
    """Set SGLang's share anew: tokens given, and 20 steps more, of the most that the running requests may give."""
    row, work, heap = plant.replicas.rows[replica], plant.work, plant.replicas.heap
    most = 0
    for place in range(row.batch):
        most += work[heap[replica, place] & REQUEST_MASK].output_tokens_max
    given = most - row.future_tokens
    row.ratio = min(1.0, (given + RETRACT_STEPS * row.batch) / (most + 1))
    row.ratio_steps = -1
