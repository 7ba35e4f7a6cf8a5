"""Run Vidur on given requests, inside Vidur's own environment; nothing of Offtake is imported here.

Comes in: a folder with ``requests-NAME.csv`` files. Goes out, beside them: ``own-NAME.npz`` and ``additive-NAME.npz``
(when each request was given its first token and finished, iterations, CPU seconds of the simulation loop alone) and
``tables.npz`` (the predictions that Vidur's random forests made and Vidur looks its step times up in).

Vidur's measured profiles are downloaded, which needs a network, so the forests are trained on a profile of a stated
roofline on Vidur's own profiling grid: nothing here says how fast an A100 is. Vidur's own code does everything else.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from vidur.config import CacheConfig, ClusterConfig, MetricsConfig, ReplicaConfig, SimulationConfig
from vidur.config.config import (
    RandomForrestExecutionTimePredictorConfig,
    SarathiSchedulerConfig,
    TraceRequestGeneratorConfig,
)
from vidur.entities import Batch, Replica
from vidur.execution_time_predictor.random_forrest_execution_time_predictor import (
    RandomForrestExecutionTimePredictor,
)
from vidur.scheduler.global_scheduler import base_global_scheduler
from vidur.simulator import Simulator

MODEL, CHIP = "meta-llama/Llama-3-8B", "a100"
CHUNK_TOKENS, BATCH_MAX, BLOCK_TOKENS, TOKENS_MAX = 512, 128, 16, 8192
FLOPS, BYTES_PER_S, LAUNCH_MS = 312e12 * 0.6, 2.039e12 * 0.8, 0.004  # A100 80 GB data sheet; shares are assumptions
CONTEXT_ROUND = 256  # to which Vidur rounds a context up
EMBEDDING, HIDDEN, HEADS, KV_HEADS, HEAD = 4096, 14336, 32, 8, 128  # Llama 3 8B


def op_ms(flops: float, size_bytes: float) -> float:
    """Return the roofline time of one operation of one layer, ms."""
    return 1e3 * max(flops / FLOPS, size_bytes / BYTES_PER_S) + LAUNCH_MS


def matrix_ms(tokens: int, rows: int, columns: int) -> float:
    """Return the time of a product of ``tokens`` rows with a weight matrix in 16 bit, ms."""
    return op_ms(2.0 * tokens * rows * columns, 2.0 * (rows * columns + tokens * (rows + columns)))


def attention_ms(new_tokens: int, kept_tokens: int, batch: int) -> float:
    """Return the time of the attention of ``batch`` requests with ``new_tokens`` after ``kept_tokens`` each, ms."""
    pairs = new_tokens * (kept_tokens + new_tokens / 2)
    size = 2.0 * 2.0 * KV_HEADS * HEAD * (kept_tokens + new_tokens)
    return op_ms(4.0 * batch * pairs * HEADS * HEAD, batch * size)


def layer_rows() -> list[dict[str, float]]:
    """Return the profile of everything but attention, on Vidur's grid of tokens."""
    grid = [1, 2, 4, *range(8, 1024, 8), *range(1024, 2049, 16), *range(2080, 4097, 32), *range(4160, 8193, 64)]
    same = {
        "n_head": HEADS,
        "n_kv_head": KV_HEADS,
        "n_embd": EMBEDDING,
        "n_expanded_embd": HIDDEN,
        "use_gated_mlp": True,
        "num_tensor_parallel_workers": 1,
    }
    return [{**same, "num_tokens": tokens, **named(layer_ms(tokens))} for tokens in grid]


def layer_ms(tokens: int) -> dict[str, float]:
    """Return the time of each operation but attention on ``tokens``, ms."""
    through = op_ms(0.0, 4.0 * tokens * EMBEDDING)
    return {
        "attn_pre_proj": matrix_ms(tokens, EMBEDDING, (HEADS + 2 * KV_HEADS) * HEAD),
        "attn_post_proj": matrix_ms(tokens, EMBEDDING, EMBEDDING),
        "mlp_up_proj": matrix_ms(tokens, EMBEDDING, 2 * HIDDEN),
        "mlp_down_proj": matrix_ms(tokens, HIDDEN, EMBEDDING),
        "mlp_act": op_ms(0.0, 6.0 * tokens * HIDDEN),
        "input_layernorm": through,
        "post_attention_layernorm": through,
        "attn_rope": through,
        "add": through,
    }


