"""Say how a measured run was served: formats, limits of the engine, and the door by which requests came.

Comes in: a :class:`MeasuredRun`. Goes out: the :class:`SiliconChoice` to try, best first, and the :class:`Door`. The
flags are those of the benchmark's published scripts (SemiAnalysisAI/InferenceX, ``benchmarks/``, at commits 21dc5d0e of
October 2025, e06929c7 of November 2025 and 68bf34d2 of April 2026); for NVIDIA's own sweeps, whose client is not
published, the engines' defaults (assumption). Formats follow the checkpoint that a script serves: NVIDIA's FP8 Llama
has static scales (``fp8_static``), DeepSeek, Qwen3-235B and MiniMax are FP8 in blocks, gpt-oss is MXFP4 with 16-bit
activations on Hopper and 8-bit ones on Blackwell, whatever the table's label says. This module must never know a
measured time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from offtake.performance.closed_loop import Door
from offtake.performance.overhead import engine_on, front_of
from offtake.performance.silicon_engine import VERSIONS, SiliconChoice

if TYPE_CHECKING:
    from offtake.performance.silicon_rows import MeasuredRun

#: Names in the table for which the package has the configuration under another name.
CONFIGURATIONS = {
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Meta-Llama-3.1-8B",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-ai/DeepSeek-R1",
    "nvidia/Qwen3-32B-NVFP4": "Qwen/Qwen3-32B",
    "zhipuai/GLM-5": "zai-org/GLM-5",
}
BLOCK_FP8 = ("DeepSeek", "Qwen3-235B", "Qwen3.5", "MiniMax", "GLM")
HOPPER = ("h100_sxm", "h200_sxm")
BITS = {"fp4": 4, "int4": 4, "fp8": 8, "bf16": 16}
NOT_OVERLAPPED = ("0.11.2", "0.12.0")  #: vLLM of NVIDIA's own sweeps
CONTEXT_SPARE_TOKENS = 1_024
K = 1024  #: the prompts and answers of a "1k" run


class Formats(NamedTuple):
    """Name the formats of linear layers, experts, KV cache and attention (None: the package's own choice)."""

    linear: str | None
    expert: str | None
    kv: str | None
    attention: str | None = None


class Flags(NamedTuple):
    """Hold an engine's limits as a script sets them."""

    step_tokens_max: int
    prefill_tokens_max: int
    batch_max: int
    memory_fraction: float
    receive_steps: int = 1
    gather_steps: int = 0
    gather_tokens: int = 0
    gather_prompts: int = 0


def choices_of(run: MeasuredRun) -> list[SiliconChoice]:
    """Return the deployments to try for a run, best first: measured data, then the package's own estimates."""
    flags = flags_of(run)
    base = SiliconChoice(
        CONFIGURATIONS.get(run.model, run.model),
        run.system,
        run.tensor_parallel,
        run.backend,
        VERSIONS[run.backend],
        run.expert_parallel,
        weight_bits=BITS[run.precision],
        kv_bits=16 if _kv(run) == "bfloat16" else 8,
        step_tokens_max=flags.step_tokens_max,
        batch_max=flags.batch_max,
        block_tokens=1 if run.backend == "sglang" else 32 if run.backend == "trtllm" else 16,
        memory_fraction=flags.memory_fraction,
        context_tokens_max=run.input_tokens + run.output_tokens + CONTEXT_SPARE_TOKENS,
        attention_ranks=run.attention_ranks,
        drafts=run.drafts,
        chunked=0 if run.backend == "trtllm" else 1,
        prefill_tokens_max=flags.prefill_tokens_max,
    )
    measured = [_with(base, formats) for one in _formats(run) for formats in (one, one._replace(attention="bfloat16"))]
    instead = [one._replace(expert_parallel=one.chips) for one in measured] if _shards_lack_data(run) else []
    return measured + instead + [one._replace(estimated=True) for one in measured]


def door_of(run: MeasuredRun) -> Door:
    """Return how requests came to the engine of a run; NVIDIA's own sweeps had no front end before it (assumption)."""
    flags, front = flags_of(run), Door() if run.internal else front_of(engine_of(run))
    return front._replace(
        receive_steps=flags.receive_steps,
        gather_steps=flags.gather_steps,
        gather_tokens=flags.gather_tokens,
        gather_prompts=flags.gather_prompts,
    )


def engine_of(run: MeasuredRun) -> str:
    """Return the name under which ``overhead`` keeps the constants of a run's engine.

    vLLM overlaps scheduling with the chip by default from 0.14 on; the public scripts ask for it before that too.
    """
    late = run.backend == "vllm" and run.version in NOT_OVERLAPPED
    return "vllm, not overlapped" if late else engine_on(run.backend, run.system)


def flags_of(run: MeasuredRun) -> Flags:
    """Return the limits that the script of a run sets, or the engine's defaults."""
    return {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm}[run.backend](run)


def _vllm(run: MeasuredRun) -> Flags:
    """Return vLLM's: 8,192 tokens a step; MiniMax on Blackwell two prompts."""
    clients = max(1, run.clients // run.attention_ranks)
    if run.internal:
        return Flags(8192, 16_384, max(clients, 1024), 0.9)
    if "MiniMax" in run.model:
        budget = 8192 if run.system in HOPPER else 2 * run.input_tokens
        return Flags(budget, 16_384, 1024, 0.95 if run.system == "h200_sxm" else 0.9)
    fraction = 0.95 if run.precision == "int4" else 0.9
    return Flags(8192, 16_384, clients if run.system in HOPPER or "Kimi" in run.model else 512, fraction)


def _sglang(run: MeasuredRun) -> Flags:
    """Return SGLang's: prompts in chunks of 8,192 to 32,768; on Blackwell it looks for more every 10 or 30 steps."""
    blackwell = run.system not in HOPPER
    if run.internal:
        return Flags(8192, 16_384, max(run.clients, 256), 0.85)
    if "GLM" in run.model:
        return Flags(32_768, 32_768, 512, 0.85) if blackwell else Flags(8192, 16_384, 512, 0.85)
    receive = (30 if run.clients >= 16 else 10) if blackwell else 1  # noqa: PLR2004 - as the scripts say
    if "Qwen3.5" in run.model:
        return _sglang_qwen(run, receive)
    if run.precision == "fp4":
        return Flags(16_384, 16_384, 256, 0.85, receive)
    if run.chips == 4:  # noqa: PLR2004 - as the scripts say
        return Flags(8192, 8192, 32, 0.95, receive)
    return Flags(32_768, 32_768, 512 if run.clients > 128 else 256, 0.82, receive)  # noqa: PLR2004 - as the scripts say


def _sglang_qwen(run: MeasuredRun, receive: int) -> Flags:
    """Return SGLang's for Qwen3.5.

    The cap of 128 requests stands in scripts whose lists end at 128 clients (``nvidia-master.yaml`` at 64c20b6b,
    6a5dad46 and c0f62a2e); that of B300 in FP8 at c0f62a2e, whose list goes to 256, has as many requests as clients.
    Runs of 256 clients before that are of no list there; they are taken to have had as many, too (assumption).
    """
    if run.system in HOPPER:
        return Flags(16_384, 16_384, 128, 0.8)
    most = max(128, run.clients)
    if run.system == "b300_sxm" and run.precision == "fp8" and run.date >= "2026-04-17":
        return Flags(16_384, 16_384, most, 0.8, 10)
    return Flags(32_768, 32_768, most, 0.82, receive)


def _trtllm(run: MeasuredRun) -> Flags:
    """Return TensorRT-LLM's: whole prompts, in steps as long as the script allows."""
    clients = max(1, run.clients // run.attention_ranks)
    short = run.input_tokens == K and run.output_tokens == K
    if run.internal:
        return Flags(max(8192, run.input_tokens + clients), 16_384, max(clients, 2048), 0.9)  # beside those decoding
    if "Llama" in run.model:
        gather = (20, int(0.9 * 16_384), 0) if short and run.chips < 8 else (0, 0, 0)  # noqa: PLR2004 - as the scripts say
        return Flags(16_384, 16_384, 2048, 0.9, 1, *gather)
    gather = (60, 0, run.attention_ranks) if run.attention_ranks > 1 else (0, 0, 0)
    if "gpt-oss" in run.model:
        return Flags(20_000, 20_000, max(clients, 512), 0.85, 1, *gather)
    budget = (run.clients + run.input_tokens + 64 + 63) // 64 * 64
    if run.date >= "2026-01-15":
        budget = max(budget, 8192)
    late_fp8 = run.precision == "fp8" and run.system not in HOPPER and run.date >= "2026-01-01"
    if late_fp8 and short and run.clients >= 64 and run.attention_ranks == 1:  # noqa: PLR2004 - as the scripts say
        gather = (40, int(0.8 * budget), 0)
    return Flags(budget, budget, 2048, 0.75 if run.system in HOPPER else 0.8, 1, *gather)


def _formats(run: MeasuredRun) -> list[Formats]:
    """Return the formats to try, best first."""
    kv = _kv(run)
    if "gpt-oss" in run.model:
        return [Formats(None, "w4a16_mxfp4" if run.system in HOPPER else "w4a8_mxfp4_mxfp8", kv)]
    if run.precision == "fp8":
        return _formats_fp8(run, kv)
    return {
        "fp4": [Formats("nvfp4", "nvfp4", kv)],
        "int4": [Formats("bfloat16", "int4_wo", kv), Formats("int4_wo", "int4_wo", kv)],
        "bf16": [Formats("bfloat16", "bfloat16", kv)],
    }[run.precision]


def _formats_fp8(run: MeasuredRun, kv: str | None) -> list[Formats]:
    """Return the formats of an FP8 run: static scales, blocks, or plain."""
    plain, blocks = Formats("fp8", "fp8", kv), Formats("fp8_block", "fp8_block", kv)
    if "Llama" in run.model:
        return [Formats("fp8_static", "fp8", kv), plain]
    if "MiniMax" in run.model and run.system not in HOPPER:
        return [plain]  # FlashInfer's TRT-LLM kernels, whose rate stands under this name
    if any(name in run.model for name in BLOCK_FP8):
        spare = [blocks._replace(kv="bfloat16")] if "Qwen3.5" in run.model else []
        return [blocks, Formats("fp8", "fp8_block", kv), plain, *spare]
    return [plain, blocks]


def _kv(run: MeasuredRun) -> str | None:
    """Return the format of the KV cache: FP8 where the script or the checkpoint says so."""
    hopper = run.system in HOPPER
    if run.internal:
        return None
    wide = (
        run.precision in {"bf16", "int4"}
        or ("MiniMax" in run.model and hopper)
        or ("gpt-oss" in run.model and hopper)
        or (run.backend == "sglang" and hopper and ("DeepSeek" in run.model or "GLM" in run.model))
    )
    return "bfloat16" if wide else "fp8"


def _shards_lack_data(run: MeasuredRun) -> bool:
    """Say whether experts cut across chips lack data, while whole ones spread over them, the same bytes, have some."""
    return "gpt-oss" in run.model and run.backend == "trtllm" and run.chips > 1 and run.expert_parallel == 1


def _with(choice: SiliconChoice, formats: Formats) -> SiliconChoice:
    """Return a choice in other formats."""
    return choice._replace(
        linear_format=formats.linear,
        expert_format=formats.expert,
        kv_format=formats.kv,
        attention_format=formats.attention,
    )
