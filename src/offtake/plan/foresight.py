"""Say what knowing more would be worth, and what planning on the mean would lose.

Comes in: a problem, its solution and when each decision is made. Goes out: the expected value of perfect information
(EVPI) and the value of the stochastic solution (VSS), as Birge and Louveaux (2011, chapter 4) define them, with the
risk-adjusted value in the place of the mean. It must never know a file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offtake.plan.nodes import Moments
from offtake.plan.objective import risk_adjusted_usd
from offtake.plan.problem import Deliveries, Floats, Held, Problem
from offtake.plan.sample import alone
from offtake.plan.solution import Solution


def alone_in_foresight(problem: Problem, scenario: int) -> Problem:
    """Return the problem of one scenario that is known from the first day.

    The limit on the loss of a partner is on the mean of a node, and stricter in a node of one scenario: it is left
    out, so that the value stays one that no plan can reach.
    """
    one = alone(replace(problem, held=None), scenario)
    return replace(one, limits=replace(one.limits, survive_group=np.zeros_like(one.limits.survive_group)))


def perfect_information_usd(problem: Problem, nets_usd: Floats, plan_usd: float) -> float:
    """Return what perfect foresight adds to a plan: EVPI = ρ(net*) − value of the plan.

    ``nets_usd [S]`` holds net*(s), the best net value of scenario s where it alone is planned for, and
    ρ(net) = E[net] − λ·CVaR_α(−net).

    Notes
    -----
    Why the scenarios may be solved apart, risk or no risk: whoever knows the scenario decides for each one by itself,
    so that any choice of plans, one a scenario, is allowed, and none brings more than net*(s) in scenario s. ρ does
    not fall where no net value falls: the mean does not, and CVaR is the mean of the worst share, whose losses do not
    rise (Artzner et al. 1999, monotonicity). So ρ(net) ≤ ρ(net*) for every choice, and the plans apart reach it.
    """
    return risk_adjusted_usd(problem, nets_usd) - plan_usd


def mean_scenario(problem: Problem) -> Problem:
    """Return the problem of one scenario, the mean of all: demand, deliveries, goodput, fees and power.

    A chip that comes in half of the scenarios is half a chip; this is the plan of whoever plans on the expected case.
    """
    weight, deliveries = problem.probability, problem.deliveries
    places = np.stack([deliveries.vintage, deliveries.period, deliveries.cell])
    _, first, back = np.unique(places, axis=1, return_index=True, return_inverse=True)
    chips = np.bincount(back.ravel(), weight[deliveries.scenario] * deliveries.chips, first.size)
    one = {name: getattr(deliveries, name)[first] for name in vars(deliveries)}
    one |= {"scenario": np.zeros(first.size, dtype=np.int64), "chips": chips}
    return replace(
        problem,
        axes=replace(problem.axes, scenarios=["mean"]),
        probability=np.ones(1),
        demand_rps=np.tensordot(weight, problem.demand_rps, 1)[np.newaxis],
        power_kw=np.tensordot(weight, problem.power_kw, 1)[np.newaxis],
        lanes=replace(problem.lanes, goodput_rps_per_chip=(problem.lanes.goodput_rps_per_chip @ weight)[:, np.newaxis]),
        vintages=replace(
            problem.vintages,
            paid_usd=np.einsum("s,vst->vt", weight, problem.vintages.paid_usd)[:, np.newaxis],
            cancel_usd=np.einsum("s,vst->vt", weight, problem.vintages.cancel_usd)[:, np.newaxis],
            terminal_usd=(problem.vintages.terminal_usd @ weight)[:, np.newaxis],
        ),
        deliveries=Deliveries(**one),
        nodes=None,
        held=None,
        risk_weight=0.0,
    )


def first_day(problem: Problem, moments: Moments, solution: Solution) -> Held:
    """Return what a plan decides on the first day, for every scenario of a problem; all else is open.

    Signing on the first day is one such decision, and giving notice on it another.
    """
    count = problem.probability.size
    now = (moments.sign <= 0)[:, np.newaxis]
    signed = np.where(now, solution.signed[:, :1], np.nan)
    kept = np.where((moments.keep <= 0) & now, solution.kept[:, 0], np.nan)
    return Held(
        signed=np.repeat(signed, count, axis=1),
        kept=np.repeat(kept[:, np.newaxis], count, axis=1),
        hosts=np.full(solution.hosts.shape, np.nan),
    )
