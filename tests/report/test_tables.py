from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from offtake.errors import InputError
from offtake.report.tables import read_run
from tests.report.run_folder import Wish, build_run


def test_a_folder_that_is_no_run_is_refused_with_a_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no plan, no appraisal and no rehearsal.*offtake plan"):
        read_run(tmp_path)


def test_a_whole_run_lacks_nothing(tmp_path: Path) -> None:
    run = read_run(build_run(tmp_path))
    assert run.missing == []
    assert sorted(run.frames) == ["capacity", "cost", "demand", "prices", "scenarios"]


def test_stages_that_were_not_run_are_named(tmp_path: Path) -> None:
    run = read_run(build_run(tmp_path, Wish(plan=False, rehearsals=())))
    assert run.plan is None
    assert [text.split(":")[0] for text in run.missing] == ["No plan", "No rehearsal"]


def test_tables_that_are_not_there_are_named(tmp_path: Path) -> None:
    build_run(tmp_path)
    (tmp_path / "plan" / "cost.parquet").unlink()
    run = read_run(tmp_path)
    assert run.missing == ["The plan's tables cost are missing; what they would show is left out."]


def test_every_fault_of_a_run_is_shown_at_once(tmp_path: Path) -> None:
    build_run(tmp_path)
    path = tmp_path / "plan" / "capacity.parquet"
    pl.read_parquet(path).drop("kw_mean", "firmness").write_parquet(path)
    (tmp_path / "plan" / "demand.parquet").write_bytes(b"not a table")
    (tmp_path / "appraise" / "spacex-c1" / "appraisal.json").write_text('{"format": "offtake-appraisal-1"}')
    with pytest.raises(InputError) as caught:
        read_run(tmp_path)
    assert [(fault.file.rpartition("/")[2], fault.column) for fault in caught.value.faults] == [
        ("capacity.parquet", "firmness"),
        ("capacity.parquet", "kw_mean"),
        ("demand.parquet", None),
        ("appraisal.json", None),
    ]


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    build_run(tmp_path)
    path = tmp_path / "plan" / "plan.json"
    path.write_text(path.read_text("utf-8").replace("offtake-plan-1", "offtake-plan-9"), "utf-8")
    with pytest.raises(InputError, match="the file's format is not offtake-plan-1"):
        read_run(tmp_path)


def test_a_stage_of_another_portfolio_is_left_out_and_said(tmp_path: Path) -> None:
    folder = build_run(tmp_path)
    path = folder / "rehearse" / "rehearse.json"
    path.write_text(path.read_text().replace("9f1c", "0000"))
    run = read_run(folder)
    assert run.missing[-1] == "Stages made from another version of the portfolio are left out: run them again."
    assert run.rehearsals == {}
    assert len(run.appraisals) == 1
