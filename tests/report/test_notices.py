from __future__ import annotations

from datetime import date

import msgspec
import pytest

from offtake.report.notices import held_terms, notice_of
from offtake.supply.offer import terms_of
from tests.report.run_folder import decisions, plan_result
from tests.supply.small import offer, tables, tranche, way_out

TODAY = date(2027, 1, 1)
RIGHTS = [way_out("written", "buyer", date(2026, 9, 1), offer="one", notice_days=30)]


@pytest.mark.parametrize(
    "kept_until, notice_by, days_left",
    [("2027-06-30", "2027-06-01", 151), ("2026-12-31", "2026-12-02", -30), ("2028-01-01", "", None)],
)
def test_notice_is_due_as_many_days_before_the_end_that_the_plan_intends(
    kept_until: str, notice_by: str, days_left: int | None
) -> None:
    decision = msgspec.structs.replace(decisions()[0], offer="one", sign_date="2026-05-01", kept_until=kept_until)
    found = notice_of(decision, terms_of(offer("one"), [tranche("one")], RIGHTS), plan_result(), TODAY)
    assert (found.out_from, found.term_over, found.notice_days) == ("2026-09-01", "", 30)
    assert (found.notice_by, found.days_left) == (notice_by, days_left)


def test_a_contract_without_a_way_out_ends_with_its_term() -> None:
    decision = msgspec.structs.replace(decisions()[0], offer="one", sign_date="2026-05-01", kept_until="2027-04-30")
    terms = terms_of(offer("one", term_days=365), [tranche("one", available=date(2026, 5, 1))], [])
    found = notice_of(decision, terms, plan_result(), TODAY)
    assert (found.out_from, found.term_over, found.notice_by, found.days_left) == ("", "2027-05-01", "", None)


def test_only_what_is_held_has_a_notice() -> None:
    plan = plan_result()
    held = held_terms(plan, tables(offers=tuple(offer(each.offer) for each in plan.decisions)))
    assert [each.offer for each, _ in held] == [each.offer for each in plan.decisions if each.action != "leave"]
