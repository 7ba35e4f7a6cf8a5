"""Choose what a replica does in its next step, as the engine it follows would.

vLLM and TensorRT-LLM: the decoding requests first, then prompts in what is left of the step, so that at most one is
partly done. SGLang: as long as prompts can be admitted, steps of prompts alone, and decoding waits. The most urgent
class is served first, first come first served within it; a request that does not fit lets nobody pass (real engines
do the same: under a steady load of urgent requests the others starve). Nothing here looks at how long an answer
will be. Comes in: a plant and a replica at the end of a step. Goes out: its next step or stretch, in its row.

A prompt's blocks are taken whole at its admission (vLLM checks that they fit, ``scheduler_reserve_full_isl``, and takes
them chunk by chunk). One that is alone ignores watermark and estimate, so that none waits for ever. Cost: O(1) per step
and admission, no allocation. Sources: vLLM ``v1/core/sched/scheduler.py``; SGLang ``managers/schedule_policy.py``;
TensorRT-LLM's scheduler pages; Kwon et al. (SOSP 2023); Agrawal et al. (OSDI 2024). This module must never know a
site, a price, a policy, a clock or a random number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from offtake.performance.blocks import blocks_of, join, length_of, make_room, steps_with_room, take, whole_blocks
from offtake.performance.compiled import aside, kernel
from offtake.performance.dense import BUCKET_BITS
from offtake.performance.prefix import NOTHING, find, forget
from offtake.performance.replica_state import CLASSES, EXTEND, MIXED, NEVER_NS, NONE, REQUEST_BITS
from offtake.performance.steps import NEW_TOKEN_RATIO_FALL, NEW_TOKEN_RATIO_MIN, NEW_TOKENS_MAX, Scheduler

if TYPE_CHECKING:
    from offtake.performance.dense import Floats, Tables
    from offtake.performance.replica_state import Plant


@kernel
def compose(plant: Plant, replica: int) -> None:
    """Admit what fits and begin the next step or stretch; with nothing to do, sleep."""
    row = plant.replicas.rows[replica]
    row.base_ns = row.next_ns
    prompts = row.waiting > 0 or row.chunk_done > 0
    tokens = 0
    attention_ns = 0.0
    short = False
    if plant.tables.limits[plant.replicas.deployment[replica]].scheduler == Scheduler.SGLANG:
        if row.chunk_done > 0 or (prompts and row.full == 0):
            tokens, attention_ns = _extend(plant, replica)
        if tokens == 0 and row.batch > 0:
            short = make_room(plant, replica)
    else:
        if row.batch > 0:
            short = make_room(plant, replica)
        if prompts:
            tokens, attention_ns = _mix(plant, replica, not short)
    if tokens > 0:
        _begin_prefill(plant, replica, tokens, attention_ns)
    elif row.batch > 0:
        _begin_stretch(plant, replica, short)
    else:
        row.planned = 0
        row.next_ns = NEVER_NS


@kernel
def _begin_prefill(plant: Plant, replica: int, tokens: int, attention_ns: float) -> None:
    """Begin a step with ``tokens`` of prompts, and under SGLang nothing else."""
    row, tables = plant.replicas.rows[replica], plant.tables
    deployment = plant.replicas.deployment[replica]
    row.prefill_tokens += tokens
    context_sum = row.context_sum
    row.planned = MIXED
    batch = row.batch
    if tables.limits[deployment].scheduler == Scheduler.SGLANG:
        row.planned = EXTEND
        batch = context_sum = 0
    step_ns = tables.token_ns[deployment, tokens + batch] + attention_ns
    if row.ones > 0:
        batch, context_sum = batch + row.ones, context_sum + row.ones_context
        row.ones = row.ones_context = 0
    if batch > 0:
        into = _find_mean(plant, replica, context_sum / batch) - tables.context_grid[deployment, row.cell]
        cells = tables.cells
        step_ns += cells[deployment, batch, row.cell, 2] + cells[deployment, batch, row.cell, 3] * into
    row.next_ns = row.base_ns + max(1, int(step_ns * row.slowdown + 0.5))


@kernel
def _begin_stretch(plant: Plant, replica: int, short: bool) -> None:  # noqa: FBT001  # a kernel's flag
    """Begin a stretch of decode steps: one batch in one cell of the context grid, as far as the blocks go."""
    row, tables = plant.replicas.rows[replica], plant.tables
    deployment = plant.replicas.deployment[replica]
    mean = _find_mean(plant, replica, row.context_sum / row.batch)
    into = mean - tables.context_grid[deployment, row.cell]
    row.slope_ns = tables.cells[deployment, row.batch, row.cell, 1] * row.slowdown
    row.decode_ns = tables.cells[deployment, row.batch, row.cell, 0] * row.slowdown + row.slope_ns * into
    steps = (plant.replicas.heap[replica, 0] >> REQUEST_BITS) - row.iteration
    if row.cell < tables.limits[deployment].context_cells - 1:
        steps = min(steps, math.ceil(tables.context_grid[deployment, row.cell + 1] - mean))
    row.planned = 1 if short else steps_with_room(plant, replica, steps)
    row.next_ns = row.base_ns + stretch_ns(row, row.planned)


@kernel
def stretch_ns(row: np.record, steps: int) -> int:
    """Return the time from a stretch's begin to the end of its step number ``steps``, ns."""
    return int(row.decode_ns * steps + row.slope_ns * (0.5 * steps * (steps - 1)) + 0.5)


