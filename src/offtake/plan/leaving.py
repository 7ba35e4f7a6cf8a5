"""Say what the buyer's right to leave an offer is worth: with its notice, and as if all that comes were known.

Comes in: a :class:`~offtake.plan.appraise.Case` and how to plan. Goes out: a
:class:`~offtake.plan.result.RightToLeave` and the sentences that explain it. Three plans sign the offer: one that may
never leave it, one that may on notice, and one whose notices of this offer alone are given by somebody who knows the
future. The right is worth the second less the first. It must never know a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from offtake.plan.appraise import Case
from offtake.plan.nodes import in_hindsight, known_by
from offtake.plan.problem import Problem
from offtake.plan.result import RightToLeave
from offtake.plan.solution import Solution
from offtake.plan.words import count, money
from offtake.supply.offer import buyer_notice_days

Signing = Callable[[Problem], Solution | None]

NOTHING_USD = 1.0  #: less is not told


def right_of(case: Case, sign: Signing) -> RightToLeave | None:
    """Return what the right to leave is worth; None where the buyer has none within the plan.

    ``sign`` makes a plan in which the offer is signed if it is in ``case.signing``; None where there is no such plan.
    """
    problem = case.assembled.problem
    mine = problem.vintages.offer == case.offer
    if not np.any(problem.vintages.lock_until[mine] < problem.vintages.term_until[mine]):
        return None
    never, known = (value(case, plan) for plan in (sign(locked(problem, mine)), sign(foreseen(case, mine))))
    now = case.signing.objective_usd - case.without.objective_usd
    return RightToLeave(
        notice_days=buyer_notice_days(case.assembled.inputs.portfolio.offers[case.terms_row.offer]),
        none_usd=never,
        notice_usd=now,
        foresight_usd=known,
        right_usd=None if never is None else now - never,
        right_in_foresight_usd=None if never is None or known is None else known - never,
    )


def value(case: Case, plan: Solution | None) -> float | None:
    """Return what a plan is worth above the one without the offer."""
    return None if plan is None else plan.objective_usd - case.without.objective_usd


def locked(problem: Problem, mine: np.ndarray) -> Problem:
    """Return the problem in which the buyer may never leave some vintages before their term."""
    vintages = problem.vintages
    lock = np.where(mine, np.maximum(vintages.lock_until, vintages.term_until), vintages.lock_until)
    return replace(problem, vintages=replace(vintages, lock_until=lock))


def foreseen(case: Case, mine: np.ndarray) -> Problem:
    """Return the problem in which notices of some vintages after the first day are given knowing all that comes."""
    problem = case.assembled.problem
    known = in_hindsight(problem, case.assembled.contracts.moments)
    nodes = known_by(known, problem.decided, mine)
    return replace(problem, nodes=replace(nodes, sign_as=problem.decided.sign_as))


def right_sentences(right: RightToLeave) -> list[str]:
    """Explain what the right is worth, and why foresight would make more of it."""
    if right.right_usd is None:
        return ["Without the right to leave no plan that signs it keeps the limits."]
    told = f"The right to leave on {count(right.notice_days)} days' notice is worth {money(right.right_usd)}"
    more = right.right_in_foresight_usd
    if more is None or more - right.right_usd <= NOTHING_USD:
        return [f"{told}; knowing the future would make no more of it."]
    lost = money(more - right.right_usd)
    return [
        f"{told}: that much is lost if it is struck out.",
        f"Giving notice with knowledge of all that comes would make {money(more)} of it.",
        f"The {lost} between cannot be had: it is decided its days before it takes effect, on what is seen by then.",
    ]
