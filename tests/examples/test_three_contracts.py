"""Try the figures of the three-contracts example against their sources."""

from __future__ import annotations

import pytest

from tests.examples.folders import offer, read

NAME = "three-contracts"


def test_the_question_is_how_many_blocks_of_eight_to_reserve() -> None:
    question = offer(NAME, read(NAME).settings.question)
    chips = next(row.chips_per_unit for row in read(NAME).tranches if row.offer == question.offer)
    assert (question.offer, question.signed, question.whole_units) == ("reserved-h100", False, True)
    assert (chips, chips * question.units_max, question.term_days) == (8, 64, 365)


def test_the_pool_and_the_api_cost_nothing_when_unused() -> None:
    assert {row.offer: row.take_or_pay_share for row in read(NAME).offers} == {
        "reserved-h100": 1.0,
        "pool-h100": 0.0,
        "overflow-api": 0.0,
    }


def test_the_reserved_rate_is_a_fifth_under_the_pools_as_clouds_discount_a_year() -> None:
    reserved, pool = (offer(NAME, name).fee_usd_per_chip_hour for name in ("reserved-h100", "pool-h100"))
    assert (reserved, pool) == (2.35, 23.60 / 8)
    assert 1 - reserved / pool == pytest.approx(0.20, abs=0.005)


def test_rates_are_four_times_those_of_azures_hour() -> None:
    assert {row.workload: row.rate_rps for row in read(NAME).workloads} == {"coding": 10.3, "chat": 22.1}


def test_an_api_request_costs_more_than_one_on_a_busy_chip() -> None:
    api = offer(NAME, "overflow-api")
    input_usd, output_usd = api.fee_usd_per_million_input_tokens, api.fee_usd_per_million_output_tokens
    chat_rps_per_busy_h100 = 2.26
    assert (1_155 * input_usd + 211 * output_usd) / 1e6 == pytest.approx(0.00098, rel=0.01)
    assert offer(NAME, "pool-h100").fee_usd_per_chip_hour / 3_600 / chat_rps_per_busy_h100 < 0.0004
