"""Build step tables from ``aiconfigurator_core``, NVIDIA's file of measured kernels (the extra ``offtake[silicon]``).

Comes in: a :class:`SiliconChoice` (model, system, backend, version, parallelism). Goes out: a ``library.StoredTable``,
the small arrays of ``steps`` with their provenance. The heavy package is imported only inside functions, so that the
base install never needs it. A combination without data is refused with the nearest that has some.

What the arrays mean, in aiconfigurator's terms (``mixed_step_breakdown`` = total, rest, prefill attention A, decode
attention; all with ``osl=2``, which makes ``isl`` the mean context): ``token_ns`` is the rest plus the
floor A(1), paid once in each step that prefills; ``prefill_ns`` is A(p) - A(1). Where a model's attention is measured
as one fused block (DeepSeek in FP8), A(p) is the block at one prompt of p less the block at prompts of 512 tokens, and
the decode attention of a mixed step is what context adds to a pure decode step. This module must never know a price.
"""

from __future__ import annotations

import csv
import difflib
import importlib
import logging
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from offtake.errors import Fault, InputError
from offtake.performance.library import StoredTable
from offtake.performance.steps import Floats, ReplicaLimits, StepTable
from offtake.units import BYTES_PER_GB, FLOPS_PER_TFLOP, NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGE = "aiconfigurator-core"
LICENCE = "Apache-2.0"
INSTALL_HINT = "Install the extra: `uv sync --extra silicon`, or `pip install 'offtake[silicon]'`."
GRID_TOLERANCE = 0.004
CONTEXT_TOLERANCE = 0.008
SHORT_PROMPT_TOKENS = 512
PREFILL_SAMPLES = 400
CONTEXT_SAMPLES = 160
PEAK = {16: "bfloat16_tc_flops", 8: "fp8_tc_flops", 4: "fp4_tc_flops"}
FRACTION_KIND = {"vllm": "of_total", "sglang": "of_total", "trtllm": "of_free"}


class SiliconChoice(NamedTuple):
    """Name one deployment in aiconfigurator's words; the limits are the backend's own defaults.

    ``tensor_parallel`` chips hold one replica; the experts of a sparse model are split over ``expert_parallel`` of
    them and the rest of the split is tensor-parallel. ``stand_in`` is the name in ``model.MODELS``, with the bits of a
    weight and of a KV value as this checkpoint is served. ``memory_fraction`` is what the backend may take of the
    chip's memory. The defaults are vLLM's for its server on a chip of 70 GiB and more:
    ``EngineArgs.get_batch_defaults`` in ``vllm/engine/arg_utils.py`` (8,192 tokens a step, 1,024 sequences), and
    blocks of 16 tokens and 0.9 of the memory in ``vllm/config/cache.py`` (0.92 in later versions).
    """

    model: str
    system: str
    tensor_parallel: int
    backend: str = "vllm"
    backend_version: str = "0.24.0"
    expert_parallel: int = 1
    attention_format: str | None = None
    stand_in: str = ""
    weight_bits: int = 16
    kv_bits: int = 16
    step_tokens_max: int = 8192
    batch_max: int = 1024
    block_tokens: int = 16
    memory_fraction: float = 0.9
    context_tokens_max: int = 131_072


class _Engine(NamedTuple):
    """Ask one compiled engine; every answer is in nanoseconds."""

    handle: Any
    fused: bool


def build_table(name: str, choice: SiliconChoice) -> StoredTable:
    """Build the step table and limits of one deployment, to be called ``name``, from measured kernels.

    Raises
    ------
    InputError
        If the extra is not installed, or there is no data for the combination: the nearest that exist are named.
    """
    engine = _open_engine(choice)
    tokens = np.arange(1, choice.step_tokens_max + 1, dtype=np.float64)
    floor_ns = _prefill_attention(engine, 1)
    rest_ns = np.array([_rest(engine, int(count)) for count in tokens]) + floor_ns
    token_grid, token_ns = sparse_grid(tokens, rest_ns, rest_ns)
    prefill_grid, prefill_ns = _prefill_arrays(engine, choice, float(rest_ns[0]))
    batch_grid, context_grid = _decode_grids(engine, choice)
    decode_step_ns = _decode_steps(engine, batch_grid, context_grid)
    decode_attention_ns = _decode_attention(engine, batch_grid, context_grid, decode_step_ns)
    table = StepTable(
        token_grid,
        token_ns,
        prefill_grid,
        prefill_ns,
        batch_grid,
        context_grid,
        decode_attention_ns,
        decode_step_ns,
        0.0,
    )
    return StoredTable(name, table, _limits(choice), _provenance(engine, choice))


