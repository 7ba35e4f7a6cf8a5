"""Try the accounting of how sure the figures of a portfolio are."""

from __future__ import annotations

from pathlib import Path

from offtake.schema.columns import Confidence
from offtake.schema.marks import count_marks, figures
from offtake.schema.read import read_folder
from tests.schema.folders import write


def test_each_figure_carries_the_mark_of_its_row_or_its_own(tmp_path: Path) -> None:
    tables = read_folder(write(tmp_path))
    offers = {figure.column: figure.confidence for figure in figures(tables) if figure.table == "offers"}
    assert offers == {"fee_usd_per_month": Confidence.CONFIRMED, "sign_by": Confidence.REPORTED}


def test_names_flags_and_blank_cells_are_no_figures(tmp_path: Path) -> None:
    counts = count_marks(read_folder(write(tmp_path)))
    assert "providers" not in counts
    assert counts["sites"] == {Confidence.ASSUMPTION: 1}
    assert counts["links"] == {Confidence.ASSUMPTION: 3}
