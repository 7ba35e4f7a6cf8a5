from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.deployment import resolve_all
from offtake.performance.library import load_shipped, save_table
from offtake.performance.named import load_named
from offtake.performance.steps import ReplicaLimits, decode_step_ns
from offtake.schema.columns import Confidence
from tests.performance.portfolio import deployment_row, portfolio

TABLE_ROW = deployment_row("h100", 4, "table:llama-3.1-70b-h100-tp4")


def test_a_table_row_takes_the_shipped_table_as_it_is() -> None:
    found = resolve_all(portfolio(TABLE_ROW))["assistant", "h100"]
    assert found.name == "llama-3.1-70b-h100-tp4"
    assert found.chips_per_replica == 4
    assert found.stored.limits == ReplicaLimits(82_864, 16, 1024, 8192, 131_072)
    assert (found.served.spec.name, found.served.weight_bits) == ("llama-3.1-70b", 8)


def test_the_weaker_confidence_of_row_and_table_counts() -> None:
    sure = TABLE_ROW.model_copy(update={"confidence": Confidence.CONFIRMED})
    assert resolve_all(portfolio(sure))["assistant", "h100"].confidence == Confidence.ESTIMATE
    assert resolve_all(portfolio(TABLE_ROW))["assistant", "h100"].confidence == Confidence.ASSUMPTION


def test_a_ratio_scales_every_step_time_exactly() -> None:
    found = resolve_all(portfolio(TABLE_ROW, deployment_row("tpu", 4, "ratio:h100*1.25")))["assistant", "tpu"]
    known = load_shipped("llama-3.1-70b-h100-tp4").table
    np.testing.assert_allclose(found.stored.table.decode_step_ns, known.decode_step_ns * 0.8, rtol=1e-15)
    np.testing.assert_allclose(found.stored.table.token_ns, known.token_ns * 0.8, rtol=1e-15)
    np.testing.assert_array_equal(found.stored.table.token_grid, known.token_grid)
    assert found.confidence == Confidence.ASSUMPTION


def test_a_ratio_counts_chip_by_chip() -> None:
    found = resolve_all(portfolio(TABLE_ROW, deployment_row("tpu", 8, "ratio:h100*1.25")))["assistant", "tpu"]
    known = load_shipped("llama-3.1-70b-h100-tp4").table
    assert found.chips_per_replica == 8
    assert decode_step_ns(found.stored.table, 16.0, 1000.0) == pytest.approx(
        decode_step_ns(known, 16.0, 1000.0) / 2.5, rel=1e-12
    )


def test_a_ratio_gives_the_kv_cache_of_its_own_memory() -> None:
    found = resolve_all(portfolio(TABLE_ROW, deployment_row("tpu", 4, "ratio:h100*1.0")))["assistant", "tpu"]
    # (0.9 × 4 × 192 - 70.6) / (0.9 × 4 × 85.9 - 70.6) = 2.599 times the 82,864 blocks
    assert found.stored.limits.kv_blocks == pytest.approx(215_373, rel=1e-3)


def test_a_fleet_can_load_a_scaled_deployment_by_its_name_alone() -> None:
    found = resolve_all(portfolio(TABLE_ROW, deployment_row("tpu", 4, "ratio:h100*1.25")))["assistant", "tpu"]
    again = load_named(found.name)
    assert again.limits == found.stored.limits
    np.testing.assert_array_equal(again.table.decode_step_ns, found.stored.table.decode_step_ns)
    assert load_named("llama-3.1-70b-h100-tp4").name == "llama-3.1-70b-h100-tp4"


def test_a_name_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match=r"TABLE\*SPEED@BLOCKS"):
        load_named("llama*fast")


def test_a_table_in_the_portfolio_folder_is_found(tmp_path: Path) -> None:
    save_table(load_shipped("llama-3.1-70b-h100-tp4")._replace(name="ours"), tmp_path)
    found = resolve_all(portfolio(deployment_row("h100", 4, "table:ours"), folder=str(tmp_path)))
    assert found["assistant", "h100"].name == "ours"
    assert load_named("ours*2.0", tmp_path).name == "ours*2.0@82864"


def test_every_faulty_row_is_named_at_once() -> None:
    rows = portfolio(
        deployment_row("h100", 8, "table:llama-3.1-70b-h100-tp4", at=2),
        deployment_row("h200", 4, "table:llama-3.1-70b-h200", at=3),
        deployment_row("tpu", 4, "ratio:h300*1.5", at=4),
        deployment_row("gb200", 4, "table:qwen3-235b-gb200-tp4", at=5),
    )
    with pytest.raises(InputError) as caught:
        resolve_all(rows)
    text = str(caught.value)
    assert [fault.row for fault in caught.value.faults] == [2, 3, 4, 5]
    assert "is for 4 chips per replica" in text
    assert "Try llama-3.1-70b-h200-tp4" in text
    assert "h300 has no table" in text
    assert "table is of qwen3-235b-a22b, but assistant's stand-in is llama-3.1-70b" in text


def test_weights_that_do_not_fit_are_refused() -> None:
    rows = portfolio(
        deployment_row("gb200", 8, "table:deepseek-v3-gb200-tp8"),
        deployment_row("h100", 4, "ratio:gb200*0.2", at=3),
        stand_in="deepseek-v3",
    )
    with pytest.raises(InputError, match=r"row 3.*weights do not fit 4 chips of h100"):
        resolve_all(rows)


def test_a_ratio_above_what_the_memory_can_give_is_refused() -> None:
    with pytest.raises(InputError, match=r"row 3.*times faster than tpu's memory can be read"):
        resolve_all(portfolio(TABLE_ROW, deployment_row("tpu", 4, "ratio:h100*8", at=3)))


def test_measured_goodputs_are_read_with_the_table_that_they_are_like(tmp_path: Path) -> None:
    text = "workload,goodput_rps,like\nchat,12.5,llama-3.1-70b-h100-tp4\ncode,3.0,llama-3.1-70b-h100-tp4\n"
    (tmp_path / "tpu.csv").write_text(text)
    rows = portfolio(deployment_row("tpu", 8, "user:tpu.csv"), folder=str(tmp_path))
    found = resolve_all(rows)["assistant", "tpu"]
    assert found.measured_rps == {"chat": 12.5, "code": 3.0}
    assert not found.fitted
    assert found.name.startswith("llama-3.1-70b-h100-tp4*2.0@")


def test_faults_of_a_users_file_carry_its_rows(tmp_path: Path) -> None:
    (tmp_path / "tpu.csv").write_text("workload,goodput_rps,like\nchat,-1,llama-3.1-70b-h100-tp4\ncode,,x\n")
    with pytest.raises(InputError) as caught:
        resolve_all(portfolio(deployment_row("tpu", 8, "user:tpu.csv"), folder=str(tmp_path)))
    assert [(fault.file, fault.row, fault.column) for fault in caught.value.faults] == [
        ("tpu.csv", 2, "goodput_rps"),
        ("tpu.csv", 3, "goodput_rps"),
    ]


def test_a_missing_user_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        resolve_all(portfolio(deployment_row("tpu", 8, "user:none.csv"), folder=str(tmp_path)))