def sparse_grid(x: Floats, y: Floats, scale: Floats, tolerance: float = GRID_TOLERANCE) -> tuple[Floats, Floats]:
    """Return the few points of ``y [x]`` between which straight lines stay within ``tolerance * scale``.

    The point with the greatest error is kept and each side is treated likewise (Douglas and Peucker 1973).
    """
    keep = np.zeros(x.size, dtype=bool)
    keep[[0, -1]] = True
    pending = [(0, x.size - 1)]
    while pending:
        first, last = pending.pop()
        if last - first <= 1:
            continue
        inside = slice(first + 1, last)
        slope = (y[last] - y[first]) / (x[last] - x[first])
        error = np.abs(y[first] + slope * (x[inside] - x[first]) - y[inside]) / scale[inside]
        worst = first + 1 + int(np.argmax(error))
        if error.max() > tolerance:
            keep[worst] = True
            pending += [(first, worst), (worst, last)]
    return x[keep], y[keep]


def direct_step_ns(choice: SiliconChoice) -> Callable[[int, int, int], float]:
    """Return the function that asks aiconfigurator itself for a step, to check a table against.

    ``ask(prompt_tokens, batch, context_tokens)``: a whole prompt of ``prompt_tokens`` (0 for none) beside ``batch``
    requests decoding at ``context_tokens``. A mixed answer counts decode attention at the decoding requests' context.
    """
    engine = _open_engine(choice)

    def ask(prompt_tokens: int, batch: int, context_tokens: int) -> float:
        if prompt_tokens == 0:
            return _decode_step(engine, batch, context_tokens)
        decode_ns = 0.0
        if batch and engine.fused:
            decode_ns = max(0.0, _decode_step(engine, batch, context_tokens) - _decode_step(engine, batch, 1))
        elif batch:
            decode_ns = NS_PER_MS * float(engine.handle.mixed_step_breakdown(1, batch, context_tokens, 2)[3])
        prompt = engine.handle.mixed_step_breakdown(prompt_tokens, batch, prompt_tokens, 2)
        return NS_PER_MS * float(prompt[1] + prompt[2]) + decode_ns

    return ask


def nearest_available(choice: SiliconChoice) -> list[str]:
    """List the combinations nearest to ``choice`` that the package says it supports, nearest first."""
    rows = list(_support_rows())
    models = sorted({row["HuggingFaceID"] for row in rows})
    if choice.model not in models:
        close = difflib.get_close_matches(choice.model, models, n=3, cutoff=0.3)
        return [f"model {name}" for name in close]
    passing = [row for row in rows if row["HuggingFaceID"] == choice.model and row["Status"] == "PASS"]
    found = {(row["System"], row["Backend"], row["Version"]) for row in passing}
    wanted = (choice.system, choice.backend, choice.backend_version)
    order = sorted(found, key=lambda one: (-sum(a == b for a, b in zip(one, wanted, strict=True)), one))
    return [f"{system} with {backend} {release}" for system, backend, release in order[:3]]


def _core(module: str) -> Any:  # noqa: ANN401 - an optional package without types
    """Import a module of the optional package, or say how to install it."""
    logging.getLogger("aiconfigurator_core").setLevel(logging.CRITICAL)
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError([Fault("offtake[silicon]", f"{PACKAGE} is not installed", INSTALL_HINT)]) from None


def _support_rows() -> Iterable[dict[str, str]]:
    """Yield the rows of the package's own matrix of what it can answer."""
    root = Path(_core("aiconfigurator_core").__file__).parent / "systems" / "support_matrix"
    for path in sorted(root.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)


def _open_engine(choice: SiliconChoice) -> _Engine:
    """Compile the engine and try it once, or refuse with the nearest combinations."""
    engine_module = _core("aiconfigurator_core.sdk.engine")
    if choice.model not in {row["HuggingFaceID"] for row in _support_rows()}:
        raise InputError([_no_data(choice, "the model is not in its list")])
    try:
        handle = engine_module.EngineHandle.compile(
            choice.model, choice.system, choice.backend, **_engine_options(choice)
        )
        parts = handle.mixed_step_breakdown(512, 8, 512, 2)
        handle.decode_step_latency(8, 512, 2)
    except Exception as error:  # noqa: BLE001 - the package raises many kinds; all mean that it has no answer here
        raise InputError([_no_data(choice, str(error))]) from None
    return _Engine(handle, fused=parts[2] == 0.0)


