"""The newsvendor of ``test_appraise`` under other assumptions: what signing is then worth is worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from offtake.plan.appraise import Case, barred
from offtake.plan.assemble import silent
from offtake.plan.leaving import locked, right_of, right_sentences
from offtake.plan.result import RightToLeave, Swing
from offtake.plan.solve import Options
from offtake.plan.tornado import Worth, flipped, out_of_sample, swings_of
from offtake.plan.variations import assumptions, leaning
from tests.plan.fakes import assembled
from tests.plan.test_appraise import exactly, newsvendor
from tests.supply.small import deployment, growth, offer, settings, site, tables, tranche, way_out, workload

OPTIONS = Options(gap=1e-9)


def swing(name: str, some: Case) -> Swing:
    return next(one for one in swings_of(some, OPTIONS, silent) if one.name == name)


def test_only_assumptions_that_a_portfolio_makes_are_varied() -> None:
    plain = newsvendor().inputs.portfolio.tables
    assert [one.name for one in assumptions(plain, "lease")] == ["demand", "value of a request"]
    rich = replace(
        plain,
        offers=(offer(reclaim_per_year=0.2, probability=0.5), offer("other", fee_usd_per_chip_hour=1.0)),
        tranches=(tranche(slip_days_max=10), tranche("other")),
        sites=(site(loss_per_year=0.1),),
        deployments=(deployment(throughput_sd=0.1),),
    )
    found = {one.name: one for one in assumptions(rich, "lease")}
    assert list(found) == [
        "the provider takes it back", "a site is lost", "deliveries slip", "offers come at all", "throughput error",
        "demand", "value of a request", "fees of other offers",
    ]  # fmt: skip
    reclaim = found["the provider takes it back"]
    assert reclaim.words == ("10% a year", "40% a year")
    assert [reclaim.change(rich, end).offers[0].reclaim_per_year for end in reclaim.ends] == [0.1, 0.4]
    assert found["offers come at all"].change(rich, 2.0).offers[0].probability == pytest.approx(2 / 3)
    assert found["deliveries slip"].change(rich, 2.0).tranches[0].slip_days_max == 20
    fees = [one.fee_usd_per_chip_hour for one in found["fees of other offers"].change(rich, 1.25).offers]
    assert fees == [0.0, 1.25]


def test_weights_tilt_by_half_to_twice_and_still_sum_to_one() -> None:
    weight, pace = np.array([0.5, 0.25, 0.25]), np.array([3.0, 10.0, 6.0])
    # 0.5 x 1/2, 0.25 x 2, 0.25 x 1, over their sum.
    assert leaning(weight, pace, 1.0) == pytest.approx([0.25, 0.5, 0.25])
    assert leaning(weight, pace, -1.0) == pytest.approx(np.array([1.0, 0.125, 0.25]) / 1.375)


@pytest.mark.slow
def test_the_value_of_a_request_moves_what_signing_is_worth() -> None:
    found = swing("value of a request", certain())
    # A hundred busy chips earn 259,200 a month and cost 72,000.
    assert found.low.value_usd == pytest.approx(0.8 * 259_200 - 72_000)
    assert found.high.value_usd == pytest.approx(1.25 * 259_200 - 72_000)
    assert found.swing_usd == pytest.approx(0.45 * 259_200)
    assert found.confidence == "assumption"
    assert not found.low.flips


def test_both_plans_are_made_anew_under_each_assumption() -> None:
    found = swing("demand", certain())
    # A fifth less demand takes eighty chips; a quarter more finds no more than a hundred.
    assert found.low.value_usd == pytest.approx(0.8 * (259_200 - 72_000))
    assert found.high.value_usd == pytest.approx(259_200 - 72_000)


def test_an_answer_that_flips_within_a_range_is_marked() -> None:
    # At 3.5 USD an hour a hundred chips add 7,200; where a request is worth a fifth less, nothing is signed.
    found = swing("value of a request", certain(fee=3.5))
    assert found.low.value_usd == pytest.approx(0.0, abs=1e-6)
    assert found.low.flips
    assert not found.high.flips


def test_what_the_solver_leaves_open_flips_nothing() -> None:
    no, barely, clearly = (Worth(value_usd=usd, doubt_usd=2.0) for usd in (-5.0, 1.0, 5.0))
    assert flipped(clearly, no)
    assert flipped(no, clearly)
    assert not flipped(barely, no)
    assert not flipped(clearly, barely)


def test_the_widest_swing_comes_first_and_workers_change_nothing() -> None:
    alone = swings_of(certain(), OPTIONS, silent)
    assert [one.swing_usd for one in alone] == sorted((one.swing_usd for one in alone), reverse=True)
    assert swings_of(certain(), replace(OPTIONS, threads=1), silent) == alone


def test_on_fresh_draws_of_what_is_certain_the_value_is_the_plans_own() -> None:
    some = certain()
    found = out_of_sample(some, 3, OPTIONS, silent)
    own = some.best.objective_usd - some.without.objective_usd
    assert (found.trials, found.broken) == (3, 0)
    assert found.value_usd == pytest.approx(own)
    assert found.low_usd == pytest.approx(own)
    assert found.high_usd == pytest.approx(own)
    assert found.proves_right_share == 1.0
    assert found.seed != some.assembled.inputs.portfolio.tables.settings.seed


def certain(fee: float = 1.0) -> Case:
    lease = tables(
        settings=settings(start=date(2026, 6, 1), end=date(2026, 6, 30), scenarios=1),
        growth=(growth("only", 1.0, 1.0),),
        workloads=(workload(rate_rps=100.0, value_usd_per_request=0.001),),
        offers=(offer(fee_usd_per_chip_hour=fee),),
        tranches=(tranche(chips_per_unit=100.0, available=date(2026, 6, 1)),),
    )
    some = assembled(lease, rate_rps=np.full((1, 1, 1), 100.0))
    return Case(
        assembled=some, offer=0, best=exactly(some.problem), without=exactly(barred(some.problem, 0)), forced=None
    )


# ── the right to leave ───────────────────────────────────────────────────────────────────────────────────────────────
def falling() -> Case:
    """Make a lease of 100 chips at 720 USD a month each, July to December, that we may leave on 31 days' notice.

    Demand of 100 requests a second stays or, in the other scenario, is gone from August on.
    """
    lease = tables(
        settings=settings(start=date(2026, 7, 1), end=date(2026, 12, 31), scenarios=8, weeks_first=0, stages=6),
        growth=(growth("stays", 0.5, 1.0), growth("goes", 0.5, 1.0)),
        workloads=(workload(value_usd_per_request=0.001),),
        offers=(offer(fee_usd_per_chip_hour=1.0, all_or_nothing=True, sign_by=date(2026, 7, 1)),),
        tranches=(tranche(chips_per_unit=100.0, available=date(2026, 7, 1)),),
        exits=(way_out("only", "buyer", date(2026, 8, 1), notice_days=31),),
    )
    demand = np.full((8, 6, 1), 100.0)
    demand[4:, 1:] = 0.0
    some = assembled(lease, rate_rps=demand)
    return Case(
        assembled=some, offer=0, best=exactly(some.problem), without=exactly(barred(some.problem, 0)), forced=None
    )


def test_the_right_to_leave_is_worth_the_fees_it_saves_once_notice_has_run() -> None:
    some = falling()
    assert some.takes
    found = right_of(some, exactly)
    assert isinstance(found, RightToLeave)
    assert found.notice_days == 31
    # A hundred chips cost 2,400 USD a day. In half the futures they stand idle from August on. That is seen by 1
    # September; notice given then runs out on 2 October, in a month that is still paid: November and December are
    # saved. Who knows on 1 August gives notice then, and saves from September on.
    assert found.none_usd == pytest.approx(0.5 * 6_240 * 184 + 0.5 * (8_640 * 31 - 2_400 * 184))
    assert found.right_usd == pytest.approx(0.5 * 2_400 * 61)
    assert found.right_in_foresight_usd == pytest.approx(0.5 * 2_400 * 122)
    assert "worth" in right_sentences(found)[0]


def test_who_may_never_leave_before_the_term_has_no_right() -> None:
    some = newsvendor()
    best = exactly(some.problem)
    assert right_of(Case(assembled=some, offer=0, best=best, without=best, forced=None), exactly) is None


def test_a_lock_holds_to_the_end_of_the_term() -> None:
    problem = falling().assembled.problem
    shut = locked(problem, np.ones(problem.vintages.offer.size, dtype=np.bool_))
    assert (shut.vintages.lock_until >= shut.vintages.term_until).all()
