"""Say what the answer rests on: how the value of signing moves with each assumption, and what fresh draws say of it.

Comes in: a :class:`~offtake.plan.appraise.Case` and how hard to solve. Goes out: :class:`~offtake.plan.result.Swing`
records, the widest first, and an :class:`~offtake.plan.result.OutOfSample`. Under every assumption both plans are made
anew, with the offer and without it. Each question is worked out by itself, so the answers do not depend on the number
of processes. It must never read a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from joblib import Parallel, delayed

from offtake.errors import InfeasibleError, SolverError
from offtake.performance.goodput import Goodput
from offtake.plan.appraise import Case, asking, barred, case_on
from offtake.plan.assemble import Assembled
from offtake.plan.foresight import first_day
from offtake.plan.pool import Pool
from offtake.plan.problem import Problem
from offtake.plan.result import Appraisal, OutOfSample, Side, Swing
from offtake.plan.sample import fresh_seed, resampled
from offtake.plan.solve import Options
from offtake.plan.spread import mean_range
from offtake.plan.variations import Variation, variations
from offtake.plan.words import count, money, percent
from offtake.schema.settings import WorkloadRow

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Progress = Callable[[str, float], None]

FIRST_FRESH = 3_000_000  #: number of the first fresh draws; others of the plan have other numbers


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Hold what signing is worth under some assumption: value, and how much of it the solver leaves open, in USD."""

    value_usd: float
    doubt_usd: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Hold what signing was worth on fresh draws: the value in USD, and the chance that it proved right."""

    value_usd: float
    right_share: float


# ── the tornado ──────────────────────────────────────────────────────────────────────────────────────────────────────
def swings_of(case: Case, options: Options, progress: Progress) -> list[Swing]:
    """Return what signing is worth at both ends of each assumption, the widest swing first."""
    offer = case.assembled.problem.axes.offers[case.offer]
    pairs = list(variations(case.assembled, offer))
    ends = [(light(one.assembled), case.offer) for pair in pairs for one in pair]
    found = iter(each(worth_in, ends, options, told("assumptions", progress, len(ends))))
    now = worth_of(case)
    swings = [swing_of(pair, (next(found), next(found)), now) for pair in pairs]
    return sorted(swings, key=lambda one: (-one.swing_usd, one.name))


def swing_of(pair: tuple[Variation, Variation], worth: tuple[Worth | None, Worth | None], now: Worth) -> Swing:
    """Return the record of one assumption."""
    low, high = (
        Side(
            setting=one.setting,
            value_usd=None if there is None else there.value_usd,
            flips=there is not None and flipped(there, now),
        )
        for one, there in zip(pair, worth, strict=True)
    )
    values = [now.value_usd, *(one.value_usd for one in (low, high) if one.value_usd is not None)]
    return Swing(name=pair[0].name, low=low, high=high, swing_usd=max(values) - min(values), confidence="assumption")


def flipped(there: Worth, now: Worth) -> bool:
    """Tell whether only one of two signs, and gains by it more than the solver leaves open."""
    best = max(there, now, key=lambda one: one.value_usd)
    return (there.value_usd > 0) != (now.value_usd > 0) and best.value_usd > best.doubt_usd


def worth_in(question: tuple[Assembled, int], options: Options) -> Worth | None:
    """Return what signing is worth in a problem, both plans made anew; None where there is no such plan."""
    assembled, offer = question
    ask = asking(Pool(assembled.problem, options))
    try:
        return worth_of(case_on(assembled, offer, ask(assembled.problem), ask))
    except (InfeasibleError, SolverError):
        return None


def worth_of(case: Case) -> Worth:
    """Return what signing is worth: by the best plan if it signs; else in full by force, where it is all or nothing."""
    plan = case.signing if case.terms_row.all_or_nothing else case.best
    return Worth(
        value_usd=plan.objective_usd - case.without.objective_usd,
        doubt_usd=sum(one.bound_usd - one.objective_usd for one in (plan, case.without)),
    )


# ── fresh draws ──────────────────────────────────────────────────────────────────────────────────────────────────────
def out_of_sample(case: Case, trials: int, options: Options, progress: Progress) -> OutOfSample:
    """Return what signing is worth on fresh draws: the first day as decided, all that follows decided anew.

    Each trial draws as many scenarios as the plan has, with a tree of their own. The plan that signs and the plan
    without the offer are each held to what they decide on the first day, and the best is made of the rest.
    """
    questions = [fresh_pair(case, number) for number in range(trials)]
    found = list(each(trial_of, questions, options, told("fresh draws", progress, trials)))
    some = [one for one in found if one is not None]
    value = mean_range(np.array([one.value_usd for one in some])) if some else None
    seed = case.assembled.inputs.portfolio.tables.settings.seed
    return OutOfSample(
        trials=len(some),
        broken=len(found) - len(some),
        scenarios=case.assembled.problem.probability.size,
        seed=fresh_seed(seed, FIRST_FRESH),
        value_usd=value.estimate if value else None,
        low_usd=value.low if value else None,
        high_usd=value.high if value else None,
        own_value_usd=case.signing.objective_usd - case.without.objective_usd,
        proves_right_share=float(np.mean([one.right_share for one in some])) if some else None,
    )


def fresh_sentence(known: Appraisal, fresh: OutOfSample) -> str:
    """Tell what signing is worth on fresh draws beside what it is on the plan's own."""
    if fresh.value_usd is None or fresh.proves_right_share is None:
        return "On fresh draws a plan that is held to its first day cannot keep the limits."
    spread = (
        ""
        if fresh.low_usd is None or fresh.high_usd is None
        else (f" (95% interval {money(fresh.low_usd)} to {money(fresh.high_usd)})")
    )
    return (
        f"On {count(fresh.trials)} fresh draws of {count(fresh.scenarios)} scenarios, with the first day as decided, "
        f"signing is worth {money(fresh.value_usd)}{spread} and proves right with probability "
        f"{percent(fresh.proves_right_share)}; on the plan's own draws {money(fresh.own_value_usd)} and "
        f"{percent(known.proves_right_share)}."
    )


