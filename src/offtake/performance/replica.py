"""Run the replicas that serve a model: iteration-level continuous batching, compiled.

Comes in: step tables with their limits, and requests. Goes out: when each request was admitted, gave its
first token and finished, int64 ns. One iteration of a replica:

1. *Admit*, first come first served, while fewer than ``batch_max`` requests run, the KV cache has blocks for
   prompt **and** answer (``ceil((input + output) / block_tokens)``, held until the finish: a conservative
   reservation, so there is no preemption yet), and the step has tokens left.
2. *Step*: every decoding request takes one token of the budget ``step_tokens_max``; prompts fill the rest in
   chunks, so that at most one prompt is partly done at a time. With some prefill the step is *mixed*.
3. *Finish*: a prompt done in this step gives its first token at the step's end, and from then on one token
   per iteration; its last iteration is therefore known on entry and kept in a heap.

Time is exact. A mixed step lasts ``max(1, round(mixed_step_ns))``. A run of pure decode steps with one batch
inside one cell of the context grid is a *stretch*: step j ends ``round(a·j + b·j(j-1)/2)`` after the
stretch began, where a is its first step and b the growth per token of context. Jumping to step j and walking
there give the same integers, so stretches are jumped to the next finish, to the cell's end, or to an arrival
that can be admitted. A boundary at t is processed after all arrivals at t.

Cost: O(log batch) per request and O(1) per iteration, no allocation. Sources: continuous batching, Yu et al.
(Orca, OSDI 2022); chunked prefill, Agrawal et al. (Sarathi-Serve, OSDI 2024); blocks, Kwon et al. (vLLM,
SOSP 2023). This module must never know a site, a price, a policy, a clock or a random number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError
from offtake.performance.compiled import entry, kernel
from offtake.performance.dense import Tables, prepare
from offtake.performance.heap import pop, push

if TYPE_CHECKING:
    from offtake.performance.steps import ReplicaLimits, StepTable

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]

NEVER_NS = 2**62  #: later than any event
NONE = -1  #: no request
MIXED = -1  #: ``planned`` of a mixed step; above 0 it counts the decode steps of a stretch, 0 is idle
REQUEST_BITS = 27  #: a heap entry is ``last iteration << 27 | request``: 134 million requests, 68 billion iterations
REQUEST_MASK = 2**27 - 1


#: One row per replica, so that a step touches a few neighbouring cache lines whatever the size of the fleet.
REPLICA = np.dtype(
    [
        ("next_ns", "i8"),  # end of the step or stretch under way; NEVER_NS when idle
        ("base_ns", "i8"),  # its begin
        ("planned", "i8"),  # MIXED, the steps of a stretch, or 0
        ("iteration", "i8"),  # iterations done
        ("batch", "i8"),  # requests decoding
        ("context_sum", "i8"),  # Σ of their contexts, tokens
        ("kv_free", "i8"),  # blocks
        ("head", "i8"),  # queue, oldest first: prompts done in this step, the partly done one, then the waiting
        ("tail", "i8"),
        ("front", "i8"),  # first request that still waits for admission
        ("waiting", "i8"),  # how many wait for admission
        ("completing", "i8"),  # prompts that end with the mixed step under way
        ("chunk_done", "i8"),  # tokens done of the partly done prompt; 0 when there is none
        ("cell", "i8"),  # context cell looked up last
        ("done", "i8"),  # requests that finished since the caller looked, linked, the last first; the caller empties it
        ("slowdown", "f8"),  # multiplies every step, 1 unless the replica is slow
        ("decode_ns", "f8"),  # a of the stretch
        ("slope_ns", "f8"),  # b of the stretch
        ("in_flight", "i8"),  # requests here, waiting or running
        ("queued_tokens", "i8"),  # their prompts that have not given a first token
        ("firsts", "i8"),  # first tokens given
        ("wait_ns", "i8"),  # Σ of first token - arrival (wraps around after 292 years)
        ("finished", "i8"),
        ("service_ns", "i8"),  # Σ of finish - admission of the finished
        ("busy_ns", "i8"),
        ("running_ns", "f8"),  # ∫ admitted requests dt
        ("kv_held_ns", "f8"),  # ∫ blocks held dt
        ("kv_free_min", "i8"),
        ("prefill_tokens", "i8"),  # done, counted chunk by chunk
        ("prefill_lost", "i8"),  # of them, done for prompts that were taken away before their first token
        ("decode_tokens", "i8"),  # given, counted step by step
    ],
    align=True,
)


class Replicas(NamedTuple):
    """Hold the state of R replicas: ``rows [R]`` of ``REPLICA``, ``heap [R, batch_max]``, ``deployment [R]``."""

    rows: Any
    heap: Ints
    deployment: Ints


#: One row per request: what is asked, and what becomes of it. Times are -1 before they are known.
WORK = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("input_tokens", "i4"),
        ("output_tokens", "i4"),
        ("link", "i8"),  # the next request in the queue of the same replica
        ("start_ns", "i8"),  # admission
        ("first_token_ns", "i8"),
        ("finish_ns", "i8"),
    ],
    align=True,
)


class Plant(NamedTuple):
    """Hold everything the kernel works on; ``work [request]`` are rows of ``WORK``."""

    tables: Tables
    replicas: Replicas
    work: Any


class ReplicaOutcome(NamedTuple):
    """Hold admission, first token and finish of each request (ns), and the replica's row of counters."""

    start_ns: Ints
    first_token_ns: Ints
    finish_ns: Ints
    row: np.record


