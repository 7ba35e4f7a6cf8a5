"""Hand the ledger on: as demand to plan and rehearse with, and as performance that was measured.

Comes in: the ledger. Goes out: a tidy trace, and a table that ``offtake performance fit`` reads. Demand is what was
asked for, not what was served: a request that was refused, failed or lost is in the trace with its estimated prompt,
and with the mean answer of its workload. Only the command line imports this module; the router never does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec
import polars as pl

from offtake.errors import Fault, InputError
from offtake.route.ledger.rows import Row
from offtake.route.ledger.span import Span, hour_of_week
from offtake.route.ledger.store import Store
from offtake.units import NS_PER_MS, NS_PER_S

BATCH_ROWS = 100_000
WHOLE = ("served", "left")  #: outcomes whose answer was as long as was wanted

DEMAND = """
SELECT arrival_ns, outcome, input_tokens, input_tokens_estimate, output_tokens, output_tokens_max, cached_tokens,
       workload, region, tenant, session
FROM requests WHERE arrival_ns >= ? AND arrival_ns < ? AND outcome <> 'faulty' AND call <> 'count_tokens'
     AND workload <> '' ORDER BY arrival_ns, request_id
"""
ANSWERS = """
SELECT workload, avg(output_tokens) FROM requests
WHERE arrival_ns >= ? AND arrival_ns < ? AND outcome = 'served' AND call <> 'count_tokens' GROUP BY workload
"""
SERVED = """
SELECT arrival_ns, first_ns, end_ns, input_tokens, output_tokens, attempts, stream, pool, workload
FROM requests WHERE arrival_ns >= ? AND arrival_ns < ? AND outcome = 'served' AND call <> 'count_tokens'
ORDER BY arrival_ns, request_id
"""
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    DEMAND: {
        "arrival_ns": pl.Int64(),
        "outcome": pl.String(),
        "input_tokens": pl.Int64(),
        "input_tokens_estimate": pl.Int64(),
        "output_tokens": pl.Int64(),
        "output_tokens_max": pl.Int64(),
        "cached_tokens": pl.Int64(),
        "workload": pl.String(),
        "region": pl.String(),
        "tenant": pl.String(),
        "session": pl.Int32(),
    },
    SERVED: {
        "arrival_ns": pl.Int64(),
        "first_ns": pl.Int64(),
        "end_ns": pl.Int64(),
        "input_tokens": pl.Int64(),
        "output_tokens": pl.Int64(),
        "attempts": pl.Int64(),
        "stream": pl.Int64(),
        "pool": pl.String(),
        "workload": pl.String(),
    },
}


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was written."""

    requests: int  #: That were written.
    left_out: int  #: That could not be.
    filled: int  #: Whose answer is not known, and was filled in.
    from_hour: float  #: Hour of the week, from Monday 00:00 UTC, at which the first arrived.


def export_trace(store: Store, path: Path, span: Span) -> Exported:
    """Write what was asked for as a tidy trace, which ``offtake rehearse --trace`` reads: Parquet, or CSV by its name.

    ``shared_tokens`` is what the provider says that it had not to read again, of requests that belong to a session.
    Requests at fault (4xx) are no demand. An answer that is not known is the mean of its workload's answers, or as long
    as was asked for where there is none; where neither is known the request is left out.

    Raises
    ------
    InputError
        Where the ledger holds no request of that time.
    """
    frame = _frame(store, DEMAND, span)
    means = {str(name): float(tokens) for name, tokens in store.read(ANSWERS, span)}
    known = pl.col("outcome").is_in(WHOLE)
    mean = pl.col("workload").replace_strict(means, default=None, return_dtype=pl.Float64).round().cast(pl.Int64)
    asked = pl.when(pl.col("output_tokens_max") > 0).then("output_tokens_max")
    usual = pl.coalesce(mean, asked).clip(1)
    told = pl.when(pl.col("input_tokens") > 0).then("input_tokens").otherwise("input_tokens_estimate").clip(1)
    made = frame.with_columns(
        arrival_s=(pl.col("arrival_ns") - pl.col("arrival_ns").first()) / NS_PER_S,
        input_tokens=told,
        output_tokens=pl.when(known)
        .then(pl.col("output_tokens").clip(1))
        .otherwise(pl.when(usual.is_not_null()).then(pl.max_horizontal("output_tokens", usual))),
        shared_tokens=pl.when(pl.col("session") >= 0).then(pl.min_horizontal("cached_tokens", told)).otherwise(0),
    ).drop_nulls("output_tokens")
    columns = ["arrival_s", "input_tokens", "output_tokens", "workload", "region", "tenant", "session", "shared_tokens"]
    _put(made.select(columns), path)
    filled = int(made.select((~known).sum()).item())
    return _exported(frame, made, filled)


def export_performance(store: Store, path: Path, span: Span) -> Exported:
    """Write what was measured, which ``offtake performance fit`` reads: CSV, or Parquet by its name.

    Left out is what does not tell a time to first token of its pool: an answer that was not streamed, or was tried
    more than once. ``ttft_ms`` counts from the arrival at the router.

    Raises
    ------
    InputError
        Where the ledger holds no request of that time that was served.
    """
    frame = _frame(store, SERVED, span)
    clear = (pl.col("stream") == 1) & (pl.col("attempts") == 1) & (pl.col("first_ns") >= pl.col("arrival_ns"))
    whole = (pl.col("end_ns") >= pl.col("first_ns")) & (pl.min_horizontal("input_tokens", "output_tokens") >= 1)
    made = frame.filter(clear & whole).select(
        arrival_ns=pl.col("arrival_ns") - pl.col("arrival_ns").first(),
        input_tokens="input_tokens",
        output_tokens="output_tokens",
        ttft_ms=(pl.col("first_ns") - pl.col("arrival_ns")) / NS_PER_MS,
        e2e_ms=(pl.col("end_ns") - pl.col("arrival_ns")) / NS_PER_MS,
        pool="pool",
        workload="workload",
    )
    _put(made, path)
    return _exported(frame, made, 0)


def _frame(store: Store, sql: str, span: Span) -> pl.DataFrame:
    """Return what a query finds; at least one row."""
    schema = SCHEMAS[sql]
    found = store.read(sql, span)
    parts = [pl.DataFrame(rows, schema=schema, orient="row") for rows in _batches(found)]
    if not parts:
        mend = "Give another --since or --until, or route something first."
        raise InputError([Fault("the ledger", "holds no such request of that time", mend)])
    return pl.concat(parts)


def _exported(read: pl.DataFrame, written: pl.DataFrame, filled: int) -> Exported:
    """Say what was written of what was read."""
    from_hour = hour_of_week(int(read["arrival_ns"][0]))
    left_out = read.height - written.height
    return Exported(requests=written.height, left_out=left_out, filled=filled, from_hour=from_hour)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Cut rows into lists."""
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


def _put(frame: pl.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        if path.suffix.lower() == ".csv":
            frame.write_csv(part)
        else:
            frame.write_parquet(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
