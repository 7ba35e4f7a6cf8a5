"""Read what was measured of a deployment: a benchmark's rows, or the ledger of its requests.

Comes in: a CSV with one row per benchmark run, or a CSV or Parquet file with one row per request. Goes out: one
:class:`Point` per run or per window of the ledger, in the words of one replica, or every fault of the file at once.
A benchmark names its columns as vLLM's ``benchmark_serving`` and InferenceX do; :data:`COLUMNS` lists them. This module
must never know a step table or a simulation.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from offtake.errors import Fault, InputError
from offtake.units import MS_PER_S, NS_PER_MS, NS_PER_S

Floats = npt.NDArray[np.float64]

FAULTS_LISTED_MAX = 20
STATISTICS = {"mean": -1.0, "p50": 0.5, "p95": 0.95, "p99": 0.99}  #: quantile of each; the mean has none
WINDOWS_MAX = 12  #: of a ledger (assumption: enough to see load change, few enough to hold many requests each)
WINDOW_REQUESTS_MIN = 200  #: requests of a window (assumption)

#: Columns of a benchmark: canonical name, other names, what it means. ``TTFT`` and ``TPOT`` come as mean or percentile.
COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "deployment": (("name", "config"), "name of the deployment; one calibrated table is made for each"),
    "table": (("step_table",), "step table to start from; the option --table by default"),
    "backend_version": (("version", "engine_version"), "version of the serving engine"),
    "input_tokens": (("isl", "input_len", "random_input_len"), "longest prompt, tokens"),
    "output_tokens": (("osl", "output_len", "random_output_len"), "longest answer, tokens"),
    "length_ratio_min": (("random_range_ratio",), "shortest length over the longest, 0.8 in InferenceX; 1 by default"),
    "concurrency": (("max_concurrency", "conc", "silicon_concurrency"), "requests kept in flight; or rate_rps"),
    "rate_rps": (("request_rate", "rate"), "requests a second, Poisson; or concurrency"),
    "replicas": (("data_parallel",), "replicas that share this load; 1 by default"),
    "output_tokens_per_s": (("output_throughput", "throughput"), "all replicas; gives TPOT where that is missing"),
    **{
        f"{metric}_ms_{statistic}": (
            (
                f"{'median' if statistic == 'p50' else statistic}_{metric}_ms",
                f"{statistic}_{metric}_ms",
                *((f"{metric}_ms", f"silicon_{metric}_ms") if statistic == "mean" else ()),
            ),
            f"{statistic} {'time to first token' if metric == 'ttft' else 'time per output token after the first'}, ms",
        )
        for metric in ("ttft", "tpot")
        for statistic in STATISTICS
    },
}
TEXTS = ("deployment", "table", "backend_version")
LEDGER = ("arrival", "input_tokens", "output_tokens", "ttft_ms", "e2e_ms")


class Load(NamedTuple):
    """Say what one replica was asked: ``concurrency`` requests in flight, or ``rate_rps`` where that is 0.

    Lengths are uniform in ``length_ratio_min`` to 1 of ``input_tokens`` and ``output_tokens``.
    """

    input_tokens: float
    output_tokens: float
    concurrency: float = 0.0
    rate_rps: float = 0.0
    length_ratio_min: float = 1.0


class Point(NamedTuple):
    """Hold one measurement of a deployment: its load, TTFT and TPOT (ms), which statistic they are, and its row."""

    load: Load
    ttft_ms: float
    tpot_ms: float
    ttft_statistic: str = "mean"
    tpot_statistic: str = "mean"
    row: int = 0
    backend_version: str = ""

    @property
    def in_flight(self) -> float:
        """Return the requests in flight; at a given rate, by Little's law from the measured times."""
        if self.load.concurrency > 0:
            return self.load.concurrency
        e2e_ms = self.ttft_ms + self.tpot_ms * max(self.load.output_tokens - 1, 0)
        return max(self.load.rate_rps * e2e_ms / MS_PER_S, 1.0)


