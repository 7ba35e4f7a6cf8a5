"""Read shadow prices off a solved program with its integers fixed, in units a buyer knows.

Comes in: a model, its program and the answer. Goes out: :class:`~offtake.plan.solution.Prices`. A dual of the program
is money of the whole objective: weighted by probability and tail, discounted, for a whole block of a period. Here
it is divided by all that: a sure dollar in every scenario adds 1 + risk_weight to the objective, so that is the
weight taken out, and what remains is a risk-adjusted mean over the scenarios, in dollars of the period itself.
A shadow price is the worth of the *next* unit, not of an offer: see ``appraise.py`` for that.
"""

from __future__ import annotations

import numpy as np

from offtake.plan.blocks import Program
from offtake.plan.highs import Answer
from offtake.plan.prices import gb_per_chip_hour
from offtake.plan.problem import Floats, Problem
from offtake.plan.solution import Prices
from offtake.plan.variables import Model, keep_as
from offtake.units import BYTES_PER_GB, PERCENT, S_PER_HOUR

EMPTY = 1e-6  # of a solver's unit of chips

MEANINGS = {
    "chips": "What one more usable chip-hour in this cell would add, its power given.",
    "work": "What an hour of work on a chip takes from other work: the chip, its power beyond idling, and its link.",
    "power": "What one more kilowatt-hour of power at this site would add.",
    "link": "What carrying one more gigabyte over this site's link would add.",
    "concentration": "What allowing this group one more percentage point of the firm power would add in this period.",
    "budget": "What one more dollar of this year's budget would add beyond itself.",
    "sign": "What one more unit signed at this date would add, kept as long as it pays; not the value of the offer.",
}


def prices(model: Model, program: Program, answer: Answer) -> Prices:
    """Give all shadow prices; where a limit does not exist or does not bind the price is 0."""
    problem = model.problem
    hour = hour_weight(problem)[:, :, None]
    worth = _Worth(model, program, answer)
    whole = worth.rows("power_of_a_site_carries_busy_and_idle_chips").sum(axis=0) / hour
    left = worth.rows("busy_chips_fit_the_power_left_by_curtailment").sum(axis=0) / hour
    chips = _chips(model, program, answer, worth) / hour
    cells, sure = problem.cells, 1 + problem.risk_weight
    drawn = whole[..., cells.site] * (1 - cells.idle_share) + left[..., cells.site]
    link = worth.rows("traffic_fits_the_link_of_a_site").sum(axis=0) / hour * (BYTES_PER_GB / S_PER_HOUR)
    sent = gb_per_chip_hour(problem, _served(model, program, answer))
    return Prices(
        chips_usd_per_chip_hour=chips,
        work_usd_per_chip_hour=chips + cells.kw_per_chip * drawn + link[..., cells.site] * sent,
        power_usd_per_kwh=whole + left,
        link_usd_per_gb=link,
        concentration_usd_per_point=_concentration(model, program, answer, worth),
        budget_usd_per_usd=worth.rows("a_years_spend_is_within_its_budget").sum(axis=0) / _year_weight(problem),
        sign_usd_per_unit=_sign(model, worth) / sure,
        meanings=dict(MEANINGS),
    )


def _served(model: Model, program: Program, answer: Answer) -> Floats:
    """Give the mean rate served on each lane [T, B, L], requests/s."""
    served = model["served"].spread(answer.values * program.column_unit)
    mean: Floats = np.einsum("s,stbl->tbl", model.problem.probability, np.maximum(served, 0.0))
    return mean


def hour_weight(problem: Problem) -> Floats:
    """Give what a sure dollar an hour adds to the objective, by period and block [T, B]."""
    weight: Floats = (
        (1 + problem.risk_weight) * (problem.discount * problem.period_hours)[:, None] * problem.block_share
    )
    return weight


class _Worth:
    """Give what one more of the user's unit adds to the objective, in USD."""

    def __init__(self, model: Model, program: Program, answer: Answer) -> None:
        self.blocks = model.blocks
        self.of_rows = -answer.row_duals * program.objective_unit / program.row_unit
        self.of_columns = -answer.column_duals * program.objective_unit / program.column_unit

    def rows(self, family: str) -> Floats:
        """Give it by row of a family of upper limits, in the family's shape."""
        return np.maximum(self.blocks.row_blocks[family].spread(self.of_rows), 0.0)

    def columns(self, name: str) -> Floats:
        """Give it by column of a block, in the block's shape."""
        return self.blocks.columns[name].spread(self.of_columns)


