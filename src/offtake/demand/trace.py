"""Read traces batch by batch, however large, and write them in one common form.

Comes in: Parquet, CSV or JSON lines in a known form (see ``formats.py``). Goes out: batches of
:class:`~offtake.demand.request.Requests`; or a tidy Parquet file. Memory holds a few batches, whatever the
size of the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import polars as pl
from polars.io.plugins import register_io_source

from offtake.demand.formats import Binding, FormatName, Reader, detect
from offtake.demand.request import OPEN, Requests, count_of
from offtake.errors import Fault, InputError
from offtake.units import NS_PER_S

BATCH_ROWS = 262_144
LINE_BYTES_MAX = 16_777_216
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
PARQUET_SUFFIXES = {".parquet", ".pq"}
TIDY = {
    "arrival_s": pl.Float64,
    "input_tokens": pl.Int32,
    "output_tokens": pl.Int32,
    "workload": pl.Int16,
    "region": pl.Int16,
    "tenant": pl.Int16,
    "session": pl.Int32,
    "shared_tokens": pl.Int32,
    "think_s": pl.Float64,
}
AS_IT_IS = Binding()
LISTS: dict[str, pl.DataType] = {"hash_ids": pl.List(pl.Int64())}  #: the columns of lists that JSON lines may hold


class TraceReader(Iterator[Requests]):
    """Yield the batches of one trace; ``rows_read`` and ``rows_dropped`` count as it goes; the file has ``columns``.

    Failed requests of BurstGPT (0 response tokens) are dropped and counted. A row that cannot be a request is
    a fault: from the first faulty batch on nothing more is yielded, the rest of the file is still checked, and
    every fault is raised together at its end.
    """

    def __init__(self, path: Path, form: FormatName | None, batch_rows: int, binding: Binding) -> None:
        self.path = path
        lazy, columns, first_row = _scan(path)
        self.columns = frozenset(columns)
        self.form = detect(columns, path.name, form)
        self._reader = Reader(self.form, path.name, first_row, binding)
        wanted = [*self.form.required, *(name for name in self.form.optional if name in columns)]
        self._frames = _frames(lazy.select(wanted), batch_rows, path)

    @property
    def rows_read(self) -> int:
        """Return the rows read so far."""
        return self._reader.rows_read

    @property
    def rows_dropped(self) -> int:
        """Return the failed requests dropped so far."""
        return self._reader.rows_dropped

    def __next__(self) -> Requests:
        for frame in self._frames:
            batch = self._reader.read(frame)
            if not self._reader.faults.total and count_of(batch):
                return batch
        self._reader.faults.raise_if_any()
        if self._reader.rows_read == self._reader.rows_dropped:
            mend = "Give a file with at least one request that was served."
            raise InputError([Fault(self.path.name, "the trace holds no request", mend)])
        raise StopIteration


def read_trace(
    path: Path, batch_rows: int = BATCH_ROWS, form: FormatName | None = None, binding: Binding = AS_IT_IS
) -> TraceReader:
    """Open a trace and yield its requests in batches of at most ``batch_rows``.

    The form (``tidy``, ``outcome``, ``azure``, ``mooncake``, ``burstgpt``) is told from the columns unless given.
    ``binding`` gives the names that its columns may hold and the longest request; without one, names are numbered
    in the order they appear. ``row`` in a fault counts as a spreadsheet does (the header is row 1); in JSON lines
    it is the line.

    Raises
    ------
    InputError
        At once when the file cannot be read or lacks a column; while reading, at the end of the file, with the
        first twenty faults and the number of the rest.
    """
    return TraceReader(path, form, batch_rows, binding)


def write_trace(path: Path, batches: Iterable[Requests]) -> int:
    """Write batches as tidy Parquet, whole or not at all, and return the number of requests.

    Columns: ``arrival_s`` (from the start; exact to the nanosecond for 104 days, to two beyond), ``input_tokens``,
    ``output_tokens``, ``workload``, ``region``, ``tenant``, ``session`` (-1: none), ``shared_tokens``, and ``think_s``
    (nothing: the request comes at its own time).
    """
    temporary = path.with_name(path.name + ".part")
    source = _Source(batches)
    try:
        lazy = register_io_source(source.frames, schema=TIDY)
        lazy.sink_parquet(temporary, compression="zstd")
    except pl.exceptions.PolarsError:
        temporary.unlink(missing_ok=True)
        raise source.error or OSError(f"the trace cannot be written: {path}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)
    return source.rows


class _Source:
    """Hand batches to the writer as frames, and keep the error that broke off, if one did."""

    def __init__(self, batches: Iterable[Requests]) -> None:
        self.batches = batches
        self.rows = 0
        self.error: Exception | None = None

    def frames(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield one frame per batch; the writer asks for all rows and all columns."""
        del with_columns, predicate, n_rows, batch_size
        try:
            for batch in self.batches:
                self.rows += count_of(batch)
                think_s = pl.Series(batch.think_ns / NS_PER_S).set(pl.Series(batch.think_ns == OPEN), None)
                columns = (batch.arrival_ns / NS_PER_S, *batch[1:8], think_s)
                yield pl.DataFrame(dict(zip(TIDY, columns, strict=True)), schema=TIDY)
        except Exception as error:
            self.error = error
            raise


