from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offtake.plan import highs
from offtake.plan.decompose import decompose
from offtake.plan.highs import Effort
from offtake.plan.problem import Problem
from offtake.plan.solution import Prices
from offtake.plan.solve import build, interpret
from tests.plan.problems import newsvendor

ENGINES = ["extensive form", "cutting planes"]


def prices(problem: Problem, engine: str) -> Prices:
    model = build(problem)
    program = model.blocks.build(model.units.usd)
    effort = Effort(gap=1e-9)
    answer = highs.solve_whole(program, effort) if engine == "extensive form" else decompose(model, program, effort)
    assert answer is not None
    return interpret(model, program, answer).prices


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("risk_weight", [0.0, 1.0])
def test_where_signing_is_free_a_chip_hour_is_worth_its_fee(engine: str, risk_weight: float) -> None:
    found = prices(replace(newsvendor(), risk_weight=risk_weight), engine)
    assert found.chips_usd_per_chip_hour.ravel() == pytest.approx([3.25])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_chip_hour_is_priced_in_the_money_and_the_hours_of_its_period(engine: str) -> None:
    base = newsvendor(fee_usd=3.25 * 100)
    found = prices(replace(base, period_hours=np.array([100.0]), discount=np.array([0.8])), engine)
    assert found.chips_usd_per_chip_hour.ravel() == pytest.approx([3.25])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_kilowatt_hour_is_worth_what_the_next_chip_earns_above_its_fee(engine: str) -> None:
    # Power for 35 chips: the next one earns 10 where demand is 40 or more (0.7) and costs 3.25.
    found = prices(replace(newsvendor(), power_kw=np.full((10, 1, 1, 1), 35.0)), engine)
    assert found.power_usd_per_kwh.ravel() == pytest.approx([3.75])


@pytest.mark.parametrize("engine", ENGINES)
def test_work_pays_for_its_chip_and_for_the_power_it_draws_beyond_an_idle_one(engine: str) -> None:
    # As above: 3.25 for the chip and 3.75 for its kilowatt are what the next request earns, 10 in 0.7 of the futures.
    base = replace(newsvendor(), power_kw=np.full((10, 1, 1, 1), 35.0))
    assert prices(base, engine).work_usd_per_chip_hour.ravel() == pytest.approx([7.0])
    # Chips that are there anyway and draw half when idle: 35 kW carry 20 busy and 30 idle of 50, and a kilowatt
    # makes two of them busy. A busy one draws half a kilowatt more: all its work is worth is the power's.
    idle = replace(base.cells, idle_share=np.array([0.5]))
    there = replace(base.vintages, signed=np.array([True]), units_max=np.array([50.0]))
    found = prices(replace(base, cells=idle, vintages=there), engine)
    assert found.chips_usd_per_chip_hour.ravel() == pytest.approx([0.0], abs=1e-9)
    assert found.work_usd_per_chip_hour.ravel() == pytest.approx(found.power_usd_per_kwh.ravel() / 2)
    assert found.work_usd_per_chip_hour.ravel() == pytest.approx([8.0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gigabyte_is_worth_what_its_requests_earn(engine: str) -> None:
    # A link for 35 bytes/s at a byte a request: 3600 bytes in the hour are worth 3.75.
    found = prices(replace(newsvendor(), link_bytes_per_s=np.array([35.0])), engine)
    assert found.link_usd_per_gb.ravel() == pytest.approx([3.75 / 3600 * 1e9])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dollar_of_budget_is_worth_what_it_buys_beyond_itself(engine: str) -> None:
    # A budget for 25 chips: the next one earns 10 where demand is 30 or more (0.8).
    base = newsvendor()
    found = prices(replace(base, limits=replace(base.limits, budget_usd=np.array([81.25]))), engine)
    assert found.budget_usd_per_usd == pytest.approx([8 / 3.25 - 1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("whole", [False, True])
def test_one_more_unit_of_a_full_offer_is_worth_its_margin(engine: str, whole: bool) -> None:
    base = newsvendor(units_max=25.0)
    found = prices(replace(base, vintages=replace(base.vintages, whole_units=np.array([whole]))), engine)
    assert found.sign_usd_per_unit == pytest.approx([8 - 3.25])


@pytest.mark.parametrize("engine", ENGINES)
def test_one_more_unit_of_a_full_offer_is_worth_its_margin_at_each_of_its_signing_dates(engine: str) -> None:
    base = newsvendor(units_max=25.0)
    twice = {name: np.repeat(value, 2, axis=0) for name, value in vars(base.vintages).items()}
    delivered = {name: np.repeat(value, 2, axis=0) for name, value in vars(base.deliveries).items()}
    delivered["vintage"] = np.tile([0, 1], base.deliveries.vintage.size)
    both = replace(
        base,
        axes=replace(base.axes, vintages=["offer now", "offer again"]),
        vintages=replace(base.vintages, **twice),
        deliveries=replace(base.deliveries, **delivered),
    )
    assert prices(both, engine).sign_usd_per_unit == pytest.approx([8 - 3.25, 8 - 3.25])


def test_a_point_of_concentration_is_worth_what_the_units_it_frees_earn() -> None:
    # Two offers at one site: a dear one outside the group, a cheap one in it that may hold half of the firm power.
    base = newsvendor((100.0,), fee_usd=2.0)
    vintages = replace(
        base.vintages,
        **{name: np.repeat(value, 2, axis=0) for name, value in vars(base.vintages).items()},
    )
    two = replace(
        base,
        axes=replace(base.axes, offers=["cheap", "dear"], vintages=["cheap", "dear"]),
        vintages=replace(
            vintages,
            offer=np.array([0, 1]),
            paid_usd=np.array([[[2.0]], [[6.0]]]),
            group_kw=np.array([[[1.0]], [[0.0]]]),
        ),
        deliveries=replace(
            base.deliveries,
            **{name: np.repeat(value, 2, axis=0) for name, value in vars(base.deliveries).items() if name != "vintage"},
            vintage=np.array([0, 1]),
        ),
        limits=replace(base.limits, group_cap=np.array([0.5])),
    )
    found = prices(two, "extensive form")
    # 100 chips in all: one more percentage point turns one dear chip into a cheap one.
    assert found.concentration_usd_per_point.ravel() == pytest.approx([4.0])


@pytest.mark.parametrize("engine", ENGINES)
def test_work_pays_for_what_it_sends_over_a_full_link(engine: str) -> None:
    # A link for 35 bytes/s at a byte a request: 3600 bytes an hour from each busy chip, worth 3.75, beside its 3.25.
    found = prices(replace(newsvendor(), link_bytes_per_s=np.array([35.0])), engine)
    assert found.work_usd_per_chip_hour.ravel() == pytest.approx([7.0])


def test_every_price_says_what_it_means() -> None:
    found = prices(newsvendor(), "extensive form")
    assert set(found.meanings) == {"chips", "work", "power", "link", "concentration", "budget", "sign"}
    assert all(text.endswith(".") for text in found.meanings.values())


def test_a_cell_without_chips_is_priced_at_no_more_than_its_best_use() -> None:
    base = newsvendor(fee_usd=50.0)
    lot = replace(base.vintages, all_or_nothing=np.array([True]), units_max=np.array([10.0]))
    found = prices(replace(base, vintages=lot), "extensive form")
    assert 0 < found.chips_usd_per_chip_hour[0, 0, 0] <= 10.0
