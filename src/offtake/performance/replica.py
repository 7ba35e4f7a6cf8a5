"""Run the replicas that serve a model: iteration-level continuous batching, compiled.

Comes in: step tables with their limits, and requests. Goes out: when each request was admitted, gave its
first token and finished, int64 ns. One iteration of a replica:

1. *Choose* (``schedule``): admit what the engine it follows would, and fill the step.
2. *Step*: with some prefill it is *mixed* (decoding requests get their token too) or, under SGLang, an *extend*
   (they do not); else it is pure decode.
3. *Finish*: a prompt done in this step gives its first token at the step's end, and from then on one token
   per decode iteration; its last iteration is therefore known on entry and kept in a heap.

Time is exact. A mixed step lasts ``max(1, round(mixed_step_ns))``. A run of pure decode steps with one batch
inside one cell of the context grid is a *stretch*: step j ends ``round(a·j + b·j(j-1)/2)`` after the
stretch began, where a is its first step and b the growth per token of context. Jumping to step j and walking
there give the same integers, so stretches are jumped to the next finish, to the cell's end, to where the KV blocks run
out (``blocks``), or to the end of the step in which a request came to be first in line. A boundary at t is processed
after all arrivals at t.

A request that can never fit, in the context or in all KV blocks, is refused at the door, as real engines do; so nothing
ever waits for what cannot come. A prompt that comes with ``cached_tokens == input_tokens`` was computed elsewhere: it
needs blocks, but no prefill. A replica that only prefills is one whose requests ask for one token.

Cost: O(log batch) per request and O(1) per iteration, no allocation. Sources: continuous batching, Yu et al.
(Orca, OSDI 2022); chunked prefill, Agrawal et al. (Sarathi-Serve, OSDI 2024); blocks, Kwon et al. (vLLM,
SOSP 2023). This module must never know a site, a price, a policy, a clock or a random number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from offtake.errors import Fault, InputError
from offtake.performance.blocks import blocks_of, enqueue, join, leave, length_of, take_later, whole_blocks
from offtake.performance.compiled import Rows, aside, entry, kernel
from offtake.performance.dense import Tables, prepare
from offtake.performance.heap import pop
from offtake.performance.prefix import forget_all, remember
from offtake.performance.replica_state import (
    CLASSES,
    EXTEND,
    MIXED,
    NEVER_NS,
    NONE,
    REPLICA,
    REQUEST_BITS,
    REQUEST_MASK,
    WORK,
    Ints,
    Ints32,
    Plant,
    Replicas,
    ask,
    new_replicas,
    new_work,
)
from offtake.performance.schedule import compose, most_urgent, stretch_ns
from offtake.performance.steps import Scheduler

if TYPE_CHECKING:
    from offtake.performance.steps import ReplicaLimits, StepTable

__all__ = [
    "CLASSES",
    "NEVER_NS",
    "NONE",
    "REPLICA",
    "REQUEST_BITS",
    "REQUEST_MASK",
    "WORK",
    "Plant",
    "ReplicaOutcome",
    "Replicas",
    "arrive",
    "ask",
    "boundary",
    "clear",
    "complete",
    "faults_of_requests",
    "halt",
    "new_replicas",
    "new_work",
    "run_one",
    "simulate_prepared",
    "simulate_replica",
    "simulate_work",
]


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
    return simulate_work(tables, new_work(arrival_ns, input_tokens, output_tokens))


def simulate_work(tables: Tables, work: Rows, cache_entries: int = 0) -> ReplicaOutcome:
    """Run one replica of the first deployment on rows of ``WORK``, in which what happens to each is left.

    ``cache_entries``: how many sessions its prefix cache can remember.

    Raises
    ------
    InputError
        As ``simulate_replica``.
    """
    faults = faults_of_requests(tables, work)
    if faults:
        raise InputError(faults)
    replicas = new_replicas(tables, np.zeros(1, np.int64), cache_entries)
    run_one(Plant(tables, replicas, work))
    start, first, finish = (np.ascontiguousarray(work[name]) for name in ("start_ns", "first_token_ns", "finish_ns"))
    return ReplicaOutcome(start, first, finish, replicas.rows[0])


def faults_of_requests(tables: Tables, work: Rows) -> list[Fault]:
    """Return what makes the requests impossible for the first deployment."""
    limits = tables.limits[0]
    room = min(int(limits.context_tokens_max), int(limits.kv_blocks * limits.block_tokens))
    found = np.zeros((5, 2), np.int64)
    _look_for_faults(work, room, int(limits.scheduler == Scheduler.TRTLLM), found)
    checks = [
        ("a request has fewer than one input or output token", "Leave out empty requests."),
        ("arrivals are not sorted by time", "Sort the requests by arrival."),
        (f"a request is longer than the {room} tokens a replica can hold", "Shorten it or refuse it."),
        ("an answer is longer than the request allows", "Raise output_tokens_max."),
        (f"a priority is not one of 0 to {CLASSES - 1}", "Give a class, 0 the most urgent."),
    ]
    return [
        Fault("requests", problem, mend, row=int(first), value=f"{count} such requests")
        for (problem, mend), (count, first) in zip(checks, found, strict=True)
        if count
    ]


@entry
def _look_for_faults(work: Rows, room: int, reserves: int, found: Ints) -> None:
    """Count the requests that fail each check, and note the first of them [check, (count, row)]."""
    for request in range(work.shape[0] - 1, -1, -1):
        row = work[request]
        answer = row.output_tokens_max if reserves else row.output_tokens
        wrong = (
            row.input_tokens < 1 or row.output_tokens < 1,
            request > 0 and row.arrival_ns < work[max(request - 1, 0)].arrival_ns,
            int(row.input_tokens) + int(answer) > room,
            row.output_tokens_max < row.output_tokens,
            row.priority < 0 or row.priority >= CLASSES,
        )
        for check in range(5):
            if wrong[check]:
                found[check, 0] += 1
                found[check, 1] = request


@entry
def run_one(plant: Plant) -> None:
    """Run replica 0 on all of ``plant.work``, in order of arrival, until it is idle."""
    row = plant.replicas.rows[0]
    count = plant.work.shape[0]
    for request in range(count + 1):
        now_ns = plant.work[request].arrival_ns if request < count else NEVER_NS
        while row.next_ns < now_ns:
            boundary(plant, 0)
        if request < count:
            arrive(plant, 0, request, now_ns)
    row.done = NONE


@kernel
def boundary(plant: Plant, replica: int) -> None:
    """End the step or stretch under way at ``next_ns`` and begin the next one.

    Cost: O(log batch) per finish, O(1) per admission and step, no allocation.
    """
    complete(plant, replica)
    compose(plant, replica)


@kernel
def arrive(plant: Plant, replica: int, request: int, now_ns: int) -> None:
    """Queue ``request`` at ``replica``; an idle replica wakes, a stretch that could admit it is cut short.

    Its ``start_ns`` and ``first_token_ns`` are -1 and its ``given_tokens`` 0, wherever it was before; only one whose
    prompt was computed elsewhere has its ``first_token_ns``, and ``cached_tokens`` above 0.
    """
    row, queues = plant.replicas.rows[replica], plant.replicas.queues
    priority = plant.work[request].priority
    first_in_line = row.waiting == 0 or (
        queues[replica, 2 * priority] == NONE and most_urgent(plant, replica) > priority
    )
    enqueue(plant, replica, request)
    row.waiting += 1
    row.in_flight += 1
    row.queued_tokens += plant.work[request].input_tokens
    if row.planned == 0:
        row.next_ns = now_ns
    elif row.planned > 0 and first_in_line and row.full == 0:
        limits = plant.tables.limits[plant.replicas.deployment[replica]]
        steps_fill = row.batch >= limits.step_tokens_max and limits.scheduler != Scheduler.SGLANG
        if row.batch < limits.batch_max and not steps_fill:
            _cut(row, now_ns)


@kernel
def _cut(row: np.record, now_ns: int) -> None:
    """Shorten the stretch under way to the first step that ends at or after ``now_ns``."""
    target = float(now_ns - row.base_ns)
    first = row.decode_ns - 0.5 * row.slope_ns
    root = max(first * first + 2.0 * row.slope_ns * target, 0.0)
    steps = int(2.0 * target / (first + math.sqrt(root))) if first > 0.0 else 1
    steps = min(max(steps, 1), int(row.planned))
    while row.base_ns + stretch_ns(row, steps) < now_ns:
        steps += 1
    while steps > 1 and row.base_ns + stretch_ns(row, steps - 1) >= now_ns:
        steps -= 1
    row.planned = steps
    row.next_ns = row.base_ns + stretch_ns(row, steps)


@kernel
def complete(plant: Plant, replica: int) -> None:
    """Give the tokens of the step or stretch that ends now, first tokens and finishes included; ``compose`` follows."""
    row = plant.replicas.rows[replica]
    if row.planned == 0:
        return
    held = row.kv_free
    if row.planned == EXTEND:
        row.steps += 1
    else:
        _give(plant, replica, 1 if row.planned == MIXED else row.planned)
    _spend(plant, replica, row.next_ns, held)
    ended = NONE
    while row.batch > 0 and plant.replicas.heap[replica, 0] >> REQUEST_BITS == row.iteration:
        request = plant.replicas.heap[replica, 0] & REQUEST_MASK
        pop(plant.replicas.heap, replica, row.batch)
        leave(plant, replica, request, plant.work[request].output_tokens)
        if plant.replicas.cache.entries.shape[0] > 0:
            ended = _in_turn(plant, ended, request)
        else:
            _finish(plant, replica, request)
    while ended != NONE:
        following = plant.work[ended].link
        _finish(plant, replica, ended)
        ended = following
    for _ in range(row.completing):
        _end_prompt(plant, replica)
    row.completing = 0


@aside
def _in_turn(plant: Plant, first: int, request: int) -> int:
    """Put ``request`` into the list of those that end now, which begins at ``first``; return where it begins then.

    They leave in the order of their admission: which prompt a cache forgets first may not hang on the rows they lie in.
    """
    work = plant.work
    before, after = NONE, first
    while after != NONE and work[after].admitted < work[request].admitted:
        before, after = after, work[after].link
    work[request].link = after
    if before == NONE:
        return request
    work[before].link = request
    return first


@kernel
def _give(plant: Plant, replica: int, steps: int) -> None:
    """Give every decoding request a token in each of ``steps``, and take the blocks for them."""
    row = plant.replicas.rows[replica]
    take_later(plant, replica, steps)
    given = row.batch * steps
    row.steps += steps
    row.iteration += steps
    row.context_sum += given
    row.decode_tokens += given
    if plant.tables.limits[plant.replicas.deployment[replica]].scheduler == Scheduler.SGLANG:
        row.future_tokens -= given
        row.ratio_steps += steps


@kernel
def _spend(plant: Plant, replica: int, until_ns: int, free_before: int) -> None:
    """Add the time from ``base_ns`` to ``until_ns`` to the counters of service and memory."""
    row = plant.replicas.rows[replica]
    running = row.batch + row.completing + (1 if row.chunk_done > 0 else 0) + row.pushed_back
    held = plant.tables.limits[plant.replicas.deployment[replica]].kv_blocks - 0.5 * (row.kv_free + free_before)
    span_ns = until_ns - row.base_ns
    row.busy_ns += span_ns
    row.running_ns += float(running) * float(span_ns)
    row.kv_held_ns += held * float(span_ns)


@kernel
def halt(plant: Plant, replica: int, now_ns: int) -> None:
    """Stop ``replica`` dead at ``now_ns``: tokens of steps that ended by then are given, the step under way is lost.

    The requests stay in the heap and in one list for the caller to take away before ``clear``: from ``head`` the
    prompts under way, from ``front`` those that wait for admission, the most urgent first. Those of the latter with
    ``given_tokens`` above 0 had been pushed back after they began to answer.
    """
    row = plant.replicas.rows[replica]
    if row.planned != 0:
        held = row.kv_free
        if row.planned > 0:
            _cut(row, now_ns)
            steps = row.planned if row.next_ns == now_ns else row.planned - 1
            if steps > 0:
                _give(plant, replica, steps)
        _spend(plant, replica, now_ns, held)
        request = row.head
        for _ in range(row.completing):
            row.prefill_lost += _prefilled(plant, request)
            request = plant.work[request].link
        if row.chunk_done > 0:
            row.prefill_lost += row.chunk_done - plant.work[request].cached_tokens
    _join_lists(plant, replica)


@kernel
def _prefilled(plant: Plant, request: int) -> int:
    """Return the tokens that were prefilled of a whole prompt (and of the answer so far, if it was pushed back)."""
    return length_of(plant, request) - int(plant.work[request].cached_tokens)


@kernel
def _join_lists(plant: Plant, replica: int) -> None:
    """Link the queues behind the prompts under way, the most urgent class first."""
    row, queues = plant.replicas.rows[replica], plant.replicas.queues
    row.front = NONE
    for place in range(0, 2 * CLASSES, 2):
        first = queues[replica, place]
        if first == NONE:
            continue
        if row.front == NONE:
            row.front = first
        if row.head == NONE:
            row.head = first
        else:
            plant.work[row.tail].link = first
        row.tail = queues[replica, place + 1]


@kernel
def clear(plant: Plant, replica: int) -> None:
    """Make ``replica`` empty and idle, its prefix cache too; its counters stay."""
    row = plant.replicas.rows[replica]
    row.next_ns = NEVER_NS
    row.planned = row.batch = row.context_sum = row.waiting = row.completing = row.chunk_done = 0
    row.pushed_back = row.future_tokens = row.full = 0
    row.head = row.tail = row.front = NONE
    row.in_flight = row.queued_tokens = 0
    row.kv_free = plant.tables.limits[plant.replicas.deployment[replica]].kv_blocks
    for place in range(2 * CLASSES):
        plant.replicas.queues[replica, place] = NONE
    for place in range(plant.replicas.phase.shape[1]):
        plant.replicas.phase[replica, place] = 0
    forget_all(plant.replicas.cache, row)


@kernel
def _finish(plant: Plant, replica: int, request: int) -> None:
    """Record a finish and give its KV blocks back, or to the prefix cache."""
    row, work = plant.replicas.rows[replica], plant.work
    deployment = plant.replicas.deployment[replica]
    work[request].finish_ns = row.next_ns
    held = int(work[request].input_tokens) + int(work[request].output_tokens) - 1
    row.kv_free += blocks_of(plant, deployment, request, held)
    if work[request].session >= 0 and plant.replicas.cache.entries.shape[0] > 0:
        limits = plant.tables.limits[deployment]
        if limits.prefix_cache != 0:
            blocks = whole_blocks(limits, held)
            remember(plant.replicas.cache, row, replica, work[request].session, blocks)
    work[request].link = row.done
    row.done = request
    row.in_flight -= 1
    row.finished += 1
    row.service_ns += row.next_ns - work[request].start_ns


@kernel
def _end_prompt(plant: Plant, replica: int) -> None:
    """Take the oldest prompt off the list: it gives a token now, and decodes from the next iteration on."""
    row, work = plant.replicas.rows[replica], plant.work
    request = row.head
    row.head = work[request].link
    given = int(work[request].given_tokens) + 1
    if given == 1:
        work[request].first_token_ns = row.next_ns
        row.firsts += 1
        row.wait_ns += row.next_ns - work[request].arrival_ns
        row.queued_tokens -= work[request].input_tokens
        row.hit_tokens += work[request].cached_tokens
        row.hits += work[request].cached_tokens > 0
    else:
        row.prefill_again += _prefilled(plant, request)
        row.decode_tokens += 1
    if given == work[request].output_tokens:
        row.full = 0
        _finish(plant, replica, request)
    else:
        join(plant, replica, request, given)
