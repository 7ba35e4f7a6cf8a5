"""Say how far a plan can be trusted: against foresight, the mean, fresh paths, simple rules, other draws, near plans.

Comes in: a case: a plan and how much to work out. Goes out: a :class:`~offtake.plan.result.Trust`. It must never
change the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np

from offtake.plan.assemble import Assembled
from offtake.plan.foresight import alone_in_foresight, first_day, mean_scenario, perfect_information_usd
from offtake.plan.judging import Case, attempt
from offtake.plan.leeway import NEAR_SHARE, leeway_of
from offtake.plan.objective import cvar_usd
from offtake.plan.problem import Floats, Held, Problem
from offtake.plan.replan import replanned_of
from offtake.plan.result import Fresh, Range, RuleLoss, Steadiness, Trust
from offtake.plan.rules import Rule, open_today, rules_of
from offtake.plan.sample import (
    Operated,
    along,
    among,
    fresh_seed,
    nodes_on,
    operate_all,
    resampled,
)
from offtake.plan.solution import Solution
from offtake.plan.solve import Options
from offtake.plan.spread import batch_range
from offtake.plan.trust_words import left_out, sentences_of

BATCHES, BATCH_PATHS = {"quick": 5, "full": 20}, {"quick": 6, "full": 12}
SAMPLES, STEPS = {"quick": 3, "full": 12}, {"quick": 3, "full": 8}
BATCH_NUMBER = 1_000  #: of the fresh draws: that of the first batch; other draws of the whole plan come before
SAME_UNITS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Hold what was found on the plan's own scenarios: the loss of the mean's plan, and the plan by each rule."""

    mean_plan_loss_usd: float | None
    rules: list[Rule]
    by_rule: dict[str, Solution | list[str]]


def trust_of(case: Case) -> Trust | None:
    """Judge a plan; None at level ``none``.

    Every loss is the difference of two plans, each proven to the solver's gap, and no surer than that.
    """
    level = case.options.level
    if level == "none":
        return None
    judged = on_own_scenarios(case)
    units = on_other_draws(case, SAMPLES[level])
    fresh, fresh_losses = on_fresh_paths(case, judged)
    replanned = replanned_of(case) if case.options.replan else None
    known = Trust(
        level=level,
        foresight_usd=foresight_usd(case),
        mean_plan_loss_usd=judged.mean_plan_loss_usd,
        fresh=fresh,
        rules=[
            msgspec.structs.replace(
                loss_of(case, rule, judged.by_rule[rule.key]), fresh_loss_usd=fresh_losses.get(rule.key)
            )
            for rule in judged.rules
        ],
        samples=len(units),
        steadiness=steadiness_of(case, units),
        near_share=NEAR_SHARE,
        leeway=leeway_of(case, STEPS[level]),
        replanned=replanned,
        sentences=[],
        left_out=left_out(case.options, replanned, survives=bool(case.problem.limits.survive_group.any())),
    )
    return msgspec.structs.replace(known, sentences=sentences_of(known, case.solution))


def foresight_usd(case: Case) -> float:
    """Return the expected value of perfect information in USD; see :mod:`offtake.plan.foresight`."""
    problems = [alone_in_foresight(case.problem, scenario) for scenario in range(case.problem.probability.size)]
    nets = np.array(case.each("foresight", best_net_usd, problems))
    return perfect_information_usd(case.problem, nets, case.solution.objective_usd)


def best_net_usd(problem: Problem, options: Options) -> float:
    """Return the net value of the best plan of one scenario."""
    found = attempt(problem, options)
    return float(found.money.net_usd[0]) if isinstance(found, Solution) else np.nan


def on_own_scenarios(case: Case) -> Judged:
    """Plan anew on the plan's scenarios with the first day of the mean's plan, and of each rule.

    First days that are the same are planned once, and the plan's own first day is the plan.
    """
    problem, moments = case.problem, case.assembled.contracts.moments
    rules = rules_of(problem)
    held = {rule.key: rule.held(problem) for rule in rules}
    mean = attempt(mean_scenario(problem), case.solver)
    if isinstance(mean, Solution):
        held["mean"] = first_day(problem, moments, mean)
    different = {signature(one): one for one in held.values() if not is_first_day_of(case, one)}
    found = case.in_turn("simple rules", case.ask, [replace(problem, held=one) for one in different.values()])
    solved = dict(zip(different, found, strict=True))
    by_name = {name: solved.get(signature(one), case.solution) for name, one in held.items()}
    of_mean = by_name.pop("mean", None)
    return Judged(
        mean_plan_loss_usd=loss_usd(case, of_mean) if isinstance(of_mean, Solution) else None,
        rules=rules,
        by_rule=by_name,
    )


def signature(held: Held) -> bytes:
    """Return what tells held decisions apart."""
    return held.signed.tobytes() + held.kept.tobytes() + held.hosts.tobytes()


def is_first_day_of(case: Case, held: Held) -> bool:
    """Tell whether held decisions are those of the plan itself."""
    pairs = ((held.signed, case.solution.signed), (held.kept, case.solution.kept))
    return all(np.allclose(one[~np.isnan(one)], own[~np.isnan(one)], atol=SAME_UNITS) for one, own in pairs)


def loss_usd(case: Case, other: Solution) -> float:
    """Return what another plan is worth less than the plan, risk weighed."""
    return case.solution.objective_usd - other.objective_usd


