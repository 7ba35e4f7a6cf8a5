from __future__ import annotations

import pytest

from offtake.report import words


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (1.25e9, "$1.25 bn"),
        (-3.2e8, "−$320 m"),
        (45_000.0, "$45,000"),
        (0.0, "$0"),
        (float("nan"), "–"),
        (9.999e11, "$1,000 bn"),
    ],
)
def test_money_is_written_in_the_unit_that_people_use(usd: float, text: str) -> None:
    assert words.money(usd) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0.0, "0%"),
        (0.00002, "under 0.1%"),
        (0.045, "4.5%"),
        (0.5, "50%"),
        (0.951, "95.1%"),
        (0.99999, "over 99.9%"),
        (1.0, "100%"),
        (1.18, "118%"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(part: float, text: str) -> None:
    assert words.share(part) == text


def test_a_loss_carries_its_sign_and_a_gain_its_plus() -> None:
    assert (words.change(2.1e9), words.change(-2.1e9), words.change(0.0)) == ("+$2.1 bn", "−$2.1 bn", "$0")


def test_power_and_waits_change_unit_where_people_do() -> None:
    assert [words.power(kw) for kw in (89.6, 999_000.0, 1_250_000.0)] == ["89.6 kW", "999 MW", "1.25 GW"]
    assert (words.duration(84.0), words.duration(2310.0)) == ("84 ms", "2.31 s")


def test_a_date_within_a_name_is_part_of_the_name() -> None:
    assert words.day("lease-2026-05-01 from 2026-05-01") == "lease-2026-05-01 from 1 May 2026"


def test_text_that_is_no_date_stays_as_it_is() -> None:
    assert words.day("2026-02-31") == "2026-02-31"
    assert (words.day("2026-08-01"), words.day("at once"), words.day("")) == ("1 Aug 2026", "at once", "")