def attention_rows() -> list[dict[str, float]]:
    """Return the profile of attention, on Vidur's grids of chunk, kept context and batch."""
    chunks = [*range(32, 129, 32), *range(256, 1025, 128), *range(1536, TOKENS_MAX + 1, 512)]
    prefill = [(chunk, kept, 1) for chunk in chunks for kept in range(0, TOKENS_MAX - chunk + 1, chunk)]
    contexts = [*range(32, 1025, 32), *range(1088, 4097, 64), *range(4352, TOKENS_MAX + 1, 256)]
    decode = [(0, context, batch) for context, batch in itertools.product(contexts, range(1, BATCH_MAX + 1))]
    same = {
        "n_embd": EMBEDDING,
        "n_q_head": HEADS,
        "n_kv_head": KV_HEADS,
        "block_size": BLOCK_TOKENS,
        "num_tensor_parallel_workers": 1,
    }
    rows = []
    for chunk, kept, batch in prefill + decode:
        shape = {"prefill_chunk_size": chunk, "kv_cache_size": kept, "batch_size": batch}
        times = {
            "attn_prefill": attention_ms(chunk, kept, 1) if chunk else 0.0,
            "attn_decode": 0.0 if chunk else attention_ms(1, kept, batch),
            "attn_kv_cache_save": 0.0,
        }
        rows.append({**same, **shape, **named(times)})
    return rows


def named(times_ms: dict[str, float]) -> dict[str, float]:
    """Return times under the names of a profile's columns."""
    return {f"time_stats.{name}.median": each for name, each in times_ms.items()}


