"""Describe training jobs and the floor kept for research, and check what can be checked before a plan.

Comes in: rows of the training table. Goes out: :class:`Job` records in days from the start of the horizon, or
faults. It must never know a site or an offer.
"""

from __future__ import annotations

from dataclasses import dataclass

from offtake.errors import Fault
from offtake.schema.tables import TrainingRow
from offtake.units import HOURS_PER_DAY


@dataclass(frozen=True, kw_only=True)
class Job:
    """Describe a training job.

    ``chip_hours`` are hours of a chip of speed 1; ``speed[chip]`` is each usable chip's speed. The job may run from
    ``earliest_day`` up to, not including, ``end_day`` (the day after its deadline).
    """

    name: str
    chip_hours: float
    speed: dict[str, float]
    earliest_day: int
    end_day: int
    gang_chips: float
    single_site: bool
    interruptible: bool
    value_usd: float
    residency: str
    security: int

    @property
    def chips_needed(self) -> float:
        """Return the chips of speed 1 that finish the job if they run all the time it is given."""
        return self.chip_hours / ((self.end_day - self.earliest_day) * HOURS_PER_DAY)

    @property
    def hours_at_least(self) -> float:
        """Return the hours the job takes on one gang of its fastest chip; 0 where it needs no gang."""
        return self.chip_hours / (self.gang_chips * max(self.speed.values())) if self.gang_chips else 0.0


def job_of(row: TrainingRow, start_ordinal: int) -> Job:
    """Return the job of one row."""
    return Job(
        name=row.job,
        chip_hours=row.chip_hours,
        speed=dict(row.chips),
        earliest_day=row.earliest.toordinal() - start_ordinal,
        end_day=row.deadline.toordinal() + 1 - start_ordinal,
        gang_chips=row.gang_chips,
        single_site=row.single_site,
        interruptible=row.interruptible,
        value_usd=row.value_usd,
        residency=row.residency,
        security=row.security,
    )


def check_jobs(rows: tuple[TrainingRow, ...]) -> list[Fault]:
    """Return a fault for each job without time, or without a chip that makes progress."""
    faults: list[Fault] = []
    for row in rows:
        if row.deadline < row.earliest:
            mend = "Give a deadline on or after the first day."
            faults.append(_fault(row, "deadline", "the deadline is before the first day", mend, str(row.deadline)))
        if not row.chips or max(row.chips.values()) <= 0:
            mend = "Name at least one chip with a speed above 0, as h100=1."
            faults.append(_fault(row, "chips", "no chip makes progress on the job", mend))
    return faults


def _fault(row: TrainingRow, column: str, problem: str, mend: str, value: str | None = None) -> Fault:
    """Return a fault of one row of the training table."""
    return Fault("training.csv", problem, mend, row.at, column, value)
