"""Read the measured serving runs that ``aiconfigurator_core`` ships, and say what each of them really was.

Comes in: the file ``silicon_sample.csv``. Goes out: one :class:`MeasuredRun` for each aggregated run, duplicates
dropped, with the split over chips as it was run. Most rows come from the public InferenceX benchmark
(SemiAnalysisAI/InferenceX), whose own files (``.github/configs/nvidia-master.yaml``, ``benchmarks/single_node``, read
at the date of the run) tell what the shipped table has lost:

* its ``tp`` and ``ep`` were multiplied where both are above 1: ``tp_size`` 64 with ``moe_tp_size`` 8 and
  ``moe_ep_size`` 8 is 8 chips, as the row's own id says (``_tp8_ep8_``); ``attention_dp_size`` 64 likewise is 8 ranks;
* a vLLM row with experts split is labelled with attention ranks; only those of ``dp-attn: true`` had them;
* DeepSeek on TensorRT-LLM was also run with multi-token prediction (images 1.1.0rc2.post2 from January 2026 and
  1.2.0rc6.post3), which the table does not tell;
* rows of ``gb200`` with 12 to 72 chips are prefill and decode pools added up;
* runs of NVIDIA's own behind Dynamo 0.8.1 tell the clients of all replicas; ``batch_size`` is one replica's share. (448
  clients with prompts of 15,000 tokens, first answered in 0.75 s, would take 50 PFLOP/s of two chips.)
* twelve of NVIDIA's own tell no clients at all (an empty ``c`` in the id), only the engine's batch: how many waited is
  unknown, so they cannot be replayed.

Means and medians: TTFT behaves as a mean (see ``score``). This module must never know a step time.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, NamedTuple

from offtake.errors import Fault, InputError
from offtake.performance.silicon_engine import package_folder

if TYPE_CHECKING:
    from pathlib import Path

FILE = "silicon_sample.csv"
NOT_A_KEY = ("id", "silicon_data_source", "backend_version")  #: rows that differ in these alone are one measurement
INTERNAL = "aic-auto-gap-analysis"  #: marks NVIDIA's own sweeps; their client is not published
MTP_IMAGES = {"1.2.0rc6.post3": "2026-01-01", "1.1.0rc2.post2": "2026-01-10"}  #: first day with drafts
POOLED_SYSTEMS = ("gb200",)
REPLICATED = "dynamo_version=0.8.1"  #: marks runs whose clients are those of all replicas


class MeasuredRun(NamedTuple):
    """Hold one measured aggregated run.

    ``tensor_parallel`` × ``attention_ranks`` chips, experts split over ``expert_parallel`` of them. ``clients`` prompts
    are under way at once. ``drafts``: tokens drafted for each step. ``reason``: why the row cannot be replayed, or "".
    ``labels``: the row as it stands in the file.
    """

    row: int
    model: str
    system: str
    backend: str
    version: str
    precision: str
    date: str
    internal: bool
    tensor_parallel: int
    attention_ranks: int
    expert_parallel: int
    drafts: int
    input_tokens: int
    output_tokens: int
    clients: int
    ttft_ms: float
    tpot_ms: float
    reason: str
    labels: dict[str, str]

    @property
    def chips(self) -> int:
        """Return the chips of the run."""
        return self.tensor_parallel * self.attention_ranks


def read_runs(path: Path | None = None) -> tuple[list[MeasuredRun], int]:
    """Return every aggregated run once, and how many rows of the file (of any mode) were dropped as duplicates.

    ``path``: the file; the package's own when None.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks a column.
    """
    path = package_folder() / "systems" / FILE if path is None else path
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise InputError([Fault(FILE, f"cannot be read: {error.strerror}", "Install the extra again.")]) from None
    seen: set[tuple[str, ...]] = set()
    runs = []
    dropped = 0
    for index, row in enumerate(rows):
        key = tuple(value for name, value in row.items() if name not in NOT_A_KEY)
        if key in seen:
            dropped += 1
            continue
        seen.add(key)
        if row.get("mode") == "agg":
            runs.append(_run(index, row))
    if not runs:
        raise InputError([Fault(FILE, "holds no aggregated run", "Install the extra again.")])
    return runs, dropped


def _run(index: int, row: dict[str, str]) -> MeasuredRun:
    """Interpret one row."""
    source = row["silicon_data_source"]
    internal = INTERNAL in source
    told = _match(r"silicon_concurrency=(\d+)", source)
    clients = _clients(row, "" if REPLICATED in source else told)
    date = _match(r"measured=([\d-]+)", source)
    tensor, ranks, experts = _split(row, internal, clients)
    drafts = _drafts(row, internal, date, ranks)
    return MeasuredRun(
        index,
        row["model_path"],
        row["system"],
        row["backend"],
        row["backend_version"],
        row["precision"] or "bf16",
        date,
        internal,
        tensor,
        ranks,
        experts,
        drafts,
        int(row["isl"]),
        int(row["osl"]),
        clients,
        float(row["silicon_ttft_ms"]),
        float(row["silicon_tpot_ms"]),
        _reason(row, internal, told),
        row,
    )


def _reason(row: dict[str, str], internal: bool, told: str) -> str:  # noqa: FBT001 - a fact, not a mode
    """Return why a row cannot be replayed, or nothing."""
    if row["system"] in POOLED_SYSTEMS and not internal:
        return "pools of prefill and decode are added up in one row"
    return "" if told else "the row does not tell how many clients there were"


def _clients(row: dict[str, str], told: str) -> int:
    """Return the clients of one replica, as the source tells them or by batch and ranks."""
    return int(told) if told else max(1, _whole(row["batch_size"]) * max(1, _whole(row["attention_dp_size"])))


def _split(row: dict[str, str], internal: bool, clients: int) -> tuple[int, int, int]:  # noqa: FBT001 - a fact, not a mode
    """Return tensor-parallel chips, attention ranks and expert-parallel chips as they were run."""
    tensor, ranks = _whole(row["tp_size"]), max(1, _whole(row["attention_dp_size"]))
    shards, experts = _whole(row["moe_tp_size"]), max(1, _whole(row["moe_ep_size"]))
    if internal:
        return tensor, ranks, experts
    if shards > 1 and experts > 1:
        return (1, shards, experts) if ranks > 1 else (shards, 1, experts)
    if ranks > 1 and row["backend"] == "trtllm":
        chips = shards if shards > 1 else ranks
        return 1, chips, experts
    if ranks > 1:
        return (1, tensor, tensor) if _has_ranks(row, tensor, clients) else (tensor, 1, tensor)
    return tensor, 1, experts


def _has_ranks(row: dict[str, str], chips: int, clients: int) -> bool:
    """Say whether a vLLM run had ``dp-attn: true`` (MiniMax-M2.5 in nvidia-master.yaml of 2026-04-24)."""
    from_clients = {"fp4": 256, "fp8": 2048}.get(row["precision"], 0)
    return chips == 2 and from_clients > 0 and clients >= from_clients  # noqa: PLR2004 - two chips, as listed there


def _drafts(row: dict[str, str], internal: bool, date: str, ranks: int) -> int:  # noqa: FBT001 - a fact, not a mode
    """Return the tokens drafted for each step: 3, with attention ranks 1 (``benchmarks/single_node/*_mtp.sh``)."""
    since = MTP_IMAGES.get(row["backend_version"])
    if internal or row["backend"] != "trtllm" or "DeepSeek" not in row["model_path"] or since is None or date < since:
        return 0
    return 1 if ranks > 1 else 3


def _whole(text: str) -> int:
    """Return a whole number that may be written as ``4.0`` or be missing (0)."""
    return int(float(text)) if text else 0


def _match(pattern: str, text: str) -> str:
    """Return the first group of a pattern, or nothing."""
    found = re.search(pattern, text)
    return found[1] if found else ""
