"""Account money by scenario and period, state the objective, and recount both from a plan's arrays.

Comes in: a model with variables. Goes out: the accounting rows, the tail's rows and the price of each column.
:func:`recount` works from the problem and a plan's arrays alone, with none of the program's coefficients, so
that a wrong coefficient shows as a disagreement. It must never know the solver.
"""

from __future__ import annotations

import numpy as np

from offtake.plan.blocks import Span
from offtake.plan.problem import Floats, Problem
from offtake.plan.solution import Money, Quantities
from offtake.plan.variables import SCENARIO_PERIOD, Model, keep_as
from offtake.units import S_PER_HOUR


def money_committed_in_a_period(model: Model) -> None:
    """Account what is paid whatever is served: committed[s,t] = Σ_v fee·u + prepay·x + energy of fixed idle chips.

    And cancel[v,s,t]·(u[v,s,t−1] − u[v,s,t]) for what is ended, with x[v,s] before the first period.
    """
    problem, vintages = model.problem, model.problem.vintages
    rows = model.blocks.rows("money_committed_in_a_period", SCENARIO_PERIOD, Span(upper=0.0, unit=model.units.usd)).ids
    model.blocks.put(rows, model["committed"].ids, 1.0)
    model.blocks.put(rows, model.kept, -vintages.paid_usd)
    at = vintages.sign_period >= 0
    model.blocks.put(rows.T[vintages.sign_period[at]], model.signed[at], -vintages.prepay_usd[at, None])
    idle = _idle_kw(problem) * _kwh(problem) * problem.period_hours[:, None]
    model.blocks.put(rows[:, :, None], model["capacity"].ids, -idle)
    fee = ending_fees(problem)
    if fee.any():
        model.blocks.put(rows, model.kept, fee)
        model.blocks.put(rows, model.kept_before, -fee)


def ending_fees(problem: Problem) -> Floats:
    """Give what ending a unit costs where units can be ended [V, S, T], USD."""
    vintages, period = problem.vintages, np.arange(problem.period_hours.size)
    first = np.maximum(vintages.lock_until, vintages.sign_period)[:, None]
    may_end = (period >= first) & (period < vintages.term_until[:, None]) & ~vintages.renewed
    fee: Floats = vintages.cancel_usd * may_end[:, None, :]
    return fee


def money_spent_on_work_in_a_period(model: Model) -> None:
    """Account what serving costs: operating[s,t] = Σ used fee·e + energy above idle + Σ_l fee per request·y."""
    problem, deliveries = model.problem, model.problem.deliveries
    name = "money_spent_on_work_in_a_period"
    rows = model.blocks.rows(name, SCENARIO_PERIOD, Span(upper=0.0, unit=model.units.usd)).ids
    hours = problem.period_hours[:, None] * problem.block_share  # [T, B]
    model.blocks.put(rows, model["operating"].ids, 1.0)
    fee = deliveries.used_usd_per_chip_hour + _idle_kw(problem)[deliveries.cell] * _kwh(problem)[deliveries.cell]
    row = rows[deliveries.scenario, deliveries.period]
    model.blocks.put(row[:, None], model["used"].ids, -fee[:, None] * hours[deliveries.period])
    row = rows[:, :, None, None]
    served = _usd_per_request(problem)[:, None, None, :] * hours[:, :, None] * S_PER_HOUR
    model.blocks.put(row, model["served"].ids, -served)
    busy = _busy_kw(problem) * _kwh(problem)
    model.blocks.put(row[..., None], model["training"].ids, -busy * hours[:, :, None, None])
    model.blocks.put(row[..., 0], model["research"].ids, -busy * problem.period_hours[:, None])


def value_served_in_a_period(model: Model) -> None:
    """Account what is gained: worth[s,t] = Σ_l value·y − Σ_k refusal cost·r."""
    problem = model.problem
    rows = model.blocks.rows("value_served_in_a_period", SCENARIO_PERIOD, Span(upper=0.0, unit=model.units.usd)).ids
    seconds = (problem.period_hours[:, None] * problem.block_share * S_PER_HOUR)[:, :, None]
    row = rows[:, :, None, None]
    model.blocks.put(rows, model["worth"].ids, 1.0)
    model.blocks.put(row, model["served"].ids, -seconds * problem.value_usd[problem.lanes.workload])
    model.blocks.put(row, model["refused"].ids, seconds * problem.refusal_usd)


