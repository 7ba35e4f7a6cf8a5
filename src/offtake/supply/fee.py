"""Tell what one kept unit of an offer costs on each day, used or not.

Comes in: terms and a delivery. Goes out: US dollars by scenario and day. Pure functions of dates. Rules:

- a chip-hour fee is owed for the chips owed (present, and late ones as far as the remedy leaves them owed); where
  another chip is delivered it is that of the chips promised;
- a monthly fee is spread evenly over the days of each calendar month, and owed in the proportion of what is
  owed to what was promised by then, so that ``late_remedy_share = 1`` pays only what is delivered;
- after the term the fee is ``renewal_fee_ratio`` of what it was, and nothing of a renewal is prepaid;
- chip-hours of the term beyond the last day have a terminal value, which is no payment;
- who leaves within the term pays the fee of its exit for each unit: the provider on the day on which it is gone, the
  buyer in the period from which on the unit is ended;
- chips lost with their site are not owed; the ramp discount holds to its last day, that day included;
- only the take-or-pay share is due whether used or not: the rest is :func:`used_usd_per_chip_hour`;
- the prepayment is a share of the take-or-pay fee of the first 365 days as promised; it is set off against the
  earliest fees, and what is left returned when the provider leaves, when all its sites are lost (both are
  assumptions: contracts differ), or when the offer cannot be had.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date

import numpy as np
import numpy.typing as npt

from offtake.schema.tables import OfferRow
from offtake.supply.delivery import Delivery, Draw, as_promised, deliver, first_days, term_over
from offtake.supply.offer import Terms, buyer_exit_usd, buyer_lock_day, promised_day
from offtake.units import DAYS_PER_YEAR, HOURS_PER_DAY, HOURS_PER_MONTH

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def days_in_month(days: Ints) -> Ints:
    """Return the length of the calendar month of each day [D]."""
    lengths = {}
    for day in days.tolist():
        month = date.fromordinal(day).replace(day=1)
        lengths[day] = monthrange(month.year, month.month)[1]
    return np.array([lengths[day] for day in days.tolist()], dtype=np.int64)


def discount_factor(row: OfferRow, days: Ints) -> Floats:
    """Return what the ramp discount leaves of the fee on each day [D]."""
    if row.ramp_discount_until is None:
        return np.ones(len(days))
    return np.where(days <= row.ramp_discount_until.toordinal(), 1.0 - row.ramp_discount_share, 1.0)


def fee_usd_by_day(terms: Terms, delivery: Delivery) -> Floats:
    """Return the whole fee of one kept unit on each day [S, D], before take-or-pay and prepayment."""
    row, days = terms.row, delivery.days
    chips = np.array([tranche.chips_per_unit for tranche in terms.tranches])
    weights = chips if chips.sum() > 0 else np.ones(len(chips))
    hourly = row.fee_usd_per_chip_hour * HOURS_PER_DAY * np.einsum("r,srd->sd", chips, delivery.owed)
    promised = weights @ delivery.promised
    owed = np.einsum("r,srd->sd", weights, delivery.owed)
    part = np.divide(owed, promised, out=np.zeros_like(owed), where=promised > 0)
    monthly = row.fee_usd_per_month / days_in_month(days) * part
    renewed = np.where(days < delivery.term_over[:, np.newaxis], 1.0, row.renewal_fee_ratio)
    return np.asarray((hourly + monthly) * discount_factor(row, days) * renewed, dtype=np.float64)


def terminal_usd(terms: Terms, draw: Draw, delivery: Delivery) -> Floats:
    """Return what one unit kept to the last day is worth beyond it [S]: chips there times the hours of its term left.

    The provider's exit and the loss of a site end what is left of the term; a renewal is not counted.
    """
    row, last = terms.row, int(delivery.days[-1])
    if row.terminal_usd_per_chip_hour == 0 or row.term_days is None:
        return np.zeros(len(draw.there))
    over = np.minimum(delivery.term_over, draw.exit_day)[:, np.newaxis]
    left_days = np.maximum(np.minimum(over, draw.lost_day) - (last + 1), 0)
    chips = delivery.counted[:, :, -1] * [tranche.chips_per_unit for tranche in terms.tranches]
    hours = np.einsum("sr,sr->s", chips, left_days) * HOURS_PER_DAY
    return np.asarray(row.terminal_usd_per_chip_hour * hours, dtype=np.float64)


def promised_fee_usd(terms: Terms, sign_day: int, days: Ints) -> Floats:
    """Return the take-or-pay fee of one unit on each day [D] if everything comes as promised."""
    delivery = deliver(terms, sign_day, as_promised(terms), days)
    return np.asarray(fee_usd_by_day(terms, delivery)[0] * terms.row.take_or_pay_share, dtype=np.float64)


def prepay_usd(terms: Terms, sign_day: int) -> float:
    """Return the prepayment for one unit, due at signing."""
    if terms.row.prepay_share == 0:
        return 0.0
    first = min(promised_day(one, sign_day, signed=terms.row.signed) for one in terms.tranches)
    length = min(DAYS_PER_YEAR, terms.row.term_days or DAYS_PER_YEAR)
    days = np.arange(first, first + length, dtype=np.int64)
    return terms.row.prepay_share * float(promised_fee_usd(terms, sign_day, days).sum())


def prepay_left_usd(terms: Terms, sign_day: int) -> float:
    """Return what is left of the prepayment on ``sign_day``: less than all of it for a contract that runs already."""
    whole = prepay_usd(terms, sign_day)
    first = min(promised_day(one, sign_day, signed=terms.row.signed) for one in terms.tranches)
    if whole == 0 or first >= sign_day:
        return whole
    billed = promised_fee_usd(terms, sign_day, np.arange(first, sign_day, dtype=np.int64)).sum()
    return max(whole - float(billed), 0.0)


def set_off(fee_usd: Floats, prepaid_usd: float) -> Floats:
    """Return what is still due on each day [S, D] when the earliest fees are taken off a prepayment."""
    due = np.maximum(np.cumsum(fee_usd, axis=1) - prepaid_usd, 0.0)
    return np.diff(due, axis=1, prepend=0.0)


def paid_usd_by_day(terms: Terms, sign_day: int, draw: Draw, delivery: Delivery) -> Floats:
    """Return what one kept unit costs on each day [S, D] whether used or not, the prepayment taken off.

    A return of the prepayment, and what the provider pays for leaving, are negative costs. The days of ``delivery``
    must hold the day of signing.
    """
    paid = set_off_by_day(terms, sign_day, draw, delivery)
    if not draw.exit_usd.any():
        return paid
    leaves = draw.there & (draw.exit_day < delivery.term_over + terms.row.renewal_days)
    day = leaves[:, np.newaxis] & (delivery.days == draw.exit_day[:, np.newaxis])
    return np.asarray(paid - draw.exit_usd[:, np.newaxis] * day, dtype=np.float64)


def cancel_usd(terms: Terms, sign_day: int, draw: Draw, starts: Ints) -> Floats:
    """Return what the buyer pays for each unit that it ends on the first day of each period [S, T].

    Nothing is due once the term is over, or the provider gone, or where the offer cannot be had.
    """
    fee = buyer_exit_usd(terms)
    over = np.minimum(draw.exit_day, term_over(terms, first_days(terms, sign_day, draw)))
    due = draw.there[:, np.newaxis] & (starts < over[:, np.newaxis]) & (starts >= buyer_lock_day(terms, sign_day))
    return np.asarray(fee * due, dtype=np.float64)


def set_off_by_day(terms: Terms, sign_day: int, draw: Draw, delivery: Delivery) -> Floats:
    """Return the fee due on each day [S, D] whether used or not, the prepayment set off against it or returned."""
    fee = fee_usd_by_day(terms, delivery) * terms.row.take_or_pay_share
    prepaid = prepay_left_usd(terms, sign_day)
    if prepaid == 0:
        return fee
    paid = set_off(fee, prepaid)
    unspent = np.maximum(prepaid - fee.sum(axis=1), 0.0)
    over = np.minimum(draw.exit_day, draw.lost_day.max(axis=1))
    back = np.where(draw.there, over, sign_day)
    return np.asarray(paid - unspent[:, np.newaxis] * (delivery.days == back[:, np.newaxis]), dtype=np.float64)


def used_usd_per_chip_hour(terms: Terms, days: Ints) -> Floats:
    """Return the fee for a chip-hour in use, beyond what is due anyway, on each day [D]."""
    row = terms.row
    if row.take_or_pay_share == 1 or terms.chips_per_unit == 0:
        return np.zeros(len(days))
    rate = row.fee_usd_per_chip_hour + row.fee_usd_per_month / (terms.chips_per_unit * HOURS_PER_MONTH)
    return (1.0 - row.take_or_pay_share) * rate * discount_factor(row, days)
