"""Find terms that cannot all be true at once: of an offer with its deliveries and exits, of growth, of limits.

Comes in: records that each passed alone. Goes out: a list of faults, none of which hides another. A term that is
merely of no use is no contradiction; the supply room mentions those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date

from offtake.errors import Fault
from offtake.schema.portfolio import Tables
from offtake.schema.tables import OfferRow, TrancheRow

TOML_NAME = "portfolio.toml"
OFFERS, TRANCHES, EXITS = "offers.csv", "tranches.csv", "exits.csv"
UNSURE = ("letter", "talks")


def contradictions(tables: Tables, faulty: set[str]) -> list[Fault]:
    """Return a fault for each pair of terms that contradict each other; files in ``faulty`` are not judged whole."""
    faults = [fault for offer in tables.offers for fault in offer_faults(offer)]
    if not {OFFERS, TRANCHES, TOML_NAME} & faulty:
        faults += [fault for offer in tables.offers for fault in delivery_faults(tables, offer)]
        faults += exit_faults(tables)
    if OFFERS not in faulty:
        faults += exclusion_faults(tables)
    if TOML_NAME not in faulty:
        faults += growth_faults(tables) + survival_faults(tables)
    return faults


def offer_faults(row: OfferRow) -> Iterator[Fault]:
    """Yield the contradictions within one row of `offers`."""

    def fault(column: str, problem: str, mend: str) -> Fault:
        return Fault(OFFERS, problem, mend, row.at, column, str(getattr(row, column)))

    if row.signed and row.probability < 1:
        yield fault("probability", "a signed contract has a chance below 1 to be had", "Set 1, or signed to false.")
    if row.signed and row.firmness in UNSURE:
        yield fault("firmness", "a signed contract is not firm", "Mark it firm or option, or set signed to false.")
    if row.whole_units:
        for column in ("units_min", "units_max"):
            if getattr(row, column) % 1:
                yield fault(column, "a size in whole units is not whole", "Round it, or set whole_units to false.")
    fees = row.fee_usd_per_chip_hour + row.fee_usd_per_month
    if row.prepay_share and not row.tokens_per_minute_max and not fees * row.take_or_pay_share:
        mend = "Give a fee and a take_or_pay_share above 0, or leave prepay_share blank."
        yield fault("prepay_share", "a share of the fee is prepaid, and no fee is due whether used or not", mend)
    token_fees = row.fee_usd_per_million_input_tokens + row.fee_usd_per_million_output_tokens
    if token_fees and not row.tokens_per_minute_max:
        mend = "Give its rate limit, or leave the token fees blank."
        yield fault("tokens_per_minute_max", "token fees are asked and no token is sold", mend)
    yield from term_needs(row, fault)
    if row.ramp_discount_until is not None and not row.ramp_discount_share:
        yield fault("ramp_discount_share", "the ramp discount has a last day and no share", "Give both, or neither.")


def term_needs(row: OfferRow, fault: Callable[[str, str, str], Fault]) -> Iterator[Fault]:
    """Yield the contradictions of a renewal or a terminal value with the rest of its row."""
    for column, kind in (("renewal_days", "a renewal"), ("terminal_usd_per_chip_hour", "a value beyond the horizon")):
        if getattr(row, column) and row.term_days is None:
            yield fault(column, f"{kind} needs a term to go on from", f"Give term_days, or leave {column} blank.")
    if row.renewal_term_days is not None and not row.renewal_days:
        mend = "Give renewal_days, all renewals together, too."
        yield fault("renewal_term_days", "the length of a renewal is given and no renewal", mend)
    if row.renewal_fee_ratio != 1 and not row.renewal_days:
        yield fault("renewal_fee_ratio", "the fee of a renewal is given and no renewal", "Give renewal_days too.")
    if row.renewal_fee_ratio != 1 and row.take_or_pay_share < 1:
        mend = "Set take_or_pay_share to 1, or leave renewal_fee_ratio blank: a fee by use stays as it is."
        yield fault("renewal_fee_ratio", "a fee that is paid by use cannot change on renewal", mend)


def delivery_faults(tables: Tables, row: OfferRow) -> Iterator[Fault]:
    """Yield the contradictions between one offer and its tranches."""
    mine = [tranche for tranche in tables.tranches if tranche.offer == row.offer]
    if not mine:
        return
    start = tables.settings.start
    first = min(tranche.available for tranche in mine)
    until = row.ramp_discount_until
    if until is not None and until < first:
        mend = f"Give a day from {first} on, or leave the discount out."
        yield Fault(OFFERS, "the discount ends before delivery", mend, row.at, "ramp_discount_until", str(until))
    if row.signed and row.term_days is not None and (over := after(first, row.term_days)) <= start:
        mend = "Lengthen the term, or take the contract out."
        problem = f"the contract was over on {over}, before the horizon"
        yield Fault(OFFERS, problem, mend, row.at, "term_days", str(row.term_days))
    for tranche in mine:
        yield from substitute_faults(tranche)
        if not row.signed and row.sign_by is not None and tranche.available < start:
            problem = "delivery starts before the offer can be signed"
            mend = f"Give a day from {start} on; or set signed, or leave sign_by blank for a standing offer."
            yield Fault(TRANCHES, problem, mend, tranche.at, "available", str(tranche.available))
        if row.term_days is not None:
            yield from term_faults(row.term_days, first, tranche)


def substitute_faults(tranche: TrancheRow) -> Iterator[Fault]:
    """Yield the contradictions of a right to deliver another chip."""
    if tranche.substitute_probability > 0 and not tranche.substitute_chip:
        mend = "Name the chip in substitute_chip, or leave the chance blank."
        yield Fault(TRANCHES, "another chip may come, and none is named", mend, tranche.at, "substitute_chip", "")
    if tranche.substitute_chip and tranche.substitute_chip == tranche.chip:
        problem, mend = "the other chip is the one promised", "Name another chip, or leave it blank."
        yield Fault(TRANCHES, problem, mend, tranche.at, "substitute_chip", tranche.substitute_chip)
    if tranche.substitute_chip and not tranche.chip:
        problem, mend = "a token-priced API delivers no chip", "Leave substitute_chip blank."
        yield Fault(TRANCHES, problem, mend, tranche.at, "substitute_chip", tranche.substitute_chip)


def term_faults(term_days: int, first: date, tranche: TrancheRow) -> Iterator[Fault]:
    """Yield the contradictions between the length of a term and one tranche."""
    mend = "Bring it forward, or lengthen the term."
    if tranche.available >= after(first, term_days):
        problem = f"the tranche comes after the term of {term_days} days from {first}"
        yield Fault(TRANCHES, problem, mend, tranche.at, "available", str(tranche.available))
    if tranche.qualification_days >= term_days:
        problem = f"testing takes the whole term of {term_days} days"
        mend = "Shorten it, or lengthen the term."
        yield Fault(TRANCHES, problem, mend, tranche.at, "qualification_days", str(tranche.qualification_days))


def exit_faults(tables: Tables) -> list[Fault]:
    """Return a fault for each way out that opens only after the longest term of its offer is over."""
    ends = {row.offer: last_day(tables, row) for row in tables.offers}
    return [
        Fault(
            EXITS,
            f"the way out opens after the term, which ends on {end} at the latest",
            "Give an earlier day, or lengthen the term.",
            row.at,
            "exit_from",
            str(row.exit_from),
        )
        for row in tables.exits
        if (end := ends.get(row.offer)) is not None and row.exit_from > end
    ]


def last_day(tables: Tables, row: OfferRow) -> date | None:
    """Return the latest day on which an offer can still run: signed on its last day, as late as it may be."""
    mine = [tranche for tranche in tables.tranches if tranche.offer == row.offer]
    if row.term_days is None or not mine:
        return None
    signed = tables.settings.start if row.signed else (row.sign_by or tables.settings.end)
    first = min(
        after(one.available if row.signed else max(one.available, after(signed, one.lead_days)), one.slip_days_max)
        for one in mine
    )
    return after(first, row.term_days + row.renewal_days)


def after(day: date, days: int) -> date:
    """Return the day some days later, or the last that a calendar holds."""
    return date.fromordinal(min(day.toordinal() + days, date.max.toordinal()))


def exclusion_faults(tables: Tables) -> list[Fault]:
    """Return a fault for each exclusive group of one offer, and for each with two contracts signed."""
    groups: dict[str, list[OfferRow]] = defaultdict(list)
    for row in tables.offers:
        if row.exclusive_group:
            groups[row.exclusive_group].append(row)
    faults: list[Fault] = []
    for word, rows in groups.items():
        if len(rows) == 1:
            mend = "Give the same word to the offers that it shuts out, or leave it blank."
            problem = "the offer shuts out only itself"
            faults.append(Fault(OFFERS, problem, mend, rows[0].at, "exclusive_group", word))
        signed = [row for row in rows if row.signed]
        faults += [
            Fault(
                OFFERS,
                f"{signed[0].offer!r} and {row.offer!r} shut each other out and are both signed",
                "Leave one of the two words blank.",
                row.at,
                "exclusive_group",
                word,
            )
            for row in signed[1:]
        ]
    return faults


def growth_faults(tables: Tables) -> list[Fault]:
    """Return a fault for each stress of growth that lacks its rate, its first day or its length."""
    faults = []
    for row in tables.growth:
        given = {
            "stress_per_year": row.stress_per_year is not None,
            "stress_from": row.stress_from is not None,
            "stress_days": row.stress_days > 0,
        }
        if any(given.values()):
            faults += [
                Fault(
                    TOML_NAME,
                    "the stress is not whole",
                    "Give stress_per_year, stress_from and stress_days, or none of them.",
                    f"[[growth]] {row.at}",
                    column,
                )
                for column, there in given.items()
                if not there
            ]
    return faults


def survival_faults(tables: Tables) -> list[Fault]:
    """Return a fault where critical work must survive and no workload is critical, or groups and no share of work."""
    if tables.limits.survive_share == 0 and tables.limits.survive_groups:
        mend = "Give survive_share too, or leave survive_groups out."
        problem = "groups are to be survived and no share of the work is asked for"
        return [Fault(TOML_NAME, problem, mend, "[limits]", "survive_groups")]
    if tables.limits.survive_share == 0 or any(row.critical for row in tables.workloads):
        return []
    mend = "Mark a workload critical = true, or leave survive_share out."
    share = f"{tables.limits.survive_share:g}"
    return [
        Fault(TOML_NAME, "no workload is critical, so nothing must survive", mend, "[limits]", "survive_share", share)
    ]