def simulate_replica(
    table: StepTable, limits: ReplicaLimits, arrival_ns: Ints, input_tokens: Ints32, output_tokens: Ints32
) -> ReplicaOutcome:
    """Run one replica on requests sorted by arrival, until the last one has finished.

    Parameters
    ----------
    table, limits
        Step times (ns) and limits of the replica.
    arrival_ns, input_tokens, output_tokens
        [request], ns and tokens.

    Raises
    ------
    InputError
        If a request has no tokens or can never fit, arrivals are not sorted, or the table is not positive.
    """
    return simulate_prepared(prepare([(table, limits)]), arrival_ns, input_tokens, output_tokens)


def simulate_prepared(tables: Tables, arrival_ns: Ints, input_tokens: Ints32, output_tokens: Ints32) -> ReplicaOutcome:
    """Run ``simulate_replica`` on the first deployment of tables that are already dense (for many runs)."""
    work = new_work(arrival_ns, input_tokens, output_tokens)
    faults = _faults_of_requests(tables, work)
    if faults:
        raise InputError(faults)
    replicas = new_replicas(tables, np.zeros(1, np.int64))
    run_one(Plant(tables, replicas, work))
    start, first, finish = (np.ascontiguousarray(work[name]) for name in ("start_ns", "first_token_ns", "finish_ns"))
    return ReplicaOutcome(start, first, finish, replicas.rows[0])


def _faults_of_requests(tables: Tables, work: np.recarray[Any, Any]) -> list[Fault]:
    """Return what makes the requests impossible for the first deployment."""
    total = work.input_tokens.astype(np.int64) + work.output_tokens
    limits = tables.limits[0]
    room = min(int(limits.context_tokens_max), int(limits.kv_blocks * limits.block_tokens))
    few = (work.input_tokens < 1) | (work.output_tokens < 1)
    unsorted = np.concatenate([[False], np.diff(work.arrival_ns) < 0])
    checks = [
        (few, "a request has fewer than one input or output token", "Leave out empty requests."),
        (unsorted, "arrivals are not sorted by time", "Sort the requests by arrival."),
        (total > room, f"a request is longer than the {room} tokens a replica can hold", "Shorten it or refuse it."),
    ]
    return [
        Fault("requests", problem, mend, row=int(np.argmax(bad)), value=f"{int(bad.sum())} such requests")
        for bad, problem, mend in checks
        if bad.any()
    ]


def new_work(arrival_ns: Ints, input_tokens: Ints32, output_tokens: Ints32) -> Any:  # noqa: ANN401  # rows of WORK
    """Return rows of ``WORK`` on which nothing has been done.

    Raises
    ------
    InputError
        If there are more than 134 million requests.
    """
    if len(arrival_ns) > REQUEST_MASK:
        mend = "Thin the load, or run it in parts."
        raise InputError([Fault("requests", f"there are more than {REQUEST_MASK}", mend, value=str(len(arrival_ns)))])
    work = np.full(len(arrival_ns), NONE, WORK).view(np.recarray)
    work["arrival_ns"], work["input_tokens"], work["output_tokens"] = arrival_ns, input_tokens, output_tokens
    return work


