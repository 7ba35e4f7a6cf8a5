"""Try how people write values."""

from __future__ import annotations

import pytest

from offtake.schema.columns import parse_amounts, parse_money_usd, parse_names, parse_power_kw
from offtake.schema.settings import Risk, ShockRow
from offtake.schema.tables import OfferRow, Row, SiteRow


@pytest.mark.parametrize(
    ("text", "power_kw"),
    [("300 MW", 300_000.0), ("1.2 GW", 1_200_000.0), ("500", 500.0), ("1,500 kW", 1500.0), (7.5, 7.5)],
)
def test_power_may_be_written_with_its_unit(text: object, power_kw: float) -> None:
    assert parse_power_kw(text) == power_kw


@pytest.mark.parametrize(
    ("text", "money_usd"),
    [("1.25 bn", 1.25e9), ("$371,000,000", 371e6), ("12 m", 12e6), ("9.5 USD", 9.5), ("3k", 3000.0)],
)
def test_money_may_be_written_with_its_scale(text: object, money_usd: float) -> None:
    assert parse_money_usd(text) == money_usd


@pytest.mark.parametrize("text", ["300 MWh", "lots", "1.2.3 MW", "", "MW"])
def test_a_power_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="300 MW"):
        parse_power_kw(text)


def test_lists_and_pairs_are_parted_by_semicolons() -> None:
    assert parse_names("grid:TVA; landlord:spacex;") == ("grid:TVA", "landlord:spacex")
    assert parse_amounts("h100=1; gb200=2.5") == {"h100": "1", "gb200": "2.5"}
    with pytest.raises(ValueError, match="name=value"):
        parse_amounts("h100")


@pytest.mark.parametrize(
    ("record", "column", "most"),
    [
        (SiteRow, "curtailment_hours_per_year", 8760),
        (SiteRow, "loss_per_year", 10),
        (OfferRow, "reclaim_per_year", 10),
        (ShockRow, "per_year", 365),
        (Risk, "weight", 100),
    ],
)
def test_a_bound_of_a_column_holds(record: type[Row], column: str, most: float) -> None:
    schema = record.model_json_schema()["properties"][column]
    assert (schema["minimum"], schema["maximum"]) == (0, most)