class Ledger(NamedTuple):
    """Hold the requests of one replica in order of arrival, and the window of each.

    ``arrival_ns``, ``input_tokens``, ``output_tokens``, ``ttft_ms``, ``tpot_ms``, ``window`` are all [request].
    """

    arrival_ns: npt.NDArray[np.int64]
    input_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    ttft_ms: Floats
    tpot_ms: Floats
    window: npt.NDArray[np.int64]


class Measured(NamedTuple):
    """Hold the points of one deployment, the table that its rows name, and the ledger they come from, if one does."""

    deployment: str
    table: str
    points: tuple[Point, ...]
    ledger: Ledger | None = None


def read_measured(path: Path, replicas: int = 1, pool: str = "") -> list[Measured]:
    """Read a benchmark or a ledger; a file with a column ``arrival_ns`` or ``arrival_s`` is a ledger.

    ``replicas``: how many shared the ledger's requests; every so-many-th request stands for one replica's load.
    ``pool``: which pool's requests to take, where a ledger holds several.

    Raises
    ------
    InputError
        With the first twenty faults of the file and the number of the rest.
    """
    frame = _frame(path)
    if any(name.startswith("arrival") for name in frame.columns):
        return [_ledger(path, _of_pool(path.name, frame, pool), replicas)]
    return _benchmark(path.name, frame)


def _frame(path: Path) -> pl.DataFrame:
    """Read a file's cells; those of a CSV as text."""
    mend = "Give a CSV (UTF-8, commas) or Parquet file."
    try:
        if path.suffix in {".parquet", ".pq"}:
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema=False)
    except FileNotFoundError:
        raise InputError([Fault(path.name, "there is no such file", mend)]) from None
    except pl.exceptions.PolarsError as error:
        raise InputError([Fault(path.name, f"cannot be read: {str(error).splitlines()[0]}", mend)]) from None


def _benchmark(file: str, frame: pl.DataFrame) -> list[Measured]:
    """Turn the rows of a benchmark into points, by deployment."""
    held = {name: _column(frame, name) for name in COLUMNS}
    faults = _faults_of_columns(file, frame, held)
    if faults:
        raise InputError(faults)
    found: dict[tuple[str, str], list[Point]] = {}
    for index in range(frame.height):
        cells = {name: cell for name, column in held.items() if column and (cell := _cell(frame, column, index))}
        point, wrong = _point(file, cells, index + 2)
        faults += wrong
        if point is not None:
            found.setdefault((cells.get("deployment", ""), cells.get("table", "")), []).append(point)
    _refuse(file, faults)
    return [Measured(name, table, tuple(points)) for (name, table), points in found.items()]


def _column(frame: pl.DataFrame, name: str) -> str:
    """Return the file's name of a column, or nothing."""
    lower = {column.strip().lower(): column for column in frame.columns}
    return next((lower[one] for one in (name, *COLUMNS[name][0]) if one in lower), "")


def _cell(frame: pl.DataFrame, column: str, index: int) -> str:
    """Return the text of a cell; nothing where it is empty."""
    value = frame[column][index]
    return "" if value is None else str(value).strip()


def _faults_of_columns(file: str, frame: pl.DataFrame, held: dict[str, str]) -> list[Fault]:
    """Return a fault for each kind of column that is missing, with the nearest name that the file has."""
    groups = [
        ("input_tokens",),
        ("output_tokens",),
        ("concurrency", "rate_rps"),
        tuple(name for name in COLUMNS if name.startswith("ttft")),
        (*(name for name in COLUMNS if name.startswith("tpot")), "output_tokens_per_s"),
    ]
    faults = []
    if frame.height == 0:
        faults.append(Fault(file, "the file holds no measurement", "Give at least one row below the header."))
    for group in groups:
        if not any(held[name] for name in group):
            near = get_close_matches(group[0], frame.columns, n=1, cutoff=0.4)
            mend = f"Rename {near[0]!r}, or add it." if near else "Add it."
            faults.append(Fault(file, f"there is no column {' or '.join(group)}", mend))
    return faults


