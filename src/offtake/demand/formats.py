"""Know the public forms of a trace: which columns mean what, and what is wrong with a batch of rows.

Comes in: a frame of raw rows as some file holds them. Goes out: requests, and a fault for each row that
cannot be one. It must never open a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offtake.demand.request import Requests, requests_of
from offtake.errors import Fault, InputError
from offtake.units import NS_PER_MS, NS_PER_S

FAULTS_LISTED_MAX = 20
INT32_MAX, INT16_MAX = 2**31 - 1, 2**15 - 1
ARRIVAL_S_MAX = 2**62 / NS_PER_S  # about 146 years: beyond it nanoseconds no longer fit

Bools = NDArray[np.bool_]
FormatName = Literal["tidy", "azure", "mooncake", "burstgpt"]


class TraceFormat(NamedTuple):
    """Say which columns of a file hold the arrival, the tokens, and perhaps the workload and region.

    ``ns_per_unit`` turns the arrival into nanoseconds; 0 means a calendar time, counted from the first row.
    ``drops_failures`` says that a row with 0 output tokens is a failed request, dropped and counted.
    """

    name: str
    arrival: str
    input_tokens: str
    output_tokens: str
    ns_per_unit: int
    drops_failures: bool = False
    optional: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, str, str]:
        """Return the columns that a file of this form must have."""
        return (self.arrival, self.input_tokens, self.output_tokens)


FORMATS = {
    "tidy": TraceFormat(
        "tidy", "arrival_s", "input_tokens", "output_tokens", NS_PER_S, optional=("workload", "region")
    ),
    "azure": TraceFormat("azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", 0),
    "mooncake": TraceFormat("mooncake", "timestamp", "input_length", "output_length", NS_PER_MS),
    "burstgpt": TraceFormat(
        "burstgpt", "Timestamp", "Request tokens", "Response tokens", NS_PER_S, drops_failures=True
    ),
}


@dataclass
class FaultList:
    """Gather the faults of one file: the first twenty in full, the rest as a count."""

    file: str
    listed: list[Fault] = field(default_factory=list)
    total: int = 0

    def add(self, rows: Iterable[int], column: str, values: pl.Series, say: tuple[str, str]) -> None:
        """Add a fault (problem, mend) for each row."""
        for place, row in enumerate(rows):
            self.total += 1
            if len(self.listed) < FAULTS_LISTED_MAX:
                value = None if values[place] is None else str(values[place])
                self.listed.append(Fault(self.file, say[0], say[1], row, column, value))

    def raise_if_any(self) -> None:
        """Raise the faults gathered, if there are any."""
        if not self.total:
            return
        listed = sorted(self.listed, key=lambda fault: int(fault.row or 0))
        rest = self.total - len(listed)
        more = [Fault(self.file, f"{rest} more faults are not listed", "Mend these first.")] if rest else []
        raise InputError(listed + more)


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
        raise InputError([Fault(file, what, _nearest(name, columns), column=name) for name in missing])
    return best


def _likeness(form: TraceFormat, columns: list[str]) -> int:
    """Count the columns of a form for which the file has something alike."""
    lower = [name.lower() for name in columns]
    return sum(bool(get_close_matches(name.lower(), lower, n=1)) for name in form.required)


def _nearest(name: str, columns: list[str]) -> str:
    """Return a mend that names the nearest column of the file."""
    lower = {column.lower(): column for column in columns}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    if close:
        return f"Rename {lower[close[0]]!r} to {name!r}, or give the format."
    return f"Add it, or give the format ({', '.join(FORMATS)}); the file has {', '.join(columns[:10])}."


class Reader:
    """Turn raw frames of one file into requests, batch after batch, and remember what is wrong.

    ``first_row`` is the number of the file's first row of data as a person counts it.
    """

    def __init__(self, form: TraceFormat, file: str, first_row: int) -> None:
        self.form = form
        self.faults = FaultList(file)
        self.row = first_row
        self.rows_read = 0
        self.rows_dropped = 0
        self.start_ns: int | None = None
        self.last_ns = 0

    def read(self, frame: pl.DataFrame) -> Requests:
        """Return the requests of a frame whose columns are those of the form; faulty rows are remembered."""
        rows = self.row + np.arange(frame.height)
        self.row += frame.height
        self.rows_read += frame.height
        output, output_fine = self._whole(frame, self.form.output_tokens, rows, 0)
        if self.form.drops_failures:
            kept = ~(output_fine & (output == 0))
            self.rows_dropped += int(frame.height - kept.sum())
            frame, rows = frame.filter(pl.Series(kept)), rows[kept]
            output, output_fine = output[kept], output_fine[kept]
        self._refuse(frame, self.form.output_tokens, rows, output_fine & (output < 1), NO_TOKEN)
        tokens, _ = self._whole(frame, self.form.input_tokens, rows, 1)
        arrival_ns = self._arrivals(frame, rows)
        workload, region = (self._index(frame, name, rows) for name in ("workload", "region"))
        batch = requests_of(arrival_ns, tokens.astype(np.int32), output.astype(np.int32))
        return batch._replace(workload=workload, region=region)

    def _whole(
        self, frame: pl.DataFrame, name: str, rows: NDArray[np.int64], least: int
    ) -> tuple[NDArray[np.float64], Bools]:
        """Return a column of whole numbers and which of them are fine; the others count as 0."""
        raw = frame[name]
        number = raw.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(number) & (np.floor(number) == number) & (np.abs(number) <= INT32_MAX)
        negative = whole & (number < min(least, 0))
        self._refuse(frame, name, rows, ~whole, NOT_WHOLE)
        self._refuse(frame, name, rows, negative, NEGATIVE)
        self._refuse(frame, name, rows, whole & ~negative & (number < least), NO_TOKEN)
        return np.where(whole, number, 0.0), whole & ~negative

    def _arrivals(self, frame: pl.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return arrivals in ns from the start, and refuse what is missing, negative or out of order."""
        name = self.form.arrival
        arrival_ns, fine = self._calendar(frame) if self.form.ns_per_unit == 0 else self._counted(frame)
        self._refuse(frame, name, rows, ~fine, NOT_A_CALENDAR_TIME if self.form.ns_per_unit == 0 else NOT_A_TIME)
        arrival_ns = np.where(fine, arrival_ns, self.last_ns)
        before = (
            np.concatenate([[self.last_ns], np.maximum.accumulate(arrival_ns)[:-1]]) if arrival_ns.size else arrival_ns
        )
        negative = arrival_ns < 0
        if self.form.ns_per_unit:
            self._refuse(frame, name, rows, negative, BEFORE_START)
        self._refuse(frame, name, rows, (arrival_ns < before) & ~(negative & (self.form.ns_per_unit > 0)), UNSORTED)
        if arrival_ns.size:
            self.last_ns = int(max(before[-1], arrival_ns[-1]))
        return arrival_ns

    def _counted(self, frame: pl.DataFrame) -> tuple[NDArray[np.int64], Bools]:
        """Return arrivals that count from the start, and which of them can be read."""
        number = frame[self.form.arrival].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
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

    def _index(self, frame: pl.DataFrame, name: str, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return an optional column of indices; 0 where the file has none."""
        if name not in frame.columns:
            return np.zeros(frame.height, dtype=np.int16)
        number, fine = self._whole(frame, name, rows, 0)
        self._refuse(frame, name, rows, fine & (number > INT16_MAX), NOT_WHOLE)
        return np.clip(number, 0, INT16_MAX).astype(np.int16)

    def _refuse(
        self, frame: pl.DataFrame, name: str, rows: NDArray[np.int64], broken: Bools, say: tuple[str, str]
    ) -> None:
        """Remember a fault for each broken row; a value that is not there is called missing."""
        missing = frame[name].is_null().to_numpy()
        for wrong, words in ((broken & missing, MISSING), (broken & ~missing, say)):
            if wrong.any():
                self.faults.add(rows[wrong].tolist(), name, frame[name].filter(pl.Series(wrong)), words)


MISSING = ("the value is missing", "Give it, or leave the request out.")
NO_TOKEN = ("a request needs at least one token", "Leave out requests that failed or made nothing.")
NOT_WHOLE = ("this is not a whole number in range", "Write a count such as 1024.")
NEGATIVE = ("a count cannot be negative", "Write a count such as 1024.")
NOT_A_TIME = ("this is not a time in range", "Write a number such as 12.5, counted from the start of the trace.")
NOT_A_CALENDAR_TIME = ("this is not a time", "Write UTC times such as 2023-11-16 18:15:46.680590.")
BEFORE_START = ("the arrival is before the start of the trace", "Count arrivals from the first request.")
UNSORTED = ("the arrival is earlier than one above it", "Sort the file by arrival.")
