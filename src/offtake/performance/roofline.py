"""Bound what a replica can possibly do, and refuse throughputs above it.

Comes in: a model as served, a chip's data sheet (the ``chips`` table) and how many chips hold one replica. Goes out:
tokens or requests per second that no engine can pass, one token per request and step:

    prefill   F·n / (2·active parameters)
    decode    step ≥ (weights met + batch · context · KV bytes) / (bandwidth · n), batch held by memory

The weights met by a batch B are those of the experts it reaches when routing is even,
total · (1 - (1 - active/total)^B).
The bound leaves out speculative decoding and prefix-cache hits; a figure that rests on them must say so. Source:
Williams, Waterman, Patterson (CACM 2009). This module must never know a step table.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.errors import Fault, InputError, VerificationError
from offtake.performance.model import Served, flops_per_token, kv_bytes_per_token, weight_bytes
from offtake.schema.tables import ChipRow
from offtake.units import BYTES_PER_GB, FLOPS_PER_TFLOP, NS_PER_S

GAIN_MAX = 6.0  #: by which engines differ at most, where a chip's data sheet is the same (assumption)


class Hardware(NamedTuple):
    """Hold the chips of one replica."""

    chip: ChipRow
    chips_per_replica: int


class Shape(NamedTuple):
    """Hold the mean lengths of a stream of requests, tokens."""

    input_tokens_mean: float
    output_tokens_mean: float


class Claim(NamedTuple):
    """Hold a throughput that someone states: requests/s of one replica, and where it stands."""

    requests_per_s: float
    file: str
    row: int | str | None = None
    column: str | None = None


def batch_bound(served: Served, hardware: Hardware, context_tokens_mean: float) -> float:
    """Return how many requests of a mean context fit the memory beside the weights (0 when the weights do not)."""
    memory_bytes = hardware.chip.memory_gb * BYTES_PER_GB * hardware.chips_per_replica
    free_bytes = memory_bytes - weight_bytes(served)
    return max(0.0, free_bytes / (context_tokens_mean * kv_bytes_per_token(served)))


def prefill_tokens_per_s_bound(served: Served, hardware: Hardware) -> float:
    """Return the prompt tokens per second of one replica that no engine can pass."""
    flops = hardware.chip.peak_tflops * FLOPS_PER_TFLOP * hardware.chips_per_replica
    return flops / flops_per_token(served.spec)


def decode_tokens_per_s_bound(served: Served, hardware: Hardware, context_tokens_mean: float) -> float:
    """Return the output tokens per second of one replica that no engine can pass at a mean context."""
    batch = batch_bound(served, hardware, context_tokens_mean)
    if batch <= 0:
        return 0.0
    spec = served.spec
    met = 1 - math.pow(1 - spec.parameters_active / spec.parameters_total, max(1.0, batch))
    step_bytes = weight_bytes(served) * met + batch * context_tokens_mean * kv_bytes_per_token(served)
    bytes_per_s = hardware.chip.memory_bandwidth_gb_s * BYTES_PER_GB * hardware.chips_per_replica
    return min(batch * bytes_per_s / step_bytes, prefill_tokens_per_s_bound(served, hardware))


def decode_step_ns_bound(
    served: Served, hardware: Hardware, batch: npt.NDArray[np.float64], context_tokens_mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the least time of a decode step, ns, for arrays of batch and mean context (broadcast together).

    The weights one token meets are read once, and the KV cache of the batch: less than any engine reads.
    """
    spec = served.spec
    read_bytes = weight_bytes(served) * spec.parameters_active / spec.parameters_total
    step_bytes = read_bytes + batch * context_tokens_mean * kv_bytes_per_token(served)
    bytes_per_s = hardware.chip.memory_bandwidth_gb_s * BYTES_PER_GB * hardware.chips_per_replica
    return step_bytes / bytes_per_s * NS_PER_S


def requests_per_s_bound(served: Served, hardware: Hardware, shape: Shape) -> float:
    """Return the requests per second of one replica that no engine can pass.

    The tokens of a request take arithmetic, its output takes memory traffic; at best the two overlap.
    """
    context = shape.input_tokens_mean + shape.output_tokens_mean / 2
    decode_per_s = decode_tokens_per_s_bound(served, hardware, context)
    if decode_per_s <= 0:
        return 0.0
    tokens = shape.input_tokens_mean + shape.output_tokens_mean
    arithmetic_s = tokens / prefill_tokens_per_s_bound(served, hardware)
    return 1 / max(arithmetic_s, shape.output_tokens_mean / decode_per_s)


def refuse_implausible(speed: float, hardware: Hardware, known: Hardware, where: Claim) -> None:
    """Refuse a speed per chip, relative to a known chip, that its data sheet cannot explain.

    Sparse models run so far below the roofline that a node taken for a chip (8 times) would still pass it. So
    a gain of more than 6 times what the better of the two ratios of memory bandwidth and peak gives is refused.

    Raises
    ------
    InputError
        With both ratios.
    """
    bandwidth = hardware.chip.memory_bandwidth_gb_s / known.chip.memory_bandwidth_gb_s
    peak = hardware.chip.peak_tflops / known.chip.peak_tflops
    if speed <= GAIN_MAX * max(bandwidth, peak):
        return
    problem = (
        f"{hardware.chip.chip} would be {speed:.3g} times as fast as {known.chip.chip}, chip by chip, with"
        f" {bandwidth:.2g} times its memory bandwidth and {peak:.2g} times its peak"
    )
    mend = "Give figures of one replica, and the chips that it takes; a node or a site must be divided first."
    raise InputError([Fault(where.file, problem, mend, row=where.row, column=where.column, value=f"{speed:.3g}")])


def impossible(claim: Claim, served: Served, hardware: Hardware, shape: Shape) -> Fault | None:
    """Return the fault of a claim above the roofline, or None."""
    bound = requests_per_s_bound(served, hardware, shape)
    if claim.requests_per_s <= bound:
        return None
    chips = hardware.chips_per_replica
    problem = (
        f"{served.spec.name} on {chips} × {hardware.chip.chip} cannot serve {claim.requests_per_s:.3g} requests/s:"
        f" memory and arithmetic allow at most {bound:.3g}"
    )
    mend = f"Give requests/s of one replica of {chips} chips; a figure of a whole node or site must be divided first."
    return Fault(claim.file, problem, mend, row=claim.row, column=claim.column, value=f"{claim.requests_per_s:g}")


def refuse_impossible(claim: Claim, served: Served, hardware: Hardware, shape: Shape) -> None:
    """Refuse a stated throughput above the roofline.

    Raises
    ------
    InputError
        With the claim's file, row and column, and the most that is possible.
    """
    fault = impossible(claim, served, hardware, shape)
    if fault is not None:
        raise InputError([fault])


def verify_possible(claim: Claim, served: Served, hardware: Hardware, shape: Shape) -> None:
    """Stop a result of our own that is above the roofline.

    Raises
    ------
    VerificationError
        When the result must not be used.
    """
    fault = impossible(claim, served, hardware, shape)
    if fault is not None:
        raise VerificationError(str(fault))
