"""Jobs that may not pause: three hours, 4 chips for 4 USD an hour each, a job of 8 chip-hours, work in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offtake.plan import highs
from offtake.plan.decompose import decompose
from offtake.plan.highs import Effort
from offtake.plan.solve import build, interpret
from tests.plan.golden_cases import Case, Offer


def net_usd(engine: str = "extensive form", *, steady: bool, gang_chips: float = 0.0) -> float:
    """An hour of a chip that serves in the middle hour is worth 10 USD, and so is one of training that is missed."""
    given: dict[str, Any] = {
        "jobs__steady": np.array([steady]),
        "jobs__last_period": np.array([2]),
        "jobs__gang_chips": np.array([gang_chips]),
    }
    demand = (((0.0,), (4.0,), (0.0,)),)
    case = Case(demand=demand, offers=(Offer(size=4.0, signed=True),), job_hours=8.0, given=given)
    model = build(case.problem())
    program, effort = model.blocks.build(model.units.usd), Effort(gap=1e-9)
    answer = highs.solve_whole(program, effort) if engine == "extensive form" else decompose(model, program, effort)
    assert answer is not None
    return interpret(model, program, answer).objective_usd + 48.0  # 4 chips for 3 hours at 4 USD


def test_a_job_that_may_pause_makes_room_for_work_that_pays() -> None:
    assert net_usd(steady=False) == pytest.approx(40.0)


@pytest.mark.parametrize("engine", ["extensive form", "cutting planes"])
def test_a_job_that_may_not_pause_never_does_less_until_it_is_done(engine: str) -> None:
    assert net_usd(engine, steady=True) == pytest.approx(20.0)  # 2, 2 and 4 chips


def test_a_gang_that_may_not_pause_trains_whole_between_its_first_and_its_last_hour() -> None:
    # A gang of 4 that may pause trains in the first and the last hour. One that may not holds all chips in the middle,
    # or misses as much as it leaves; then the chips are given back for the last hour.
    assert net_usd(steady=False, gang_chips=4.0) == pytest.approx(40.0)
    assert net_usd(steady=True, gang_chips=4.0) == pytest.approx(16.0)
