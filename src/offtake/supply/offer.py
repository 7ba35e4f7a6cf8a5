"""Hold the terms of one offer, and tell when either side may leave.

Comes in: rows of `offers`, `tranches` and `exits`. Goes out: :class:`Terms` and dates as ordinals (day 1 is
1 January of year 1). Where the public terms conflict there are several readings; which one holds is drawn by
the plan. It must never know a scenario's probability or a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from offtake.schema.tables import ExitRow, OfferRow, TrancheRow
from offtake.units import DAYS_PER_YEAR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NEVER = date.max.toordinal()


@dataclass(frozen=True, kw_only=True)
class Right:
    """Hold one side's right to leave: the first day on which it can take effect, its notice in days, and its price.

    ``fee_usd`` is paid to the other side for each unit.
    """

    exit_from: date
    notice_days: int
    fee_usd: float = 0.0

    def first_day(self, sign_day: int) -> int:
        """Return the first day (ordinal) on which an exit can take effect, if signed on ``sign_day``."""
        return max(self.exit_from.toordinal(), sign_day + self.notice_days)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Hold one reading of the terms: its weight, and who may leave under it (None: that side may not)."""

    name: str
    weight: float
    buyer: Right | None
    provider: Right | None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Hold one offer whole: its row, its tranches, and the readings of its exits (at least one)."""

    row: OfferRow
    tranches: tuple[TrancheRow, ...]
    readings: tuple[Reading, ...]

    @property
    def is_api(self) -> bool:
        """Tell whether it is a token-priced API."""
        return self.row.tokens_per_minute_max > 0

    @property
    def chips_per_unit(self) -> float:
        """Add up the chips that one unit brings, over its tranches."""
        return sum(tranche.chips_per_unit for tranche in self.tranches)


def terms_of(row: OfferRow, tranches: Sequence[TrancheRow], exits: Sequence[ExitRow]) -> Terms:
    """Gather the terms of one offer from the tables."""
    mine = tuple(tranche for tranche in tranches if tranche.offer == row.offer)
    return Terms(row=row, tranches=mine, readings=readings_of(row.offer, exits))


def readings_of(offer: str, exits: Sequence[ExitRow]) -> tuple[Reading, ...]:
    """Return the readings of an offer's exits in the order of the file; without rows, one with no way out."""
    rows = [row for row in exits if row.offer == offer]
    names = dict.fromkeys(row.reading for row in rows)
    readings = [reading_of(name, [row for row in rows if row.reading == name]) for name in names]
    return tuple(readings) or (Reading(name="as written", weight=1.0, buyer=None, provider=None),)


def reading_of(name: str, rows: Sequence[ExitRow]) -> Reading:
    """Return one reading from its rows; a side named twice may leave on the earlier day."""

    def right(side: str) -> Right | None:
        rights = [
            Right(exit_from=row.exit_from, notice_days=row.notice_days, fee_usd=row.fee_usd_per_unit)
            for row in rows
            if row.who in {side, "either"}
        ]
        return min(rights, key=lambda right: (right.exit_from, right.notice_days), default=None)

    return Reading(name=name, weight=rows[0].weight, buyer=right("buyer"), provider=right("provider"))


def buyer_lock_day(terms: Terms, sign_day: int) -> int:
    """Return the first day (ordinal) on which the buyer can be out, whichever reading holds.

    The plan fixes the day beforehand, so the latest day of any reading with weight counts; ``NEVER`` where one
    reading gives the buyer no way out. A renewal is free from the day on which the term is over at the latest.
    """
    rights = [reading.buyer for reading in terms.readings if reading.weight > 0]
    first = max(NEVER if right is None else right.first_day(sign_day) for right in rights)
    return min(first, latest_term_over(terms, sign_day)) if terms.row.renewal_days > 0 else first


def latest_term_over(terms: Terms, sign_day: int) -> int:
    """Return the first day (ordinal) after the term if deliveries slip as far as they may; ``NEVER`` without a term."""
    if terms.row.term_days is None:
        return NEVER
    slipped = [promised_day(one, sign_day, signed=terms.row.signed) + one.slip_days_max for one in terms.tranches]
    return min(min(slipped) + terms.row.term_days, NEVER)


def promised_day(tranche: TrancheRow, sign_day: int, *, signed: bool) -> int:
    """Return the first day (ordinal) of delivery as promised; the lead time of a signed contract has begun."""
    available = tranche.available.toordinal()
    return available if signed else max(available, sign_day + tranche.lead_days)


def buyer_notice_days(terms: Terms) -> int:
    """Return the days of notice that the buyer gives, the longest of any reading with weight; 0 without a right."""
    rights = [reading.buyer for reading in terms.readings if reading.weight > 0]
    return max((right.notice_days for right in rights if right is not None), default=0)


def buyer_exit_usd(terms: Terms) -> float:
    """Return what the buyer pays for each unit that it ends within the term: the most of any reading with weight."""
    rights = [reading.buyer for reading in terms.readings if reading.weight > 0]
    return max((right.fee_usd for right in rights if right is not None), default=0.0)


def provider_exit_usd(terms: Terms, reading: Ints) -> Floats:
    """Return what the provider pays for each unit where it leaves [S]; ``reading [S]`` says which holds."""
    fees = np.array([0.0 if one.provider is None else one.provider.fee_usd for one in terms.readings])
    return np.asarray(fees[reading], dtype=np.float64)


def provider_exit_day(terms: Terms, sign_day: int, reading: Ints, wait_years: Floats) -> Ints:
    """Return the day (ordinal) on which the provider leaves in each scenario [S].

    ``reading [S]`` says which reading holds; ``wait_years [S]`` is how long after the first permitted day the
    provider uses its right (inf: never).
    """
    first = np.array(
        [NEVER if one.provider is None else one.provider.first_day(sign_day) for one in terms.readings], dtype=np.int64
    )
    wait_days = np.minimum(np.floor(wait_years * DAYS_PER_YEAR), NEVER).astype(np.int64)
    left: Ints = np.minimum(first[reading] + wait_days, NEVER)
    return left
