"""List what could be negotiated in one offer: each clause moved by one stated step, as a portfolio of its own.

Comes in: the tables of a portfolio, and an offer. Goes out: :class:`Amendment` records: the clause, the step in words,
and the tables in which it is granted. A step is a usual size of a concession, not a forecast of one (assumption). Most
are asked of the provider; some are what the buyer could give for them. It must never know a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TypeVar

from offtake.plan.words import money
from offtake.schema.portfolio import Tables
from offtake.schema.tables import ExitRow, OfferRow, TrancheRow
from offtake.supply.offer import promised_day
from offtake.units import DAYS_PER_YEAR, HOURS_PER_MONTH

_Row = TypeVar("_Row", OfferRow, TrancheRow, ExitRow)

FEE_SHARE = 0.05  #: steps, each an assumption
NOTICE_DAYS, PROVIDER_NOTICE_DAYS, LOCK_DAYS, LEAD_DAYS = 30, 90, 90, 30
PREPAY_SHARE, TAKE_OR_PAY_SHARE, SIZE_SHARE, DISCOUNT_DAYS = 0.2, 0.2, 0.5, 90
FEES = (
    "fee_usd_per_month",
    "fee_usd_per_chip_hour",
    "fee_usd_per_million_input_tokens",
    "fee_usd_per_million_output_tokens",
)


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """Hold one clause moved by ``size`` steps: its name, the change in words, and the tables with it.

    ``asked``: the provider would have to grant it; otherwise the buyer gives it.
    """

    clause: str
    step: str
    tables: Tables
    asked: bool = True


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Hold the rows of one offer."""

    tables: Tables
    row: OfferRow
    tranches: tuple[TrancheRow, ...]
    exits: tuple[ExitRow, ...]

    def amended(
        self,
        row: OfferRow | None = None,
        tranches: Sequence[TrancheRow] | None = None,
        exits: Sequence[ExitRow] | None = None,
    ) -> Tables:
        """Return the tables with other rows for this offer, each table in the order of its file."""
        name = self.row.offer
        tables = self.tables
        if row is not None:
            tables = replace(tables, offers=tuple(row if one.offer == name else one for one in tables.offers))
        if tranches is not None:
            new = iter(tranches)
            tables = replace(tables, tranches=tuple(next(new) if one.offer == name else one for one in tables.tranches))
        if exits is not None:
            others = tuple(one for one in tables.exits if one.offer != name)
            tables = replace(tables, exits=others + tuple(exits))
        return tables


def contract_of(tables: Tables, offer: str) -> Contract:
    """Gather the rows of one offer."""
    return Contract(
        tables=tables,
        row=next(one for one in tables.offers if one.offer == offer),
        tranches=tuple(one for one in tables.tranches if one.offer == offer),
        exits=tuple(one for one in tables.exits if one.offer == offer),
    )


