from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from offtake.demand.training import check_jobs, job_of
from offtake.schema.tables import TrainingRow

START = date(2026, 6, 1).toordinal()


def row(**changes: Any) -> TrainingRow:
    given: dict[str, Any] = {
        "at": 2,
        "job": "next",
        "chip_hours": 240_000.0,
        "chips": {"h100": 1.0, "gb200": 2.5},
        "earliest": date(2026, 6, 11),
        "deadline": date(2026, 6, 20),
        "gang_chips": 400.0,
        "value_usd": 1e6,
    }
    return TrainingRow.model_validate({**given, **changes})


def test_a_job_counts_its_days_from_the_start_of_the_horizon_and_its_deadline_is_a_working_day() -> None:
    job = job_of(row(), START)
    assert (job.earliest_day, job.end_day) == (10, 20)


def test_a_job_tells_the_chips_it_needs_on_average_and_the_hours_one_gang_takes() -> None:
    job = job_of(row(), START)
    assert job.chips_needed == pytest.approx(1000.0)
    assert job.hours_at_least == pytest.approx(240.0)
    assert job_of(row(gang_chips=0.0), START).hours_at_least == 0.0


def test_a_good_job_has_no_fault() -> None:
    assert check_jobs((row(),)) == []


def test_a_job_without_time_or_without_a_chip_is_a_fault() -> None:
    faults = check_jobs((row(deadline=date(2026, 6, 1)), row(chips={"h100": 0.0})))
    assert [(fault.row, fault.column) for fault in faults] == [(2, "deadline"), (2, "chips")]
