"""Replay what was measured on one replica of a step table: the same load, the same statistic.

Comes in: a stored table, measured points (or the ledger they come from) and :class:`~.calibration.Levers`. Goes out:
simulated TTFT and TPOT of each point, ms. A run at a concurrency C is a closed loop as InferenceX and vLLM drive it:
C requests at once, each ending sends the next, 10·C requests in all. A run at a rate is 1,000 Poisson arrivals. This
module must never see a measured time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.calibration import Levers, calibrated
from offtake.performance.closed_loop import run_closed_loop
from offtake.performance.dense import Tables, prepare
from offtake.performance.library import StoredTable
from offtake.performance.measurements import STATISTICS, Ledger, Load, Measured, Point
from offtake.performance.replica import ReplicaOutcome, simulate_prepared
from offtake.performance.replica_state import Ints, Ints32
from offtake.units import NS_PER_MS, NS_PER_S

Floats = npt.NDArray[np.float64]
Simulate = Callable[[Levers], Floats]

PROMPTS_PER_SLOT = 10  #: InferenceX benchmark_lib.sh: --num-prompts 10 × the concurrency
PROMPTS_MIN, PROMPTS_MAX = 40, 4_000  #: of one replay; at least four rounds (assumption: steadies the mean to about 1%)
OPEN_REQUESTS = 1_000
SEED = 20_260_501
LENGTHS, GAPS = 1, 2  #: streams of random numbers


class Times(NamedTuple):
    """Hold what became of a replay's requests, ms [request]; TPOT is nan where there is one token."""

    ttft_ms: Floats
    tpot_ms: Floats


def simulator(stored: StoredTable, measured: Measured) -> Simulate:
    """Return the function that simulates all points of a deployment under given levers: ms [point, (ttft, tpot)]."""

    def simulate(levers: Levers) -> Floats:
        table = calibrated(stored, levers, stored.name, {})
        if measured.ledger is not None:
            return _windows(table, measured.ledger)
        return np.array([_point(table, point) for point in measured.points])

    return simulate


def replay(stored: StoredTable, load: Load) -> Times:
    """Run one replica under a load, from idle until the last request has finished.

    Raises
    ------
    InputError
        If a request can never fit the replica.
    """
    spread = np.random.default_rng([SEED, LENGTHS])
    count = OPEN_REQUESTS
    slots = max(1, round(load.concurrency))
    if load.concurrency > 0:
        count = max(PROMPTS_MIN, min(PROMPTS_PER_SLOT * slots, max(PROMPTS_MAX, 4 * slots)))
    lengths = [
        spread.integers(max(1, int(load.length_ratio_min * top)), int(top), count, endpoint=True).astype(np.int32)
        for top in (load.input_tokens, load.output_tokens)
    ]
    if load.concurrency > 0:
        return closed_loop(stored, slots, lengths[0], lengths[1])
    gaps_s = np.random.default_rng([SEED, GAPS]).exponential(1 / load.rate_rps, count)
    return _run(stored, (np.cumsum(gaps_s) * NS_PER_S).astype(np.int64), lengths[0], lengths[1])


def closed_loop(stored: StoredTable, slots: int, input_tokens: Ints32, output_tokens: Ints32) -> Times:
    """Keep ``slots`` requests in flight until all are done; TTFT counts from when a request is sent."""
    tables = _tables(stored, input_tokens, output_tokens)
    found = run_closed_loop(tables, input_tokens, output_tokens, slots)
    return _times(stored, found.sent_ns, found.outcome, output_tokens)


def _tables(stored: StoredTable, input_tokens: Ints32, output_tokens: Ints32) -> Tables:
    """Return the dense table of a replica whose KV blocks hold the longest request at least."""
    longest = int((input_tokens.astype(np.int64) + output_tokens).max())
    blocks = max(stored.limits.kv_blocks, -(-longest // stored.limits.block_tokens))
    return prepare([(stored.table, stored.limits._replace(kv_blocks=blocks))])


def _run(stored: StoredTable, arrival_ns: Ints, input_tokens: Ints32, output_tokens: Ints32) -> Times:
    """Run one replica on given arrivals."""
    tables = _tables(stored, input_tokens, output_tokens)
    return _times(stored, arrival_ns, simulate_prepared(tables, arrival_ns, input_tokens, output_tokens), output_tokens)


def _times(stored: StoredTable, sent_ns: Ints, outcome: ReplicaOutcome, output_tokens: Ints32) -> Times:
    """Return TTFT, with what the front end takes, and TPOT of every request, ms."""
    more = output_tokens.astype(np.int64) - 1
    tpot_ms = (outcome.finish_ns - outcome.first_token_ns) / np.maximum(more, 1) / NS_PER_MS
    ttft_ms = (outcome.first_token_ns - sent_ns + stored.table.request_ns) / NS_PER_MS
    return Times(ttft_ms, np.where(more > 0, tpot_ms, np.nan))


def _point(stored: StoredTable, point: Point) -> tuple[float, float]:
    """Return the simulated statistic of TTFT and TPOT at one point, ms."""
    times = replay(stored, point.load)
    return _summary(times.ttft_ms, point.ttft_statistic), _summary(times.tpot_ms, point.tpot_statistic)


def _summary(values: Floats, statistic: str) -> float:
    """Return the mean or a percentile of the values that there are."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return float("nan")
    share = STATISTICS[statistic]
    return float(known.mean() if share < 0 else np.quantile(known, share))


def _windows(stored: StoredTable, ledger: Ledger) -> Floats:
    """Run a ledger's own arrivals and lengths; return the mean TTFT and TPOT of each window, ms."""
    times = _run(stored, ledger.arrival_ns, ledger.input_tokens, ledger.output_tokens)
    rows = []
    for window in range(int(ledger.window[-1]) + 1):
        inside = ledger.window == window
        rows.append((_summary(times.ttft_ms[inside], "mean"), _summary(times.tpot_ms[inside], "mean")))
    return np.array(rows)
