"""Hold the public facts of the open models that stand in for the served ones.

Comes in: a model's name, as a person may write it. Goes out: parameters, layers, KV values per token, longest
context. Bytes follow from the format in which a checkpoint is served, so they are asked for with its bits.
This module must never know a chip, a step time or a price.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from offtake.errors import Fault, InputError
from offtake.units import BITS_PER_BYTE

FLOPS_PER_PARAMETER = 2  #: one multiplication and one addition for each weight and token


class ModelSpec(NamedTuple):
    """Describe a model: ``kv_values_per_token`` counts numbers (not bytes) kept for each token over all layers.

    ``parameters_active`` are those that one token meets; they equal ``parameters_total`` in a dense model.
    """

    name: str
    parameters_total: float
    parameters_active: float
    layers: int
    kv_values_per_token: int
    context_tokens_max: int
    source: str
    aliases: tuple[str, ...] = ()


class Served(NamedTuple):
    """Say in which format a model is served: bits of a weight and of a KV value."""

    spec: ModelSpec
    weight_bits: int
    kv_bits: int


MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="llama-3.1-8b",
            parameters_total=8.03e9,
            parameters_active=8.03e9,
            layers=32,
            kv_values_per_token=2 * 32 * 8 * 128,
            context_tokens_max=131_072,
            source="config.json of meta-llama/Llama-3.1-8B; arXiv 2407.21783",
            aliases=("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ),
        ModelSpec(
            name="llama-3.1-70b",
            parameters_total=70.6e9,
            parameters_active=70.6e9,
            layers=80,
            kv_values_per_token=2 * 80 * 8 * 128,
            context_tokens_max=131_072,
            source="config.json of meta-llama/Llama-3.1-70B; arXiv 2407.21783",
            aliases=("meta-llama/Llama-3.1-70B", "meta-llama/Meta-Llama-3.1-70B", "nvidia/Llama-3.1-70B-Instruct-FP8"),
        ),
        ModelSpec(
            name="qwen3-235b-a22b",
            parameters_total=235e9,
            parameters_active=22e9,
            layers=94,
            kv_values_per_token=2 * 94 * 4 * 128,
            context_tokens_max=40_960,
            source="config.json of Qwen/Qwen3-235B-A22B; arXiv 2505.09388",
            aliases=("qwen3-235b", "Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-235B-A22B-FP8", "nvidia/Qwen3-235B-A22B-NVFP4"),
        ),
        ModelSpec(
            name="deepseek-v3",
            parameters_total=671e9,
            parameters_active=37e9,
            layers=61,
            kv_values_per_token=61 * (512 + 64),
            context_tokens_max=163_840,
            source="config.json of deepseek-ai/DeepSeek-V3 (KV rank 512, rotary 64); arXiv 2412.19437",
            aliases=("deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-R1", "nvidia/DeepSeek-V3.1-NVFP4", "deepseek-r1"),
        ),
    )
}


def find_model(name: str, file: str = "models") -> ModelSpec:
    """Find a model by its name or an alias, whatever the case.

    Raises
    ------
    InputError
        If it is not known; the nearest names are given.
    """
    wanted = name.strip().lower()
    for spec in MODELS.values():
        if wanted in {spec.name, *(alias.lower() for alias in spec.aliases)}:
            return spec
    near = difflib.get_close_matches(wanted, MODELS, n=2, cutoff=0.3) or sorted(MODELS)
    mend = f"Use a model with known step times: {', '.join(near)}."
    raise InputError([Fault(file, "no open model of this name is known", mend, value=name)])


def flops_per_token(spec: ModelSpec) -> float:
    """Return the operations of one token without attention, FLOP: 2 × active parameters."""
    return FLOPS_PER_PARAMETER * spec.parameters_active


def weight_bytes(served: Served) -> float:
    """Return the bytes of all weights (every weight in the served format: a lower bound)."""
    return served.spec.parameters_total * served.weight_bits / BITS_PER_BYTE


def kv_bytes_per_token(served: Served) -> float:
    """Return the bytes of KV cache that one token keeps, held once."""
    return served.spec.kv_values_per_token * served.kv_bits / BITS_PER_BYTE
