"""Tell which contracts can be left, when, and by which day notice must be given for what the plan intends.

Comes in: a run folder with a plan and the portfolio that it was made from. Goes out: one ``Notice`` for each contract
that is held. It must never read a clock: the day is given.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec

from offtake.errors import Fault, InputError
from offtake.plan.result import Decision, PlanResult
from offtake.schema.portfolio import Tables
from offtake.schema.read import read_folder
from offtake.supply.offer import NEVER, Terms, buyer_lock_day, buyer_notice_days, latest_term_over, terms_of

HELD = ("keep", "sign", "sign part")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Say when one contract can be left. Days are dates; empty: never, or nothing is to be done."""

    contract: str  #: Key of the offer.
    name: str  #: Its full name.
    kept_until: str  #: Last day on which the plan keeps any of it.
    out_from: str  #: First day on which the buyer can be out, whichever reading of the terms holds.
    term_over: str  #: First day after its term, at the latest.
    notice_days: int  #: Notice that the buyer gives, at the longest.
    notice_by: str  #: Last day on which to give it, for what the plan intends.
    days_left: int | None  #: Until then; below zero it has passed; null where none is to be given.


def read_notices(run: Path, today: date) -> list[Notice]:
    """Return when each contract that the plan of a run folder holds can be left, the most urgent first.

    Raises
    ------
    InputError
        Where the plan, or the portfolio that it was made from, cannot be read.
    """
    path = run / "plan" / "plan.json"
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=PlanResult)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError([Fault(str(path), f"cannot be read: {error}", "Make it anew with `offtake plan`.")]) from None
    tables = read_folder(run / "plan" / "inputs")
    found = [notice_of(each, terms, plan, today) for each, terms in held_terms(plan, tables)]
    return sorted(found, key=lambda one: (one.days_left is None, one.days_left or 0, one.contract))


def held_terms(plan: PlanResult, tables: Tables) -> list[tuple[Decision, Terms]]:
    """Return the decisions on what is held, each with its terms."""
    offers = {row.offer: row for row in tables.offers}
    return [
        (each, terms_of(offers[each.offer], tables.tranches, tables.exits))
        for each in plan.decisions
        if each.action in HELD and each.offer in offers
    ]


def notice_of(decision: Decision, terms: Terms, plan: PlanResult, today: date) -> Notice:
    """Return when one contract can be left."""
    signed = date.fromisoformat((decision.sign_date or plan.start).split(",")[0]).toordinal()
    out, term = buyer_lock_day(terms, signed), latest_term_over(terms, signed)
    days = buyer_notice_days(terms)
    ends = decision.kept_until < plan.end and out < NEVER  # ISO dates sort as the days do
    by = date.fromisoformat(decision.kept_until).toordinal() + 1 - days if ends else NEVER
    return Notice(
        contract=decision.offer,
        name=decision.name,
        kept_until=decision.kept_until,
        out_from=day_of(out),
        term_over=day_of(term),
        notice_days=days,
        notice_by=day_of(by),
        days_left=by - today.toordinal() if ends else None,
    )


def day_of(ordinal: int) -> str:
    """Write a day; nothing where it never comes."""
    return date.fromordinal(ordinal).isoformat() if ordinal < NEVER else ""