@kernel
def most_urgent(plant: Plant, replica: int) -> int:
    """Return the most urgent class in which a request waits, ``CLASSES`` when none does."""
    place = 0
    while place < CLASSES and plant.replicas.queues[replica, 2 * place] == NONE:
        place += 1
    return place


@kernel
def _mix(plant: Plant, replica: int, admitting: bool) -> tuple[int, float]:  # noqa: FBT001  # a kernel's flag
    """Fill the step with prompts beside the decoding requests; return their tokens, and their attention in ns."""
    row = plant.replicas.rows[replica]
    limits = plant.tables.limits[plant.replicas.deployment[replica]]
    budget = limits.step_tokens_max - row.batch
    running = row.batch
    tokens, attention_ns = 0, 0.0
    while budget > 0:
        if row.chunk_done > 0:
            request, done = row.head, row.chunk_done
            length = length_of(plant, request)
        else:
            if not admitting or row.waiting == 0 or running >= limits.batch_max:
                break
            request = plant.replicas.queues[replica, 2 * most_urgent(plant, replica)]
            length = length_of(plant, request)
            remote = _is_remote(plant, request)
            blocks = blocks_of(plant, plant.replicas.deployment[replica], request, length + remote)
            if blocks > row.kv_free - (limits.watermark_blocks if running > 0 else 0):
                break
            done = length if remote else _hit(plant, replica, request, length)
            if length - done > budget and limits.chunked == 0 and length <= limits.step_tokens_max:
                break
            _admit(plant, replica, request, blocks, done)
            if remote:
                _take_over(plant, replica, request)
                running += 1
                budget -= 1
                continue
        running += 1
        chunk = min(length - done, budget)
        attention_ns += _prefill(plant, replica, request, done, chunk)
        tokens += chunk
        budget -= chunk
        if done + chunk < length:
            break
    return tokens, attention_ns


