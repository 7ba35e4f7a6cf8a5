"""Tell how long one iteration of one replica takes, from a few small arrays.

Comes in: the tokens prefilled in the step, their attention, the decode batch and its mean context.
Goes out: nanoseconds. A mixed step (some prefill) costs

    interp(token_ns, prefill + batch) + Σ_chunks (A(p + c) - A(p))
        + interp2(decode_attention_ns, batch, context) + overhead + uncaptured + sequence · batch

and a pure decode step ``interp2(decode_step_ns, batch, context) + overhead + sequence · batch``; the first term is
never below ``launch_ns``. Everything is piecewise linear and goes on with the first or last slope outside the grid;
only what a table may hold instead of A, the attention of a chunk by its end and its length, is a staircase. These
functions say what a table means; the kernel reads the same numbers from the arrays that ``dense`` makes of it. This
module must never know a model's name, a price, a clock or a random number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NO_GRID, NO_CHUNKS = np.zeros(0), np.zeros((0, 0))


class StepTable(NamedTuple):
    """Hold the arrays (all float64) that give the time of one iteration of one replica.

    ``token_ns [token_grid]``: everything but attention, by tokens in the step (prefill + decode).
    ``prefill_ns [prefill_grid]``: cumulative prefill attention A of a prompt, by tokens already done; A(0) = 0.
    ``decode_attention_ns [batch_grid, context_grid]``: decode attention inside a mixed step.
    ``decode_step_ns [batch_grid, context_grid]``: a whole pure-decode step.
    ``context_grid``: MEAN context of the decoding requests, tokens.
    ``overhead_ns``: host time of every step that nothing hides; ``sequence_ns``: the same for each decoding request;
    ``launch_ns``: the host's time to launch the kernels of a step with prefill one by one, hidden where the chip is
    slower; ``uncaptured_ns``: what such a step, held by no CUDA graph, takes beside (see ``overhead``).
    ``request_ns``: what the engine's front end takes of every request before its scheduler sees it; it occupies no
    step, so whoever tells a user's TTFT or E2E adds it. All five are 0 in a table of chip times alone.

    ``chunk_ns [end_grid, chunk_grid]``: attention of a prefill chunk, by the tokens of the prompt that are done at its
    end and by its own. A staircase: the first grid points that are not below count, and the last ones beyond. Where it
    is given, it takes the place of A in a step, for chunks whose time A(end) - A(begin) cannot hold (Vidur's tables);
    what only estimates goes on with A. A chunk of one token is then no chunk, but one more decoding request of its
    step, with what is before it as context. Empty: there is none.
    """

    token_grid: Floats
    token_ns: Floats
    prefill_grid: Floats
    prefill_ns: Floats
    batch_grid: Floats
    context_grid: Floats
    decode_attention_ns: Floats
    decode_step_ns: Floats
    overhead_ns: float
    sequence_ns: float = 0.0
    launch_ns: float = 0.0
    uncaptured_ns: float = 0.0
    end_grid: Floats = NO_GRID
    chunk_grid: Floats = NO_GRID
    chunk_ns: Floats = NO_CHUNKS
    request_ns: float = 0.0


class Scheduler(IntEnum):
    """Name the engine whose way of filling a step a replica follows.

    ``VLLM``: decodes first, prompts fill what is left of the step; blocks as tokens come; when none is free the least
    urgent, last admitted request is pushed back and computed again. Sarathi-Serve, as Vidur has it, is the same with
    ``watermark_blocks`` of 1%. ``SGLANG``: prompts first, in steps of their own; admission sets aside an estimate of
    what the running requests may still give (SGLang counts at most 4,096 tokens of each; here only of the one to be
    admitted, so that longer limits on running answers hold back more); short of memory, the one that has given least is
    pushed back.
    ``TRTLLM``: as vLLM, but prompt and longest answer are reserved at admission (GUARANTEED_NO_EVICT), so that none
    is ever pushed back.
    """

    VLLM = 0
    SGLANG = 1
    TRTLLM = 2


#: SGLang's estimate (``environ.py`` and ``scheduler.py`` of SGLang 0.5): the share of the longest possible answers that
#: is set aside starts at 0.7, falls to 14% of that over 600 decode steps, and is set anew when memory ran short.
NEW_TOKEN_RATIO = 0.7
NEW_TOKEN_RATIO_MIN = 0.7 * 0.14
NEW_TOKEN_RATIO_FALL = (NEW_TOKEN_RATIO - NEW_TOKEN_RATIO_MIN) / 600
NEW_TOKENS_MAX = 4_096  #: of one answer, as far as admission looks (``SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION``)
RETRACT_STEPS = 20  #: decode steps ahead for which the new share is set


class ReplicaLimits(NamedTuple):
    """Hold what one replica can hold at once, and how it chooses.

    ``kv_blocks`` blocks of ``block_tokens`` tokens; at most ``batch_max`` requests running; at most
    ``step_tokens_max`` tokens in one step (prefill chunks + decodes; SGLang: its ``chunked_prefill_size``); at most
    ``context_tokens_max`` tokens of prompt and answer in one request. ``scheduler``: see ``Scheduler``. ``chunked``
    0: a prompt is prefilled in one step, unless it is longer than any step. ``prefill_tokens_max``: SGLang's
    ``max_prefill_tokens`` (16,384 is its default). ``watermark_blocks`` stay free at an admission beside others.
    ``prefix_cache`` 0: prompts are not remembered.
    """

    kv_blocks: int
    block_tokens: int
    batch_max: int
    step_tokens_max: int
    context_tokens_max: int
    scheduler: int = Scheduler.VLLM
    chunked: int = 1
    prefill_tokens_max: int = 16_384
    watermark_blocks: int = 0
    prefix_cache: int = 1


MAY_BE_ZERO = ("scheduler", "chunked", "watermark_blocks", "prefix_cache")


def grid_cell(grid: Floats, x: float) -> int:
    """Return i such that grid[i] ≤ x < grid[i + 1], held within the first and last cell."""
    return min(max(int(np.searchsorted(grid, x, side="right")) - 1, 0), grid.size - 2)


def interpolate(grid: Floats, values: Floats, x: float) -> float:
    """Interpolate ``values [grid]`` linearly at ``x``; go on with the end slopes outside the grid."""
    i = grid_cell(grid, x)
    share = (x - grid[i]) / (grid[i + 1] - grid[i])
    return float(values[i] + share * (values[i + 1] - values[i]))


def interpolate_2d(table: tuple[Floats, Floats, Floats], x: float, y: float) -> float:
    """Interpolate bilinearly in ``table`` = (rows, columns, values [rows, columns]) at (``x``, ``y``)."""
    rows, columns, values = table
    i = grid_cell(rows, x)
    j = grid_cell(columns, y)
    share_x = (x - rows[i]) / (rows[i + 1] - rows[i])
    share_y = (y - columns[j]) / (columns[j + 1] - columns[j])
    low = values[i, j] + share_y * (values[i, j + 1] - values[i, j])
    high = values[i + 1, j] + share_y * (values[i + 1, j + 1] - values[i + 1, j])
    return float(low + share_x * (high - low))


def stair(grid: Floats, x: float) -> int:
    """Return the first place of ``grid`` that is not below ``x``, or the last one."""
    return min(int(np.searchsorted(grid, x)), grid.size - 1)


def prefill_attention_ns(table: StepTable, done_tokens: float, chunk_tokens: float) -> float:
    """Return the attention of a prefill chunk: A(done + chunk) - A(done), or what ``chunk_ns`` says, ns."""
    if table.chunk_ns.size > 0:
        row = stair(table.end_grid, done_tokens + chunk_tokens)
        return float(table.chunk_ns[row, stair(table.chunk_grid, chunk_tokens)])
    after = interpolate(table.prefill_grid, table.prefill_ns, done_tokens + chunk_tokens)
    return after - interpolate(table.prefill_grid, table.prefill_ns, done_tokens)


def decode_step_ns(table: StepTable, batch: float, context_mean: float) -> float:
    """Return the time of a step in which ``batch`` ≥ 1 requests decode one token each, ns."""
    cells = (table.batch_grid, table.context_grid, table.decode_step_ns)
    return interpolate_2d(cells, batch, context_mean) + table.overhead_ns + table.sequence_ns * batch


def mixed_step_ns(
    table: StepTable, prefill_tokens: float, attention_ns: float, batch: float, context_mean: float
) -> float:
    """Return the time of a step with some prefill, ns.

    ``prefill_tokens``: tokens of all chunks; ``attention_ns``: the sum of their ``prefill_attention_ns``;
    ``batch`` requests (0 is allowed) decode beside them at ``context_mean`` tokens.
    """
    rest_ns = max(interpolate(table.token_grid, table.token_ns, prefill_tokens + batch), table.launch_ns)
    time_ns = rest_ns + attention_ns + table.overhead_ns + table.uncaptured_ns
    if batch > 0:
        cells = (table.batch_grid, table.context_grid, table.decode_attention_ns)
        time_ns += interpolate_2d(cells, batch, context_mean) + table.sequence_ns * batch
    return time_ns


def step_ns(table: StepTable, prefill_tokens: float, attention_ns: float, batch: float, context_mean: float) -> float:
    """Return the time of one iteration, mixed or pure decode, ns (arguments as in ``mixed_step_ns``)."""
    if prefill_tokens > 0:
        return mixed_step_ns(table, prefill_tokens, attention_ns, batch, context_mean)
    return decode_step_ns(table, batch, context_mean)


def scaled(table: StepTable, factor: float) -> StepTable:
    """Return ``table`` with every time of a step multiplied by ``factor`` (2.0 is twice as slow)."""
    return table._replace(
        token_ns=table.token_ns * factor,
        prefill_ns=table.prefill_ns * factor,
        decode_attention_ns=table.decode_attention_ns * factor,
        decode_step_ns=table.decode_step_ns * factor,
        overhead_ns=table.overhead_ns * factor,
        sequence_ns=table.sequence_ns * factor,
        launch_ns=table.launch_ns * factor,
        uncaptured_ns=table.uncaptured_ns * factor,
        chunk_ns=table.chunk_ns * factor,
    )
