"""Hold many requests as one tuple of arrays: the form in which demand meets rehearsal and router.

Comes in: columns. Goes out: batches sorted by arrival, cut, joined and merged without a loop over
requests. It must never know a file, a profile or a random number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offtake.errors import Fault, InputError


class Requests(NamedTuple):
    """Hold requests sorted by arrival; every array has the shape ``[request]``.

    ``arrival_ns`` counts from the start of the trace. ``workload`` and ``region`` are indices into the
    fleet's workloads and user regions, ``tenant`` is an index of the customer who asks. Requests of one ``session``
    (``ALONE`` for none) come one after the other: where ``think_ns`` is 0 or more, a request arrives that long after
    the one before it in its session ended, and its ``arrival_ns`` only says when it becomes known; ``OPEN`` means
    that it arrives at ``arrival_ns`` whatever became of the others. The first ``shared_tokens`` of its prompt are the
    same as those of the session's request before it, so that a prefix cache may hold them.
    """

    arrival_ns: NDArray[np.int64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    workload: NDArray[np.int16]
    region: NDArray[np.int16]
    tenant: NDArray[np.int16]
    session: NDArray[np.int32]
    shared_tokens: NDArray[np.int32]
    think_ns: NDArray[np.int64]


ALONE = -1  #: ``session`` of a request that belongs to none
OPEN = -1  #: ``think_ns`` of a request that arrives at its own time


def requests_of(
    arrival_ns: NDArray[np.int64],
    input_tokens: NDArray[np.int32],
    output_tokens: NDArray[np.int32],
    workload: int = 0,
    region: int = 0,
) -> Requests:
    """Return requests that all belong to one workload, one region and tenant 0, and to no session."""
    count = arrival_ns.size
    return Requests(
        arrival_ns,
        input_tokens,
        output_tokens,
        np.full(count, workload, dtype=np.int16),
        np.full(count, region, dtype=np.int16),
        np.zeros(count, dtype=np.int16),
        np.full(count, ALONE, dtype=np.int32),
        np.zeros(count, dtype=np.int32),
        np.full(count, OPEN, dtype=np.int64),
    )


def no_requests() -> Requests:
    """Return a batch without requests."""
    tokens = np.zeros(0, dtype=np.int32)
    return requests_of(np.zeros(0, dtype=np.int64), tokens, tokens)


def count_of(requests: Requests) -> int:
    """Return how many requests a batch holds (``len`` of a named tuple counts its fields)."""
    return int(requests.arrival_ns.size)


def _columns(requests: Requests) -> list[NDArray[Any]]:
    """Return the columns without their several types."""
    return list(requests)


def part(requests: Requests, start: int, stop: int) -> Requests:
    """Return the requests ``start`` up to ``stop`` as views."""
    return Requests(*(column[start:stop] for column in _columns(requests)))


def until(requests: Requests, end_ns: int) -> tuple[Requests, Requests]:
    """Split a batch into what arrives before ``end_ns`` and the rest."""
    cut = int(np.searchsorted(requests.arrival_ns, end_ns, side="left"))
    return part(requests, 0, cut), part(requests, cut, count_of(requests))


def concat(batches: Sequence[Requests]) -> Requests:
    """Join batches in the order given; the caller answers for the order of arrivals."""
    if not batches:
        return no_requests()
    if len(batches) == 1:
        return batches[0]
    return Requests(*(np.concatenate(columns) for columns in zip(*map(_columns, batches), strict=True)))


def merge(batches: Sequence[Requests]) -> Requests:
    """Join sorted batches into one sorted batch; at equal arrivals the earlier batch goes first."""
    filled = [batch for batch in batches if count_of(batch)]
    joined = concat(filled)
    if len(filled) <= 1:
        return joined
    order = np.argsort(joined.arrival_ns, kind="stable")
    return Requests(*(column[order] for column in _columns(joined)))


def rebatch(batches: Iterable[Requests], batch_rows: int) -> Iterator[Requests]:
    """Yield the same requests in batches of ``batch_rows``; only the last may be shorter."""
    waiting: list[Requests] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += count_of(batch)
        if rows < batch_rows:
            continue
        joined = concat(waiting)
        whole = rows - rows % batch_rows
        for start in range(0, whole, batch_rows):
            yield part(joined, start, start + batch_rows)
        waiting = [part(joined, whole, rows)]
        rows -= whole
    if rows:
        yield concat(waiting)


def check_requests(requests: Requests, name: str) -> None:
    """Check that arrivals are sorted and not negative, and that each request has tokens.

    Raises
    ------
    InputError
        With one fault for each rule that is broken; ``row`` is the first request that breaks it (0 is the first).
    """
    unsorted = np.zeros(count_of(requests), dtype=bool)
    unsorted[1:] = np.diff(requests.arrival_ns) < 0
    rules = [
        ("arrival_ns", requests.arrival_ns < 0, "the arrival is negative", "Count arrivals from the start."),
        ("arrival_ns", unsorted, "the arrival is earlier than the one before", "Sort by arrival."),
        ("input_tokens", requests.input_tokens < 1, "there is no input token", "Leave such requests out."),
        ("output_tokens", requests.output_tokens < 1, "there is no output token", "Leave such requests out."),
    ]
    faults = [
        Fault(name, problem, mend, row=f"request {int(broken.argmax())}", column=column)
        for column, broken, problem, mend in rules
        if broken.any()
    ]
    if faults:
        raise InputError(faults)
