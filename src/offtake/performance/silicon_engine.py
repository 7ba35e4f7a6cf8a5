"""Open one engine of ``aiconfigurator_core`` (the extra ``offtake[silicon]``), or say which combination has data.

Comes in: a :class:`SiliconChoice` (model, system, backend, version, split over chips, formats). Goes out: an
:class:`Engine` that answers in nanoseconds, and what one replica holds. The heavy package is imported only inside
functions, so that the base install never needs it. A combination without data is refused with the nearest that has
some. This module must never know a table or a price.
"""

from __future__ import annotations

import csv
import difflib
import importlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from offtake.errors import Fault, InputError
from offtake.performance.steps import ReplicaLimits, Scheduler
from offtake.units import BYTES_PER_GB, FLOPS_PER_TFLOP, NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE = "aiconfigurator-core"
INSTALL_HINT = "Install the extra: `uv sync --extra silicon`, or `pip install 'offtake[silicon]'`."
VERSIONS = {"vllm": "0.24.0", "sglang": "0.5.14", "trtllm": "1.3.0rc20"}  #: that 0.12.0 of the package can be asked for
PEAK = {16: "bfloat16_tc_flops", 8: "fp8_tc_flops", 4: "fp4_tc_flops"}
FRACTION_KIND = {"vllm": "of_total", "sglang": "of_total", "trtllm": "of_free"}
SCHEDULER = {"vllm": Scheduler.VLLM, "sglang": Scheduler.SGLANG, "trtllm": Scheduler.TRTLLM}


