from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.deployment import resolve_all
from offtake.performance.extrapolate import decode_ns, extrapolated, reached
from offtake.performance.library import load_shipped, save_table, table_faults
from offtake.performance.model import Served, find_model
from offtake.performance.roofline import Hardware
from offtake.schema.tables import ChipRow
from tests.performance.portfolio import deployment_row, portfolio


def chips(count: int, memory_gb: float = 192.0) -> Hardware:
    row = ChipRow(
        chip="mi300x",
        name="MI300X",
        facility_kw="1 kW",
        memory_gb=memory_gb,
        memory_bandwidth_gb_s=5300.0,
        peak_tflops=2614.9,
    )
    return Hardware(row, count)


SERVED = Served(find_model("llama-3.1-70b"), 8, 8)


def test_an_extrapolated_table_is_sound_and_says_what_it_is() -> None:
    stored = extrapolated("llama-70b-mi300x-roofline", SERVED, chips(4))
    assert table_faults(stored.table, stored.limits, "x") == []
    assert stored.provenance["extrapolated"] is True
    assert stored.provenance["confidence"] == "assumption"
    assert stored.limits.kv_blocks * 16 == pytest.approx((0.9 * 4 * 192e9 - 70.6e9) / (80 * 8 * 128 * 2), rel=1e-4)


def test_no_step_is_faster_than_the_memory_can_be_read() -> None:
    stored = extrapolated("x", SERVED, chips(4))
    table = stored.table
    batch, context = np.meshgrid(table.batch_grid, table.context_grid, indexing="ij")
    assert (table.decode_step_ns > decode_ns(SERVED, chips(4), batch, context)).all()


def test_measured_tables_reach_less_than_the_roofline() -> None:
    shares = reached(SERVED)
    assert 0.1 < shares.arithmetic < 1
    assert 0.1 < shares.bandwidth < 1
    assert shares.tables == 5


def test_weights_that_do_not_fit_are_refused_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        extrapolated("x", SERVED, chips(1, memory_gb=64.0))
    assert "do not fit" in str(caught.value)


def test_the_mark_of_an_extrapolated_table_stays_however_its_speed_is_changed(tmp_path: Path) -> None:
    shipped = load_shipped("llama-3.1-70b-h100-tp4")
    guessed = shipped._replace(name="guessed", provenance=shipped.provenance | {"extrapolated": True})
    save_table(guessed, tmp_path)
    found = resolve_all(portfolio(deployment_row("h100", 4, "table:guessed"), folder=str(tmp_path)))
    assert found["assistant", "h100"].faster(1.1).extrapolated
    measured = resolve_all(portfolio(deployment_row("h100", 4, "table:llama-3.1-70b-h100-tp4")))
    assert not measured["assistant", "h100"].extrapolated
