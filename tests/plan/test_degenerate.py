"""Try portfolios with next to nothing in them: each is planned and appraised, or says why it cannot be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from offtake.errors import InputError
from offtake.plan.appraise import appraise
from offtake.plan.plan import make_plan
from offtake.schema.portfolio import Tables
from tests.supply import small


def lease(**given: Any) -> Tables:
    known: dict[str, Any] = {
        "settings": small.settings(end=date(2026, 8, 31)),
        "workloads": (small.workload(rate_rps=0.0),),
        "offers": (small.offer(fee_usd_per_chip_hour=2.0),),
    }
    return small.tables(**(known | given))


def test_without_demand_nothing_is_signed_and_no_fee_would_be_low_enough() -> None:
    tables = lease()
    plan = make_plan(tables).result
    assert plan.answer == "Sign nothing; leave lease."
    assert plan.mean_net_usd == 0
    appraisal = appraise(tables, "lease")
    assert appraisal.answer.startswith("Do not sign lease")
    assert appraisal.answer.endswith("would gain nothing even at no fee.")
    assert appraisal.break_even_fee_ratio is None


def test_one_period_and_one_scenario_are_planned() -> None:
    worth = small.workload(rate_rps=10.0, value_usd_per_request=1.0)
    run = make_plan(lease(settings=small.settings(end=date(2026, 5, 31)), workloads=(worth,)))
    assert (run.result.size.scenarios, run.result.size.periods) == (1, 1)
    assert run.result.decisions[0].action == "sign part"


def test_without_offers_the_plan_says_why_not() -> None:
    tables = replace(lease(), offers=(), tranches=())
    with pytest.raises(InputError, match="no site may serve this workload"):
        make_plan(tables)


def test_an_offer_that_comes_after_the_last_day_is_left() -> None:
    tables = lease(tranches=(small.tranche(available=date(2026, 12, 1)),))
    assert make_plan(tables).result.decisions[0].action == "leave"
    assert "delivers nothing" in appraise(tables, "lease").answer