def new_replicas(tables: Tables, deployment: Ints) -> Replicas:
    """Return idle replicas, ``deployment [R]`` naming the table of each."""
    rows = np.zeros(len(deployment), REPLICA).view(np.recarray)
    rows["next_ns"] = NEVER_NS
    for field in ("head", "tail", "front", "done"):
        rows[field] = NONE
    rows["slowdown"] = 1.0
    rows["kv_free"] = rows["kv_free_min"] = tables.limits["kv_blocks"][deployment]
    heap = np.zeros((len(deployment), int(tables.limits["batch_max"].max())), np.int64)
    return Replicas(rows, heap, deployment)


@entry
def run_one(plant: Plant) -> None:
    """Run replica 0 on all of ``plant.work``, in order of arrival, until it is idle."""
    row = plant.replicas.rows[0]
    for request in range(plant.work.shape[0]):
        now_ns = plant.work[request].arrival_ns
        while row.next_ns < now_ns:
            boundary(plant, 0)
        arrive(plant, 0, request, now_ns)
    while row.next_ns < NEVER_NS:
        boundary(plant, 0)
    row.done = NONE


@kernel
def boundary(plant: Plant, replica: int) -> None:
    """End the step or stretch under way at ``next_ns`` and begin the next one.

    Cost: O(log batch) per finish, O(1) per admission and step, no allocation.
    """
    _complete(plant, replica)
    _compose(plant, replica)


@kernel
def arrive(plant: Plant, replica: int, request: int, now_ns: int) -> None:
    """Queue ``request`` at ``replica``; an idle replica wakes, a stretch that could admit it is cut short."""
    row = plant.replicas.rows[replica]
    deployment = plant.replicas.deployment[replica]
    tables = plant.tables
    alone = row.head == NONE
    plant.work[request].link = NONE
    if alone:
        row.head = request
    else:
        plant.work[row.tail].link = request
    row.tail = request
    if row.front == NONE:
        row.front = request
    row.waiting += 1
    row.in_flight += 1
    row.queued_tokens += plant.work[request].input_tokens
    if row.planned == 0:
        row.next_ns = now_ns
    elif row.planned > 0 and alone:
        room = row.batch < min(tables.limits[deployment].batch_max, tables.limits[deployment].step_tokens_max)
        if room and blocks_of(plant, deployment, request) <= row.kv_free:
            _cut(row, now_ns)


@kernel
def blocks_of(plant: Plant, deployment: int, request: int) -> int:
    """Return the KV blocks that ``request`` reserves."""
    size = plant.tables.limits[deployment].block_tokens
    tokens = np.int64(plant.work[request].input_tokens) + np.int64(plant.work[request].output_tokens)
    return (tokens + size - 1) // size  # type: ignore[no-any-return]


@kernel
def _stretch_ns(row: np.record, steps: int) -> int:
    """Return the time from a stretch's begin to the end of its step number ``steps``, ns."""
    return int(row.decode_ns * steps + row.slope_ns * (0.5 * steps * (steps - 1)) + 0.5)


@kernel
def _cut(row: np.record, now_ns: int) -> None:
    """Shorten the stretch under way to the first step that ends at or after ``now_ns``."""
    target = float(now_ns - row.base_ns)
    first = row.decode_ns - 0.5 * row.slope_ns
    root = max(first * first + 2.0 * row.slope_ns * target, 0.0)
    steps = int(2.0 * target / (first + math.sqrt(root))) if first > 0.0 else 1
    steps = min(max(steps, 1), int(row.planned))
    while row.base_ns + _stretch_ns(row, steps) < now_ns:
        steps += 1
    while steps > 1 and row.base_ns + _stretch_ns(row, steps - 1) >= now_ns:
        steps -= 1
    row.planned = steps
    row.next_ns = row.base_ns + _stretch_ns(row, steps)


