from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from offtake.performance.library import load_shipped
from offtake.performance.overhead import FITTED
from offtake.performance.score import (
    Options,
    Replay,
    groups_of,
    hosted,
    lengths_of,
    limits_of_run,
    score,
    simulated,
    throughput_rps,
)
from offtake.performance.silicon_engine import SiliconChoice, limits_of
from offtake.performance.silicon_own import Own
from offtake.performance.silicon_rows import MeasuredRun

if TYPE_CHECKING:
    from pathlib import Path

INSTALLED = importlib.util.find_spec("aiconfigurator_core") is not None
with_extra = pytest.mark.skipif(not INSTALLED, reason="the extra offtake[silicon] is not installed")
NOTHING = Own(math.nan, math.nan, "not asked")


def measured(model: str, system: str, ttft_ms: float, tpot_ms: float, clients: int = 4) -> MeasuredRun:
    """Return a run of 1,000 prompt tokens and 101 of answer."""
    return MeasuredRun(
        0, model, system, "vllm", "0.19.0", "bf16", "2026-04-01", False, 1, 1, 1, 0, 1000, 101, clients, ttft_ms,
        tpot_ms, "", {},
    )  # fmt: skip


def replay(run: MeasuredRun, ttft_ms: float, tpot_ms: float) -> Replay:
    fitted = any(name in run.model for name in FITTED)
    return Replay(run, "measured", "", ttft_ms, tpot_ms, throughput_rps(run, ttft_ms, tpot_ms), NOTHING, fitted)


def test_errors_are_medians_of_absolute_relative_errors_by_group() -> None:
    replays = [
        replay(measured("a/Llama", "h100", 100.0, 10.0), 110.0, 9.0),
        replay(measured("b/other", "b200", 100.0, 10.0), 50.0, 10.0),
        replay(measured("b/other", "b200", 100.0, 10.0), 80.0, 13.0),
    ]
    groups = {(group.kind, group.name): group for group in groups_of(replays)}
    assert groups["all", "all"].errors["ttft"].median == pytest.approx(0.2)
    assert groups["system", "b200"].errors["tpot"].median == pytest.approx(0.15)
    assert groups["system", "b200"].errors["ttft"].bias == pytest.approx(0.65)
    assert groups["constants", "fitted"].runs == 1
    assert groups["constants", "held out"].errors["ttft"].median == pytest.approx(0.35)


def test_a_run_that_is_not_covered_counts_in_the_group_but_not_in_the_errors() -> None:
    run = measured("b/other", "b200", 100.0, 10.0)
    missing = Replay(run, "", "no step times", math.nan, math.nan, math.nan, NOTHING, fitted=False)
    group = groups_of([missing, replay(run, 100.0, 10.0)])[0]
    assert (group.runs, group.covered) == (2, 1)
    assert group.errors["tpot"].median == 0.0


def test_throughput_is_clients_over_the_time_of_a_mean_request() -> None:
    run = measured("b/other", "b200", 100.0, 10.0, clients=8)
    assert throughput_rps(run, 100.0, 10.0) == pytest.approx(8_000 / (100 + 10 * (101 * 0.9 - 1)))


def test_lengths_are_whole_numbers_from_four_fifths_to_the_nominal() -> None:
    inputs, outputs = lengths_of(measured("b/other", "b200", 100.0, 10.0, clients=64))
    assert len(inputs) == 640
    assert inputs.min() >= 800
    assert inputs.max() <= 1000
    assert set(np.unique(outputs)) <= set(range(80, 102))


def test_a_run_on_a_shipped_table_takes_at_least_its_chip_time() -> None:
    stored = load_shipped("llama-3.1-8b-h100-tp1")
    run = measured("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", 50.0, 7.0)
    ttft_ms, tpot_ms = simulated(run, hosted(run, stored))
    assert tpot_ms > stored.table.decode_step_ns.min() / 1e6
    assert 10.0 < ttft_ms < 500.0
    short = stored.limits._replace(kv_blocks=140)  # of 16 tokens: two of its four prompts
    assert simulated(run, hosted(run, stored._replace(limits=short)))[0] > 2 * ttft_ms


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_a_run_has_the_cache_that_its_own_steps_leave_not_those_of_the_wide_table() -> None:
    r1 = SiliconChoice("deepseek-ai/DeepSeek-V3", "b200_sxm", 4, "trtllm", "1.3.0rc20", attention_format="bfloat16")
    fp8 = r1._replace(linear_format="fp8_block", expert_format="fp8_block", kv_format="fp8")
    own = fp8._replace(step_tokens_max=8_320, memory_fraction=0.8, block_tokens=32)
    wide = limits_of(own._replace(step_tokens_max=16_384))
    assert limits_of_run(own).kv_blocks > 3 * wide.kv_blocks
    assert limits_of_run(own._replace(memory_fraction=0.0)).kv_blocks > limits_of_run(own).kv_blocks  # it was measured


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_the_file_of_the_package_is_replayed_with_what_it_cannot_cover_labelled(tmp_path: Path) -> None:
    told: list[int] = []
    report = score(Options(cache=tmp_path, every=800, own=False), lambda done, _whole, _what: told.append(done))
    assert report.dropped == 711
    assert told == list(range(len(report.replays)))
    assert all(one.covered or one.reason for one in report.replays)
    assert report.groups[0].covered >= 3
