"""Ask aiconfigurator for its own prediction of a measured run, to be reported beside ours.

Comes in: a :class:`MeasuredRun`. Goes out: TTFT and TPOT, ms, as its ``cli estimate`` gives them for the row as it
stands in the file (``run_agg`` with one prompt's tokens as the context budget), in its measured mode; first in the
formats that the row names, then in those of the checkpoint. Models and databases are opened once. This module must
never simulate.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from offtake.performance.silicon_engine import VERSIONS, core
from offtake.performance.silicon_serving import CONFIGURATIONS

if TYPE_CHECKING:
    from offtake.performance.silicon_rows import MeasuredRun


class Own(NamedTuple):
    """Hold aiconfigurator's prediction, ms; both are NaN where it has none, and ``reason`` says why."""

    ttft_ms: float
    tpot_ms: float
    reason: str


def own_prediction(run: MeasuredRun) -> Own:
    """Return what aiconfigurator itself says of a row."""
    row = run.labels
    split = (_whole(row, "tp_size"), max(1, _whole(row, "attention_dp_size")))
    experts = (_whole(row, "moe_tp_size") or split[0] * split[1], max(1, _whole(row, "moe_ep_size")))
    named = (row["gemm_quant_mode"] or None, row["moe_quant_mode"] or None)
    reason = ""
    for formats in dict.fromkeys([named, (None, None)]):
        key = (run.model, run.system, run.backend, *split, *experts, *formats)
        session = _session(key)
        if isinstance(session, str):
            reason = reason or session
            continue
        try:
            return _asked(session, run, int(float(row["batch_size"])))
        except Exception as error:  # noqa: BLE001 - the package raises many kinds; all mean that it has no answer here
            reason = reason or str(error)
    return Own(math.nan, math.nan, reason.splitlines()[0][:200] if reason else "no answer")


def _asked(session: tuple[Any, Any, Any], run: MeasuredRun, batch: int) -> Own:
    """Run the mean-field estimate of one row."""
    model, database, backend = session
    config = core("aiconfigurator_core.sdk.config").RuntimeConfig(
        isl=run.input_tokens, osl=run.output_tokens, batch_size=batch
    )
    summary = backend.run_agg(model, database, config, ctx_tokens=run.input_tokens)
    if summary.check_oom():
        return Own(math.nan, math.nan, "it says that the weights do not fit")
    result = summary.get_result_dict()
    return Own(float(result["ttft"]), float(result["tpot"]), "")


@lru_cache(maxsize=512)
def _session(key: tuple[Any, ...]) -> tuple[Any, Any, Any] | str:
    """Return model, database and backend, or why there are none."""
    name, system, backend, tensor, ranks, shards, experts, linear, expert = key
    try:
        config = core("aiconfigurator_core.sdk.config_builders").build_model_config(
            tensor, 1, ranks, shards, experts, gemm_quant_mode=linear, moe_quant_mode=expert
        )
        model = core("aiconfigurator_core.sdk.models").get_model(CONFIGURATIONS.get(name, name), config, backend)
        database = core("aiconfigurator_core.sdk.perf_database").get_database_view(
            system, backend, VERSIONS[backend], database_mode="SILICON"
        )
        return model, database, core("aiconfigurator_core.sdk.backends.factory").get_backend(backend)
    except Exception as error:  # noqa: BLE001 - the package raises many kinds; all mean that it has no answer here
        return str(error) or type(error).__name__


def _whole(row: dict[str, str], name: str) -> int:
    """Return a whole number that may be written as ``4.0`` or be missing (0)."""
    return int(float(row[name])) if row[name] else 0
