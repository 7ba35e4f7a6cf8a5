"""Make step tables dense, so that the kernel of a replica looks a step up instead of searching for it.

Comes in: the small step tables and limits of several deployments. Goes out: one ``Tables`` of stacked arrays. Batch
is interpolated here, once, for every integer; mean context is left to the kernel, because the slope within a
cell of the context grid is what gives a stretch of decode steps a closed form. Between and beyond grid points as in
``offtake.performance.steps``. This module must never know a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError
from offtake.performance.steps import MAY_BE_ZERO, ReplicaLimits, Scheduler, StepTable

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


#: One row per deployment: what one of its replicas can hold (see ``ReplicaLimits``), the cells of its grids, and 1 over
#: the tokens of a block, because to divide by it takes five times as long; and ``StepTable.request_ns``, for those who
#: tell what a user sees.
LIMITS = np.dtype(
    [(name, "i8") for name in (*ReplicaLimits._fields, "prefill_cells", "context_cells", "end_stairs", "chunk_stairs")]
    + [("block_share", "f8"), ("request_ns", "i8")]
)

BLOCKS_MAX = 2**31 - 1  #: KV blocks that a replica counts; more are as good as no limit
BUCKET_BITS = 7  #: a prompt's prefill cell is looked up by its length in units of 128 tokens, then by going on


class Tables(NamedTuple):
    """Hold the step tables of several deployments, made dense for direct look-up (padded to one shape).

    ``token_ns [deployment, tokens]`` holds every count up to the step budget, with the host overhead. ``cells
    [deployment, batch, context cell, 4]`` holds, for every batch, a pure decode step at the cell's left edge (with the
    overhead), its slope per token of mean context, and the same two of decode attention inside a mixed step.
    ``prefill_cell [deployment, tokens >> BUCKET_BITS]`` is the cell of the prefill grid in which a bucket begins.
    ``chunk_ns [deployment, end, chunk]`` is empty where no table has one. ``limits [deployment]``: rows of ``LIMITS``.
    """

    token_ns: Floats
    prefill_grid: Floats
    prefill_ns: Floats
    prefill_slope: Floats
    prefill_cell: Ints
    context_grid: Floats
    cells: Floats
    end_grid: Floats
    chunk_grid: Floats
    chunk_ns: Floats
    limits: Any


def prepare(deployments: Sequence[tuple[StepTable, ReplicaLimits]]) -> Tables:
    """Return the dense tables of several deployments, in their order.

    Raises
    ------
    InputError
        If a step would take no time, or a limit is not one.
    """
    faults = [fault for table, limits in deployments for fault in _faults_of_table(table, limits)]
    if faults:
        raise InputError(faults)
    dense = [_dense(table, limits) for table, limits in deployments]
    rows = [
        (
            *limits._replace(kv_blocks=min(limits.kv_blocks, BLOCKS_MAX)),
            len(table.prefill_grid) - 1,
            len(table.context_grid) - 1,
            *table.chunk_ns.shape,
            1.0 / limits.block_tokens,
            round(table.request_ns),
        )
        for table, limits in deployments
    ]
    token, grid, value, slope, context, cells = (_stack(list(column)) for column in zip(*dense, strict=True))
    start = _prefill_cells([table for table, _ in deployments])
    end, chunk, chunk_ns = (
        _stack([getattr(table, name) for table, _ in deployments]) for name in ("end_grid", "chunk_grid", "chunk_ns")
    )
    known = np.array(rows, LIMITS).view(np.recarray)
    return Tables(token, grid, value, slope, start, context, cells, end, chunk, chunk_ns, known)


def nothing() -> tuple[StepTable, ReplicaLimits]:
    """Return a table for fleets of token-priced APIs alone, in which nothing ever runs."""
    pair, square = np.array([1.0, 2.0]), np.ones((2, 2))
    return StepTable(pair, pair, pair, pair, pair, pair, square, square, 0.0), ReplicaLimits(1, 1, 1, 1, 1)


def _prefill_cells(tables: Sequence[StepTable]) -> Ints:
    """Return the prefill cell in which each bucket of tokens begins [deployment, bucket]."""
    count = (int(max(table.prefill_grid[-1] for table in tables)) >> BUCKET_BITS) + 1
    begins = np.arange(count) << BUCKET_BITS
    cells = [np.searchsorted(table.prefill_grid, begins, side="right") - 1 for table in tables]
    return np.array([np.clip(cell, 0, len(table.prefill_grid) - 2) for cell, table in zip(cells, tables, strict=True)])


def faults_of_limits(limits: ReplicaLimits, file: str) -> list[Fault]:
    """Return the limits that are too small, or name no scheduler."""
    faults = [
        Fault(file, f"{name} is below {least}", "Give a positive whole number.", value=str(value))
        for name, value in limits._asdict().items()
        if value < (least := 0 if name in MAY_BE_ZERO else 1)
    ]
    if limits.scheduler not in list(Scheduler):
        known = ", ".join(f"{each.value} ({each.name})" for each in Scheduler)
        faults.append(Fault(file, "there is no such scheduler", f"Give {known}.", value=str(limits.scheduler)))
    return faults


def _faults_of_table(table: StepTable, limits: ReplicaLimits) -> list[Fault]:
    """Return what makes a table or its limits unusable."""
    faults = faults_of_limits(limits, "step table")
    for name in ("token_ns", "decode_step_ns"):
        if not np.min(getattr(table, name)) + table.overhead_ns > 0:  # catches NaN too
            faults += [Fault("step table", f"{name} has a step that takes no time", "Measure or build it again.")]
    return faults


def _dense(table: StepTable, limits: ReplicaLimits) -> tuple[Floats, ...]:
    """Return token times, prefill grid, values and slopes, context grid, and cells of one deployment."""
    tokens = np.arange(limits.step_tokens_max + 1, dtype=np.float64)
    token = np.maximum(_rows(table.token_grid, table.token_ns[:, None], tokens)[:, 0], table.launch_ns)
    token += table.overhead_ns + table.uncaptured_ns
    prefill_slope = np.diff(table.prefill_ns) / np.diff(table.prefill_grid)
    batches = np.arange(limits.batch_max + 1, dtype=np.float64)
    width = np.diff(table.context_grid)
    step = _rows(table.batch_grid, table.decode_step_ns, batches)
    attention = _rows(table.batch_grid, table.decode_attention_ns, batches)
    attention[0] = 0.0
    host_ns = table.sequence_ns * batches[:, None]
    first, mixed = step[:, :-1] + (table.overhead_ns + host_ns), attention[:, :-1] + host_ns
    columns = [first, np.diff(step) / width, mixed, np.diff(attention) / width]
    return token, table.prefill_grid, table.prefill_ns, prefill_slope, table.context_grid, np.stack(columns, axis=-1)


def _rows(grid: Floats, values: Floats, x: Floats) -> Floats:
    """Interpolate rows ``values [grid, column]`` at each ``x``, going on with the end slopes."""
    i = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    share = (x - grid[i]) / (grid[i + 1] - grid[i])
    return values[i] + share[:, None] * (values[i + 1] - values[i])


def _stack(arrays: list[Floats]) -> Floats:
    """Stack arrays of unequal shape, padded with zeros."""
    shape = np.max([array.shape for array in arrays], axis=0)
    stacked = np.zeros((len(arrays), *shape))
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return stacked
