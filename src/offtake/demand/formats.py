"""Know the public forms of a trace: which columns mean what, and what is wrong with a batch of rows.

Comes in: a frame of raw rows as some file holds them. Goes out: requests, and a fault for each row that
cannot be one. It must never open a file.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offtake.demand.cells import INT16_MAX, NO_TOKEN, Bools, Cells, FaultList
from offtake.demand.keys import UNKNOWN, Keys, Names
from offtake.demand.request import Requests, requests_of
from offtake.demand.turns import TurnReader
from offtake.errors import Fault, InputError
from offtake.schema.read import nearest
from offtake.units import NS_PER_MS, NS_PER_S

ARRIVAL_S_MAX = 2**62 / NS_PER_S  # about 146 years: beyond it nanoseconds no longer fit
KEYS = ("workload", "region", "tenant")
TURNS = ("session", "turn", "shared_tokens", "think_s", "hash_ids")
NOTHING_NAMED = Names()

FormatName = Literal["tidy", "outcome", "azure", "mooncake", "burstgpt"]


class Binding(NamedTuple):
    """Say what a trace is read for: the names that it may hold, its one ``workload`` (None: as its column says).

    ``context_tokens_max[workload]`` is the most tokens that prompt and answer may have together; empty for no limit.
    """

    names: Names = NOTHING_NAMED
    workload: int | None = None
    context_tokens_max: tuple[int, ...] = ()


class TraceFormat(NamedTuple):
    """Say which columns of a file hold the arrival, the tokens, and perhaps who asks and what went before.

    ``ns_per_unit`` turns the arrival into nanoseconds; 0 means a calendar time, counted from the first row.
    ``drops_failures`` says that a row with 0 output tokens is a failed request, dropped and counted.
    """

    name: str
    arrival: str
    input_tokens: str
    output_tokens: str
    ns_per_unit: int
    drops_failures: bool = False
    optional: tuple[str, ...] = ("hash_ids",)

    @property
    def required(self) -> tuple[str, str, str]:
        """Return the columns that a file of this form must have."""
        return (self.arrival, self.input_tokens, self.output_tokens)


FORMATS = {
    "tidy": TraceFormat("tidy", "arrival_s", "input_tokens", "output_tokens", NS_PER_S, optional=(*KEYS, *TURNS)),
    "outcome": TraceFormat("outcome", "arrival_ns", "input_tokens", "output_tokens", 1, optional=(*KEYS, *TURNS)),
    "azure": TraceFormat("azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", 0),
    "mooncake": TraceFormat("mooncake", "timestamp", "input_length", "output_length", NS_PER_MS),
    "burstgpt": TraceFormat(
        "burstgpt", "Timestamp", "Request tokens", "Response tokens", NS_PER_S, drops_failures=True
    ),
}


def detect(columns: list[str], file: str, wanted: str | None) -> TraceFormat:
    """Return the form whose columns the file has, or the one asked for.

    Raises
    ------
    InputError
        With a fault for each column that is missing, measured against the nearest form.
    """
    if wanted is not None and wanted not in FORMATS:
        raise InputError([Fault(file, "there is no such trace format", f"Known: {', '.join(FORMATS)}.", value=wanted)])
    forms = [FORMATS[wanted]] if wanted is not None else list(FORMATS.values())
    best = min(forms, key=lambda form: (sum(name not in columns for name in form.required), -_likeness(form, columns)))
    missing = [name for name in best.required if name not in columns]
    if missing:
        what = f"the column is missing (read as format {best.name!r}, which needs {', '.join(best.required)})"
        others = [name for name in columns if name not in best.required]
        raise InputError([Fault(file, what, _nearest(name, others, columns), column=name) for name in missing])
    return best


def _likeness(form: TraceFormat, columns: list[str]) -> int:
    """Count the columns of a form for which the file has something alike."""
    lower = [name.lower() for name in columns]
    return sum(bool(get_close_matches(name.lower(), lower, n=1)) for name in form.required)


def _nearest(name: str, others: list[str], columns: list[str]) -> str:
    """Return a mend that names the nearest of the columns that are not needed, or what the file has."""
    lower = {column.lower(): column for column in others}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    if close:
        return f"Rename {lower[close[0]]!r} to {name!r}, or give the format."
    return f"Add it, or give the format ({', '.join(FORMATS)}); the file has {', '.join(columns[:10])}."


class Reader:
    """Turn raw frames of one file into requests, batch after batch, and remember what is wrong.

    ``first_row`` is the number of the file's first row of data as a person counts it; ``names`` are what its columns
    ``workload``, ``region`` and ``tenant`` may hold, and ``context_tokens_max[workload]`` what a request may.
    """

    def __init__(self, form: TraceFormat, file: str, first_row: int, binding: Binding) -> None:
        self.form = form
        self.binding = binding
        self.faults = FaultList(file)
        self.row = first_row
        self.rows_read = 0
        self.rows_dropped = 0
        self.start_ns: int | None = None
        self.last_ns = 0
        self.keys = {name: Keys(known, INT16_MAX) for name, known in binding.names._asdict().items()}
        self.turns = TurnReader()

    def read(self, frame: pl.DataFrame) -> Requests:
        """Return the requests of a frame whose columns are those of the form; faulty rows are remembered."""
        cells = Cells(frame, self.row + np.arange(frame.height), self.faults)
        self.row += frame.height
        self.rows_read += frame.height
        output, output_fine = cells.whole(self.form.output_tokens, 0)
        if self.form.drops_failures:
            kept = ~(output_fine & (output == 0))
            self.rows_dropped += int(frame.height - kept.sum())
            cells, output, output_fine = cells.kept(kept), output[kept], output_fine[kept]
        cells.refuse(self.form.output_tokens, output_fine & (output < 1), NO_TOKEN)
        tokens, _ = cells.whole(self.form.input_tokens, 1)
        batch = requests_of(self._arrivals(cells), tokens.astype(np.int32), output.astype(np.int32))
        workload, region, tenant = (self._index(cells, name) for name in KEYS)
        batch = batch._replace(workload=workload, region=region, tenant=tenant)
        self._check_context(cells, batch)
        return self.turns.read(cells, batch)

    def _arrivals(self, cells: Cells) -> NDArray[np.int64]:
        """Return arrivals in ns from the start, and refuse what is missing, negative or out of order."""
        name = self.form.arrival
        arrival_ns, fine = self._calendar(cells.frame) if self.form.ns_per_unit == 0 else self._counted(cells)
        cells.refuse(name, ~fine, NOT_A_CALENDAR_TIME if self.form.ns_per_unit == 0 else NOT_A_TIME)
        arrival_ns = np.where(fine, arrival_ns, self.last_ns)
        before = (
            np.concatenate([[self.last_ns], np.maximum.accumulate(arrival_ns)[:-1]]) if arrival_ns.size else arrival_ns
        )
        negative = arrival_ns < 0
        if self.form.ns_per_unit:
            cells.refuse(name, negative, BEFORE_START)
        cells.refuse(name, fine & (arrival_ns < before) & ~(negative & (self.form.ns_per_unit > 0)), UNSORTED)
        if arrival_ns.size:
            self.last_ns = int(max(before[-1], arrival_ns[-1]))
        return arrival_ns

    def _counted(self, cells: Cells) -> tuple[NDArray[np.int64], Bools]:
        """Return arrivals that count from the start, and which of them can be read."""
        raw = cells.frame[self.form.arrival]
        if self.form.ns_per_unit == 1 and raw.dtype.is_integer():
            return raw.fill_null(0).to_numpy().astype(np.int64), raw.is_not_null().to_numpy()
        number = cells.number(self.form.arrival)
        fine = np.isfinite(number)
        fine &= np.abs(np.where(fine, number, 0.0)) <= ARRIVAL_S_MAX * NS_PER_S / self.form.ns_per_unit
        return np.rint(np.where(fine, number, 0.0) * self.form.ns_per_unit).astype(np.int64), fine

    def _calendar(self, frame: pl.DataFrame) -> tuple[NDArray[np.int64], Bools]:
        """Return arrivals given as calendar times (UTC), counted from the first that can be read."""
        raw = frame[self.form.arrival].cast(pl.String).str.strip_chars().str.replace(r"(Z|\+00:?00)$", "")
        raw = raw.str.replace("T", " ", literal=True)
        time = raw.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False)
        fine = time.is_not_null().to_numpy()
        time_ns = time.cast(pl.Int64).fill_null(0).to_numpy()
        if self.start_ns is None and fine.any():
            self.start_ns = int(time_ns[fine.argmax()])
        return time_ns - (self.start_ns or 0), fine

    def _index(self, cells: Cells, name: str) -> NDArray[np.int16]:
        """Return the numbers of an optional column of names or numbers; each value that is not known is a fault."""
        if not cells.has(name):
            return np.zeros(cells.rows.size, dtype=np.int16)
        number = self.keys[name].read(cells.frame[name])
        unknown = number == UNKNOWN
        known = self.binding.names._asdict()[name]
        for value in cells.frame[name].filter(pl.Series(unknown)).unique(maintain_order=True).to_list():
            mend = nearest(str(value), known) if known else f"Write a name, or a number from 0 to {INT16_MAX}."
            same = cells.frame[name].eq_missing(value).to_numpy()
            cells.refuse(name, same, (f"there is no such {name}", mend))
        return np.where(unknown, 0, number).astype(np.int16)

    def _check_context(self, cells: Cells, batch: Requests) -> None:
        """Refuse requests that are longer than what their workload's model can hold."""
        limits = np.array(self.binding.context_tokens_max, dtype=np.int64)
        if not limits.size:
            return
        bound = self.binding.workload
        workload = batch.workload if bound is None else np.full(cells.rows.size, bound, dtype=np.int16)
        room = limits[workload]
        for limit in np.unique(room).tolist():
            tokens = batch.input_tokens.astype(np.int64) + batch.output_tokens
            mend = f"Leave the request out, or cut it: prompt and answer may have {limit} tokens together."
            say = ("the request is longer than the model's context", mend)
            cells.refuse(self.form.input_tokens, (room == limit) & (tokens > limit), say)


NOT_A_TIME = ("this is not a time in range", "Write a number such as 12.5, counted from the start of the trace.")
NOT_A_CALENDAR_TIME = ("this is not a time", "Write UTC times such as 2023-11-16 18:15:46.680590.")
BEFORE_START = ("the arrival is before the start of the trace", "Count arrivals from the first request.")
UNSORTED = ("the arrival is earlier than one above it", "Sort the file by arrival.")
