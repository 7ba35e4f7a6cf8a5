from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.library import content_hash, load_shipped, load_table, save_table, shipped_names, table_faults
from offtake.performance.model import find_model
from offtake.performance.overhead import COSTS, FITTED, Host, with_host
from offtake.performance.steps import ReplicaLimits, Scheduler, prefill_attention_ns, step_ns
from tests.performance.test_steps import TABLE

SAMPLES = json.loads((Path(__file__).parent / "silicon_samples.json").read_text(encoding="utf-8"))["samples"]
DATA = Path(__file__).parents[2] / "src" / "offtake" / "performance" / "data"


def test_the_models_of_the_examples_ship_on_their_chips() -> None:
    assert {"llama-3.1-8b-h100-tp1", "llama-3.1-70b-h100-tp4", "qwen3-235b-gb200-tp4"} <= set(shipped_names())


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_table_is_sound_small_and_says_where_it_comes_from(name: str) -> None:
    stored = load_shipped(name)
    assert (DATA / f"{name}.npz").stat().st_size < 200_000
    assert stored.provenance["licence"] == "Apache-2.0"
    assert stored.provenance["source"].startswith("aiconfigurator-core 0.12.0")
    assert stored.provenance["backend"] == "vllm 0.24.0"
    assert find_model(stored.provenance["stand_in"]).context_tokens_max >= stored.limits.context_tokens_max
    assert stored.limits.kv_blocks * stored.limits.block_tokens > stored.limits.context_tokens_max


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_table_keeps_the_host_apart_and_says_on_what_it_was_estimated(name: str) -> None:
    stored = load_shipped(name)
    told = stored.provenance["host"]
    assert all(getattr(stored.table, field) == told[field] > 0 for field in Host._fields)
    assert told["constants"] == COSTS["vllm"]._asdict()
    assert told["models_fitted"] == list(FITTED)


@pytest.mark.parametrize("name", shipped_names())
def test_interpolated_steps_stay_within_three_percent_of_direct_calls(name: str) -> None:
    table = with_host(load_shipped(name).table, Host(0.0, 0.0, 0.0, 0.0))  # direct calls know the chip alone
    error = []
    for prompt, batch, context, direct_ns in SAMPLES[name]:
        attention_ns = prefill_attention_ns(table, 0.0, float(prompt))
        error.append(abs(step_ns(table, float(prompt), attention_ns, float(batch), float(context)) / direct_ns - 1))
    assert len(error) == 40
    assert float(np.median(error)) < 0.005
    assert max(error) < 0.03


@pytest.mark.parametrize("name", shipped_names())
def test_a_longer_prompt_context_or_batch_is_never_much_quicker(name: str) -> None:
    table = load_shipped(name).table
    assert np.all(np.diff(table.prefill_ns) >= 0)
    growth = np.diff(table.decode_step_ns, axis=1) / table.decode_step_ns[:, :-1]
    assert growth.min() > -0.10  # measured kernels dip a little where the engine changes kernel


@pytest.mark.parametrize(
    ("backend", "scheduler"),
    [
        ("vllm 0.24.0", Scheduler.VLLM),
        ("sglang 0.5.14", Scheduler.SGLANG),
        ("trtllm 1.3.0rc20", Scheduler.TRTLLM),
        ("", Scheduler.VLLM),
    ],
)
def test_the_scheduler_of_a_table_that_does_not_name_one_follows_its_backend(
    tmp_path: Path, backend: str, scheduler: Scheduler
) -> None:
    save_table(load_shipped("llama-3.1-70b-h100-tp4")._replace(name="t"), tmp_path)
    notes = json.loads((tmp_path / "t.json").read_text())
    notes["provenance"]["backend"] = backend
    notes["limits"] = {name: notes["limits"][name] for name in ReplicaLimits._fields[:5]}
    (tmp_path / "t.json").write_text(json.dumps(notes))
    assert load_table(tmp_path, "t").limits.scheduler == scheduler


