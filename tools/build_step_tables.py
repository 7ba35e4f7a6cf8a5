"""Rebuild the step tables that ship with the package, check them, and write the samples the tests compare with.

Run with the extra installed: ``python tools/build_step_tables.py [NAME ...]``. For each deployment it builds the
arrays from aiconfigurator-core, compares interpolated steps with direct calls at random points (the 99th percentile of
the error must be under 3%), and writes ``src/offtake/performance/data/NAME.npz`` and ``.json``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from offtake.performance.library import StoredTable, save_table
from offtake.performance.overhead import Host, with_host
from offtake.performance.silicon import SiliconChoice, build_table, direct_step_ns
from offtake.performance.steps import prefill_attention_ns, step_ns

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "src" / "offtake" / "performance" / "data"
SAMPLES = ROOT / "tests" / "performance" / "silicon_samples.json"
ERROR_P99_MAX = 0.03
SAMPLE_COUNT = 3000
KEPT_SAMPLES = 40
SEED = 20260501
NO_HOST = Host(0.0, 0.0, 0.0, 0.0)  #: direct calls know the chip alone

LLAMA_8B = "meta-llama/Meta-Llama-3.1-8B"
LLAMA_70B = "nvidia/Llama-3.1-70B-Instruct-FP8"
QWEN_FP8 = "Qwen/Qwen3-235B-A22B-FP8"
QWEN_NVFP4 = "nvidia/Qwen3-235B-A22B-NVFP4"
DEEPSEEK_FP8 = "deepseek-ai/DeepSeek-V3"
DEEPSEEK_NVFP4 = "nvidia/DeepSeek-V3.1-NVFP4"
QWEN_CONTEXT = 40_960
DEEPSEEK_CONTEXT = 163_840


def _llama_8b(system: str) -> SiliconChoice:
    return SiliconChoice(LLAMA_8B, system, 1, stand_in="llama-3.1-8b")


def _llama_70b(system: str) -> SiliconChoice:
    return SiliconChoice(LLAMA_70B, system, 4, stand_in="llama-3.1-70b", weight_bits=8, kv_bits=8)


def _qwen(model: str, system: str, chips: int, experts: int = 1) -> SiliconChoice:
    bits = 8 if model == QWEN_FP8 else 4
    choice = SiliconChoice(model, system, chips, expert_parallel=experts, context_tokens_max=QWEN_CONTEXT)
    return choice._replace(stand_in="qwen3-235b-a22b", weight_bits=bits, kv_bits=8)


def _deepseek(model: str, system: str, attention: str | None = None) -> SiliconChoice:
    bits = 8 if model == DEEPSEEK_FP8 else 4
    choice = SiliconChoice(model, system, 8, attention_format=attention, context_tokens_max=DEEPSEEK_CONTEXT)
    return choice._replace(stand_in="deepseek-v3", weight_bits=bits, kv_bits=8)


SHIPPED = {
    "llama-3.1-8b-h100-tp1": _llama_8b("h100_sxm"),
    "llama-3.1-8b-h200-tp1": _llama_8b("h200_sxm"),
    "llama-3.1-8b-b200-tp1": _llama_8b("b200_sxm"),
    "llama-3.1-70b-h100-tp4": _llama_70b("h100_sxm"),
    "llama-3.1-70b-h200-tp4": _llama_70b("h200_sxm"),
    "llama-3.1-70b-b200-tp4": _llama_70b("b200_sxm"),
    "llama-3.1-70b-gb200-tp4": _llama_70b("gb200"),
    "llama-3.1-70b-gb300-tp4": _llama_70b("gb300"),
    "qwen3-235b-h100-tp8": _qwen(QWEN_FP8, "h100_sxm", 8, 8),
    "qwen3-235b-h200-tp8": _qwen(QWEN_FP8, "h200_sxm", 8, 8),
    "qwen3-235b-b200-tp4": _qwen(QWEN_NVFP4, "b200_sxm", 4),
    "qwen3-235b-gb200-tp4": _qwen(QWEN_NVFP4, "gb200", 4),
    "qwen3-235b-gb300-tp4": _qwen(QWEN_NVFP4, "gb300", 4),
    "deepseek-v3-h200-tp8": _deepseek(DEEPSEEK_FP8, "h200_sxm", "bfloat16"),
    "deepseek-v3-b200-tp8": _deepseek(DEEPSEEK_NVFP4, "b200_sxm"),
    "deepseek-v3-gb200-tp8": _deepseek(DEEPSEEK_NVFP4, "gb200"),
    "deepseek-v3-gb300-tp8": _deepseek(DEEPSEEK_NVFP4, "gb300"),
}


def sample_points(choice: SiliconChoice, count: int) -> list[tuple[int, int, int]]:
    """Return ``count`` points (prompt, batch, context): half pure decode, half mixed, spread in ratio."""
    rng = np.random.default_rng(SEED)
    points = []
    for index in range(count):
        batch = int(np.exp(rng.uniform(0, np.log(choice.batch_max))))
        context = int(np.exp(rng.uniform(np.log(32), np.log(choice.context_tokens_max))))
        prompt = int(np.exp(rng.uniform(np.log(16), np.log(choice.step_tokens_max - batch))))
        points.append((prompt if index % 2 else 0, batch, context))
    return points


def interpolated_ns(stored: StoredTable, point: tuple[int, int, int]) -> float:
    """Return what the table says of a point."""
    prompt, batch, context = point
    attention_ns = prefill_attention_ns(stored.table, 0.0, float(prompt))
    return step_ns(stored.table, float(prompt), attention_ns, float(batch), float(context))


def build(name: str, choice: SiliconChoice) -> list[list[float]]:
    """Build, check and write one table; return the samples the tests keep."""
    start = time.process_time()
    stored = build_table(name, choice)
    seconds = time.process_time() - start
    ask = direct_step_ns(choice)
    points = sample_points(choice, SAMPLE_COUNT)
    direct = np.array([ask(*point) for point in points])
    chip = stored._replace(table=with_host(stored.table, NO_HOST))
    error = np.abs(np.array([interpolated_ns(chip, point) for point in points]) / direct - 1)
    p50, p99 = (float(np.quantile(error, q)) for q in (0.5, 0.99))
    if p99 > ERROR_P99_MAX:
        sys.exit(f"{name}: interpolation error p99 {p99:.4f} is above {ERROR_P99_MAX}")
    checked = {"samples": SAMPLE_COUNT, "error_p50": round(p50, 5), "error_p99": round(p99, 5)}
    size = save_table(stored._replace(provenance=stored.provenance | {"interpolation_check": checked}), DATA)
    sys.stdout.write(
        f"{name:28s} {seconds:5.2f} CPU-s {size:6d} B  p50 {p50:.5f} p99 {p99:.5f} max {error.max():.4f}"
        f"  kv {stored.limits.kv_blocks * stored.limits.block_tokens} tokens\n"
    )
    return [[*point, time_ns] for point, time_ns in zip(points[:KEPT_SAMPLES], direct.tolist(), strict=False)]


def main(names: list[str]) -> None:
    """Rebuild the named tables (all when none is named)."""
    kept: dict[str, list[list[float]]] = (
        json.loads(SAMPLES.read_text(encoding="utf-8"))["samples"] if SAMPLES.exists() else {}
    )
    for name in names or SHIPPED:
        kept[name] = build(name, SHIPPED[name])
    note = {
        "source": "aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0): direct calls by tools/build_step_tables.py",
        "columns": ["prompt_tokens", "batch", "context_tokens", "step_ns"],
        "samples": kept,
    }
    SAMPLES.write_text(json.dumps(note).replace('"samples"', '\n"samples"').replace("]], ", "]],\n") + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
