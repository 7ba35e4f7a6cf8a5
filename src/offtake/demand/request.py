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

Bools = NDArray[np.bool_]


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


ROWS_AHEAD = 524_288  #: requests that wait to be merged, above which no stream is read ahead
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


def chosen(requests: Requests, keep: Bools) -> Requests:
    """Return the requests that ``keep[request]`` marks."""
    return Requests(*(column[keep] for column in _columns(requests)))


def reordered(requests: Requests, order: NDArray[np.int64]) -> Requests:
    """Return the requests in another order, or the same ones repeated: ``order[place]`` is the row that goes there."""
    return Requests(*(column[order] for column in _columns(requests)))


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
    if len(filled) <= 1:
        return concat(filled)
    order = np.argsort(np.concatenate([batch.arrival_ns for batch in filled]), kind="stable")
    return Requests(*(_gathered(columns, order) for columns in zip(*map(_columns, filled), strict=True)))


def _gathered(columns: Sequence[NDArray[Any]], order: NDArray[np.int64]) -> NDArray[Any]:
    """Join columns and bring them in order; one that holds a single value needs no moving."""
    value = columns[0][0]
    if all(column[-1] == value and (column == value).all() for column in columns):
        return np.full(order.size, value, dtype=columns[0].dtype)
    return np.asarray(np.concatenate(columns)[order])


def merge_streams(streams: Sequence[Iterable[Requests]]) -> Iterator[Requests]:
    """Yield several sorted streams as one; at equal arrivals the earlier stream goes first, however they are cut.

    Memory holds a batch of each stream, and a second of some: without it, streams that are cut alike would be merged
    in crumbs.
    """
    waiting = [_Waiting(stream) for stream in streams]
    while unread := [stream for stream in waiting if stream.more]:
        filled = [stream for stream in waiting if stream.batches]
        if filled == unread and len(unread) == 1:
            yield from unread[0].batches
            yield from filter(count_of, unread[0].source)
            return
        end_ns = min(stream.last_ns for stream in unread)
        taken = [batch for stream in waiting for batch in stream.take(end_ns)]
        if taken:
            yield merge(taken)
        latest_ns = max(stream.last_ns for stream in unread)
        rows = sum(count_of(batch) for stream in waiting for batch in stream.batches)
        for stream in unread:
            behind = stream.last_ns < latest_ns and len(stream.batches) <= 1 and rows < ROWS_AHEAD
            if stream.last_ns == end_ns or behind:
                stream.advance()
    rest = [batch for stream in waiting for batch in stream.batches]
    if rest:
        yield merge(rest)


class _Waiting:
    """Hold the batches of one stream that are not merged yet; ``more`` says whether others may follow."""

    def __init__(self, source: Iterable[Requests]) -> None:
        self.source = iter(source)
        self.batches: list[Requests] = []
        self.last_ns = 0
        self.advance()

    def advance(self) -> None:
        """Read the next batch that is not empty."""
        batch = next(filter(count_of, self.source), None)
        self.more = batch is not None
        if batch is not None:
            self.batches.append(batch)
            self.last_ns = int(batch.arrival_ns[-1])

    def take(self, end_ns: int) -> list[Requests]:
        """Take what arrives before ``end_ns``."""
        parts = [until(batch, end_ns) for batch in self.batches]
        self.batches = [rest for _, rest in parts if count_of(rest)]
        return [taken for taken, _ in parts if count_of(taken)]


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
