"""Say what no pool of a fleet can pass, from data sheets alone: the check on the step tables that it runs on.

Comes in: the step tables that the pools name, with what is known of the chip they were measured on. Goes out: answer
tokens per second by pool. A table that was sped up is held to a chip that much faster; KV blocks are taken as stated,
because they are what bounds a batch. A table that does not say its chip gives no bound. This module must never know a
step time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offtake.errors import InputError
from offtake.fleet import Fleet
from offtake.performance.library import StoredTable
from offtake.performance.model import Served, find_model, kv_bytes_per_token, weight_bytes
from offtake.performance.roofline import Hardware, decode_tokens_per_s_bound
from offtake.rehearse.tally import Tally, ends_of
from offtake.schema.tables import ChipRow
from offtake.units import BYTES_PER_GB


def ceilings(fleet: Fleet, stored: Mapping[str, StoredTable], tally: Tally) -> dict[int, float]:
    """Return answer tokens per second that each pool of chips cannot pass, by its index, where data sheets say.

    ``stored`` are the tables by the names that the pools use. The context of a pool's requests while they decode is
    taken as their mean prompt and half their mean answer.
    """
    served, inputs, outputs = (ends_of(tally, name) for name in ("served", "input_tokens", "output_tokens"))
    context = (inputs + outputs / 2) / np.maximum(served, 1)
    found = {
        index: _replica_tokens_per_s(stored[pool.deployment], float(context[index])) * pool.replicas
        for index, pool in enumerate(fleet.pools)
        if pool.kind == "chips" and pool.deployment in stored and served[index] > 0
    }
    return {index: bound for index, bound in found.items() if bound > 0}


def _replica_tokens_per_s(stored: StoredTable, context_tokens_mean: float) -> float:
    """Return the bound of one replica; 0 where its chip or model is not known."""
    notes = stored.provenance
    if "chip" not in notes or "stand_in" not in notes:
        return 0.0
    try:
        spec = find_model(str(notes["stand_in"]))
    except InputError:
        return 0.0
    served = Served(spec, int(notes.get("weight_bits", 16)), int(notes.get("kv_bits", 16)))
    sheet, chips, speed = notes["chip"], int(notes.get("tensor_parallel", 1)), float(notes.get("speed", 1.0))
    kv_bytes = stored.limits.kv_blocks * stored.limits.block_tokens * kv_bytes_per_token(served)
    chip = ChipRow(
        chip="of_table",
        name="of_table",
        facility_kw=1.0,
        memory_gb=(weight_bytes(served) + kv_bytes) / BYTES_PER_GB / chips,
        memory_bandwidth_gb_s=float(sheet["memory_bandwidth_gb_s"]) * speed,
        peak_tflops=float(sheet["peak_tflops"]) * speed,
    )
    return decode_tokens_per_s_bound(served, Hardware(chip, chips), context_tokens_mean)