def amendments(tables: Tables, offer: str, size: float = 1.0) -> list[Amendment]:
    """List every clause of an offer that can be moved, by ``size`` times its stated step; what cannot is left out."""
    contract = contract_of(tables, offer)
    return [found for clause in CLAUSES for found in clause(contract, size)]


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def fee(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a lower fee."""
    cut = min(FEE_SHARE * size, 1.0)
    fees = {name: getattr(contract.row, name) * (1.0 - cut) for name in FEES}
    if any(fees.values()):
        yield Amendment(clause="fee", step=f"{cut:.0%} off", tables=contract.amended(row=changed(contract.row, **fees)))


def prepay(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield no prepayment where there is one, and one where there is none: that is something to give."""
    row = contract.row
    if row.tokens_per_minute_max > 0 or row.signed:
        return
    if row.prepay_share > 0:
        left = max(0.0, row.prepay_share * (1.0 - size))
        yield Amendment(
            clause="prepay", step=f"{left:.0%} of the first year instead of {row.prepay_share:.0%}",
            tables=contract.amended(row=changed(row, prepay_share=left)),
        )  # fmt: skip
        return
    share = min(PREPAY_SHARE * size, 1.0)
    yield Amendment(
        clause="prepay", step=f"{share:.0%} of the first year at signing", asked=False,
        tables=contract.amended(row=changed(row, prepay_share=share)),
    )  # fmt: skip


def take_or_pay(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a smaller share of the fee that is due whether used or not; only of fees by the chip-hour."""
    row = contract.row
    share = max(row.take_or_pay_share - TAKE_OR_PAY_SHARE * size, 0.0)
    if row.fee_usd_per_chip_hour > 0 and share < row.take_or_pay_share:
        yield Amendment(
            clause="take-or-pay", step=f"{share:.0%} instead of {row.take_or_pay_share:.0%}",
            tables=contract.amended(row=changed(row, take_or_pay_share=share)),
        )  # fmt: skip


def ramp_discount(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a ramp discount that lasts longer."""
    row = contract.row
    if row.ramp_discount_share > 0 and row.ramp_discount_until is not None:
        days = round(DISCOUNT_DAYS * size)
        until = row.ramp_discount_until + timedelta(days=days)
        yield Amendment(
            clause="ramp discount", step=f"{days} days longer",
            tables=contract.amended(row=changed(row, ramp_discount_until=until)),
        )  # fmt: skip


def late_remedy(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield that nothing is owed for what is late; where that is so already, that half of it is: something to give."""
    row = contract.row
    if not any(one.slip_days_max > 0 for one in contract.tranches):
        return
    asked = row.late_remedy_share < 1
    share = min(row.late_remedy_share + size, 1.0) if asked else max(1.0 - size / 2, 0.0)
    yield Amendment(
        clause="late remedy", step=f"{share:.0%} of the fee for late chips not owed", asked=asked,
        tables=contract.amended(row=changed(row, late_remedy_share=share)),
    )  # fmt: skip


def our_cancelling_fee(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield half of what we pay for leaving within the term; where it is nothing, a month's fee: something to give."""
    mine = [one for one in sides(contract) if one.who == "buyer"]
    if not mine:
        return
    share, asked = 0.5**size, any(one.fee_usd_per_unit > 0 for one in mine)
    month = month_usd(contract) * size
    new = [
        changed(one, fee_usd_per_unit=one.fee_usd_per_unit * share if asked else month) if one.who == "buyer" else one
        for one in sides(contract)
    ]
    if new != sides(contract):
        step = f"{share:.0%} of it" if asked else f"{money(month)} for each unit that we end, {of_months(size)}"
        yield Amendment(clause="our cancelling fee", step=step, asked=asked, tables=contract.amended(exits=new))


def their_cancelling_fee(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield that the provider pays another month's fee for leaving within the term, where it may and would."""
    month = month_usd(contract) * size
    new = [
        changed(one, fee_usd_per_unit=one.fee_usd_per_unit + month) if one.who == "provider" else one
        for one in sides(contract)
    ]
    if new != sides(contract) and contract.row.reclaim_per_year > 0:
        step = f"{money(month)} more for each unit that they end, {of_months(size)}"
        yield Amendment(clause="their cancelling fee", step=step, tables=contract.amended(exits=new))


def of_months(months: float) -> str:
    """Write a fee by its months.

    >>> of_months(1.0), of_months(2.0)
    ("a month's fee", "2 months' fee")
    """
    return "a month's fee" if months == 1.0 else f"{months:g} months' fee"


def month_usd(contract: Contract) -> float:
    """Return a month's fee for a unit as promised, discounts left out."""
    chips = sum(one.chips_per_unit for one in contract.tranches)
    return contract.row.fee_usd_per_month + contract.row.fee_usd_per_chip_hour * chips * HOURS_PER_MONTH


# ── size and time ────────────────────────────────────────────────────────────────────────────────────────────────────
def size_of_order(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield that a lot may be taken in part; of what comes in units, that there are more of them."""
    row = contract.row
    if row.signed:
        return
    if row.all_or_nothing or row.units_min >= row.units_max:
        part = changed(row, all_or_nothing=False, whole_units=False, units_min=0.0)
        yield Amendment(clause="size", step="any part of it, not all or nothing", tables=contract.amended(row=part))
        return
    more = (
        round(row.units_max * (1.0 + SIZE_SHARE * size)) if row.whole_units else row.units_max * (1 + SIZE_SHARE * size)
    )
    if more > row.units_max:
        yield Amendment(
            clause="size", step=f"up to {more:g} units instead of {row.units_max:g}",
            tables=contract.amended(row=changed(row, units_max=float(more))),
        )  # fmt: skip


def lead_time(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield delivery that begins earlier, but not before the plan does."""
    days, start = round(LEAD_DAYS * size), contract.tables.settings.start
    new = [
        changed(one, available=max(one.available - timedelta(days=days), min(start, one.available)),
                lead_days=max(one.lead_days - days, 0))
        for one in contract.tranches
    ]  # fmt: skip
    if tuple(new) != contract.tranches and not contract.row.signed:
        yield Amendment(clause="lead time", step=f"{days} days earlier", tables=contract.amended(tranches=new))


def delivered_later(tables: Tables, offer: str, days: int) -> Tables:
    """Return the tables in which an offer, signed on the first day, comes some days later, ways out with it."""
    contract = contract_of(tables, offer)
    row, start, later = contract.row, tables.settings.start.toordinal(), timedelta(days=days)
    until = row.ramp_discount_until
    return contract.amended(
        row=row if until is None else changed(row, ramp_discount_until=until + later),
        tranches=[
            changed(one, available=date.fromordinal(promised_day(one, start, signed=row.signed)) + later)
            for one in contract.tranches
        ],
        exits=[changed(one, exit_from=one.exit_from + later) for one in contract.exits],
    )


def ramp(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a shorter ramp and qualification."""
    share = 0.5**size
    new = [
        changed(one, ramp_days=int(one.ramp_days * share), qualification_days=int(one.qualification_days * share))
        for one in contract.tranches
    ]
    if tuple(new) != contract.tranches:
        yield Amendment(
            clause="ramp", step=f"ramp and testing in {share:.0%} of the days", tables=contract.amended(tranches=new)
        )


def slip(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a guarantee that slips are shorter."""
    share = 0.5**size
    new = [
        changed(
            one,
            slip_days_min=int(one.slip_days_min * share),
            slip_days_mode=None if one.slip_days_mode is None else int(one.slip_days_mode * share),
            slip_days_max=int(one.slip_days_max * share),
        )
        for one in contract.tranches
    ]
    if tuple(new) != contract.tranches:
        yield Amendment(
            clause="latest delivery", step=f"slips of at most {share:.0%} of the days",
            tables=contract.amended(tranches=new),
        )  # fmt: skip


def substitution(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield that the provider may not deliver another chip than the one promised."""
    del size
    new = [changed(one, substitute_probability=0.0) for one in contract.tranches]
    if tuple(new) != contract.tranches:
        yield Amendment(
            clause="substitution", step="none: the chips promised are those that come",
            tables=contract.amended(tranches=new),
        )  # fmt: skip


def term(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a shorter term."""
    row = contract.row
    if row.term_days is not None and not row.signed:
        days = max(int(row.term_days * 0.5**size), 1)
        yield Amendment(
            clause="term", step=f"{days} days instead of {row.term_days}",
            tables=contract.amended(row=changed(row, term_days=days)),
        )  # fmt: skip


# ── ways out ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def our_notice(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a shorter notice of the buyer; where it has no way out, one on notice from half a year on."""
    days = round(NOTICE_DAYS * size)
    if not any(one.who in {"buyer", "either"} for one in contract.exits):
        yield from a_way_out(contract)
        return
    new = [
        changed(one, notice_days=max(one.notice_days - days, 0)) if one.who == "buyer" else one
        for one in sides(contract)
    ]
    if new != sides(contract):
        yield Amendment(clause="our notice", step=f"{days} days shorter", tables=contract.amended(exits=new))


def a_way_out(contract: Contract) -> Iterator[Amendment]:
    """Yield a right of the buyer to leave."""
    row = contract.row
    if row.tokens_per_minute_max > 0:
        return
    names = dict.fromkeys((one.reading, one.weight) for one in contract.exits) or {("as-written", 1.0): None}
    half_a_year = timedelta(days=DAYS_PER_YEAR // 2)
    mine = [
        ExitRow(offer=row.offer, reading=reading, weight=weight, who="buyer", notice_days=PROVIDER_NOTICE_DAYS,
                exit_from=contract.tables.settings.start + half_a_year)
        for reading, weight in names
    ]  # fmt: skip
    yield Amendment(
        clause="our notice", step=f"a right to leave after half a year, on {PROVIDER_NOTICE_DAYS} days' notice",
        tables=contract.amended(exits=[*contract.exits, *mine]),
    )  # fmt: skip


def our_lock(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield an earlier first day on which the buyer may be out."""
    days, start = round(LOCK_DAYS * size), contract.tables.settings.start
    new = [
        changed(one, exit_from=max(earlier(one.exit_from, days), start)) if one.who == "buyer" else one
        for one in sides(contract)
    ]
    if new != sides(contract):
        yield Amendment(clause="our lock", step=f"out {days} days earlier", tables=contract.amended(exits=new))


def their_notice(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield a longer notice of the provider, and with it a later first day on which it may be out."""
    days = round(PROVIDER_NOTICE_DAYS * size)
    new = [
        changed(one, notice_days=one.notice_days + days, exit_from=one.exit_from + timedelta(days=days))
        if one.who == "provider"
        else one
        for one in sides(contract)
    ]
    if new != sides(contract):
        yield Amendment(clause="their notice", step=f"{days} days longer", tables=contract.amended(exits=new))


def reclaim(contract: Contract, size: float) -> Iterator[Amendment]:
    """Yield that the provider may not leave before the term, whatever the terms say now."""
    del size
    row = contract.row
    if row.reclaim_per_year > 0 and any(one.who in {"provider", "either"} for one in contract.exits):
        stays = contract.amended(row=changed(row, reclaim_per_year=0.0))
        yield Amendment(clause="reclaim right", step="none: the provider may not leave before the term", tables=stays)


CLAUSES: tuple[Callable[[Contract, float], Iterator[Amendment]], ...] = (
    fee,
    our_notice,
    our_lock,
    their_notice,
    reclaim,
    our_cancelling_fee,
    their_cancelling_fee,
    lead_time,
    ramp,
    slip,
    substitution,
    size_of_order,
    prepay,
    take_or_pay,
    late_remedy,
    ramp_discount,
    term,
)


def sides(contract: Contract) -> list[ExitRow]:
    """Return the exits with a row for each side."""
    return [
        one if one.who != "either" else changed(one, who=who)
        for one in contract.exits
        for who in (("buyer", "provider") if one.who == "either" else (one.who,))
    ]


def earlier(day: date, days: int) -> date:
    """Return a day some days earlier."""
    return day - timedelta(days=days)


def changed(row: _Row, **values: object) -> _Row:
    """Return a row with other values."""
    return row.model_copy(update=values)