def a_scenarios_loss_beyond_the_value_at_risk(model: Model) -> None:
    """Measure the tail (Rockafellar and Uryasev 2000): ξ[s] ≥ loss[s] − η, ξ ≥ 0; CVaR = η + Σ_s p·ξ/(1−α).

    loss[s] = Σ_t discount·(committed + operating − worth) + Σ_j discount at the deadline·missed cost·missed
    − discount at the end·Σ_v terminal[v,s]·u[v,s,T−1].
    """
    problem = model.problem
    span = Span(0.0, np.inf, np.asarray(problem.risk_weight > 0), model.units.usd)
    rows = model.blocks.rows("a_scenarios_loss_beyond_the_value_at_risk", ("scenario",), span).ids
    model.blocks.put(rows, model["shortfall"].ids, 1.0)
    model.blocks.put(rows, model["value_at_risk"].ids, 1.0)
    model.blocks.put(rows[:, None], model["committed"].ids, -problem.discount)
    model.blocks.put(rows[:, None], model["operating"].ids, -problem.discount)
    model.blocks.put(rows[:, None], model["worth"].ids, problem.discount)
    model.blocks.put(rows[:, None], model["missed"].ids, -_missed_usd(problem))
    if problem.vintages.terminal_usd.any():
        model.blocks.put(rows, model.kept[:, :, -1], problem.end_discount * problem.vintages.terminal_usd)


ALL = (
    money_committed_in_a_period,
    money_spent_on_work_in_a_period,
    value_served_in_a_period,
    a_scenarios_loss_beyond_the_value_at_risk,
)


def price(model: Model) -> None:
    """Set the objective, least cost first: Σ_s p·loss[s] + λ·(η + Σ_s p·ξ[s]/(1−α))."""
    problem = model.problem
    probability = problem.probability[:, None]
    model.blocks.price(model["committed"], probability * problem.discount)
    model.blocks.price(model["operating"], probability * problem.discount)
    model.blocks.price(model["worth"], -probability * problem.discount)
    model.blocks.price(model["missed"], probability * _missed_usd(problem))
    if problem.vintages.terminal_usd.any():
        model.blocks.price(model["kept"], -_terminal_of_node(problem))
    if problem.risk_weight > 0:
        model.blocks.price(model["value_at_risk"], problem.risk_weight)
        model.blocks.price(model["shortfall"], problem.risk_weight * problem.probability / (1 - problem.risk_alpha))


def _terminal_of_node(problem: Problem) -> Floats:
    """Give the mean value beyond the horizon of a unit kept to the end [V, S, T], at the first scenario of its node."""
    vintages, first = problem.vintages, keep_as(problem)[:, :, -1]
    worth = np.zeros((*first.shape, problem.period_hours.size))
    mean = problem.probability * problem.end_discount * vintages.terminal_usd
    np.add.at(worth[:, :, -1], (np.arange(first.shape[0])[:, None], first), mean)
    return worth


def recount(problem: Problem, plan: Quantities) -> Money:
    """Account a plan's money from its arrays; see :class:`Money` for shapes and units."""
    vintages, deliveries = problem.vintages, problem.deliveries
    n_scenarios, n_periods = problem.probability.size, problem.period_hours.size
    hours = problem.period_hours[:, None] * problem.block_share  # [T, B]
    seconds = hours * S_PER_HOUR
    prepay = np.zeros((n_scenarios, n_periods))
    for vintage in np.flatnonzero(vintages.sign_period >= 0):
        prepay[:, vintages.sign_period[vintage]] += vintages.prepay_usd[vintage] * plan.signed[vintage]
    used = np.zeros((n_scenarios, n_periods))
    used_hours = (plan.used_chips * hours[deliveries.period]).sum(axis=1)
    np.add.at(used, (deliveries.scenario, deliveries.period), deliveries.used_usd_per_chip_hour * used_hours)
    value = np.einsum("stbl,l,tb->st", plan.served_rps, problem.value_usd[problem.lanes.workload], seconds)
    fees = np.einsum("vst,vst->st", vintages.paid_usd, plan.kept)
    fees += np.einsum("vst,vst->st", ending_fees(problem), ended_units(problem, plan))
    terminal = np.einsum("vs,vs->s", vintages.terminal_usd, plan.kept[:, :, -1])
    energy = np.einsum("stbn,n,tb->st", draw_kw(problem, plan), _kwh(problem), hours)
    request = np.einsum("stbl,l,tb->st", plan.served_rps, problem.lanes.usd_per_request, seconds)
    refusal = np.einsum("stbk,k,tb->st", plan.refused_rps, problem.refusal_usd, seconds)
    missed = plan.missed_chip_hours @ problem.jobs.missed_usd
    net = (value - fees - prepay - used - energy - request - refusal) @ problem.discount
    net += problem.end_discount * terminal - plan.missed_chip_hours @ _missed_usd(problem)
    return Money(
        value_usd=value,
        fees_usd=fees,
        prepay_usd=prepay,
        used_usd=used,
        energy_usd=energy,
        request_usd=request,
        refusal_usd=refusal,
        missed_usd=missed,
        terminal_usd=terminal,
        net_usd=net,
    )