def fresh_pair(case: Case, number: int) -> tuple[Problem, Problem]:
    """Return a fresh problem held to the first day of the plan that signs, and of the plan without the offer."""
    fresh = resampled(case.assembled, FIRST_FRESH + number)
    moments, problem = fresh.contracts.moments, fresh.problem
    without = barred(problem, case.offer)
    return (
        replace(problem, held=first_day(problem, moments, case.signing)),
        replace(without, held=first_day(problem, moments, case.without)),
    )


def trial_of(question: tuple[Problem, Problem], options: Options) -> Trial | None:
    """Return what signing is worth on one fresh draw; None where a plan that is held cannot keep the limits there."""
    ask = asking(Pool(question[0], options))
    try:
        signing, without = (ask(problem) for problem in question)
    except (InfeasibleError, SolverError):
        return None
    better = signing.money.net_usd > without.money.net_usd
    return Trial(
        value_usd=signing.objective_usd - without.objective_usd,
        right_share=float(question[0].probability[better].sum()),
    )


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def each(
    work: Callable[[Question, Options], Answer],
    questions: list[Question],
    options: Options,
    tell: Callable[[int], None],
) -> Iterator[Answer]:
    """Yield the answers in the order of the questions, worked out here or in as many processes as there are threads."""
    alone = replace(options, threads=1, progress=None, stop=bool)
    if options.threads <= 1 or len(questions) <= 1:
        found: Iterator[Answer] = (work(one, alone) for one in questions)
    else:
        parallel = Parallel(n_jobs=options.threads, return_as="generator")
        found = parallel(delayed(work)(one, alone) for one in questions)
    for done, answer in enumerate(found, start=1):
        tell(done)
        yield answer


def told(stage: str, progress: Progress, count: int) -> Callable[[int], None]:
    """Return what reports how many of some questions are answered."""
    progress(stage, 0.0)
    return lambda done: progress(stage, done / count)


def light(assembled: Assembled) -> Assembled:
    """Return what can be sent to another process: a problem that is put together already asks for no goodput."""
    return replace(assembled, inputs=replace(assembled.inputs, goodput_of=unasked))


def unasked(workload: WorkloadRow, chip: str, rtt_ms: int) -> Goodput:
    """Refuse to tell a goodput."""
    raise AssertionError(f"{workload.workload} on {chip}, {rtt_ms} ms away: this problem is put together already")
