from __future__ import annotations

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.extrapolate import decode_ns, extrapolated, reached
from offtake.performance.library import table_faults
from offtake.performance.model import Served, find_model
from offtake.performance.roofline import Hardware
from offtake.schema.tables import ChipRow


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