@kernel
def _complete(plant: Plant, replica: int) -> None:
    """Give the tokens of the step or stretch that ends now, first tokens and finishes included."""
    row = plant.replicas.rows[replica]
    if row.planned == 0:
        return
    steps = 1 if row.planned == MIXED else row.planned
    _spend(plant, replica, row.next_ns)
    row.iteration += steps
    row.context_sum += row.batch * steps
    row.decode_tokens += row.batch * steps
    while row.batch > 0 and plant.replicas.heap[replica, 0] >> REQUEST_BITS == row.iteration:
        request = plant.replicas.heap[replica, 0] & REQUEST_MASK
        pop(plant.replicas.heap, replica, row.batch)
        row.batch -= 1
        row.context_sum -= np.int64(plant.work[request].input_tokens) + np.int64(plant.work[request].output_tokens)
        _finish(plant, replica, request)
    for _ in range(row.completing):
        _first_token(plant, replica)
    row.completing = 0


@kernel
def _spend(plant: Plant, replica: int, until_ns: int) -> None:
    """Add the time from ``base_ns`` to ``until_ns`` to the counters of service and memory."""
    row = plant.replicas.rows[replica]
    running = row.batch + row.completing + (1 if row.chunk_done > 0 else 0)
    held = plant.tables.limits[plant.replicas.deployment[replica]].kv_blocks - row.kv_free
    span_ns = until_ns - row.base_ns
    row.busy_ns += span_ns
    row.running_ns += float(running) * float(span_ns)
    row.kv_held_ns += float(held) * float(span_ns)


@kernel
def halt(plant: Plant, replica: int, now_ns: int) -> None:
    """Stop ``replica`` dead at ``now_ns``: tokens of steps that ended by then are given, the step under way is lost.

    The requests stay in the heap and the queue for the caller to take away, before ``clear``.
    """
    row = plant.replicas.rows[replica]
    if row.planned == 0:
        return
    _spend(plant, replica, now_ns)
    if row.planned > 0:
        _cut(row, now_ns)
        steps = row.planned if row.next_ns == now_ns else row.planned - 1
        row.iteration += steps
        row.context_sum += row.batch * steps
        row.decode_tokens += row.batch * steps
    request = row.head
    for _ in range(row.completing):
        row.prefill_lost += plant.work[request].input_tokens
        request = plant.work[request].link
    row.prefill_lost += row.chunk_done


@kernel
def clear(plant: Plant, replica: int) -> None:
    """Make ``replica`` empty and idle; its counters stay."""
    row = plant.replicas.rows[replica]
    row.next_ns = NEVER_NS
    row.planned = row.batch = row.context_sum = row.waiting = row.completing = row.chunk_done = 0
    row.head = row.tail = row.front = NONE
    row.in_flight = row.queued_tokens = 0
    row.kv_free = plant.tables.limits[plant.replicas.deployment[replica]].kv_blocks


@kernel
def _finish(plant: Plant, replica: int, request: int) -> None:
    """Record a finish and give its KV blocks back."""
    row = plant.replicas.rows[replica]
    plant.work[request].finish_ns = row.next_ns
    row.kv_free += blocks_of(plant, plant.replicas.deployment[replica], request)
    plant.work[request].link = row.done
    row.done = request
    row.in_flight -= 1
    row.finished += 1
    row.service_ns += row.next_ns - plant.work[request].start_ns


@kernel
def _first_token(plant: Plant, replica: int) -> None:
    """Take the oldest prompt off the queue: it has its first token, and decodes from the next iteration on."""
    row = plant.replicas.rows[replica]
    work = plant.work
    request = row.head
    row.head = work[request].link
    work[request].first_token_ns = row.next_ns
    row.firsts += 1
    row.wait_ns += row.next_ns - work[request].arrival_ns
    row.queued_tokens -= work[request].input_tokens
    left = np.int64(work[request].output_tokens) - 1
    if left == 0:
        _finish(plant, replica, request)
    else:
        row.context_sum += work[request].input_tokens + 1
        push(plant.replicas.heap, replica, row.batch, ((row.iteration + left) << REQUEST_BITS) | request)
        row.batch += 1