def test_a_missing_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"llama-3\.1-70b-h100-tp4") as caught:
        load_shipped("llama-3.1-70b-h100-tp2")
    assert caught.value.faults[0].value == "llama-3.1-70b-h100-tp2"


def test_a_saved_table_reads_back_the_same(tmp_path: Path) -> None:
    stored = load_shipped("llama-3.1-8b-h100-tp1")
    size = save_table(stored, tmp_path)
    again = load_table(tmp_path, "llama-3.1-8b-h100-tp1")
    assert size == (tmp_path / "llama-3.1-8b-h100-tp1.npz").stat().st_size
    assert again.limits == stored.limits
    assert again.provenance == stored.provenance
    for old, new in zip(stored.table, again.table, strict=True):
        np.testing.assert_array_equal(old, new)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".npz"]


def test_a_table_of_chunks_reads_back_the_same_and_is_checked(tmp_path: Path) -> None:
    plain = load_shipped("llama-3.1-8b-h100-tp1")
    end, chunk = np.array([256.0, 512.0, 768.0]), np.array([32.0, 64.0])
    table = plain.table._replace(end_grid=end, chunk_grid=chunk, chunk_ns=np.arange(6.0).reshape(3, 2))
    save_table(plain._replace(name="t", table=table), tmp_path)
    again = load_table(tmp_path, "t").table
    assert again.chunk_ns.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert again.end_grid.tolist() == [256.0, 512.0, 768.0]
    assert again.chunk_grid.tolist() == [32.0, 64.0]
    assert content_hash(table, plain.limits) != content_hash(plain.table, plain.limits)
    bad = table._replace(chunk_ns=np.zeros((2, 3)), end_grid=np.array([2.0, 2.0, 1.0]))
    problems = "\n".join(str(fault) for fault in table_faults(bad, plain.limits, "t"))
    assert "chunk_ns must be end by chunk" in problems
    assert "end_grid and chunk_grid must rise" in problems


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    stored = load_shipped("llama-3.1-8b-h100-tp1")
    save_table(stored, tmp_path)
    first = (tmp_path / "llama-3.1-8b-h100-tp1.npz").read_bytes()
    save_table(stored, tmp_path)
    assert (tmp_path / "llama-3.1-8b-h100-tp1.npz").read_bytes() == first


def test_a_changed_array_no_longer_matches_its_hash(tmp_path: Path) -> None:
    stored = load_shipped("llama-3.1-8b-h100-tp1")
    save_table(stored, tmp_path)
    notes = (tmp_path / "llama-3.1-8b-h100-tp1.json").read_bytes()
    save_table(stored._replace(table=stored.table._replace(token_ns=stored.table.token_ns * 0.5)), tmp_path)
    (tmp_path / "llama-3.1-8b-h100-tp1.json").write_bytes(notes)
    with pytest.raises(InputError, match="do not match the hash"):
        load_table(tmp_path, "llama-3.1-8b-h100-tp1")


def test_an_unreadable_table_is_a_fault_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_table(tmp_path, "none")
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="not a step table"):
        load_table(tmp_path, "bad")


def test_every_unsound_array_is_named_at_once() -> None:
    limits = load_shipped("llama-3.1-8b-h100-tp1").limits
    bad = TABLE._replace(token_grid=np.array([1.0, 1.0, 2.0]), prefill_ns=np.array([0.0, 5.0, 4.0]))
    problems = "\n".join(str(fault) for fault in table_faults(bad, limits._replace(batch_max=0), "t"))
    assert "rising" in problems
    assert "cumulative" in problems
    assert "positive" in problems
    assert table_faults(TABLE, limits, "t") == []


def test_the_content_hash_sees_limits_and_arrays() -> None:
    limits = load_shipped("llama-3.1-8b-h100-tp1").limits
    hashes = {
        content_hash(TABLE, limits),
        content_hash(TABLE, limits._replace(kv_blocks=1)),
        content_hash(TABLE._replace(overhead_ns=1.0), limits),
    }
    assert len(hashes) == 3
