"""Read the shipped example folders, once each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from offtake.schema.marks import count_marks
from offtake.schema.portfolio import Tables
from offtake.schema.read import read_folder
from offtake.schema.tables import OfferRow

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "may-2026": ROOT / "examples" / "may-2026",
    "three-contracts": ROOT / "examples" / "three-contracts",
    "starter": ROOT / "src" / "offtake" / "schema" / "starter",
}


@cache
def read(name: str) -> Tables:
    """Read one of the shipped folders."""
    return read_folder(FOLDERS[name])


def offer(name: str, wanted: str) -> OfferRow:
    """Return one offer of a shipped folder."""
    return next(row for row in read(name).offers if row.offer == wanted)


def marks_of(name: str) -> dict[str, int]:
    """Count the figures of a shipped folder by mark."""
    totals: dict[str, int] = {}
    for counts in count_marks(read(name)).values():
        for mark, count in counts.items():
            totals[mark.value] = totals.get(mark.value, 0) + count
    return totals
