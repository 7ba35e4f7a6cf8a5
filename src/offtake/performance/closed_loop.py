"""Run one replica under a closed loop: a fixed number of clients, each sending its next prompt when its last one ended.

Comes in: a dense table, the lengths of the prompts, how many clients there are and by which door requests come to the
engine. Goes out: when each prompt was sent, gave its first token and finished, int64 ns. All clients send at time 0; so
benchmarks of serving engines do (``--request-rate inf --max-concurrency C``), and the burst is part of what they
report.

Between client and engine stands a *door*: a front end with one thread (HTTP, tokenising), and the engine's own way of
taking requests in. SGLang's scheduler looks for new requests only every ``receive_steps`` decode steps
(``--scheduler-recv-interval``; a step with prefill is followed by a look at once). TensorRT-LLM holds prompts back
until ``gather_tokens`` or ``gather_prompts`` wait, for ``gather_steps`` iterations at most
(``batch_wait_timeout_iters``, ``attention_dp_config``). A prompt that comes without delay is there when the step after
the one that ended its predecessor is chosen: arrivals at t come before the boundary at t. The replica is that of
``replica``, step for step. This module must never know a model, a price or a measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from offtake.errors import Fault, InputError
from offtake.performance.compiled import entry, kernel
from offtake.performance.replica import (
    NEVER_NS,
    NONE,
    Plant,
    ReplicaOutcome,
    arrive,
    complete,
    new_replicas,
    new_work,
)
from offtake.performance.schedule import compose, stretch_ns

if TYPE_CHECKING:
    from offtake.performance.dense import Tables
    from offtake.performance.replica_state import Ints, Ints32


class Door(NamedTuple):
    """Say how a request comes to the engine.

    ``request_ns`` and ``token_ns`` (per prompt token): work of the front end, one request after the other.
    ``latency_ns``: what every request waits beside that, without keeping others. ``receive_steps``: decode steps
    between two looks at new requests (1: each). ``gather_steps``: iterations for which prompts are held back at most
    (0: none), and ``gather_tokens`` in a step with which they are held no longer, or where ``gather_prompts`` is above
    0 as many prompts (one for each attention rank).
    """

    request_ns: int = 0
    token_ns: int = 0
    latency_ns: int = 0
    receive_steps: int = 1
    gather_steps: int = 0
    gather_tokens: int = 0
    gather_prompts: int = 0


#: Where a run is: how many prompts were sent and taken in, when the front end is free, the steps at the last look, and
#: the step from which prompts are held back (-1: none is).
STATE = ("sent", "taken", "free_ns", "looked", "held_from", "clients")
LOOP = np.dtype([(name, "i8") for name in (*STATE, *Door._fields)], align=True)


class Loop(NamedTuple):
    """Hold a closed loop: ``state [1]`` of ``LOOP``, and when each prompt was sent and came to the engine, ns."""

    state: Any
    sent_ns: Ints
    ready_ns: Ints


class LoopOutcome(NamedTuple):
    """Hold when each prompt was sent, ns, and what became of it on the replica."""

    sent_ns: Ints
    outcome: ReplicaOutcome


def run_closed_loop(
    tables: Tables, input_tokens: Ints32, output_tokens: Ints32, clients: int, door: Door | None = None
) -> LoopOutcome:
    """Run the first deployment of ``tables`` under ``clients`` clients until all prompts have ended.

    Parameters
    ----------
    tables
        Dense tables.
    input_tokens, output_tokens
        [prompt], tokens, in the order in which they are sent.
    clients
        Prompts under way at once.
    door
        How a request comes to the engine; at once when it is None.

    Raises
    ------
    InputError
        If there is no client or no prompt, or a prompt is longer than the replica can hold.
    """
    door = Door() if door is None else door
    faults = _faults_of_loop(tables, input_tokens, output_tokens, clients)
    if faults:
        raise InputError(faults)
    count = len(input_tokens)
    work = new_work(np.zeros(count, np.int64), input_tokens, output_tokens)
    replicas = new_replicas(tables, np.zeros(1, np.int64))
    state = np.array([(0, 0, 0, 0, -1, clients, *door)], LOOP).view(np.recarray)
    loop = Loop(state, np.zeros(count, np.int64), np.zeros(count, np.int64))
    run_loop(Plant(tables, replicas, work), loop)
    start, first, finish = (np.ascontiguousarray(work[name]) for name in ("start_ns", "first_token_ns", "finish_ns"))
    return LoopOutcome(loop.sent_ns, ReplicaOutcome(start, first, finish, replicas.rows[0]))


def _faults_of_loop(tables: Tables, input_tokens: Ints32, output_tokens: Ints32, clients: int) -> list[Fault]:
    """Return what makes a closed loop impossible."""
    limits = tables.limits[0]
    room = min(int(limits.context_tokens_max), int(limits.kv_blocks * limits.block_tokens))
    longest = int(np.max(input_tokens.astype(np.int64) + output_tokens, initial=0))
    least = int(min(np.min(input_tokens, initial=1), np.min(output_tokens, initial=1)))
    checks = [
        (clients < 1, "there is no client", "Give at least one."),
        (len(input_tokens) == 0, "there is no prompt", "Give at least one."),
        (least < 1, "a prompt has fewer than one input or output token", "Leave it out."),
        (longest > room, f"a prompt and its answer take {longest} tokens, a replica holds {room}", "Use more chips."),
    ]
    return [Fault("closed loop", problem, mend) for bad, problem, mend in checks if bad]


@entry
def run_loop(plant: Plant, loop: Loop) -> None:
    """Run replica 0 until every prompt of ``plant.work`` has ended."""
    row, state = plant.replicas.rows[0], loop.state[0]
    for _ in range(min(state.clients, plant.work.shape[0])):
        _send(plant, loop, 0)
    while row.finished < plant.work.shape[0]:
        opens_ns = _opens_ns(plant, loop)
        if opens_ns <= row.next_ns and opens_ns < NEVER_NS:
            _take(plant, loop, opens_ns)
        else:
            prefilled = row.planned < 0
            complete(plant, 0)
            if prefilled:
                state.looked = row.steps
            _send_next(plant, loop)
            compose(plant, 0)


@kernel
def _send_next(plant: Plant, loop: Loop) -> None:
    """Send a prompt for each that ended; the engine has at once what no door delays, before it chooses its step."""
    row, state = plant.replicas.rows[0], loop.state[0]
    now_ns = row.next_ns
    while row.done != NONE:
        row.done = plant.work[row.done].link
        if state.sent < plant.work.shape[0]:
            _send(plant, loop, now_ns)
    row.planned = 0  # between two steps: an arrival now cuts nothing short
    if state.receive_steps <= 1 and state.gather_steps == 0:
        _take(plant, loop, now_ns)


@kernel
def _send(plant: Plant, loop: Loop, now_ns: int) -> None:
    """Send the next prompt through the front end, where it waits for its turn."""
    state, request = loop.state[0], loop.state[0].sent
    begin_ns = max(state.free_ns, now_ns)
    state.free_ns = begin_ns + state.request_ns + state.token_ns * np.int64(plant.work[request].input_tokens)
    loop.sent_ns[request] = now_ns
    loop.ready_ns[request] = state.free_ns + state.latency_ns
    state.sent += 1


@kernel
def _opens_ns(plant: Plant, loop: Loop) -> int:
    """Return when the engine takes in what is ready; later than the step under way when it cannot tell yet."""
    row, state = plant.replicas.rows[0], loop.state[0]
    if state.taken == state.sent:
        return NEVER_NS
    ready_ns = loop.ready_ns[state.taken]
    if row.planned == 0:
        return ready_ns
    if state.gather_steps > 0 and row.batch > 0:
        if state.held_from < 0 and ready_ns <= row.next_ns:
            state.held_from = row.steps + (_step_at(row, ready_ns) if row.planned > 0 else 1)
        return min(_gathered_ns(plant, loop), _released_ns(plant, loop))
    if state.receive_steps > 1 and row.planned > 0:
        done = _step_at(row, ready_ns) + row.steps - state.looked
        looks = (done + state.receive_steps - 1) // state.receive_steps
        return _end_ns(row, state.looked + max(looks, 1) * state.receive_steps - row.steps)
    return ready_ns


@kernel
def _gathered_ns(plant: Plant, loop: Loop) -> int:
    """Return when the prompts that are ready fill a step as far as the engine wants."""
    row, state = plant.replicas.rows[0], loop.state[0]
    if state.gather_prompts > 0:
        last = state.taken + state.gather_prompts - 1
        return loop.ready_ns[last] if last < state.sent else NEVER_NS
    tokens = row.batch
    for request in range(state.taken, state.sent):
        tokens += np.int64(plant.work[request].input_tokens)
        if tokens >= state.gather_tokens:
            return loop.ready_ns[request]
    return NEVER_NS


@kernel
def _released_ns(plant: Plant, loop: Loop) -> int:
    """Return the end of step number ``gather_steps`` after the one in which prompts began to be held back."""
    row, state = plant.replicas.rows[0], loop.state[0]
    if state.held_from < 0:
        return NEVER_NS
    step = state.held_from + state.gather_steps - row.steps
    if row.planned < 0:
        return row.next_ns + (step > 1)
    return _end_ns(row, step)


@kernel
def _step_at(row: np.record, now_ns: int) -> int:
    """Return the number of the step of a stretch that is under way at ``now_ns`` (0 before its begin)."""
    if now_ns <= row.base_ns:
        return 0
    low, high = 0, row.planned
    while high - low > 1:
        middle = (low + high) >> 1
        if row.base_ns + stretch_ns(row, middle) < now_ns:
            low = middle
        else:
            high = middle
    return high


@kernel
def _end_ns(row: np.record, step: int) -> int:
    """Return the end of a step of the stretch under way; beyond its last, a time after it."""
    if step > row.planned:
        return row.next_ns + 1
    return row.base_ns + stretch_ns(row, max(step, 0))


@kernel
def _take(plant: Plant, loop: Loop, now_ns: int) -> None:
    """Let the engine have every request that is ready at ``now_ns``."""
    row, state = plant.replicas.rows[0], loop.state[0]
    if row.planned > 0:
        state.looked = row.steps + _step_at(row, now_ns)
    state.held_from = -1
    while state.taken < state.sent and loop.ready_ns[state.taken] <= now_ns:
        plant.work[state.taken].arrival_ns = now_ns
        arrive(plant, 0, state.taken, now_ns)
        state.taken += 1