@aside
def _extend(plant: Plant, replica: int) -> tuple[int, float]:
    """Fill a step with prompts alone, as SGLang does; return their tokens, and their attention in ns."""
    row = plant.replicas.rows[replica]
    deployment = plant.replicas.deployment[replica]
    limits = plant.tables.limits[deployment]
    size, budget, room = limits.block_tokens, limits.step_tokens_max, limits.prefill_tokens_max
    ratio = max(NEW_TOKEN_RATIO_MIN, row.ratio - row.ratio_steps * NEW_TOKEN_RATIO_FALL)
    aside_tokens = ratio * row.future_tokens
    running = row.batch
    tokens, attention_ns = 0, 0.0
    while budget > 0 and room > 0:
        if row.chunk_done > 0:
            request, done = row.head, row.chunk_done
            length = length_of(plant, request)
        else:
            if row.waiting == 0:
                break
            request = plant.replicas.queues[replica, 2 * most_urgent(plant, replica)]
            length = length_of(plant, request)
            remote = _is_remote(plant, request)
            blocks = blocks_of(plant, deployment, request, length)
            may_give = _may_give(plant, request)
            full = length + may_give + size >= row.kv_free * size - aside_tokens
            if running >= limits.batch_max or (running > 0 and full):
                row.full = 1
                break
            done = length if remote else _hit(plant, replica, request, length)
            whole = _whole_blocks(length - done, size)
            if tokens > 0 and whole >= room:
                break
            cut = length - done > budget
            if cut and ((budget < size and tokens > 0) or (limits.chunked == 0 and length <= limits.step_tokens_max)):
                break
            _admit(plant, replica, request, blocks, done)
            if remote:
                _take_over(plant, replica, request)
                running += 1
                aside_tokens += may_give
                continue
        running += 1
        left = length - done
        chunk = left if left <= budget else max(budget // size * size, min(budget, size))
        attention_ns += _prefill(plant, replica, request, done, chunk)
        tokens += chunk
        whole = _whole_blocks(chunk, size)
        budget -= whole
        room -= whole
        aside_tokens += size
        if chunk < left:
            break
        aside_tokens += _may_give(plant, request)
    return tokens, attention_ns


@kernel
def _whole_blocks(tokens: int, size: int) -> int:
    """Return ``tokens`` rounded up to blocks of ``size``."""
    return (tokens + size - 1) // size * size


@kernel
def _may_give(plant: Plant, request: int) -> int:
    """Return the tokens that ``request`` may still give, as far as SGLang's admission looks."""
    return min(plant.work[request].output_tokens_max - plant.work[request].given_tokens, NEW_TOKENS_MAX)


@kernel
def _is_remote(plant: Plant, request: int) -> bool:
    """Tell whether the prompt of ``request`` was computed elsewhere, and its first token given there."""
    work = plant.work[request]
    return work.cached_tokens == work.input_tokens and work.given_tokens == 0 and work.output_tokens > 1


@kernel
def _hit(plant: Plant, replica: int, request: int, length: int) -> int:
    """Return the tokens of ``request`` that the prefix cache holds, in whole blocks; the last is always computed."""
    session = plant.work[request].session
    limits = plant.tables.limits[plant.replicas.deployment[replica]]
    cache = plant.replicas.cache
    if session < 0 or limits.prefix_cache == 0 or cache.entries.shape[0] == 0:
        return 0
    entry = find(cache, replica, session)
    if entry == NOTHING:
        return 0
    size = limits.block_tokens
    tokens = min(int(plant.work[request].shared_tokens), int(cache.entries[entry].blocks) * size, length - 1)
    return whole_blocks(limits, tokens) * size


@kernel
def _admit(plant: Plant, replica: int, request: int, blocks: int, done: int) -> None:
    """Take the most urgent ``request`` off its queue, and its blocks; ``done`` of its tokens are there already."""
    row, work, queues = plant.replicas.rows[replica], plant.work, plant.replicas.queues
    first = 2 * work[request].priority
    queues[replica, first] = work[request].link
    if work[request].link == NONE:
        queues[replica, first + 1] = NONE
    row.waiting -= 1
    row.admissions += 1
    work[request].admitted = row.admissions
    if work[request].start_ns < 0:
        work[request].start_ns = row.base_ns
    else:
        row.pushed_back -= 1
    work[request].cached_tokens = done
    if done > 0 and work[request].session >= 0:
        entry = find(plant.replicas.cache, replica, work[request].session)
        if entry != NOTHING:
            forget(plant.replicas.cache, row, entry)
    take(plant, replica, blocks)


@kernel
def _take_over(plant: Plant, replica: int, request: int) -> None:
    """Let ``request`` decode at once: its prompt was computed, and its first token given, elsewhere."""
    row, work = plant.replicas.rows[replica], plant.work
    work[request].given_tokens = 1
    if work[request].first_token_ns < 0:
        work[request].first_token_ns = row.base_ns
    join(plant, replica, request, 1)
    row.firsts += 1
    row.wait_ns += row.base_ns - work[request].arrival_ns
    row.queued_tokens -= work[request].input_tokens
    row.hit_tokens += work[request].input_tokens


@kernel
def _prefill(plant: Plant, replica: int, request: int, done: int, chunk: int) -> float:
    """Put a chunk of a prompt into the step; return its attention in ns."""
    row, work = plant.replicas.rows[replica], plant.work
    if row.chunk_done == 0:
        work[request].link = NONE
        if row.head == NONE:
            row.head = request
        else:
            work[row.tail].link = request
        row.tail = request
    whole = length_of(plant, request)
    row.chunk_done = done + chunk
    if row.chunk_done == whole:
        row.completing += 1
        row.chunk_done = 0
    deployment = plant.replicas.deployment[replica]
    if plant.tables.limits[deployment].chunk_stairs > 0:
        if chunk == 1:
            row.ones += 1
            row.ones_context += done
            return 0.0
        return _chunk_ns(plant.tables, deployment, done + chunk, chunk)
    after_ns = _prefill_ns(plant.tables, deployment, done + chunk)
    return after_ns - _prefill_ns(plant.tables, deployment, done) if done > 0 else after_ns


@kernel
def _prefill_ns(tables: Tables, deployment: int, tokens: int) -> float:
    """Return the attention of prefilling the first ``tokens`` of a prompt, ns."""
    cell = tables.prefill_cell[deployment, min(tokens >> BUCKET_BITS, tables.prefill_cell.shape[1] - 1)]
    while cell < tables.limits[deployment].prefill_cells - 1 and tokens >= tables.prefill_grid[deployment, cell + 1]:
        cell += 1
    into = tokens - tables.prefill_grid[deployment, cell]
    return tables.prefill_ns[deployment, cell] + tables.prefill_slope[deployment, cell] * into


@aside
def _chunk_ns(tables: Tables, deployment: int, end: int, chunk: int) -> float:
    """Return the attention of a prefill chunk that ends after ``end`` tokens of its prompt, from the staircase, ns."""
    limits = tables.limits[deployment]
    row = _stair(tables.end_grid, deployment, int(limits.end_stairs), end)
    column = _stair(tables.chunk_grid, deployment, int(limits.chunk_stairs), chunk)
    return float(tables.chunk_ns[deployment, row, column])


@aside
def _stair(grid: Floats, deployment: int, count: int, tokens: int) -> int:
    """Return the first of ``count`` places of the grid that is not below ``tokens``, or the last one."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) >> 1
        if grid[deployment, middle] < tokens:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _find_mean(plant: Plant, replica: int, mean: float) -> float:
    """Return ``mean``, a mean context; its cell is sought from the last one (means move slowly)."""
    row, tables = plant.replicas.rows[replica], plant.tables
    deployment = plant.replicas.deployment[replica]
    cell = row.cell
    while cell > 0 and mean < tables.context_grid[deployment, cell]:
        cell -= 1
    while cell < tables.limits[deployment].context_cells - 1 and mean >= tables.context_grid[deployment, cell + 1]:
        cell += 1
    row.cell = cell
    return mean