def ended_units(problem: Problem, plan: Quantities) -> Floats:
    """Count the units that are ended at the start of each period [V, S, T], those of what was just signed too."""
    period = np.arange(problem.period_hours.size)
    signed = (period == problem.vintages.sign_period[:, None])[:, None, :]
    before = np.concatenate([plan.signed[:, :, None], plan.kept[:, :, :-1]], axis=2)
    ended: Floats = np.where(signed, plan.signed[:, :, None], before) - plan.kept
    return ended


def busy_chips(problem: Problem, plan: Quantities) -> Floats:
    """Count busy chips of a plan by cell [S, T, B, N]: serving, training and research."""
    lanes = problem.lanes
    serving = plan.served_rps / lanes.goodput_rps_per_chip.T[:, None, None, :]
    busy = plan.training_chips.sum(axis=3) + plan.research_chips[:, :, None, :]
    for lane, cell in enumerate(lanes.cell):
        busy[..., cell] += serving[..., lane]
    counted: Floats = busy
    return counted


def draw_kw(problem: Problem, plan: Quantities) -> Floats:
    """Give the power drawn in each cell [S, T, B, N] in kW: busy chips in full, the rest at their idle share."""
    deliveries, busy = problem.deliveries, busy_chips(problem, plan)
    there = np.zeros((*problem.demand_rps.shape[:2], problem.cells.site.size, problem.block_share.size))
    fixed = deliveries.chips * plan.kept[deliveries.unit] * ~deliveries.elastic
    chips = plan.used_chips + fixed[:, None]
    np.add.at(there, (deliveries.scenario, deliveries.period, deliveries.cell), chips)
    rest = there.transpose(0, 1, 3, 2) - busy
    cells = problem.cells
    return cells.kw_per_chip * (busy + cells.idle_share * rest)


def cvar_usd(loss_usd: Floats, probability: Floats, alpha: float) -> float:
    """Give the mean of the worst 1 − alpha of losses, splitting the scenario at the edge."""
    worst = np.argsort(-loss_usd, kind="stable")
    mass = np.minimum(np.cumsum(probability[worst]), 1 - alpha)
    return float(np.diff(mass, prepend=0.0) @ loss_usd[worst] / (1 - alpha))


def risk_adjusted_usd(problem: Problem, net_usd: Floats) -> float:
    """Return mean net value less the weight of risk times the CVaR of the loss."""
    mean = float(problem.probability @ net_usd)
    if problem.risk_weight == 0:
        return mean
    return mean - problem.risk_weight * cvar_usd(-net_usd, problem.probability, problem.risk_alpha)


def _missed_usd(problem: Problem) -> Floats:
    """Give the discounted penalty of a chip-hour missed, by job [J]."""
    last = np.minimum(problem.jobs.last_period, problem.discount.size - 1)
    cost: Floats = problem.jobs.missed_usd * problem.discount[last]
    return cost


def _kwh(problem: Problem) -> Floats:
    """Give the price of energy [cell], USD per kWh."""
    return problem.cells.usd_per_kwh


def _idle_kw(problem: Problem) -> Floats:
    """Give the power of an idle chip [cell], kW."""
    return problem.cells.kw_per_chip * problem.cells.idle_share


def _busy_kw(problem: Problem) -> Floats:
    """Give what a chip draws more when busy than when idle [N]."""
    return problem.cells.kw_per_chip * (1 - problem.cells.idle_share)


def _usd_per_request(problem: Problem) -> Floats:
    """Give fees plus energy of one request on each lane [S, L]."""
    lanes = problem.lanes
    per_hour = (_busy_kw(problem) * _kwh(problem))[lanes.cell] / lanes.goodput_rps_per_chip.T
    cost: Floats = lanes.usd_per_request + per_hour / S_PER_HOUR
    return cost
