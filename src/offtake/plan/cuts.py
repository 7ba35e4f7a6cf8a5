"""Cut one week of one scenario out of a solved plan.

Comes in: an assembled problem, its solution and a day. Goes out: a :class:`Cut`: the scenario of median demand in the
period of that day, with the chips that are there. It must never know a fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from offtake.plan.assemble import Assembled
from offtake.plan.solution import Solution
from offtake.plan.tables import chips_by_offer
from offtake.supply.offer import promised_day
from offtake.units import DAYS_PER_WEEK

Floats = npt.NDArray[np.float64]

NOTHING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Hold which week of which scenario is cut out; ``chips [O, N]`` are there then, of kept units."""

    assembled: Assembled
    solution: Solution
    week: date
    period: int
    scenario: int
    chips: Floats


def default_week(assembled: Assembled) -> date:
    """Return the first Monday in a period that starts once the questioned offer is there and qualified, slips and all.

    What is there in a period is a mean over its days: in the period in which chips come, the late ones count in part
    only. Without a question it is the first Monday of the plan. Where no period starts so late it is the first Monday
    from the last one's start; and never one after the horizon's last full week.
    """
    calendar = assembled.inputs.calendar
    starts, end = calendar.edges[:-1], int(calendar.edges[-1])
    settled = min(int(np.searchsorted(starts, ready_day(assembled))), starts.size - 1)
    week = monday_from(date.fromordinal(int(starts[settled])))
    last = monday_until(date.fromordinal(max(end - DAYS_PER_WEEK, 1)))
    if last.toordinal() >= int(starts[0]):
        return min(week, last)
    return week if week.toordinal() < end else monday_until(date.fromordinal(int(starts[settled])))


def ready_day(assembled: Assembled) -> int:
    """Return the day on which all of the questioned offer is qualified if signed on the first day, at the latest."""
    calendar, portfolio = assembled.inputs.calendar, assembled.inputs.portfolio
    start = int(calendar.edges[0])
    terms = portfolio.offers.get(portfolio.tables.settings.question)
    if terms is None:
        return start
    return max(
        promised_day(row, start, signed=terms.row.signed) + row.slip_days_max + row.ramp_days + row.qualification_days
        for row in terms.tranches
    )


def monday_from(day: date) -> date:
    """Return a day if it is a Monday, else the next Monday."""
    return day + timedelta(days=-day.weekday() % DAYS_PER_WEEK)


def monday_until(day: date) -> date:
    """Return a day if it is a Monday, else the Monday before."""
    return day - timedelta(days=day.weekday())


def cut_week(assembled: Assembled, solution: Solution, week: date) -> Cut:
    """Choose the scenario of median demand, and gather what is there."""
    problem = assembled.problem
    period = min(assembled.inputs.calendar.period_of(week.toordinal()), problem.period_hours.size - 1)
    demand = assembled.inputs.load.rate_rps[:, period].sum(axis=1)
    order = np.argsort(demand, kind="stable")
    middle = int(np.searchsorted(np.cumsum(problem.probability[order]), 0.5 - NOTHING))
    scenario = int(order[min(middle, len(order) - 1)])
    chips = np.zeros((len(problem.axes.offers), len(assembled.cells)))
    for (offer, cell), there in chips_by_offer(assembled, solution).items():
        chips[offer, cell] = there[scenario, period]
    return Cut(assembled=assembled, solution=solution, week=week, period=period, scenario=scenario, chips=chips)