class SiliconChoice(NamedTuple):
    """Name one deployment in aiconfigurator's words; the limits are the backend's own defaults.

    ``tensor_parallel`` × ``attention_ranks`` chips hold one replica; the experts of a sparse model are split over
    ``expert_parallel`` of them and the rest of the split is tensor-parallel. With ``attention_ranks`` above 1 the step
    times are those of one rank (see ``silicon_ranks``). ``stand_in`` is the name in ``model.MODELS``, with the bits
    of a weight and of a KV value as this checkpoint is served. ``memory_fraction`` is what the backend may take of the
    chip's memory. The defaults are vLLM's for its server on a chip of 70 GiB and more:
    ``EngineArgs.get_batch_defaults`` in ``vllm/engine/arg_utils.py`` (8,192 tokens a step, 1,024 sequences), and
    blocks of 16 tokens and 0.9 of the memory in ``vllm/config/cache.py`` (0.92 in later versions). A format that is
    None is what the checkpoint says. ``estimated``: let the package fill gaps in its data by its own estimates (its
    HYBRID mode). ``drafts``: tokens that a multi-token-prediction head drafts for each step.
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
    attention_ranks: int = 1
    linear_format: str | None = None
    expert_format: str | None = None
    kv_format: str | None = None
    estimated: bool = False
    drafts: int = 0
    chunked: int = 1
    prefill_tokens_max: int = 16_384

    @property
    def chips(self) -> int:
        """Return the chips of one replica."""
        return self.tensor_parallel * self.attention_ranks


class Engine(NamedTuple):
    """Ask one compiled engine; every answer is in nanoseconds. ``fused``: attention is measured as one block.

    ``sparse`` and ``latent``: whether the model has experts, and keys and values in a smaller space.
    """

    handle: Any
    fused: bool
    layers: int
    sparse: bool
    latent: bool

    def rest(self, tokens: int) -> float:
        """Return everything but attention in a step of ``tokens``."""
        return NS_PER_MS * float(self.handle.mixed_step_breakdown(tokens, 0, tokens, 2)[1])

    def prefill_attention(self, tokens: int) -> float:
        """Return the attention of a whole prompt (0 where it is fused)."""
        return NS_PER_MS * float(self.handle.mixed_step_breakdown(tokens, 0, tokens, 2)[2])

    def prompt_beside(self, tokens: int, batch: int) -> float:
        """Return a step with a whole prompt beside ``batch`` decoding requests, without their attention."""
        _, rest, attention, _ = self.handle.mixed_step_breakdown(tokens, batch, tokens, 2)
        return NS_PER_MS * float(rest + attention)

    def fused_block(self, prompts: int, tokens: int) -> float:
        """Return the fused attention block of ``prompts`` prompts of ``tokens`` tokens."""
        operations, _ = self.handle.run_static_per_op(batch_size=prompts, isl=tokens, osl=2, mode="static_ctx")
        return NS_PER_MS * sum(float(one[1]) for one in operations if any(name in one[0] for name in FUSED))

    def decode_step(self, batch: int, context: int) -> float:
        """Return a pure decode step of ``batch`` requests at ``context`` tokens each."""
        return NS_PER_MS * float(self.handle.decode_step_latency(batch, context, 2))

    def decode_attention(self, batch: int, context: int) -> float:
        """Return the decode attention inside a mixed step."""
        return NS_PER_MS * float(self.handle.mixed_step_breakdown(1, batch, context, 2)[3])


FUSED = ("mla", "dsa", "msa", "attention")  #: names of fused attention blocks


def open_engine(choice: SiliconChoice) -> Engine:
    """Compile the engine and try it once.

    Raises
    ------
    InputError
        If the extra is not installed, or there is no data for the combination: the nearest that exist are named.
    """
    _quiet()
    if choice.model not in {row["HuggingFaceID"] for row in _support_rows()} and not _config_of(choice.model).exists():
        raise InputError([_no_data(choice, "the model is not in its list")])
    try:
        handle, layers = _compiled(choice)
        parts = handle.mixed_step_breakdown(512, 8, 512, 2)
        handle.decode_step_latency(8, 512, 2)
    except Exception as error:  # noqa: BLE001 - the package raises many kinds; all mean that it has no answer here
        raise InputError([_no_data(choice, str(error))]) from None
    sparse = any("moe" in one[0] for one in handle.decode_step_per_op(8, 512, 2))
    return Engine(handle, parts[2] == 0.0, layers, sparse, _is_latent(choice.model))


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


def limits_of(choice: SiliconChoice) -> ReplicaLimits:
    """Return what one replica (with ``attention_ranks``: one rank) holds: its KV cache by the package's memory model.

    SGLang's fraction covers weights and cache alone (``mem_fraction_static``: its pool is what is free once the weights
    are loaded, less the other share of what was free before, ``model_runner.py``), so that activations, graphs and
    buffers lie outside it; the others' fraction covers those too.

    Raises
    ------
    InputError
        If the weights leave no room.
    """
    try:
        fraction = choice.memory_fraction
        if choice.backend == "sglang":
            whole = _memory_of(choice, 1.0)
            beside = sum(whole["memory_breakdown"].values()) - whole["memory_breakdown"]["weights_bytes"]
            fraction = min(1.0, fraction + beside / whole["total_gpu_capacity_bytes"])
        blocks = int(_memory_of(choice, fraction)["total_kv_size_tokens"]) // choice.block_tokens
    except (ValueError, RuntimeError) as error:
        problem = f"{choice.model} does not fit {choice.chips} chips of {choice.system} ({error})"
        raise InputError([Fault(PACKAGE, problem, "Use more chips per replica.")]) from None
    return ReplicaLimits(
        max(blocks, 1),
        choice.block_tokens,
        choice.batch_max,
        choice.step_tokens_max,
        choice.context_tokens_max,
        scheduler=SCHEDULER[choice.backend],
        chunked=choice.chunked,
        prefill_tokens_max=choice.prefill_tokens_max,
    )


def _memory_of(choice: SiliconChoice, fraction: float) -> dict[str, Any]:
    """Return the package's memory model of a replica at a share of the chip's memory."""
    options = _engine_options(choice)
    answer: dict[str, Any] = core("aiconfigurator_core.sdk.memory").estimate_kv_cache(
        choice.model,
        choice.system,
        choice.backend,
        options.pop("backend_version"),
        max_num_tokens=1 if choice.backend == "sglang" else choice.step_tokens_max,
        max_batch_size=choice.batch_max,
        memory_fraction_kind=FRACTION_KIND[choice.backend],
        memory_fraction_value=fraction,
        **options,
    )
    return answer


def data_sheet(choice: SiliconChoice) -> dict[str, float]:
    """Return the chip's data sheet as the package states it, with the dense peak at the format served."""
    path = package_folder() / "systems" / f"{choice.system}.yaml"
    facts = core("yaml").safe_load(path.read_text(encoding="utf-8"))["gpu"]
    peak = facts.get(PEAK[choice.weight_bits]) or facts[PEAK[16]]
    return {
        "memory_gb": facts["mem_capacity"] / BYTES_PER_GB,
        "memory_bandwidth_gb_s": facts["mem_bw"] / BYTES_PER_GB,
        "peak_tflops": peak / FLOPS_PER_TFLOP,
    }