def _engine_options(choice: SiliconChoice) -> dict[str, Any]:
    """Return the keyword arguments that name the version and the split over chips."""
    options: dict[str, Any] = {
        "backend_version": choice.backend_version,
        "tp_size": choice.tensor_parallel,
        "moe_tp_size": choice.tensor_parallel // choice.expert_parallel,
        "moe_ep_size": choice.expert_parallel,
    }
    if choice.attention_format is not None:
        options["fmha_quant_mode"] = choice.attention_format
    return options


def _no_data(choice: SiliconChoice, reason: str) -> Fault:
    """Return the fault of a combination without data."""
    nearest = nearest_available(choice)
    where = f"{choice.model} on {choice.system} with {choice.backend} {choice.backend_version}"
    mend = f"Nearest available: {'; '.join(nearest)}." if nearest else "No combination of this model has data."
    first_line = reason.strip().splitlines()[0][:200] if reason.strip() else "unknown reason"
    return Fault(PACKAGE, f"no step times for {where} at {choice.tensor_parallel} chips ({first_line})", mend)


def _rest(engine: _Engine, tokens: int) -> float:
    """Return everything but attention in a step of ``tokens``, ns."""
    rest_ns = NS_PER_MS * float(engine.handle.mixed_step_breakdown(tokens, 0, tokens, 2)[1])
    return rest_ns - _fused_attention(engine, tokens) if engine.fused else rest_ns


def _prefill_attention(engine: _Engine, tokens: int) -> float:
    """Return the attention of a whole prompt of ``tokens``, ns."""
    if engine.fused:
        return _fused_attention(engine, tokens)
    return NS_PER_MS * float(engine.handle.mixed_step_breakdown(tokens, 0, tokens, 2)[2])


def _fused_attention(engine: _Engine, tokens: int) -> float:
    """Return what one prompt of ``tokens`` costs above the same tokens in prompts of 512, ns."""
    if tokens <= SHORT_PROMPT_TOKENS:
        return 0.0
    whole = _fused_block(engine, 1, tokens)
    count = tokens // SHORT_PROMPT_TOKENS
    short = _fused_block(engine, count, SHORT_PROMPT_TOKENS) * tokens / (count * SHORT_PROMPT_TOKENS)
    return max(0.0, whole - short)


def _fused_block(engine: _Engine, prompts: int, tokens: int) -> float:
    """Return the fused attention block of ``prompts`` prompts of ``tokens`` tokens, ns."""
    operations, _ = engine.handle.run_static_per_op(batch_size=prompts, isl=tokens, osl=2, mode="static_ctx")
    return NS_PER_MS * sum(float(one[1]) for one in operations if "mla" in one[0])


def _decode_step(engine: _Engine, batch: int, context: int) -> float:
    """Return the time of a pure decode step, ns."""
    return NS_PER_MS * float(engine.handle.decode_step_latency(batch, context, 2))


def _prefill_arrays(engine: _Engine, choice: SiliconChoice, scale_ns: float) -> tuple[Floats, Floats]:
    """Return the grid and values of cumulative prefill attention above its floor: A(p) - A(1), never falling."""
    spread = np.geomspace(1, choice.context_tokens_max, PREFILL_SAMPLES).round()
    tokens = np.unique(np.concatenate([spread, np.arange(1, 33), 2.0 ** np.arange(5, 17)]))
    tokens = tokens[tokens <= choice.context_tokens_max]
    attention_ns = np.array([_prefill_attention(engine, int(count)) for count in tokens])
    above_ns = np.maximum.accumulate(attention_ns - attention_ns[0])
    tokens, above_ns = np.concatenate([[0.0], tokens]), np.concatenate([[0.0], above_ns])
    return sparse_grid(tokens, above_ns, above_ns + scale_ns)


def _decode_grids(engine: _Engine, choice: SiliconChoice) -> tuple[Floats, Floats]:
    """Return the batches and contexts at which a pure decode step bends."""
    batches = np.arange(1, choice.batch_max + 1, dtype=np.float64)
    bends: set[float] = set()
    for context in (256, 2048, 16_384):
        times = np.array([_decode_step(engine, int(batch), context) for batch in batches])
        bends |= set(sparse_grid(batches, times, times)[0].tolist())
    spread = np.unique(np.geomspace(1, choice.context_tokens_max, CONTEXT_SAMPLES).round())
    turns: set[float] = set()
    for batch in (1, 16, 128, 512):
        times = np.array([_decode_step(engine, batch, int(context)) for context in spread])
        turns |= set(sparse_grid(spread, times, times, CONTEXT_TOLERANCE)[0].tolist())
    return np.array(sorted(bends)), np.array(sorted(turns))