def _point(file: str, cells: dict[str, str], row: int) -> tuple[Point | None, list[Fault]]:
    """Return the point of a row, or its faults."""
    numbers = {name: _number(text) for name, text in cells.items() if name not in TEXTS}
    faults = [
        Fault(file, "not a positive number", "Write a number above 0.", row, name, cells[name])
        for name, number in numbers.items()
        if number is None
    ]
    given = {name: number for name, number in numbers.items() if number is not None}
    groups = (("input_tokens",), ("output_tokens",), ("concurrency", "rate_rps"))
    missing = [" or ".join(group) for group in groups if not any(name in cells for name in group)]
    faults += [Fault(file, "a cell is missing", "Fill it in.", row, column) for column in missing]
    if given.get("length_ratio_min", 1.0) > 1:
        faults.append(Fault(file, "the shortest length is above the longest", "Write 1 or less.", row))
    if faults:
        return None, faults
    replicas = given.get("replicas", 1.0)
    lengths = (given["input_tokens"], given["output_tokens"])
    spread = given.get("length_ratio_min", 1.0)
    load = Load(*lengths, given.get("concurrency", 0.0) / replicas, given.get("rate_rps", 0.0) / replicas, spread)
    return _timed(file, load, given, (row, replicas, cells.get("backend_version", "")))


def _timed(
    file: str, load: Load, given: dict[str, float], about: tuple[int, float, str]
) -> tuple[Point | None, list[Fault]]:
    """Add the measured times to a load; TPOT may follow from the throughput."""
    row, replicas, version = about
    ttft = next((name for name in STATISTICS if f"ttft_ms_{name}" in given), "")
    tpot = next((name for name in STATISTICS if f"tpot_ms_{name}" in given), "")
    if not ttft:
        return None, [Fault(file, "no time to first token", "Fill in ttft_ms_mean.", row, "ttft_ms_mean")]
    ttft_ms = given[f"ttft_ms_{ttft}"]
    if tpot:
        return Point(load, ttft_ms, given[f"tpot_ms_{tpot}"], ttft, tpot, row, version), []
    rate = given.get("output_tokens_per_s", 0.0) / replicas
    mean_tokens = load.output_tokens * (1 + load.length_ratio_min) / 2
    if rate > 0 and load.concurrency > 0 and mean_tokens > 1:
        tpot_ms = (load.concurrency * mean_tokens / rate * MS_PER_S - ttft_ms) / (mean_tokens - 1)
        if tpot_ms > 0:
            return Point(load, ttft_ms, tpot_ms, ttft, "mean", row, version), []
    mend = "Fill in tpot_ms_mean, or output_tokens_per_s of a run at a given concurrency."
    return None, [Fault(file, "no time per output token, and none follows", mend, row, "tpot_ms_mean")]


