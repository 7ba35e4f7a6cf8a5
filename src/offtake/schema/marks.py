"""Count how much of a portfolio rests on confirmed, reported, estimated or assumed figures.

A *figure* is a number or a date that the user wrote; names, flags and blank cells are none. Each carries
the mark of its row, or its own where the row's ``marks`` name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from offtake.schema.check import places, where
from offtake.schema.columns import Confidence
from offtake.schema.portfolio import Tables
from offtake.schema.tables import Row


@dataclass(frozen=True)
class Figure:
    """Hold one figure: where it stands, its value as text, how sure it is and who says so."""

    file: str
    table: str
    row: int | str
    key: str
    column: str
    unit: str
    value: str
    confidence: Confidence
    source: str


def figures(tables: Tables) -> Iterator[Figure]:
    """Yield every figure of a portfolio, in the order of its tables."""
    for name, file, record, rows in places(tables):
        for row in rows:
            key = " ".join(str(getattr(row, column)) for column in record.key)
            for column in sorted(row.model_fields_set - {"at", "marks"}, key=list(record.model_fields).index):
                if not is_figure(getattr(row, column)):
                    continue
                mark = row.marks.get(column, row.confidence)
                yield Figure(
                    file,
                    name,
                    where(name, row),
                    key,
                    column,
                    unit_of(record, column),
                    text_of(row, column),
                    mark,
                    row.source,
                )


def is_figure(value: object) -> bool:
    """Return whether a value is a number, a date or a list of named numbers."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | date) or (isinstance(value, dict) and bool(value))


def text_of(row: Row, column: str) -> str:
    """Return a value as a person would write it."""
    value = getattr(row, column)
    if isinstance(value, dict):
        return "; ".join(f"{name}={number:g}" for name, number in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def unit_of(record: type[Row], column: str) -> str:
    """Return the unit of a column, empty for none."""
    extra = record.model_fields[column].json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def count_marks(tables: Tables) -> dict[str, Counter[Confidence]]:
    """Return the number of figures of each mark, by table."""
    counts: dict[str, Counter[Confidence]] = {}
    for figure in figures(tables):
        counts.setdefault(figure.table, Counter())[figure.confidence] += 1
    return counts
