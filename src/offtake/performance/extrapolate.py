"""Make a step table from a chip's data sheet alone, where no kernel was ever measured.

Comes in: a model as served and the chips of a replica. Goes out: a table marked *extrapolated*. Steps are those of the
roofline divided by the share of it that the model's shipped tables reach, arithmetic and memory apart:

    prefill      2 · active parameters · tokens / (F·n) / share of arithmetic
    attention    2 · layers · width · p² / (F·n) / share of arithmetic, width ≈ √(active parameters / 12·layers)
    decode       (weights met by the batch + batch · context · KV bytes) / (bandwidth · n) / share of bandwidth

The width is that of a dense transformer (Kaplan et al. 2020: parameters ≈ 12 · layers · width²). A table from here says
how fast a chip of that data sheet would be if its software were as good; nobody has seen it. This module must never
know a price.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError
from offtake.performance.library import StoredTable, load_shipped, shipped_names
from offtake.performance.model import Served, find_model, flops_per_token, kv_bytes_per_token, weight_bytes
from offtake.performance.roofline import Hardware
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.schema.tables import ChipRow
from offtake.units import BYTES_PER_GB, FLOPS_PER_TFLOP, NS_PER_S

Floats = npt.NDArray[np.float64]

MEMORY_SHARE = 0.9  #: vLLM's default of the chip's memory
BLOCK_TOKENS, BATCH_MAX, STEP_TOKENS_MAX = 16, 1024, 8192  #: vLLM's defaults on a chip of 70 GiB and more
PARAMETERS_PER_WIDTH2 = 12  #: per layer (Kaplan et al. 2020, table 1)
BATCHES: Floats = np.exp2(np.arange(11))
PROBES = (1.0, 16.0, 64.0)  #: batches at which the share of bandwidth is taken
PROBE_CONTEXT = 2048.0
NEEDED = ("system", "tensor_parallel", "weight_bits", "kv_bits", "stand_in", "chip")


class Shares(NamedTuple):
    """Hold the median shares of the roofline that measured tables reach, and how many there were."""

    arithmetic: float
    bandwidth: float
    tables: int


def extrapolated(name: str, served: Served, hardware: Hardware) -> StoredTable:
    """Make the table of a model on chips that nobody measured.

    Raises
    ------
    InputError
        If the weights do not fit the chips.
    """
    memory_bytes = MEMORY_SHARE * hardware.chip.memory_gb * BYTES_PER_GB * hardware.chips_per_replica
    blocks = int((memory_bytes - weight_bytes(served)) / kv_bytes_per_token(served) / BLOCK_TOKENS)
    if blocks < 1:
        problem = f"the weights do not fit {hardware.chips_per_replica} chips of {hardware.chip.chip}"
        raise InputError([Fault("--chips", problem, "Use more chips per replica, or fewer bits.")])
    shares = reached(served)
    contexts: Floats = np.exp2(np.arange(math.floor(math.log2(served.spec.context_tokens_max)) + 1))
    batch, context = np.meshgrid(BATCHES, contexts, indexing="ij")
    tokens = np.unique(np.concatenate([np.exp2(np.arange(14)), [STEP_TOKENS_MAX]]))
    prompts = np.concatenate([[0.0], contexts])
    width = math.sqrt(served.spec.parameters_active / (PARAMETERS_PER_WIDTH2 * served.spec.layers))
    per_flop = NS_PER_S / _flops(hardware) / shares.arithmetic
    weights_ns = decode_ns(served, hardware, np.ones(1), np.zeros(1))[0] / shares.bandwidth
    kv_ns = decode_ns(served, hardware, batch, context) - decode_ns(served, hardware, batch, np.zeros_like(context))
    arithmetic_ns = flops_per_token(served.spec) * batch * per_flop
    table = StepTable(
        token_grid=tokens,
        token_ns=np.maximum(flops_per_token(served.spec) * tokens * per_flop, weights_ns),
        prefill_grid=prompts,
        prefill_ns=2 * served.spec.layers * width * prompts**2 * per_flop,
        batch_grid=BATCHES,
        context_grid=contexts,
        decode_attention_ns=kv_ns / shares.bandwidth,
        decode_step_ns=np.maximum(decode_ns(served, hardware, batch, context) / shares.bandwidth, arithmetic_ns),
        overhead_ns=0.0,
    )
    limits = ReplicaLimits(blocks, BLOCK_TOKENS, BATCH_MAX, STEP_TOKENS_MAX, served.spec.context_tokens_max)
    return StoredTable(name, table, limits, _provenance(served, hardware, shares))


def decode_ns(served: Served, hardware: Hardware, batch: Floats, context: Floats) -> Floats:
    """Return the least time in which a batch's step reads its memory, ns: weights met by the batch, and KV cache."""
    spec = served.spec
    met = 1 - (1 - spec.parameters_active / spec.parameters_total) ** batch
    read_bytes = weight_bytes(served) * met + batch * context * kv_bytes_per_token(served)
    bytes_per_s = hardware.chip.memory_bandwidth_gb_s * BYTES_PER_GB * hardware.chips_per_replica
    found: Floats = read_bytes / bytes_per_s * NS_PER_S
    return found


