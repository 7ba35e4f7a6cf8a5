"""Hold the reference documentation to the declarations it is made from."""

from __future__ import annotations

import json
from pathlib import Path

from offtake.schema import reference
from offtake.schema.settings import SECTIONS
from offtake.schema.tables import TABLES

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def test_the_committed_reference_is_the_generated_one() -> None:
    assert (DOCS / "portfolio.md").read_text(encoding="utf-8") == reference.markdown()
    assert (DOCS / "portfolio.schema.json").read_text(encoding="utf-8") == reference.json_schema()


def test_every_column_stands_in_the_reference_with_its_unit() -> None:
    text = reference.markdown()
    assert "| `rtt_ms_median` | ms | ≥ 0, ≤ 5000 | **required** | Median round trip. |" in text
    for record in [*TABLES.values(), *SECTIONS.values()]:
        for name in record.model_fields:
            assert f"`{name}`" in text or name == "at"


def test_the_json_schema_lists_every_table_and_its_bounds() -> None:
    document = json.loads(reference.json_schema())
    assert set(document["properties"]) == {"portfolio.toml", *[f"{name}.csv" for name in TABLES]}
    share = document["properties"]["offers.csv"]["items"]["properties"]["take_or_pay_share"]
    assert (share["minimum"], share["maximum"]) == (0, 1)
