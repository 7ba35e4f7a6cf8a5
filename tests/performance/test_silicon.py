from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.silicon import (
    SiliconChoice,
    build_table,
    cached_table,
    nearest_available,
    refined,
    sparse_grid,
)
from offtake.performance.silicon_engine import limits_of

LLAMA_8B = SiliconChoice("meta-llama/Meta-Llama-3.1-8B", "h100_sxm", 1)
INSTALLED = importlib.util.find_spec("aiconfigurator_core") is not None
with_extra = pytest.mark.skipif(not INSTALLED, reason="the extra offtake[silicon] is not installed")


@pytest.mark.skipif(INSTALLED, reason="the extra offtake[silicon] is installed")
def test_without_the_extra_the_error_says_how_to_install_it() -> None:
    with pytest.raises(InputError, match=r"uv sync --extra silicon"):
        build_table("any", LLAMA_8B)


def test_a_straight_line_needs_two_points() -> None:
    x = np.arange(1.0, 101.0)
    grid, values = sparse_grid(x, 3 * x, 3 * x)
    assert grid.tolist() == [1.0, 100.0]
    assert values.tolist() == [3.0, 300.0]


def test_a_jump_keeps_the_points_on_both_sides() -> None:
    x = np.arange(1.0, 1001.0)
    y = np.where(x <= 512, 10.0, 20.0)
    assert sparse_grid(x, y, y)[0].tolist() == [1.0, 512.0, 513.0, 1000.0]


def test_a_curve_stays_within_the_tolerance_between_its_points() -> None:
    x = np.arange(1.0, 2001.0)
    y = 50 + x**2
    grid, values = sparse_grid(x, y, y, 0.01)
    assert grid.size < 60
    assert np.max(np.abs(np.interp(x, grid, values) / y - 1)) <= 0.01


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_a_model_without_data_is_refused_with_the_nearest_models() -> None:
    with pytest.raises(InputError, match=r"meta-llama/Meta-Llama-3\.1-70B"):
        build_table("any", LLAMA_8B._replace(model="meta-llama/Llama-3.1-70B"))


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_a_system_without_data_is_refused_with_the_nearest_systems() -> None:
    with pytest.raises(InputError, match="b200_sxm with vllm"):
        build_table("any", LLAMA_8B._replace(system="h100_pcie"))


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_the_nearest_combination_keeps_system_and_backend_first() -> None:
    assert nearest_available(LLAMA_8B._replace(backend_version="0.9"))[0] == "h100_sxm with vllm 0.24.0"


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        limits_of(SiliconChoice("deepseek-ai/DeepSeek-V3", "h100_sxm", 8, attention_format="bfloat16"))


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_the_fraction_of_sglang_is_split_between_weights_and_cache_alone() -> None:
    choice = SiliconChoice("deepseek-ai/DeepSeek-V3", "h200_sxm", 8, "sglang", "0.5.14", memory_fraction=0.82)
    formats = choice._replace(linear_format="fp8_block", expert_format="fp8_block", kv_format="bfloat16")
    limits = limits_of(formats._replace(block_tokens=1))
    # the chip's bytes, those of the weights on it, and 576 values of 2 bytes in 61 layers, as the package has them
    assert limits.kv_blocks == pytest.approx((0.82 * 151_397_597_184 - 90_845_872_128) / 70_272, rel=1e-3)


def test_a_curve_is_asked_for_only_where_it_bends() -> None:
    asked = []

    def ask(x: int) -> float:
        asked.append(x)
        return 10.0 + max(0, x - 500)

    x, y = refined(ask, [1, 1000], 0.01)
    assert len(asked) < 60
    every = np.arange(1.0, 1001.0)
    assert np.max(np.abs(np.interp(every, x, y) / (10 + np.maximum(0, every - 500)) - 1)) < 0.05


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_a_table_is_within_three_percent_of_direct_calls_and_keeps_the_host_apart() -> None:
    stored = build_table("any", LLAMA_8B._replace(batch_max=64, step_tokens_max=2048, context_tokens_max=4096))
    assert stored.provenance["interpolation_check"]["error_p99"] < 0.03
    assert stored.table.overhead_ns == stored.provenance["host"]["overhead_ns"] > 0


@with_extra
@pytest.mark.filterwarnings("ignore")
def test_a_table_is_built_once_and_then_read(tmp_path: Path) -> None:
    choice = LLAMA_8B._replace(batch_max=8, step_tokens_max=512, context_tokens_max=1024)
    first = cached_table(choice, tmp_path)
    files = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert len(files) == 2
    again = cached_table(choice, tmp_path)
    assert again.name == first.name
    assert np.array_equal(again.table.decode_step_ns, first.table.decode_step_ns)