@kernel
def _compose(plant: Plant, replica: int) -> None:
    """Admit what fits and begin the next step or stretch; with nothing to do, sleep."""
    row = plant.replicas.rows[replica]
    deployment = plant.replicas.deployment[replica]
    tables = plant.tables
    now_ns = row.next_ns
    row.base_ns = now_ns
    tokens = 0
    attention_ns = 0.0
    if row.head != NONE:
        tokens, attention_ns = _fill(plant, replica)
    if row.batch > 0:
        mean = row.context_sum / row.batch
        _find_cell(row, tables, deployment, mean)
        into = mean - tables.context_grid[deployment, row.cell]
    if tokens > 0:
        step_ns = tables.token_ns[deployment, tokens + row.batch] + attention_ns
        if row.batch > 0:
            cells = tables.cells
            step_ns += cells[deployment, row.batch, row.cell, 2] + cells[deployment, row.batch, row.cell, 3] * into
        row.planned = MIXED
        row.next_ns = now_ns + max(1, int(step_ns * row.slowdown + 0.5))
    elif row.batch > 0:
        row.slope_ns = tables.cells[deployment, row.batch, row.cell, 1] * row.slowdown
        row.decode_ns = tables.cells[deployment, row.batch, row.cell, 0] * row.slowdown + row.slope_ns * into
        steps = (plant.replicas.heap[replica, 0] >> REQUEST_BITS) - row.iteration
        if row.cell < tables.limits[deployment].context_cells - 1:
            steps = min(steps, math.ceil(tables.context_grid[deployment, row.cell + 1] - mean))
        row.planned = steps
        row.next_ns = now_ns + _stretch_ns(row, steps)
    else:
        row.planned = 0
        row.next_ns = NEVER_NS


@kernel
def _fill(plant: Plant, replica: int) -> tuple[int, float]:
    """Fill the step's token budget with prompts; return the tokens and their attention in ns."""
    row = plant.replicas.rows[replica]
    deployment = plant.replicas.deployment[replica]
    budget = plant.tables.limits[deployment].step_tokens_max - row.batch
    running = row.batch
    tokens = 0
    attention_ns = 0.0
    request = row.head
    while budget > 0 and request != NONE:
        done = row.chunk_done
        if request == row.front:
            blocks = blocks_of(plant, deployment, request)
            if running >= plant.tables.limits[deployment].batch_max or blocks > row.kv_free:
                break
            row.kv_free -= blocks
            row.front = plant.work[request].link
            row.waiting -= 1
            plant.work[request].start_ns = row.next_ns
            done = 0
        running += 1
        left = plant.work[request].input_tokens - done
        chunk = min(left, budget)
        attention_ns += _prefill_ns(plant.tables, deployment, done + chunk) - _prefill_ns(
            plant.tables, deployment, done
        )
        tokens += chunk
        budget -= chunk
        row.completing += chunk == left
        row.chunk_done = 0 if chunk == left else done + chunk
        request = plant.work[request].link
    row.kv_free_min = min(row.kv_free_min, row.kv_free)
    row.prefill_tokens += tokens
    return tokens, attention_ns


@kernel
def _prefill_ns(tables: Tables, deployment: int, tokens: int) -> float:
    """Return the attention of prefilling the first ``tokens`` of a prompt, ns."""
    low = 0
    high = tables.limits[deployment].prefill_cells
    while high - low > 1:
        middle = (low + high) >> 1
        if tokens < tables.prefill_grid[deployment, middle]:
            high = middle
        else:
            low = middle
    into = tokens - tables.prefill_grid[deployment, low]
    return tables.prefill_ns[deployment, low] + tables.prefill_slope[deployment, low] * into  # type: ignore[no-any-return]


@kernel
def _find_cell(row: np.record, tables: Tables, deployment: int, mean: float) -> None:
    """Set the cell of the context grid that holds ``mean``, starting from the last one (means move slowly)."""
    cell = row.cell
    while cell > 0 and mean < tables.context_grid[deployment, cell]:
        cell -= 1
    while cell < tables.limits[deployment].context_cells - 1 and mean >= tables.context_grid[deployment, cell + 1]:
        cell += 1
    row.cell = cell