def loss_of(case: Case, rule: Rule, found: Solution | list[str]) -> RuleLoss:
    """Return the record of a rule, on the plan's scenarios."""
    problem = case.problem
    today = np.flatnonzero(open_today(problem) & ~np.isnan(rule.units))
    return RuleLoss(
        rule=rule.key,
        words=rule.words,
        units={problem.axes.offers[problem.vintages.offer[one]]: float(rule.units[one]) for one in today},
        loss_usd=loss_usd(case, found) if isinstance(found, Solution) else None,
        fresh_loss_usd=None,
        breaks=[] if isinstance(found, Solution) else found,
    )


# ── fresh paths ──────────────────────────────────────────────────────────────────────────────────────────────────────
def on_fresh_paths(case: Case, judged: Judged) -> tuple[Fresh, dict[str, Range]]:
    """Follow the plan, and the plan by each rule, along the same fresh paths; give what rules lose there.

    Paths come in independent batches, each drawn as the plan draws its own scenarios, with their weights.
    """
    problem, batches = case.problem, BATCHES[case.options.level]
    drawn = [resampled(case.assembled, BATCH_NUMBER + one, BATCH_PATHS[case.options.level]) for one in range(batches)]
    plans = {"plan": case.solution} | {key: one for key, one in judged.by_rule.items() if isinstance(one, Solution)}
    tasks = [batch_of(case, list(plans.values()), one) for one in drawn]
    found = case.each("fresh paths", operate_batch, tasks)
    weights = [one.problem.probability for one in drawn]
    nets = {
        name: [np.array([path.net_usd for path in batch[place]]) for batch in found] for place, name in enumerate(plans)
    }
    pairs = {
        name: [np.stack(both) for both in zip(nets["plan"], some, strict=True)]
        for name, some in nets.items()
        if name != "plan"
    }
    losses = {
        name: batch_range(list(zip(both, weights, strict=True)), partial(value_lost_usd, problem))
        for name, both in pairs.items()
    }
    kept = [np.array([path.kept_limits for path in batch[0]]) for batch in found]
    broken = float(np.mean([weight @ ~some for weight, some in zip(weights, kept, strict=True)]))
    return fresh_of(case, list(zip(nets["plan"], weights, strict=True)), broken), losses


def value_usd(problem: Problem, nets: Floats, weights: Floats) -> float:
    """Return the risk-adjusted value of weighted nets [N]."""
    mean = float(weights @ nets)
    tail = cvar_usd(-nets, weights, problem.risk_alpha) if problem.risk_weight > 0 else 0.0
    return mean - problem.risk_weight * tail


def value_lost_usd(problem: Problem, nets: Floats, weights: Floats) -> float:
    """Return by how much the second of two rows of weighted nets [2, N] is worth less than the first."""
    return value_usd(problem, nets[0], weights) - value_usd(problem, nets[1], weights)


def fresh_of(case: Case, batches: list[tuple[Floats, Floats]], broken: float) -> Fresh:
    """Return the record of the plan on fresh paths: nets and weights, batch by batch."""
    problem = case.problem
    return Fresh(
        paths=sum(nets.size for nets, _ in batches),
        batches=len(batches),
        seed=fresh_seed(case.settings.seed, BATCH_NUMBER),
        mean_net_usd=batch_range(batches, lambda nets, weights: float(weights @ nets)),
        cvar_loss_usd=batch_range(batches, lambda nets, weights: cvar_usd(-nets, weights, problem.risk_alpha)),
        value_usd=batch_range(batches, partial(value_usd, problem)),
        broken_share=broken,
    )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Hold some fresh paths, and the decisions that are tried on all of them."""

    paths: Problem
    held: list[Held]


def batch_of(case: Case, solutions: list[Solution], drawn: Assembled) -> Batch:
    """Return a batch of fresh paths, with what each plan decides along them."""
    moments, node = case.assembled.contracts.moments, nodes_on(case.assembled, drawn)
    return Batch(
        paths=among(drawn.problem, np.arange(drawn.problem.probability.size)),
        held=[along(case.problem, moments, solution, node) for solution in solutions],
    )


def operate_batch(batch: Batch, options: Options) -> list[list[Operated]]:
    """Operate a batch under each of its decisions, those that are the same once; see ``operate_all``."""
    different = {signature(held): held for held in batch.held}
    answers = dict(zip(different, operate_all(batch.paths, list(different.values()), options), strict=True))
    return [answers[signature(held)] for held in batch.held]


# ── other draws ──────────────────────────────────────────────────────────────────────────────────────────────────────
def on_other_draws(case: Case, samples: int) -> Floats:
    """Return the units that are signed on the first day when the plan is made from other draws [sample, V].

    A sample on which no plan keeps the limits is left out.
    """
    others = [resampled(case.assembled, 1 + sample).problem for sample in range(samples)]
    units = np.stack(case.each("other draws", units_today, others))
    kept: Floats = units[~np.isnan(units).any(axis=1)]
    return kept


def steadiness_of(case: Case, units: Floats) -> list[Steadiness]:
    """Return how steady the first day is over samples, offer by offer."""
    problem = case.problem
    return [
        Steadiness(
            offer=problem.axes.offers[problem.vintages.offer[one]],
            units_now=float(case.solution.signed[one, 0]),
            signed_share=float(np.mean(units[:, one] > SAME_UNITS * problem.vintages.units_max[one])),
            units_least=float(units[:, one].min()),
            units_most=float(units[:, one].max()),
        )
        for one in np.flatnonzero(open_today(problem))
        if len(units)
    ]


def units_today(problem: Problem, options: Options) -> Floats:
    """Return the units that the best plan of a problem signs on the first day [V]; NaN where it has none."""
    found = attempt(problem, options)
    return found.signed[:, 0] if isinstance(found, Solution) else np.full(problem.vintages.offer.size, np.nan)
