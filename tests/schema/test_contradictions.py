"""Try terms that cannot all be true at once, each as a user would write it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from offtake.schema.check import check_tables
from offtake.schema.contradictions import contradictions
from offtake.schema.settings import GrowthRow, Limits
from tests.supply import small

Row = dict[str, Any]


def found(**given: Any) -> list[tuple[str, int | str | None, str | None, str]]:
    return [(one.file, one.row, one.column, one.problem) for one in contradictions(small.tables(**given), set())]


def test_the_smallest_portfolio_contradicts_itself_nowhere() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("offer", "column", "problem"),
    [
        ({"signed": True, "probability": 0.5}, "probability", "a signed contract has a chance below 1 to be had"),
        ({"signed": True, "firmness": "talks"}, "firmness", "a signed contract is not firm"),
        ({"whole_units": True, "units_max": 8.5}, "units_max", "a size in whole units is not whole"),
        (
            {"whole_units": True, "units_min": 1.5, "units_max": 3},
            "units_min",
            "a size in whole units is not whole",
        ),
        (
            {"prepay_share": 0.5, "fee_usd_per_chip_hour": 2.0, "take_or_pay_share": 0.0},
            "prepay_share",
            "a share of the fee is prepaid, and no fee is due whether used or not",
        ),
        (
            {"prepay_share": 0.5},
            "prepay_share",
            "a share of the fee is prepaid, and no fee is due whether used or not",
        ),
        (
            {"fee_usd_per_million_output_tokens": 1.0},
            "tokens_per_minute_max",
            "token fees are asked and no token is sold",
        ),
        (
            {"ramp_discount_until": date(2026, 6, 1)},
            "ramp_discount_share",
            "the ramp discount has a last day and no share",
        ),
        (
            {"ramp_discount_until": date(2026, 4, 1), "ramp_discount_share": 0.5},
            "ramp_discount_until",
            "the discount ends before delivery",
        ),
        ({"renewal_term_days": 30}, "renewal_term_days", "the length of a renewal is given and no renewal"),
        ({"renewal_days": 30}, "renewal_days", "a renewal needs a term to go on from"),
        (
            {"terminal_usd_per_chip_hour": -1.0},
            "terminal_usd_per_chip_hour",
            "a value beyond the horizon needs a term to go on from",
        ),
        (
            {"renewal_fee_ratio": 1.5},
            "renewal_fee_ratio",
            "the fee of a renewal is given and no renewal",
        ),
        (
            {"renewal_fee_ratio": 1.5, "renewal_days": 9, "term_days": 9, "take_or_pay_share": 0.5},
            "renewal_fee_ratio",
            "a fee that is paid by use cannot change on renewal",
        ),
        ({"exclusive_group": "either"}, "exclusive_group", "the offer shuts out only itself"),
    ],
)
def test_an_offer_whose_terms_contradict_each_other_is_a_fault_at_its_column(
    offer: Row, column: str, problem: str
) -> None:
    assert found(offers=(small.offer(at=2, **offer),)) == [("offers.csv", 2, column, problem)]


def test_a_contract_that_was_over_before_the_horizon_is_a_fault() -> None:
    offers = (small.offer(at=2, signed=True, term_days=30),)
    tranches = (small.tranche(available=date(2026, 1, 1)),)
    problem = "the contract was over on 2026-01-31, before the horizon"
    assert found(offers=offers, tranches=tranches) == [("offers.csv", 2, "term_days", problem)]


def test_delivery_before_an_offer_can_be_signed_is_a_fault_and_a_standing_offer_is_none() -> None:
    tranches = (small.tranche(at=2, available=date(2026, 4, 30)),)
    problem = "delivery starts before the offer can be signed"
    offers = (small.offer(sign_by=date(2026, 6, 30)),)
    assert found(offers=offers, tranches=tranches) == [("tranches.csv", 2, "available", problem)]
    assert found(tranches=tranches) == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"substitute_probability": 0.5}, "another chip may come, and none is named"),
        ({"substitute_chip": "h100"}, "the other chip is the one promised"),
    ],
)
def test_another_chip_that_may_come_is_named_and_another(given: dict[str, Any], problem: str) -> None:
    assert found(tranches=(small.tranche(at=2, **given),)) == [("tranches.csv", 2, "substitute_chip", problem)]


def test_a_tranche_after_the_term_and_testing_for_all_of_it_are_faults() -> None:
    tranches = (small.tranche(), small.tranche(name="late", at=3, available=date(2026, 6, 30), qualification_days=60))
    assert found(offers=(small.offer(term_days=60),), tranches=tranches) == [
        ("tranches.csv", 3, "available", "the tranche comes after the term of 60 days from 2026-05-01"),
        ("tranches.csv", 3, "qualification_days", "testing takes the whole term of 60 days"),
    ]


@pytest.mark.parametrize(("exit_from", "faults"), [(date(2026, 9, 27), 0), (date(2026, 9, 28), 1)])
def test_a_way_out_must_open_before_the_last_day_of_the_longest_term(exit_from: date, faults: int) -> None:
    # signed by 31 May, there 20 days later, at most 10 days late, for 89 days: 27 September
    offers = (small.offer(sign_by=date(2026, 5, 31), term_days=89),)
    tranches = (small.tranche(lead_days=20, slip_days_max=10),)
    given = {"offers": offers, "tranches": tranches, "exits": (small.way_out("only", "buyer", exit_from, at=2),)}
    assert len(found(**given)) == faults


def test_a_term_beyond_every_calendar_is_no_crash() -> None:
    offers = (small.offer(term_days=10_000_000),)
    assert found(offers=offers, exits=(small.way_out("only", "buyer", date(2026, 9, 1)),)) == []


def test_two_signed_contracts_that_shut_each_other_out_are_a_fault() -> None:
    offers = tuple(small.offer(name, at=at, signed=True, exclusive_group="x") for name, at in (("a", 2), ("b", 3)))
    problem = "'a' and 'b' shut each other out and are both signed"
    tranches = (small.tranche("a"), small.tranche("b"))
    assert found(offers=offers, tranches=tranches) == [("offers.csv", 3, "exclusive_group", problem)]


def test_a_stress_of_growth_must_be_given_whole() -> None:
    (fault,) = found(growth=(GrowthRow(at=1, branch="b", weight=1, per_year=2, stress_per_year=9, stress_days=30),))
    assert fault == ("portfolio.toml", "[[growth]] 1", "stress_from", "the stress is not whole")


def test_survival_without_critical_work_is_a_fault() -> None:
    problem = "no workload is critical, so nothing must survive"
    assert found(limits=Limits(survive_share=0.5)) == [("portfolio.toml", "[limits]", "survive_share", problem)]


def test_contradictions_come_together_with_every_other_fault_between_rows() -> None:
    given = {
        "offers": (small.offer(at=2, units_min=9.0, prepay_share=0.1, term_days=60),),
        "exits": (small.way_out("only", "buyer", date(2026, 6, 1), at=2, weight=0.5),),
    }
    assert {(one.file, one.column) for one in check_tables(small.tables(**given), set())} == {
        ("offers.csv", "units_min"),
        ("offers.csv", "prepay_share"),
        ("exits.csv", "weight"),
        ("exits.csv", "notice_days"),
    }


def test_a_file_with_failed_rows_is_not_judged_whole() -> None:
    tables = small.tables(offers=(small.offer(exclusive_group="either"),))
    assert contradictions(tables, {"offers.csv"}) == []


def test_groups_to_survive_without_a_share_of_work_are_a_fault() -> None:
    problem = "groups are to be survived and no share of the work is asked for"
    assert found(limits=Limits(survive_groups=("site:east",))) == [
        ("portfolio.toml", "[limits]", "survive_groups", problem)
    ]