def _number(text: str) -> float | None:
    """Return a positive finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number > 0 and math.isfinite(number) else None


def _refuse(file: str, faults: list[Fault]) -> None:
    """Raise the first faults and the number of the rest, if there are any."""
    rest = len(faults) - FAULTS_LISTED_MAX
    more = [Fault(file, f"{rest} more faults are not listed", "Mend these first.")] if rest > 0 else []
    if faults:
        raise InputError(faults[:FAULTS_LISTED_MAX] + more)


def _of_pool(file: str, frame: pl.DataFrame, pool: str) -> pl.DataFrame:
    """Return the served requests of one pool; a ledger of several must say which."""
    if "status" in frame.columns:
        frame = frame.filter(pl.col("status").cast(pl.String).str.to_lowercase().is_in(["served", "ok", "200"]))
    names = frame["pool"].cast(pl.String).unique().drop_nulls().sort().to_list() if "pool" in frame.columns else []
    if pool and pool not in names:
        raise InputError([Fault(file, "the ledger has no such pool", f"Use one of {', '.join(names)}.", value=pool)])
    if len(names) > 1 and not pool:
        raise InputError([Fault(file, "the ledger holds several pools", f"Give --pool: {', '.join(names)}.")])
    return frame.filter(pl.col("pool").cast(pl.String) == pool) if pool else frame


def _ledger(path: Path, frame: pl.DataFrame, replicas: int) -> Measured:
    """Turn served requests into windows of equal count; each is a point."""
    arrays, faults = _ledger_arrays(path.name, frame)
    _refuse(path.name, faults)
    order = np.argsort(arrays["arrival_ns"], kind="stable")[::replicas]
    count = order.size
    windows = int(np.clip(count // WINDOW_REQUESTS_MIN, 1, WINDOWS_MAX))
    window = np.arange(count) * windows // max(count, 1)
    one = {name: values[order] for name, values in arrays.items()}
    answer = np.maximum(one["output_tokens"] - 1, 1)
    ledger = Ledger(
        (one["arrival_ns"] - one["arrival_ns"][0]).astype(np.int64),
        one["input_tokens"].astype(np.int32),
        one["output_tokens"].astype(np.int32),
        one["ttft_ms"],
        (one["e2e_ms"] - one["ttft_ms"]) / answer,
        window,
    )
    points = tuple(_window_point(ledger, each) for each in range(windows))
    return Measured(path.stem, "", points, ledger)


def _window_point(ledger: Ledger, window: int) -> Point:
    """Return the means of one window, at its mean requests in flight by Little's law."""
    inside = np.flatnonzero(ledger.window == window)
    several = inside[ledger.output_tokens[inside] > 1]
    spent_ms = ledger.ttft_ms[inside] + ledger.tpot_ms[inside] * np.maximum(ledger.output_tokens[inside] - 1, 0)
    span_ms = max(float(np.ptp(ledger.arrival_ns[inside])) / NS_PER_MS, 1.0)
    lengths = (float(ledger.input_tokens[inside].mean()), float(ledger.output_tokens[inside].mean()))
    load = Load(*lengths, max(float(spent_ms.sum()) / span_ms, 1.0))
    tpot_ms = float(ledger.tpot_ms[several].mean()) if several.size else math.nan
    return Point(load, float(ledger.ttft_ms[inside].mean()), tpot_ms, row=int(inside[0]) + 2)


def _ledger_arrays(file: str, frame: pl.DataFrame) -> tuple[dict[str, npt.NDArray[Any]], list[Fault]]:
    """Return the columns of a ledger as numbers, and what is wrong with them."""
    source = {"arrival": "arrival_ns" if "arrival_ns" in frame.columns else "arrival_s"}
    wanted = [(name, source.get(name, name)) for name in LEDGER]
    mend = f"A ledger has arrival_ns or arrival_s, {', '.join(LEDGER[1:])}."
    faults = [Fault(file, f"there is no column {column}", mend) for _, column in wanted if column not in frame.columns]
    if not faults and frame.height == 0:
        faults.append(Fault(file, "the ledger holds no served request", "Give at least one row."))
    if faults:
        return {}, faults
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, column in wanted:
        values = frame[column].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        least = 0.0 if name in {"arrival", "ttft_ms", "e2e_ms"} else 1.0
        for index in np.flatnonzero(~(np.isfinite(values) & (values >= least)))[: FAULTS_LISTED_MAX + 1]:
            cell = str(frame[column][int(index)])
            problem = f"not a number of at least {least:g}"
            faults.append(Fault(file, problem, "Mend or leave out the row.", int(index) + 2, column, cell))
        arrays[name] = values
    if not faults and bool((arrays["e2e_ms"] < arrays["ttft_ms"]).any()):
        index = int(np.argmax(arrays["e2e_ms"] < arrays["ttft_ms"]))
        faults.append(Fault(file, "the last token came before the first", "Mend the row.", index + 2, "e2e_ms"))
    if not faults:
        exact = 1 if source["arrival"] == "arrival_ns" else NS_PER_S
        arrays["arrival_ns"] = (arrays.pop("arrival") * exact).astype(np.int64)
    return arrays, faults
