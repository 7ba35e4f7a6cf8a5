"""Compare policies on common random numbers: every policy faces the same requests, seed by seed.

Comes in: a fleet, its step tables, a function from a seed to requests, and what to compare. Goes out: one
:class:`Comparison`, written as ``compare.json``: means over seeds, and differences to the first policy with intervals
of 95 % (Student's t on the paired differences, so that the luck of the load cancels). The rehearsals are independent
and spread over processes; the answer has the same bytes whatever their number. Beside a policy's value in time stands
the share that it is of what hindsight could have served (``hindsight``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from scipy.special import stdtrit

from offtake.demand.request import Requests, concat, count_of
from offtake.fleet import Fleet
from offtake.policy.view import Policy
from offtake.rehearse.arrivals import checked, thin_fleet
from offtake.rehearse.hindsight import hindsight_usd
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import Deployments, rehearse
from offtake.rehearse.schedule import retries_of, surges_of
from offtake.rehearse.summary import Summary
from offtake.rehearse.surge import with_surges

FORMAT = "offtake-comparison-1"
CONFIDENCE = 0.95
CELLS_MOST = 50_000_000  #: requests times pools above which hindsight is left out, for memory
MEASURES = ("value_usd", "value_in_time_usd", "cost_usd", "share_within_slo", "share_refused", "fairness")

Task = tuple[int | None, int]  #: policy and seed; no policy stands for hindsight
Load = Callable[[int], Iterable[Requests]]
Progress = Callable[[str, float], None]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a mean over seeds with its interval of 95 %; without one (a single seed) both ends are null."""

    mean: float  #: Mean over seeds.
    low: float | None  #: Lower end.
    high: float | None  #: Upper end.


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Say how one policy fared on one seed."""

    policy: str  #: Name of the policy.
    seed: int  #: Seed of the load.
    status: str  #: As of a rehearsal.
    requests: int  #: Requests offered.
    offered_usd: float  #: Value of all requests.
    value_usd: float  #: Value of those served.
    value_in_time_usd: float  #: Value of those served within both limits.
    cost_usd: float  #: Fees of all chips, use and tokens.
    share_within_slo: float  #: Of requests, served within both limits.
    share_refused: float  #: Of requests, turned away.
    share_failed: float  #: Of requests, lost after their first token.
    fairness: float  #: Jain's index of the served share over tenants; 1 is even.
    attainment: dict[str, float]  #: Share within both limits, by kind of workload.


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Say how one policy fared over all seeds."""

    policy: str  #: Name of the policy.
    status: str  #: Worst status of any seed, `stationary` if none was worse.
    means: dict[str, float]  #: Means of the measures.
    attainment: dict[str, float]  #: Mean share within both limits, by kind of workload.
    hindsight_share: float | None  #: Value in time over what hindsight bounds; null where there is no bound.
    differences: dict[str, Interval]  #: This policy less the first, by measure.


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the answer of a comparison."""

    format: str  #: `offtake-comparison-1`.
    portfolio_hash: str  #: As in `plan.json`.
    fleet: str  #: Name of the fleet.
    week: str  #: Its Monday.
    seeds: list[int]  #: Seeds of the loads.
    thin: int  #: 1 in so many replicas and requests was simulated.
    requests: float  #: Mean requests offered.
    offered_usd: float  #: Mean value of all requests.
    hindsight_usd: float | None  #: Mean of what no policy can exceed in time; null where there is no bound.
    rows: list[Row]  #: One for each policy, the reference first.
    scores: list[Score]  #: One for each policy and seed.


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Choose what to compare: ``policies``, the reference first, on ``seeds``, in ``workers`` processes.

    Scores that are ``known`` already are not worked out again.
    """

    policies: tuple[Policy, ...] = tuple(Policy)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    workers: int = 1
    known: tuple[Score, ...] = ()


@dataclass(frozen=True)
class _Case:
    """Hold what every task of a comparison needs."""

    fleet: Fleet
    deployments: Deployments
    load: Load
    options: Options


def compare(case: tuple[Fleet, Deployments, Load], options: Options, contest: Contest, told: Progress) -> Comparison:
    """Rehearse every policy on every seed.

    Parameters
    ----------
    case
        The plan's fleet, the step tables its pools name, and a function (of a module, so that another process can call
        it) that makes the requests of a seed.
    options
        As of a rehearsal; policy and seed are replaced.
    contest
        Policies, seeds and processes.
    told
        Called with the name of what ended and the share of the work that is done.

    Raises
    ------
    InputError
        If the load is faulty.
    VerificationError
        If a rehearsal broke one of its own checks.
    """
    whole = _Case(*case, options)
    found: dict[Task, Score | float | None] = {
        (int(Policy[score.policy.upper()]), score.seed): score for score in contest.known
    }
    wanted: list[Task] = [(policy, seed) for policy in (None, *map(int, contest.policies)) for seed in contest.seeds]
    tasks = [task for task in wanted if task not in found]
    for done, (task, answer) in enumerate(zip(tasks, _spread(whole, tasks, contest.workers), strict=True), start=1):
        found[task] = answer
        told("hindsight" if task[0] is None else Policy(task[0]).name.lower(), done / len(tasks))
    answers = [found[task] for task in wanted]
    scores = [answer for answer in answers if isinstance(answer, Score)]
    return summed(whole, contest, scores, [answer for answer in answers if not isinstance(answer, Score)])


