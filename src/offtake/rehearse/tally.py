"""Count the ends of requests as they come, in memory that does not grow with their number.

Comes in: rows of ``ENDED``. Goes out: counts, whole sums and fine histograms by workload and pool, from which
``summary`` and ``verify`` read everything; no request is remembered. Tokens are summed as whole numbers, and money
follows from them, so that no figure depends on how ends were cut into batches.

Histograms are linear inside each octave: a bin is 1/256 to 1/512 of its values wide, so a percentile is off by 0.4% at
most. Requests in the system are counted in up to 1,024 windows of equal length, which is doubled whenever the run
outgrows them. Cost: O(1) per end, no allocation. This module must never judge a figure.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.fleet import Fleet
from offtake.performance.compiled import Rows, entry, kernel
from offtake.policy.view import Reason
from offtake.rehearse.state import Status
from offtake.units import NS_PER_MS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint32]

OCTAVE_BINS = 256  #: bins of one octave
EXPONENT_LEAST = 15  #: of the first octave: values below 2^14 ns are all in the first bin
OCTAVES = 38  #: up to 2^52 ns, 52 days
BINS = OCTAVE_BINS * OCTAVES
RESOLUTION = 1.0 / OCTAVE_BINS  #: most relative width of a bin
WINDOWS = 1_024
WINDOW_SHIFT = 10  #: a window is 2^10 ns long at first
TENANTS = 2**15

TTFT, TPOT, E2E = range(3)  #: what the histograms are of
ENTERED, LEFT = range(2)  #: what the windows count

#: One row per cell: a workload at a pool, or nowhere.
CELL = np.dtype(
    [
        (name, "i8")
        for name in (
            "requests",
            "served",
            "refused",
            "failed",
            "within_ttft",
            "within_tpot",
            "within_slo",
            "input_tokens",  # of the served, as the next
            "output_tokens",
            "tokens_all",  # of all, prompt and answer
            "cut_short",  # served up to the limit of the context
            "tried_again",  # whose client asked more than once
            "cached_tokens",  # of the served's prompts, found in a prefix cache
            "cache_hits",  # served requests with any
            "backwards",  # served requests whose times are out of order
        )
    ]
    + [
        (name, "f8")
        for name in (
            "stay_ns",  # Σ finish - entered of the served
            "failed_stay_ns",  # the same of the failed
            "service_ns",  # Σ finish - start of the served
            "queue_ns",  # Σ start - released of the served
        )
    ],
    align=True,
)


class Tally(NamedTuple):
    """Hold the counts of a rehearsal.

    ``cells [pool + 1, workload]`` are rows of ``CELL``, the last pool standing for nowhere; ``reasons [pool + 1,
    workload, reason]``; ``histograms [site + 1, workload, 3, BINS]`` of ns; ``windows [pool + 1, workload, 2,
    WINDOWS]``; ``tenants [tenant, 2]`` requests and served; ``clock`` holds the first arrival (ns) and the window's
    length (a power of two, its exponent); ``ttft_ns``, ``tpot_ns [workload]`` are the limits; ``site_of [pool + 1]``.
    """

    cells: Any
    reasons: Ints
    histograms: Counts
    windows: Counts
    tenants: Ints
    clock: Ints
    ttft_ns: Floats
    tpot_ns: Floats
    site_of: Ints


def new_tally(fleet: Fleet, first_ns: int) -> Tally:
    """Return a tally of nothing for a load whose first request arrives at ``first_ns``."""
    pools, workloads, sites = len(fleet.pools), len(fleet.workloads), len(fleet.sites)
    names = [site.name for site in fleet.sites]
    return Tally(
        cells=np.zeros((pools + 1, workloads), CELL).view(np.recarray),
        reasons=np.zeros((pools + 1, workloads, len(Reason)), np.int64),
        histograms=np.zeros((sites + 1, workloads, 3, BINS), np.uint32),
        windows=np.zeros((pools + 1, workloads, 2, WINDOWS), np.uint32),
        tenants=np.zeros((TENANTS, 2), np.int64),
        clock=np.array([first_ns, WINDOW_SHIFT], np.int64),
        ttft_ns=np.array([workload.ttft_ms_p95 * NS_PER_MS for workload in fleet.workloads]),
        tpot_ns=np.array([workload.tpot_ms_p95 * NS_PER_MS for workload in fleet.workloads]),
        site_of=np.array([*(names.index(pool.site) for pool in fleet.pools), sites], np.int64),
    )


@entry
def add(tally: Tally, ended: Rows, rows: int) -> None:
    """Count the first ``rows`` rows of ``ended``."""
    nowhere = tally.cells.shape[0] - 1
    for at in range(rows):
        row = ended[at]
        pool = nowhere if row.pool < 0 else row.pool
        cell = tally.cells[pool, row.workload]
        cell.requests += 1
        cell.tokens_all += row.input_tokens + row.output_tokens
        cell.tried_again += row.tries > 0
        tally.tenants[row.tenant, 0] += 1
        if row.status == Status.SERVED:
            tally.tenants[row.tenant, 1] += 1
            _add_served(tally, row, pool)
        elif row.status == Status.FAILED:
            cell.failed += 1
            cell.failed_stay_ns += float(row.finish_ns - row.entered_ns)
            _add_stay(tally, row, pool)
        else:
            cell.refused += 1
            tally.reasons[pool, row.workload, row.reason] += 1


@kernel
def _add_served(tally: Tally, row: np.record, pool: int) -> None:
    """Count a served request."""
    cell = tally.cells[pool, row.workload]
    ttft_ns = float(row.first_token_ns - row.released_ns + row.rtt_ns)
    tpot_ns = float(row.finish_ns - row.first_token_ns) / max(row.output_tokens - 1, 1)
    first_in_time = ttft_ns <= tally.ttft_ns[row.workload]
    rest_in_time = tpot_ns <= tally.tpot_ns[row.workload]
    cell.served += 1
    cell.within_ttft += first_in_time
    cell.within_tpot += rest_in_time
    cell.within_slo += first_in_time and rest_in_time
    cell.input_tokens += row.input_tokens
    cell.output_tokens += row.output_tokens
    cell.cached_tokens += row.cached_tokens
    cell.cache_hits += row.cached_tokens > 0
    cell.cut_short += row.output_tokens < row.asked_tokens
    cell.backwards += not (
        row.arrival_ns <= row.released_ns <= row.entered_ns <= row.start_ns <= row.first_token_ns <= row.finish_ns
    )
    cell.stay_ns += float(row.finish_ns - row.entered_ns)
    cell.service_ns += float(row.finish_ns - row.start_ns)
    cell.queue_ns += float(row.start_ns - row.released_ns)
    site = tally.site_of[pool]
    tally.histograms[site, row.workload, TTFT, bin_of(ttft_ns)] += 1
    tally.histograms[site, row.workload, TPOT, bin_of(tpot_ns)] += 1
    tally.histograms[site, row.workload, E2E, bin_of(float(row.finish_ns - row.arrival_ns + row.rtt_ns))] += 1
    _add_stay(tally, row, pool)


@kernel
def _add_stay(tally: Tally, row: np.record, pool: int) -> None:
    """Count when a request entered and left its pool."""
    first_ns = tally.clock[0]
    while (row.finish_ns - first_ns) >> tally.clock[1] >= WINDOWS:
        _double_windows(tally)
    windows = tally.windows[pool, row.workload]
    windows[ENTERED, (row.entered_ns - first_ns) >> tally.clock[1]] += 1
    windows[LEFT, (row.finish_ns - first_ns) >> tally.clock[1]] += 1


@kernel
def _double_windows(tally: Tally) -> None:
    """Make every window twice as long."""
    tally.clock[1] += 1
    for pool in range(tally.cells.shape[0]):
        for workload in range(tally.cells.shape[1]):
            if tally.cells[pool, workload].requests > 0:  # others would only be written to, and take memory
                for what in range(2):
                    row = tally.windows[pool, workload, what]
                    for at in range(WINDOWS // 2):
                        row[at] = row[2 * at] + row[2 * at + 1]
                    for at in range(WINDOWS // 2, WINDOWS):
                        row[at] = 0


@kernel
def bin_of(value_ns: float) -> int:
    """Return the bin of a time."""
    share, exponent = math.frexp(value_ns)  # value = share · 2^exponent, 0.5 ≤ share < 1
    if exponent < EXPONENT_LEAST:
        return 0
    into = int((2.0 * share - 1.0) * OCTAVE_BINS)
    return min((exponent - EXPONENT_LEAST) * OCTAVE_BINS + into, BINS - 1)


def bin_edge_ns(index: int) -> float:
    """Return the lower edge of a bin."""
    octave, into = divmod(index, OCTAVE_BINS)
    return float(2.0 ** (EXPONENT_LEAST - 1 + octave) * (1.0 + into / OCTAVE_BINS))


def percentile_ns(histogram: npt.NDArray[np.integer[Any]], rank: float) -> float:
    """Return a percentile of the times in a histogram that is not empty, evenly spread inside their bins."""
    upto = np.cumsum(histogram, dtype=np.int64)
    target = rank / 100.0 * (int(upto[-1]) - 1)
    index = int(np.searchsorted(upto, target, side="right"))
    inside = (target - (int(upto[index]) - int(histogram[index])) + 0.5) / int(histogram[index])
    low, high = bin_edge_ns(index), bin_edge_ns(index + 1)
    return low + (high - low) * min(inside, 1.0)


def requests_in(tally: Tally) -> int:
    """Return how many ends were counted."""
    return int(tally.cells["requests"].sum())


def ends_of(tally: Tally, field: str) -> Rows:
    """Return the sum of a field of the cells of each pool, over all workloads."""
    return tally.cells[field][:-1].sum(axis=1)
