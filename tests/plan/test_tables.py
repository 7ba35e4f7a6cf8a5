"""Tables of a plan small enough to work out by hand.

100 chips serve 1 request/s each. Batch work asks 190 requests/s in a quarter of the week and 110 in the rest: 130 on
average, so that 30 must be refused of it in all, wherever that happens.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from offtake.plan.assemble import Assembled
from offtake.plan.solve import Options, solve
from offtake.plan.tables import demand_frame
from tests.plan.fakes import assembled
from tests.supply.small import offer, settings, tables, tranche, workload

JUNE = settings(start=date(2026, 6, 1), end=date(2026, 6, 30))
SHARE = np.array([0.25, 0.75])


def batch(deferral_hours: float) -> Assembled:
    return assembled(
        tables(
            settings=JUNE,
            workloads=(workload("batch", kind="batch", deferral_hours=deferral_hours, ttft_ms_p95=60_000.0),),
            offers=(offer(signed=True),),
            tranches=(tranche(available=date(2026, 5, 1)),),
        ),
        rate_rps=np.full((1, 1, 1), 130.0),
        blocks=["busiest", "quietest"],
        block_share=SHARE,
        block_of_hour=[0] * 42 + [1] * 126,
        level=np.array([[190 / 130], [110 / 130]]),
    )


def test_work_that_is_deferred_and_then_refused_is_told_as_refused_where_it_was_asked() -> None:
    some = batch(24.0)
    plan = solve(some.problem, Options(gap=1e-9))
    moved = replace(  # all refusals booked to the busiest block, 10 of the quietest deferred into it
        plan, refused_rps=np.array([120.0, 0.0]).reshape(plan.refused_rps.shape)
    )
    beyond = replace(plan, refused_rps=np.array([0.0, 40.0]).reshape(plan.refused_rps.shape))
    for one in (plan, moved, beyond):
        frame = demand_frame(some, one)
        assert frame["rps_mean"].to_list() == pytest.approx([190.0, 110.0])
        assert frame["served_mean"].to_list() == pytest.approx([100.0, 100.0])
        assert frame["refused_mean"].to_list() == pytest.approx([90.0, 10.0])


def test_more_is_never_refused_than_was_asked_and_the_weeks_sum_stays() -> None:
    """It serves 20 in the busiest block and 100 in the other; the 50 refused on average are booked to the busiest."""
    some = batch(24.0)
    plan = solve(some.problem, Options(gap=1e-9))
    served = np.array([20.0, 100.0]).reshape(plan.served_rps.shape)
    refused = np.array([200.0, 0.0]).reshape(plan.refused_rps.shape)
    frame = demand_frame(some, replace(plan, served_rps=served, refused_rps=refused))
    assert frame["refused_mean"].to_list() == pytest.approx([170.0, 10.0])
    done = frame["served_mean"].to_numpy() + frame["refused_mean"].to_numpy()
    assert SHARE @ done == pytest.approx(130.0)


def test_refusals_of_work_that_cannot_wait_stay_where_they_are() -> None:
    some = batch(0.0)
    frame = demand_frame(some, solve(some.problem, Options(gap=1e-9)))
    assert frame["refused_mean"].to_list() == pytest.approx([90.0, 10.0])
