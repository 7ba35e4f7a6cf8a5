"""Divide the horizon into periods, and list the days on which something may be signed.

Comes in: the settings and the offers. Goes out: a :class:`Calendar`. Days are ordinals of dates. It must
never read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from offtake.schema.settings import Settings
from offtake.schema.tables import OfferRow
from offtake.units import DAYS_PER_WEEK, DAYS_PER_YEAR, HOURS_PER_DAY, MONTHS_PER_YEAR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Hold the periods: ``edges [T + 1]`` are the first days of each, and the day after the last, as ordinals."""

    edges: Ints

    @property
    def periods(self) -> int:
        """Count the periods."""
        return len(self.edges) - 1

    @property
    def days(self) -> Ints:
        """List every day of the horizon."""
        return np.arange(self.edges[0], self.edges[-1], dtype=np.int64)

    @property
    def lengths(self) -> Ints:
        """Count the days of each period [T]."""
        return np.diff(self.edges)

    @property
    def hours(self) -> Floats:
        """Give the hours of each period [T]."""
        return self.lengths.astype(np.float64) * HOURS_PER_DAY

    @property
    def names(self) -> list[str]:
        """Name each period by its first day."""
        return [date.fromordinal(day).isoformat() for day in self.edges[:-1].tolist()]

    @property
    def years(self) -> list[int]:
        """List the calendar years in which a period begins."""
        return sorted({date.fromordinal(day).year for day in self.edges[:-1].tolist()})

    @property
    def year_of_period(self) -> Ints:
        """Give the place in ``years`` of each period [T]; a week over New Year belongs to the year it begins in."""
        years = self.years
        return np.array([years.index(date.fromordinal(day).year) for day in self.edges[:-1].tolist()], dtype=np.int64)

    @property
    def share_of_year(self) -> Floats:
        """Give the share of each year's days that its periods hold, by year [Y]: less than 1 of one that is cut off."""
        days = np.bincount(self.year_of_period, weights=self.lengths.astype(np.float64), minlength=len(self.years))
        whole = [(date(year + 1, 1, 1) - date(year, 1, 1)).days for year in self.years]
        shares: Floats = days / np.array(whole, dtype=np.float64)
        return shares

    def period_of(self, day: int) -> int:
        """Return the period of a day; T for days after the horizon, 0 for days before it."""
        return int(np.clip(np.searchsorted(self.edges, day, side="right") - 1, 0, self.periods))

    def mean(self, by_day: Floats) -> Floats:
        """Return the mean over the days of each period: [..., D] → [..., T]."""
        return self.total(by_day) / self.lengths

    def total(self, by_day: Floats) -> Floats:
        """Return the sum over the days of each period: [..., D] → [..., T]."""
        totals: Floats = np.add.reduceat(by_day, self.edges[:-1] - self.edges[0], axis=-1)
        return totals

    def discount(self, per_year: float) -> Floats:
        """Return the factor that takes money in the middle of each period to the first day [T]."""
        middle = (self.edges[:-1] + self.edges[1:]) / 2 - self.edges[0]
        factors: Floats = (1.0 + per_year) ** (-middle / DAYS_PER_YEAR)
        return factors


def end_discount(calendar: Calendar, per_year: float) -> float:
    """Return the factor that takes money of the day after the last one to the first day."""
    return float((1.0 + per_year) ** (-(calendar.edges[-1] - calendar.edges[0]) / DAYS_PER_YEAR))


def calendar_of(settings: Settings) -> Calendar:
    """Return ``weeks_first`` weeks from the first day, then calendar months, to the last day (which counts).

    The days between the last week and the next month are a period of their own.
    """
    after = settings.end + timedelta(days=1)
    edges = [settings.start]
    for _ in range(settings.weeks_first):
        edges.append(edges[-1] + timedelta(days=DAYS_PER_WEEK))
    while edges[-1] < after:
        edges.append(add_months(edges[-1].replace(day=1), 1))
    kept = [edge for edge in edges if edge < after]
    return Calendar(edges=np.array([day.toordinal() for day in [*kept, after]], dtype=np.int64))


def add_months(day: date, months: int) -> date:
    """Return the same day some months later, or the last day of that month where it is shorter."""
    index = day.year * MONTHS_PER_YEAR + day.month - 1 + months
    year, month = divmod(index, MONTHS_PER_YEAR)
    month_after = date(year + (month + 1) // MONTHS_PER_YEAR, (month + 1) % MONTHS_PER_YEAR + 1, 1)
    last = (month_after - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last))


def signing_dates(offer: OfferRow, settings: Settings) -> list[date]:
    """Return the days on which an offer may be signed: the first day, then every few months, and ``sign_by`` itself.

    On its last day an offer that was left open so far can still be had, so that waiting costs no more than the wait. A
    contract that is signed already has the first day only.
    """
    if offer.signed:
        return [settings.start]
    last = min(offer.sign_by or settings.end, settings.end)
    dates, step = [], 0
    while (day := add_months(settings.start, step)) <= last:
        dates.append(day)
        step += settings.signing_every_months
    if offer.sign_by is not None and dates and dates[-1] < last == offer.sign_by:
        dates.append(last)
    return dates