def package_folder() -> Path:
    """Return the folder in which the package lies."""
    return Path(core("aiconfigurator_core").__file__).parent


def core(module: str) -> Any:  # noqa: ANN401 - an optional package without types
    """Import a module of the optional package, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError([Fault("offtake[silicon]", f"{PACKAGE} is not installed", INSTALL_HINT)]) from None


def _quiet() -> None:
    """Keep the package's warnings to itself; what matters comes back as a fault."""
    for name in ("aiconfigurator_core", "aiconfigurator"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _config_of(model: str) -> Path:
    """Return where the package keeps the configuration of a model."""
    return package_folder() / "model_configs" / f"{model.replace('/', '--')}_config.json"


def _is_latent(model: str) -> bool:
    """Say whether a model's attention is latent, by the package's configuration of it (False where it has none)."""
    path = _config_of(model)
    if not path.exists():
        return False
    config = json.loads(path.read_text(encoding="utf-8"))
    return bool(config.get("text_config", config).get("kv_lora_rank"))


def _support_rows() -> Iterable[dict[str, str]]:
    """Yield the rows of the package's own matrix of what it can answer."""
    for path in sorted((package_folder() / "systems" / "support_matrix").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)


def _compiled(choice: SiliconChoice) -> tuple[Any, int]:
    """Return the compiled engine and the layers of its model, in the mode that ``estimated`` asks for."""
    engine, root = core("aiconfigurator_core.sdk.engine"), core("aiconfigurator_core")
    options = _engine_options(choice)
    version = options.pop("backend_version")
    config = core("aiconfigurator_core.sdk.config_builders").build_model_config(pp_size=1, **options)
    config.nextn = choice.drafts
    model = core("aiconfigurator_core.sdk.models").get_model(choice.model, config, choice.backend)
    mode = "HYBRID" if choice.estimated else "SILICON"
    database = core("aiconfigurator_core.sdk.perf_database").get_database_view(
        choice.system, choice.backend, version, database_mode=mode, allow_missing_data=choice.estimated
    )
    wire = engine.build_engine_spec_json(
        model,
        model_path=choice.model,
        system=choice.system,
        backend=choice.backend,
        backend_version=version,
        kv_block_size=None,
        systems_path=None,
        nextn=choice.drafts,
        database=database,
    )
    layers = int(getattr(model, "_num_layers", 0))
    return engine.EngineHandle(bytes(root.engine_spec_bincode_from_json(wire))), layers


def _engine_options(choice: SiliconChoice) -> dict[str, Any]:
    """Return the keyword arguments that name the version, the split over chips and the formats."""
    return {
        "backend_version": choice.backend_version,
        "tp_size": choice.tensor_parallel,
        "attention_dp_size": choice.attention_ranks,
        "moe_tp_size": choice.chips // choice.expert_parallel,
        "moe_ep_size": choice.expert_parallel,
        "gemm_quant_mode": choice.linear_format,
        "moe_quant_mode": choice.expert_format,
        "kvcache_quant_mode": choice.kv_format,
        "fmha_quant_mode": choice.attention_format,
    }


def _no_data(choice: SiliconChoice, reason: str) -> Fault:
    """Return the fault of a combination without data."""
    nearest = nearest_available(choice)
    where = f"{choice.model} on {choice.system} with {choice.backend} {choice.backend_version}"
    mend = f"Nearest available: {'; '.join(nearest)}." if nearest else "No combination of this model has data."
    first_line = reason.strip().splitlines()[0][:200] if reason.strip() else "unknown reason"
    return Fault(PACKAGE, f"no step times for {where} at {choice.chips} chips ({first_line})", mend)