def _chips(model: Model, program: Program, answer: Answer, worth: _Worth) -> Floats:
    """Give what one more chip in every scenario adds [T, B, N].

    Where a cell holds no chips the dual may be anything above the worth of a first chip; it is cut to the most that
    any use of a chip there could earn.
    """
    problem, lanes = model.problem, model.problem.lanes
    price = worth.rows("work_fits_the_chips_of_a_cell")
    tail = "a_scenarios_loss_beyond_the_value_at_risk"
    weight = problem.probability - model.blocks.row_blocks[tail].spread(worth.of_rows)  # [S]
    best = np.zeros((problem.probability.size, len(problem.axes.cells)))
    earned = (problem.value_usd + problem.refusal_usd)[lanes.workload, None] * lanes.goodput_rps_per_chip * S_PER_HOUR
    np.maximum.at(best.T, lanes.cell, earned)
    best = np.maximum(best, (problem.jobs.missed_usd[:, None] * problem.jobs.speed).max(axis=0, initial=0.0))
    hours = (problem.discount * problem.period_hours)[:, None] * problem.block_share
    most = weight[:, None, None, None] * best[:, None, None, :] * hours[:, :, None]
    values = answer.values * program.column_unit
    column = model.kept[problem.deliveries.unit]
    kept = np.where(column >= 0, values[column], 0.0)
    there = np.zeros(model.owned.shape)
    at = (problem.deliveries.scenario, problem.deliveries.period, problem.deliveries.cell)
    np.add.at(there, at, problem.deliveries.chips * kept)
    empty = (there <= EMPTY * np.maximum(model.units.chips, 1.0))[:, :, None, :]
    total: Floats = np.where(empty, np.minimum(price, most), price).sum(axis=0)
    return total


def _concentration(model: Model, program: Program, answer: Answer, worth: _Worth) -> Floats:
    """Give the price of a point in every node [T, G]: a hundredth of all firm power, at the price of a kilowatt."""
    problem = model.problem
    values = answer.values * program.column_unit
    kept = np.where(model.kept >= 0, values[model.kept], 0.0)
    firm_kw = np.einsum("vt,vst->st", problem.vintages.firm_kw, kept)
    price = worth.rows("no_group_holds_more_than_its_share_of_firm_power")
    weight = firm_kw / PERCENT / ((1 + problem.risk_weight) * problem.discount)
    point: Floats = np.einsum("stg,st->tg", price, weight)
    return point


def _year_weight(problem: Problem) -> Floats:
    """Give what a sure dollar of a year adds to the objective, by year [Y]: at the mean discount of its periods."""
    years = len(problem.axes.years)
    count = np.bincount(problem.limits.period_year, minlength=years)
    total = np.bincount(problem.limits.period_year, weights=problem.discount, minlength=years)
    weight: Floats = (1 + problem.risk_weight) * np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return weight


def _sign(model: Model, worth: _Worth) -> Floats:
    """Give what one more unit in every node adds [V]: its worth, with what moves for it, kept while it pays."""
    vintages = model.problem.vintages
    size = np.maximum(vintages.units_max, 1e-9)
    enabled = worth.columns("chosen").sum(axis=1) / size + worth.columns("taken").sum(axis=1)[vintages.offer] / size
    whole_offer = worth.rows("an_offer_is_signed_at_most_in_full").sum(axis=1)[vintages.offer]
    value: Floats = worth.columns("signed").sum(axis=1) + whole_offer + _held(model, worth) + enabled
    return value


def _held(model: Model, worth: _Worth) -> Floats:
    """Give what keeping one more unit is worth [V], each node ending it when what follows would lose.

    Backwards over the periods: a node's worth is its own and that of the nodes after it, or nothing where it may stop.
    """
    own, like = worth.columns("kept"), keep_as(model.problem)
    n_vintages, _, n_periods = own.shape
    vintage = np.arange(n_vintages)[:, None]
    may_stop = np.arange(n_periods)[:, None] >= np.maximum(
        model.problem.vintages.lock_until, model.problem.vintages.sign_period
    )
    may_stop &= ~model.problem.vintages.renewed.T
    later = np.zeros(own.shape[:2])
    for period in reversed(range(n_periods)):
        here = own[:, :, period] + later  # [V, S], at the first scenario of each node
        here = np.where(may_stop[period][:, None], np.maximum(here, 0.0), here)
        before = like[:, :, period - 1] if period else np.zeros_like(like[:, :, 0])
        later = np.zeros_like(here)
        np.add.at(later, (vintage, before), here)
    total: Floats = later.sum(axis=1)
    return total
