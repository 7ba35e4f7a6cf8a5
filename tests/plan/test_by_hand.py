"""The two cases of docs/by-hand.md: the formulas there, and the program to the cent."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from offtake.plan.negotiate import negotiate
from offtake.plan.plan import PlanOptions, prepare
from offtake.plan.solve import Options
from offtake.schema.read import read_folder

BY_HAND = Path(__file__).parents[2] / "examples" / "by-hand"
CENT = 0.01
OPTIONS = PlanOptions(solver=Options(gap=0.0))


def mean_over_june(growth: float) -> float:
    """Give the mean of 100 · g^(t / 365) over the middles of 30 days."""
    return 100 * math.pow(growth, 1 / 730) * (math.pow(growth, 30 / 365) - 1) / (30 * (math.pow(growth, 1 / 365) - 1))


def test_the_newsvendor_signs_the_critical_share_and_earns_the_closed_form() -> None:
    tables = read_folder(BY_HAND / "newsvendor")
    (rate,) = {lane.rps_per_chip for lane in prepare(tables, OPTIONS).placement.lanes}
    order = mean_over_june(30.0)
    assert 0.2 < 2_160 / (2_592 * rate) < 0.7
    found = negotiate(tables, "reserved", OPTIONS)
    assert found.units == pytest.approx(order / rate, rel=1e-9)
    worth = 2_592 * (0.3 * 100 + 0.7 * order) - 2_160 * order / rate
    assert found.difference_usd == pytest.approx(worth, abs=CENT)
    assert found.break_even_fee_ratio == pytest.approx(2_592 * rate / 2_160, rel=1e-6)


def test_the_lease_and_its_right_to_leave_are_worth_what_paper_says() -> None:
    found = negotiate(read_folder(BY_HAND / "lease"), "reserved", OPTIONS)
    fall = 10 ** (-300 / 365)
    august = sum(fall ** (day + 0.5) for day in range(31))
    stays, goes = 184 * 8_640 - 600_000, (31 + august) * 8_640 - 400_000
    assert found.difference_usd == pytest.approx((stays + goes) / 2, abs=CENT)
    assert found.right is not None
    assert found.right.notice_days == 31
    assert found.right.none_usd == pytest.approx((stays + goes - 200_000) / 2, abs=CENT)
    assert found.right.right_usd == pytest.approx(100_000, abs=CENT)
    assert found.right.right_in_foresight_usd == pytest.approx(200_000, abs=CENT)
    assert any("100,000" in text and "31 days" in text for text in found.sentences)


def test_the_curves_of_a_lot_end_at_what_signing_it_is_worth_and_keep_it_whole() -> None:
    found = negotiate(read_folder(BY_HAND / "lease"), "reserved", OPTIONS)
    for point in (found.sizes[-1], found.starts[0]):
        assert point.units == 1.0
        assert point.value_usd == pytest.approx(found.difference_usd, abs=CENT)
    # A quarter of the lot costs a quarter, whole until October; its chips are still more than are ever needed.
    assert found.sizes[0].value_usd == pytest.approx(found.difference_usd + 0.75 * 500_000, abs=CENT)