def reached(served: Served) -> Shares:
    """Return the median shares of arithmetic and bandwidth that the shipped tables of the same model reach."""
    shipped = [one for one in map(load_shipped, shipped_names()) if all(one.provenance.get(key) for key in NEEDED)]
    stored = [one for one in shipped if find_model(str(one.provenance["stand_in"])).name == served.spec.name]
    arithmetic, bandwidth = zip(*map(_shares_of, stored), strict=True)
    return Shares(float(np.median(arithmetic)), float(np.median(bandwidth)), len(stored))


def _shares_of(stored: StoredTable) -> tuple[float, float]:
    """Return the shares of arithmetic (at the largest step) and bandwidth that one table reaches."""
    notes = stored.provenance
    served = Served(find_model(str(notes["stand_in"])), int(notes["weight_bits"]), int(notes["kv_bits"]))
    chip = ChipRow.model_construct(chip=notes["system"], name=notes["system"], **notes["chip"])
    hardware = Hardware(chip, int(notes["tensor_parallel"]))
    table = stored.table
    least_ns = flops_per_token(served.spec) * table.token_grid[-1] / _flops(hardware) * NS_PER_S
    batch = np.array(PROBES)
    bound_ns = decode_ns(served, hardware, batch, np.full(batch.size, PROBE_CONTEXT))
    column = int(np.argmin(np.abs(table.context_grid - PROBE_CONTEXT)))
    steps_ns = np.interp(batch, table.batch_grid, table.decode_step_ns[:, column])
    return float(least_ns / table.token_ns[-1]), float(np.median(bound_ns / steps_ns))


def _flops(hardware: Hardware) -> float:
    """Return the peak of a replica, FLOP/s."""
    return float(hardware.chip.peak_tflops * FLOPS_PER_TFLOP * hardware.chips_per_replica)


def _provenance(served: Served, hardware: Hardware, shares: Shares) -> dict[str, object]:
    """Return what a reader must know not to trust the table too far."""
    chip = hardware.chip
    return {
        "source": f"extrapolated: roofline at the median shares that {shares.tables} tables of the model reach",
        "extrapolated": True,
        "share_of_arithmetic": round(shares.arithmetic, 3),
        "share_of_bandwidth": round(shares.bandwidth, 3),
        "stand_in": served.spec.name,
        "checkpoint": served.spec.name,
        "weight_bits": served.weight_bits,
        "kv_bits": served.kv_bits,
        "system": chip.chip,
        "backend": "none",
        "tensor_parallel": hardware.chips_per_replica,
        "chip": {
            "memory_gb": chip.memory_gb,
            "memory_bandwidth_gb_s": chip.memory_bandwidth_gb_s,
            "peak_tflops": chip.peak_tflops,
        },
        "confidence": "assumption",
    }