def _spread(case: _Case, tasks: list[Task], workers: int) -> Iterator[Score | float | None]:
    """Yield the answers in the order of the tasks, worked out here or in other processes."""
    if min(workers, len(tasks)) <= 1:
        return (_answer(case, *task) for task in tasks)
    from joblib import Parallel, delayed  # noqa: PLC0415  # half a second that a single rehearsal need not wait

    found: Iterator[Score | float | None] = Parallel(n_jobs=workers, return_as="generator")(
        delayed(_answer)(case, *task) for task in tasks
    )
    return found


def _answer(case: _Case, policy: int | None, seed: int) -> Score | float | None:
    """Return the score of a policy on a seed, or for no policy what hindsight bounds."""
    if policy is None:
        return bound_of(case.fleet, case.deployments, case.load(seed), replace(case.options, seed=seed))
    options = replace(case.options, policy=Policy(policy), seed=seed, keep_most=0)
    summary = rehearse(case.fleet, case.deployments, case.load(seed), options).summary
    if not summary.complete:
        raise KeyboardInterrupt
    return score_of(summary, case.fleet)


def bound_of(fleet: Fleet, deployments: Deployments, requests: Iterable[Requests], options: Options) -> float | None:
    """Return what hindsight bounds for the full fleet; None where arrivals depend on answers, or are too many."""
    if options.retries or retries_of(options.timeline):
        return None
    small, _ = thin_fleet(fleet, options.thin)
    thin = 1 if options.thinned_load else options.thin
    kept: list[Requests] = []
    surged = with_surges(checked(requests, small, thin, options.seed), surges_of(options.timeline, fleet), options.seed)
    for batch in surged:
        kept.append(batch)
        if (batch.think_ns >= 0).any() or sum(map(count_of, kept)) * len(small.pools) > CELLS_MOST:
            return None
    return hindsight_usd(small, deployments, concat(kept)) * options.thin


def score_of(summary: Summary, fleet: Fleet) -> Score:
    """Return the measures of one rehearsal."""
    value = {workload.name: workload.value_usd_per_request for workload in fleet.workloads}
    total, whole = summary.total, max(summary.total.requests, 1)
    return Score(
        policy=summary.policy,
        seed=summary.seed,
        status=summary.status,
        requests=total.requests,
        offered_usd=sum(group.requests * value[group.workload] for group in summary.workloads),
        value_usd=total.value_usd,
        value_in_time_usd=total.value_in_time_usd,
        cost_usd=summary.cost_usd,
        share_within_slo=total.share_within_slo,
        share_refused=total.refused / whole,
        share_failed=total.failed / whole,
        fairness=summary.tenants.jain_index if summary.tenants is not None else 1.0,
        attainment={group.kind: group.share_within_slo for group in summary.kinds},
    )


def summed(case: _Case, contest: Contest, scores: list[Score], bounds: list[float | None]) -> Comparison:
    """Sum the scores up; they come policy by policy, each in the order of the seeds."""
    seeds = len(contest.seeds)
    by_policy = [scores[first : first + seeds] for first in range(0, len(scores), seeds)]
    known = [bound for bound in bounds if bound is not None]
    whole = known if len(known) == seeds else None
    return Comparison(
        format=FORMAT,
        portfolio_hash=case.fleet.portfolio_hash,
        fleet=case.fleet.name,
        week=case.fleet.week,
        seeds=list(contest.seeds),
        thin=case.options.thin,
        requests=_mean([score.requests for score in by_policy[0]]),
        offered_usd=_mean([score.offered_usd for score in by_policy[0]]),
        hindsight_usd=_mean(whole) if whole is not None else None,
        rows=[_row(mine, by_policy[0], whole) for mine in by_policy],
        scores=scores,
    )


def _row(mine: list[Score], reference: list[Score], bounds: list[float] | None) -> Row:
    """Return how one policy fared, beside the reference."""
    shares = None
    if bounds is not None:
        shares = [
            score.value_in_time_usd / bound if bound > 0 else 1.0 for score, bound in zip(mine, bounds, strict=True)
        ]
    bad = [score.status for score in mine if score.status != "stationary"]
    kinds = sorted({kind for score in mine for kind in score.attainment})
    return Row(
        policy=mine[0].policy,
        status=bad[0] if bad else "stationary",
        means={name: _mean([getattr(score, name) for score in mine]) for name in MEASURES},
        attainment={kind: _mean([score.attainment.get(kind, 0.0) for score in mine]) for kind in kinds},
        hindsight_share=_mean(shares) if shares is not None else None,
        differences={
            name: interval_of([getattr(a, name) - getattr(b, name) for a, b in zip(mine, reference, strict=True)])
            for name in MEASURES
        },
    )


def interval_of(values: list[float]) -> Interval:
    """Return the mean of paired differences with Student's interval of 95 %.

    Example
    -------
    >>> interval_of([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.4841..., high=4.4841...)
    """
    mean = _mean(values)
    if len(values) < 2:  # noqa: PLR2004  # one value has no spread
        return Interval(mean=mean, low=None, high=None)
    half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def _mean(values: list[float] | list[int]) -> float:
    """Return the mean."""
    return float(np.mean(values))
