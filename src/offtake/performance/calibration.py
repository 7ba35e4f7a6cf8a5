"""Hold the few numbers that tie a step table to one deployment, and make the calibrated table.

Comes in: a stored table and :class:`Levers`. Goes out: a stored table under a new name, with how it was calibrated in
its provenance. A lever is a cause that a benchmark can see: decode steps and prefill slower or faster than the
kernels say (clocks, engine version, other kernels), host time in every step (scheduler, sampling, launch) and for
every request (HTTP, tokeniser), and the KV blocks that the engine really has. This module must never know a
measurement.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from offtake.performance.library import StoredTable
from offtake.units import NS_PER_MS


class Levers(NamedTuple):
    """Hold the five numbers: factors of prefill and decode time, host time per step and request (ms), KV factor."""

    prefill: float = 1.0
    decode: float = 1.0
    step_ms: float = 0.0
    request_ms: float = 0.0
    kv: float = 1.0


def calibrated(stored: StoredTable, levers: Levers, name: str, notes: dict[str, Any]) -> StoredTable:
    """Return ``stored`` with the levers applied, called ``name``; ``notes`` go into its provenance.

    ``token_ns``, ``prefill_ns`` and ``chunk_ns`` × prefill; ``decode_attention_ns`` and ``decode_step_ns`` × decode;
    ``overhead_ns`` + step; ``request_ns`` + request, which occupies no step; KV blocks × kv.
    """
    table = stored.table._replace(
        token_ns=stored.table.token_ns * levers.prefill,
        prefill_ns=stored.table.prefill_ns * levers.prefill,
        chunk_ns=stored.table.chunk_ns * levers.prefill,
        decode_attention_ns=stored.table.decode_attention_ns * levers.decode,
        decode_step_ns=stored.table.decode_step_ns * levers.decode,
        overhead_ns=stored.table.overhead_ns + levers.step_ms * NS_PER_MS,
        request_ns=stored.table.request_ns + levers.request_ms * NS_PER_MS,
    )
    limits = stored.limits._replace(kv_blocks=max(1, round(stored.limits.kv_blocks * levers.kv)))
    about = {"calibrated_from": stored.name, "calibration": notes}
    return StoredTable(name, table, limits, stored.provenance | about)