def _decode_steps(engine: _Engine, batch_grid: Floats, context_grid: Floats) -> Floats:
    """Return pure decode steps [batch, context], ns."""
    cells = [[_decode_step(engine, int(batch), int(context)) for context in context_grid] for batch in batch_grid]
    return np.array(cells)


def _decode_attention(engine: _Engine, batch_grid: Floats, context_grid: Floats, decode_ns: Floats) -> Floats:
    """Return decode attention inside a mixed step [batch, context], ns."""
    if engine.fused:
        return np.maximum(0.0, decode_ns - decode_ns[:, :1])
    ask = engine.handle.mixed_step_breakdown
    cells = [[float(ask(1, int(batch), int(context), 2)[3]) for context in context_grid] for batch in batch_grid]
    return NS_PER_MS * np.array(cells)


def _limits(choice: SiliconChoice) -> ReplicaLimits:
    """Return what one replica holds: the KV capacity from the package's memory model, the rest from the backend."""
    memory = _core("aiconfigurator_core.sdk.memory")
    options = _engine_options(choice)
    try:
        answer = memory.estimate_kv_cache(
            choice.model,
            choice.system,
            choice.backend,
            options.pop("backend_version"),
            max_num_tokens=choice.step_tokens_max,
            max_batch_size=choice.batch_max,
            memory_fraction_kind=FRACTION_KIND[choice.backend],
            memory_fraction_value=choice.memory_fraction,
            **options,
        )
    except (ValueError, RuntimeError) as error:
        problem = f"{choice.model} does not fit {choice.tensor_parallel} chips of {choice.system} ({error})"
        raise InputError([Fault(PACKAGE, problem, "Use more chips per replica.")]) from None
    blocks = int(answer["total_kv_size_tokens"]) // choice.block_tokens
    return ReplicaLimits(
        blocks, choice.block_tokens, choice.batch_max, choice.step_tokens_max, choice.context_tokens_max
    )


def _provenance(engine: _Engine, choice: SiliconChoice) -> dict[str, Any]:
    """Return what a reader must know to trust or rebuild the table."""
    return {
        "source": f"{PACKAGE} {package_version(PACKAGE)} (NVIDIA), measured kernels composed into steps",
        "licence": LICENCE,
        "stand_in": choice.stand_in,
        "checkpoint": choice.model,
        "weight_bits": choice.weight_bits,
        "kv_bits": choice.kv_bits,
        "system": choice.system,
        "backend": f"{choice.backend} {choice.backend_version}",
        "tensor_parallel": choice.tensor_parallel,
        "expert_parallel": choice.expert_parallel,
        "fused_attention": engine.fused,
        "step_time_share_by_source": _shares(engine),
        "choice": choice._asdict(),
        "chip": _data_sheet(choice),
        "confidence": "estimate",
    }


def _data_sheet(choice: SiliconChoice) -> dict[str, float]:
    """Return the chip's data sheet as the package states it, with the dense peak at the format served."""
    path = Path(_core("aiconfigurator_core").__file__).parent / "systems" / f"{choice.system}.yaml"
    facts = _core("yaml").safe_load(path.read_text(encoding="utf-8"))["gpu"]
    return {
        "memory_gb": facts["mem_capacity"] / BYTES_PER_GB,
        "memory_bandwidth_gb_s": facts["mem_bw"] / BYTES_PER_GB,
        "peak_tflops": facts[PEAK[choice.weight_bits]] / FLOPS_PER_TFLOP,
    }


def _shares(engine: _Engine) -> dict[str, float]:
    """Return the share of a step (512 prompt tokens beside 64 decodes) by the package's own mark of its source."""
    totals: dict[str, float] = {}
    for part in engine.handle.mixed_step_breakdown_per_op(512, 64, 1024, 2):
        for operation in part:
            totals[operation[3]] = totals.get(operation[3], 0.0) + float(operation[1])
    whole = sum(totals.values())
    return {name: round(time / whole, 3) for name, time in sorted(totals.items()) if time > 0}
