"""Hold the state of replicas and of the requests they serve, as rows of arrays.

Comes in: dense tables, which of them each replica uses, and what requests ask. Goes out: idle replicas and requests on
which nothing has been done. Times are int64 ns, -1 before they are known. This module must never advance time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError
from offtake.performance.compiled import Rows, entry, kernel
from offtake.performance.lines import in_lines, odd_lines, zeros_in_lines
from offtake.performance.prefix import Cache, new_cache
from offtake.performance.steps import NEW_TOKEN_RATIO

if TYPE_CHECKING:
    from offtake.performance.dense import Tables

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]

NEVER_NS = 2**62  #: later than any event
NONE = -1  #: no request
MIXED = -1  #: ``planned`` of a step with prefill in which every decoding request gets its token too
EXTEND = -2  #: ``planned`` of a step with prefill alone; above 0 it counts the decode steps of a stretch, 0 is idle
REQUEST_BITS = 27  #: a heap entry is ``last iteration << 27 | request``: 134 million requests, 68 billion iterations
REQUEST_MASK = 2**27 - 1
HEAP_LEAD_BYTES = (
    24  #: a heap's first five entries lie in one line, later ones four, which are compared, in half of one
)
CLASSES = 4  #: priority classes, 0 the most urgent

#: One row per replica in five cache lines, so that an event touches few of them whatever the size of the fleet: the
#: first is all that an arrival needs, three more are a step's, the last is seldom needed.
REPLICA = in_lines(
    np.dtype(
        [
            ("next_ns", "i8"),  # end of the step or stretch under way; NEVER_NS when idle
            ("base_ns", "i8"),  # its begin
            ("decode_ns", "f8"),  # a of the stretch
            ("slope_ns", "f8"),  # b of the stretch
            ("queued_tokens", "i8"),  # prompts of those that have not given a first token
            ("planned", "i4"),  # MIXED, EXTEND, the steps of a stretch, or 0
            ("batch", "i4"),  # requests decoding
            ("waiting", "i4"),  # requests that wait for admission
            ("in_flight", "i4"),  # requests here, waiting or running
            ("front", "i4"),  # after ``halt``: the first of the list at ``head`` that was waiting for admission
            ("full", "i2"),  # SGLang: 1 from a refused admission until a request finishes or is pushed back
            ("cell", "i2"),  # context cell looked up last
            ("iteration", "i8"),  # decode iterations since it was last empty: the clock of the heap
            ("context_sum", "i8"),  # Σ of their contexts, tokens
            ("kv_free", "i4"),  # blocks that no running request holds, those of the prefix cache included
            ("kv_cached", "i4"),  # blocks of the prefix cache, all of them free to be taken
            ("kv_free_min", "i4"),
            ("chunk_done", "i4"),  # tokens in the cache of the partly done prompt; 0 when there is none
            ("slowdown", "f8"),  # multiplies every step, 1 unless the replica is slow
            ("head", "i8"),  # prompts under way, oldest first: those done in this step, then the partly done one
            ("tail", "i8"),
            ("completing", "i4"),  # prompts that end with the step under way
            ("pushed_back", "i4"),  # requests that wait for a second admission
            ("done", "i8"),  # finished since the caller looked, linked, the last first; the caller empties it
            ("cache_newest", "i4"),  # the prompt in its prefix cache that was used last
            ("ones", "i4"),  # chunks of one token in the step that is being filled, where a table of chunks is given
            ("busy_ns", "i8"),
            ("running_ns", "f8"),  # ∫ requests between first admission and finish dt
            ("kv_held_ns", "f8"),  # ∫ blocks held by them dt (in a stretch: the mean of its begin and end)
            ("steps", "i8"),  # of any kind
            ("decode_tokens", "i8"),  # given, counted step by step
            ("prefill_tokens", "i8"),  # done, counted chunk by chunk
            ("admissions", "i8"),
            ("firsts", "i8"),  # first tokens given, and requests taken over with theirs given elsewhere
            ("wait_ns", "i8"),  # Σ of first token - arrival (wraps around after 292 years)
            ("finished", "i8"),
            ("service_ns", "i8"),  # Σ of finish - admission of the finished
            ("hits", "i8"),  # prompts that found a part of them in the cache
            ("hit_tokens", "i8"),  # tokens of prompts that came from the cache or with the request
            ("ones_context", "i8"),  # Σ of the tokens before them
            ("future_tokens", "i8"),  # SGLang: Σ of what the decoding requests may still give
            ("ratio", "f8"),  # SGLang: share of it that is set aside, and the decode steps since it was set
            ("ratio_steps", "i8"),
            ("prefill_lost", "i8"),  # prefilled for prompts that were pushed back or taken away before their end
            (
                "prefill_again",
                "i8",
            ),  # prefilled once more for requests that had been pushed back after their first token
            ("preemptions", "i8"),
            ("evicted_blocks", "i8"),
            ("cache_oldest", "i8"),  # the one used longest ago
        ],
        align=True,
    )
)

#: One row per request: what is asked, and what becomes of it.
WORK = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("start_ns", "i8"),  # first admission
        ("first_token_ns", "i8"),
        ("finish_ns", "i8"),
        ("link", "i8"),  # the next request in a list of the same replica
        ("input_tokens", "i4"),
        ("output_tokens", "i4"),
        ("output_tokens_max", "i4"),  # the most the client lets the model give: all that a scheduler may know
        ("given_tokens", "i4"),  # of the answer, when it was pushed back or taken over
        ("cached_tokens", "i4"),  # of the prompt, found in the cache; all of them: its KV came with it from elsewhere
        ("shared_tokens", "i4"),  # first tokens of the prompt that are those of the session's request before
        ("session", "i4"),  # -1 for none
        ("admitted", "i4"),  # its number among the admissions of its replica
        ("preemptions", "i2"),
        ("priority", "i2"),  # class
    ],
    align=True,
)


class Replicas(NamedTuple):
    """Hold the state of R replicas.

    ``rows [R]`` of ``REPLICA``; ``heap [R, batch]`` of last iterations; ``deployment [R]``; ``queues [R, 2·CLASSES]``
    first and last waiting request of each class; ``phase [R, block]`` decoding requests by the iteration, modulo the
    block, at which they need a new block; ``cache``, shared by all.
    """

    rows: Any
    heap: Ints
    deployment: Ints
    queues: Ints
    phase: Ints32
    cache: Cache


class Plant(NamedTuple):
    """Hold everything the kernel works on; ``work [request]`` are rows of ``WORK``."""

    tables: Tables
    replicas: Replicas
    work: Any


def new_work(arrival_ns: Ints, input_tokens: Ints32, output_tokens: Ints32) -> Rows:
    """Return rows of ``WORK`` on which nothing has been done: no session, class 0, answers no longer than asked.

    Raises
    ------
    InputError
        If there are more than 134 million requests.
    """
    if len(arrival_ns) > REQUEST_MASK:
        mend = "Thin the load, or run it in parts."
        raise InputError([Fault("requests", f"there are more than {REQUEST_MASK}", mend, value=str(len(arrival_ns)))])
    work = np.empty(len(arrival_ns), WORK).view(np.recarray)
    _fill_in(work, *(np.asarray(column, np.int64) for column in (arrival_ns, input_tokens, output_tokens)))
    return work


@entry
def _fill_in(work: Rows, arrival_ns: Ints, input_tokens: Ints, output_tokens: Ints) -> None:
    """Write every row once (NumPy would walk the rows once per field)."""
    for request in range(work.shape[0]):
        ask(work[request], arrival_ns[request], input_tokens[request], output_tokens[request])


@kernel
def ask(work: Rows, arrival_ns: int, input_tokens: int, output_tokens: int) -> None:
    """Make ``work`` a request of which nothing has been done: no session, class 0, no longer answer than this."""
    work.arrival_ns = arrival_ns
    work.start_ns = work.first_token_ns = work.finish_ns = work.link = -1
    work.input_tokens = input_tokens
    work.output_tokens = work.output_tokens_max = output_tokens
    work.given_tokens = work.cached_tokens = work.shared_tokens = work.admitted = 0
    work.session = -1
    work.preemptions = work.priority = 0


def new_replicas(tables: Tables, deployment: Ints, cache_entries: int = 0) -> Replicas:
    """Return idle replicas.

    Parameters
    ----------
    tables, deployment
        ``deployment [R]`` names the table of each.
    cache_entries
        How many prompts all prefix caches together can remember; 0 turns them off.
    """
    count, limits = len(deployment), tables.limits
    rows = zeros_in_lines((count,), REPLICA).view(np.recarray)
    rows["next_ns"] = NEVER_NS
    for field in ("head", "tail", "front", "done", "cache_oldest", "cache_newest"):
        rows[field] = NONE
    rows["slowdown"] = 1.0
    rows["ratio"] = NEW_TOKEN_RATIO
    rows["kv_free"] = rows["kv_free_min"] = limits["kv_blocks"][deployment]
    places = int(np.minimum(limits["batch_max"], limits["kv_blocks"]).max())  # a running request holds a block
    queues = zeros_in_lines((count, 2 * CLASSES), np.dtype(np.int64))
    queues[:] = NONE
    return Replicas(
        rows,
        zeros_in_lines((count, odd_lines(places, 8)), np.dtype(np.int64), HEAP_LEAD_BYTES),
        deployment,
        queues,
        zeros_in_lines((count, int(limits["block_tokens"].max())), np.dtype(np.int32)),
        new_cache(cache_entries),
    )
