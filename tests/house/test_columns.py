from __future__ import annotations

from types import UnionType
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from offtake.schema import settings, tables
from offtake.schema.columns import column

# The part of a column's name that tells its unit, and how its unit must begin.
UNIT_WORDS = {
    "kw": "kW",
    "ms": "ms",
    "usd": "USD",
    "days": "days",
    "share": "share",
    "gb": "GB",
    "hours": "h",
    "gbit": "Gbit",
    "tflops": "TFLOP",
}


def models() -> list[type[BaseModel]]:
    """Every record class that a portfolio is read into."""
    named = [*vars(tables).values(), *vars(settings).values()]
    return sorted({each for each in named if isinstance(each, type) and issubclass(each, BaseModel)}, key=str)


def columns() -> list[tuple[str, FieldInfo]]:
    return [
        (f"{model.__name__}.{name}", field)
        for model in models()
        if model not in {BaseModel, settings.PortfolioToml}  # the latter lists sections, not columns
        for name, field in model.model_fields.items()
        if not field.exclude
    ]


def is_number(annotation: Any) -> bool:
    kinds = set(get_args(annotation)) if isinstance(annotation, UnionType) else {annotation}
    return bool(kinds & {int, float})


def faults_of(name: str, field: FieldInfo) -> list[str]:
    """What a column fails to say."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = str(extra.get("unit", ""))
    faults = [] if field.description else ["no meaning"]
    if is_number(field.annotation) and not unit:
        faults.append("a number without a unit")
    if is_number(field.annotation) and not any(hasattr(mark, bound) for mark in field.metadata for bound in BOUNDS):
        faults.append("a number without bounds")
    words = [word for word in name.rpartition(".")[2].split("_") if is_number(field.annotation)]
    misfits = [word for word in words if UNIT_WORDS.get(word, "") not in unit]
    return faults + [f"its name says {word}, its unit {unit!r}" for word in misfits]


BOUNDS = ("ge", "gt", "le", "lt")


@pytest.mark.parametrize("name, field", columns(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_column_says_what_it_means_in_which_unit_and_within_which_bounds(name: str, field: FieldInfo) -> None:
    assert faults_of(name, field) == []


def test_a_column_that_says_nothing_is_found() -> None:
    class Bad(BaseModel):
        power_kw: float

    class Worse(BaseModel):
        power_kw: float = column("Power.", "MW", ge=0)

    assert faults_of("Bad.power_kw", Bad.model_fields["power_kw"]) == [
        "no meaning",
        "a number without a unit",
        "a number without bounds",
        "its name says kw, its unit ''",
    ]
    assert faults_of("Worse.power_kw", Worse.model_fields["power_kw"]) == ["its name says kw, its unit 'MW'"]
