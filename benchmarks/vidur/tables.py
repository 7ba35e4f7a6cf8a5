"""Turn the predictions that Vidur looks its step times up in into our step table.

Comes in: ``tables.npz`` as ``simulate`` wrote it. Goes out: a :class:`StepTable`. Vidur rounds tokens up to 8 and a
mean context up to 256, so these are staircases, and a staircase is a piecewise linear function with steep cells.
Prefill attention is the curve that ``simulate`` states, or Vidur's own: a time for each chunk, by its end rounded up to
256 and its length rounded up to 32; a chunk of one token is one more decoding request in both.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from offtake.performance.steps import StepTable
from offtake.units import NS_PER_MS

Floats = npt.NDArray[np.float64]

LAYERS, BATCHING = 32, 1.1  # of Llama 3 8B; Vidur's factor on decode attention of more than one request
TOKENS_ROUND = 8
STEEP = 2.0**-20  # tokens over which a staircase rises: far less than one
PER_TOKEN = (
    "attn_pre_proj",
    "attn_post_proj",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "attn_rope",
    "input_layernorm",
    "post_attention_layernorm",
    "add",
)


def table_of(arrays: Mapping[str, Floats], step_tokens_max: int) -> StepTable:
    """Return Vidur's times as a step table, ns."""
    tokens = np.arange(1.0, step_tokens_max + 1)
    rounded = (-(-tokens // TOKENS_ROUND) * TOKENS_ROUND).astype(int)
    token_ns = sum(arrays[f"{name}.ms"][rounded - 1] for name in PER_TOKEN) * LAYERS * NS_PER_MS
    batch, context, decode_ns = staircase(arrays)
    at_batch = np.interp(batch, tokens, token_ns)
    prefill = arrays["curve.tokens"], arrays["curve.ms"] * LAYERS * NS_PER_MS
    return StepTable(
        tokens, token_ns, *prefill, batch, context, decode_ns, decode_ns + at_batch[:, None], overhead_ns=0.0
    )


def with_own_chunks(table: StepTable, arrays: Mapping[str, Floats]) -> StepTable:
    """Return ``table`` with Vidur's own times of prefill attention, by the end and the length of a chunk, ns."""
    keys, value_ms = arrays["attn_prefill.keys"], arrays["attn_prefill.ms"]
    end, chunk = (np.unique(keys[:, column]).astype(np.float64) for column in (0, 1))
    chunk_ns = value_ms.reshape(len(end), len(chunk)) * LAYERS * NS_PER_MS
    return table._replace(end_grid=end, chunk_grid=chunk, chunk_ns=chunk_ns)


def staircase(arrays: Mapping[str, Floats]) -> tuple[Floats, Floats, Floats]:
    """Return batches, mean contexts and decode attention [batch, context], ns.

    Vidur counts the token that is being made into the context, hence the shift by one, and takes the whole part of a
    mean before it rounds up: the stair to the next 256 is climbed just before each multiple and one.
    """
    keys, value_ms = arrays["attn_decode.keys"], arrays["attn_decode.ms"]
    batch, level = np.unique(keys[:, 0]).astype(np.float64), np.unique(keys[:, 1])[1:]
    stairs = value_ms.reshape(len(batch), -1)[:, 1:] * LAYERS * NS_PER_MS
    stairs = stairs * np.where(batch > 1, BATCHING, 1.0)[:, None]
    climbs = level[:-1]  # a mean whose whole part exceeds this takes the next stair
    grid = np.stack([climbs - STEEP, climbs * 1.0], axis=1).ravel()
    values = np.stack([stairs[:, :-1], stairs[:, 1:]], axis=2).reshape(len(batch), -1)
    first, last = [0.0], [float(level[-1])]
    grid = np.concatenate([first, grid, last])
    return batch, grid, np.concatenate([stairs[:, :1], values, stairs[:, -1:]], axis=1)