def _scan(path: Path) -> tuple[pl.LazyFrame, list[str], int]:
    """Open a file lazily: the query, its columns, and the number of its first row of data."""
    try:
        with path.open("rb") as file:
            head = file.readline(LINE_BYTES_MAX)
    except OSError as error:
        mend = "Give the path of a trace: Parquet, CSV or JSON lines."
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", mend)]) from None
    if not head.strip():
        raise InputError([Fault(path.name, "the file is empty", "Give a file with a header and requests.")])
    try:
        if head.startswith(b"PAR1") or path.suffix.lower() in PARQUET_SUFFIXES:
            lazy, first_row = pl.scan_parquet(path, glob=False), 2
        elif _is_json(path, head):
            names = list(msgspec.json.decode(head, type=dict[str, object]))
            schema: dict[str, pl.DataType] = dict.fromkeys(names, pl.String()) | LISTS
            lazy, first_row = pl.scan_ndjson(path, schema={name: schema[name] for name in names}), 1
        else:
            lazy, first_row = pl.scan_csv(path, infer_schema=False, glob=False), 2
        return lazy, lazy.collect_schema().names(), first_row
    except (pl.exceptions.PolarsError, msgspec.MsgspecError) as error:
        raise _unreadable(path, error) from None


def _is_json(path: Path, head: bytes) -> bool:
    """Tell whether a file holds JSON lines, by its name or its first line."""
    return path.suffix.lower() in JSON_SUFFIXES or head.lstrip().startswith(b"{")


def _frames(lazy: pl.LazyFrame, batch_rows: int, path: Path) -> Iterator[pl.DataFrame]:
    """Yield the frames of a query in order, at most ``batch_rows`` rows each."""
    try:
        for frame in lazy.collect_batches(chunk_size=batch_rows, maintain_order=True, lazy=True, engine="streaming"):
            for start in range(0, frame.height, batch_rows):
                yield frame.slice(start, batch_rows)
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    """Return the fault of a file that is not what its name says, with its first broken row where that can be told."""
    text = str(error).strip().splitlines()
    problem = f"the file cannot be read as a trace: {text[0] if text else type(error).__name__}"
    mend = "Check that the file is whole; in CSV each row has as many cells as the header."
    return InputError([Fault(path.name, problem, mend, _first_broken_row(path))])


def _first_broken_row(path: Path) -> int | None:
    """Return the first row with more cells than the header, or the first line that is not JSON; None for Parquet."""
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return None
    with path.open("r", encoding="utf-8-sig", errors="replace", newline="") as lines:
        head = lines.readline()
        lines.seek(0)
        if _is_json(path, head.encode()):
            return next((row for row, line in enumerate(lines, start=1) if not _is_object(line)), None)
        cells = len(next(csv.reader([head]), []))
        return next((row for row, given in enumerate(csv.reader(lines), start=1) if len(given) > cells), None)


def _is_object(line: str) -> bool:
    """Tell whether a line holds one JSON object."""
    try:
        msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return False
    return True