def write_rows(path: Path, rows: list[dict[str, float]]) -> str:
    """Write a profile as CSV and return its path."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def config_of(folder: Path, trace: Path) -> SimulationConfig:
    """Return the configuration of one run: one A100 with Llama 3 8B, Sarathi, as little recorded as Vidur allows."""
    quiet = ("write_json_trace", "enable_chrome_trace", "store_plots", "store_request_metrics", "store_batch_metrics")
    off = dict.fromkeys((*quiet, "write_metrics", "store_utilization_metrics"), False)
    return SimulationConfig(
        log_level="error",
        cluster_config=ClusterConfig(
            replica_config=ReplicaConfig(
                model_name=MODEL, num_pipeline_stages=1, tensor_parallel_size=1, device=CHIP, network_device="a100_dgx"
            ),
            cache_config=CacheConfig(block_size=BLOCK_TOKENS),
            replica_scheduler_config=SarathiSchedulerConfig(batch_size_cap=BATCH_MAX, chunk_size=CHUNK_TOKENS),
        ),
        request_generator_config=TraceRequestGeneratorConfig(
            trace_file=str(trace),
            date="day",
            prefill_scale_factor=1.0,
            decode_scale_factor=1.0,
            time_scale_factor=1.0,
            max_tokens=TOKENS_MAX,
        ),
        execution_time_predictor_config=RandomForrestExecutionTimePredictorConfig(
            num_estimators=[50],
            max_depth=[16],
            min_samples_split=[2],
            k_fold_cv_splits=2,
            prediction_max_batch_size=BATCH_MAX,
            prediction_max_prefill_chunk_size=CHUNK_TOKENS,
            prediction_max_tokens_per_request=TOKENS_MAX,
            cache_dir=str(folder / "cache"),
            num_training_job_threads=1,
            use_native_execution_time_predictor=True,
        ),
        metrics_config=MetricsConfig(output_dir=str(folder / "output"), **off),
    )


def predictors_of(folder: Path, config: SimulationConfig) -> dict[str, Any]:
    """Return Vidur's predictor on its own tables, and the same with prefill attention as A(end) - A(begin)."""
    vocabulary = config.cluster_config.replica_config.model_config.vocab_size
    layers = [{**row, "vocab_size": vocabulary} for row in layer_rows()]
    files = [write_rows(folder / "mlp.csv", layers), write_rows(folder / "attention.csv", attention_rows()), "", ""]
    grid, prefill_ms = prefill_curve()

    class Own(RandomForrestExecutionTimePredictor):  # type: ignore[misc]  # Vidur is not installed where mypy runs
        """Train on the stated profile instead of one that must be downloaded."""

        def _get_input_files(self) -> Any:  # noqa: ANN401  # Vidur's seam
            return files

        def _load_predictions_from_hf(self) -> Any:  # noqa: ANN401  # Vidur's seam
            message = "the profile is stated, not downloaded"
            raise FileNotFoundError(message)

    class Additive(Own):
        """Look prefill attention up in a curve over the prompt, and take no prompt's last token for a decode."""

        def _get_attention_prefill_execution_time(self, batch: Any) -> float:  # noqa: ANN401  # Vidur's batch
            parts = zip(batch.requests, batch.num_kv_tokens, batch.num_q_tokens, strict=True)
            ends = [(end, end - chunk) for request, end, chunk in parts if not request.is_prefill_complete]
            return float(
                sum(np.interp(end, grid, prefill_ms) - np.interp(begin, grid, prefill_ms) for end, begin in ends)
            )

        def _get_batch_decode_attention_params(self, batch: Any) -> tuple[int, int]:  # noqa: ANN401  # Vidur's batch
            parts = zip(batch.requests, batch.num_kv_tokens, strict=True)
            contexts = [context for request, context in parts if request.is_prefill_complete]
            rounded = -(-int(np.mean(contexts)) // CONTEXT_ROUND) * CONTEXT_ROUND if contexts else 0
            return len(contexts), rounded

    cluster, own = config.cluster_config, config.execution_time_predictor_config
    plain = dataclasses.replace(own, use_native_execution_time_predictor=False)
    parts = cluster.replica_config, cluster.cache_config
    return {"own": Own(own, *parts), "additive": Additive(plain, *parts)}


def prefill_curve() -> tuple[Any, Any]:
    """Return tokens and the attention of one layer over a prompt's first tokens, ms: each looks at those before it."""
    grid = np.concatenate([np.arange(0.0, 2048.0, 64.0), np.arange(2048.0, TOKENS_MAX + 1, 256.0)])
    return grid, 1e3 * 4.0 * HEADS * HEAD * grid * grid / 2 / FLOPS


def simulate(config: SimulationConfig) -> dict[str, Any]:
    """Run one simulation; return per request (in order of arrival) the seconds of its first token and finish."""
    Replica._id = -1  # noqa: SLF001  # Vidur numbers replicas through a whole process, and routes to number 0
    simulator = Simulator(config)
    requests = [event._request for _, event in sorted(simulator._event_queue)]  # noqa: SLF001  # the only door
    batches = Batch.generate_id()
    start = time.process_time()
    simulator.run()
    cpu_s = time.process_time() - start
    return {
        "first_s": [request.prefill_completed_at for request in requests],
        "finish_s": [request.completed_at for request in requests],
        "restarts": sum(request.num_restarts for request in requests),
        "iterations": Batch.generate_id() - batches - 1,
        "cpu_s": cpu_s,
        "blocks": config.cluster_config.cache_config.num_blocks,
    }


def write_tables(path: Path, predictions: dict[str, dict[tuple[int, ...], float]]) -> None:
    """Write Vidur's predictions as arrays of keys and of ms."""
    arrays: dict[str, Any] = {}
    for name, table in predictions.items():
        arrays[f"{name}.keys"], arrays[f"{name}.ms"] = np.array(list(table)), np.array(list(table.values()))
    arrays["curve.tokens"], arrays["curve.ms"] = prefill_curve()
    np.savez(path, **arrays)


def main(folder: Path) -> None:
    """Run every ``requests-NAME.csv`` of the folder, on each of the predictors; with none, only write the tables."""
    traces = sorted(folder.glob("requests-*.csv"))
    predictors = predictors_of(folder, config_of(folder, folder / "requests.csv"))
    write_tables(folder / "tables.npz", predictors["own"]._predictions)  # noqa: SLF001  # what it looks times up in
    for trace, (kind, predictor) in itertools.product(traces, predictors.items()):
        base_global_scheduler.ExecutionTimePredictorRegistry = SimpleNamespace(get=lambda *_, p=predictor, **__: p)
        outcome = simulate(config_of(folder, trace))
        np.savez(folder / f"{kind}-{trace.stem.removeprefix('requests-')}.npz", **outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
