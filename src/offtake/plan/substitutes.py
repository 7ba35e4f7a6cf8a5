"""Say what every open offer is worth beside the others, and which of them stand in for each other.

Comes in: the tables of a portfolio. Goes out: an :class:`~offtake.plan.result.OffersAppraisal`. The worth of an offer
is the best plan less the best plan without it; of two offers, the best plan less the best plan without both. What that
exceeds the sum of the two by is what one of them covers when the other is gone. It must never read a file.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

from offtake.files import folder_in_place, write_json
from offtake.plan.appraise import Solve, asking, barred, pool_of, units_of
from offtake.plan.plan import PlanOptions, portfolio_hash, prepare
from offtake.plan.problem import Problem
from offtake.plan.result import OFFERS_FORMAT, OffersAppraisal, OfferWorth, Pair
from offtake.plan.solution import Solution
from offtake.schema.portfolio import Tables

ALL = "all-offers"


def appraise_all(tables: Tables, options: PlanOptions | None = None) -> OffersAppraisal:
    """Appraise every offer that is not signed yet, alone and by pairs; n + n·(n − 1)/2 plans for n offers.

    Raises
    ------
    InfeasibleError
        Where no plan meets the limits, with all offers or without two of them.
    """
    options = options or PlanOptions()
    assembled = prepare(tables, options)
    pool = pool_of(assembled, options)
    best = pool.solve()
    pool.options = replace(pool.options, progress=None)
    ask = asking(pool)
    offers = list(assembled.inputs.portfolio.offers.values())
    mine = assembled.problem.vintages.offer.tolist()
    some = [place for place, terms in enumerate(offers) if not terms.row.signed and place in mine]
    questions = [(one,) for one in some] + list(combinations(some, 2))
    plans: dict[tuple[int, ...], Solution] = {}
    for place, question in enumerate(questions):
        options.progress("offers", place / len(questions))
        plans[question] = without(assembled.problem, best, question, ask)
    options.progress("offers", 1.0)
    worth = {question: best.objective_usd - plan.objective_usd for question, plan in plans.items()}
    doubt = max(one.bound_usd - one.objective_usd for one in [best, *plans.values()])
    rows = [
        OfferWorth(
            offer=offers[one].row.offer,
            name=offers[one].row.name or offers[one].row.offer,
            units=units_of(assembled.problem, best, one),
            units_max=offers[one].row.units_max,
            worth_usd=worth[(one,)],
        )
        for one in some
    ]
    return OffersAppraisal(
        format=OFFERS_FORMAT,
        portfolio_hash=portfolio_hash(tables),
        best_usd=best.objective_usd,
        doubt_usd=doubt,
        offers=sorted(rows, key=lambda row: (-row.worth_usd, row.offer)),
        pairs=[
            pair_of(offers[a].row.offer, offers[b].row.offer, worth[a, b] - worth[(a,)] - worth[(b,)], doubt)
            for a, b in combinations(some, 2)
        ],
    )


def without(problem: Problem, best: Solution, some: tuple[int, ...], ask: Solve) -> Solution:
    """Return the best plan without some offers; the best plan itself where it signs none of them."""
    if not any(best.signed[problem.vintages.offer == one].any() for one in some):
        return best
    for one in some:
        problem = barred(problem, one)
    return ask(problem)


def pair_of(one: str, other: str, together_usd: float, doubt_usd: float) -> Pair:
    """Name how two offers stand to each other; within twice the doubt of a plan nothing is said."""
    clear = abs(together_usd) > 2 * doubt_usd
    kind = "apart" if not clear else "substitutes" if together_usd > 0 else "complements"
    return Pair(one=one, other=other, together_usd=together_usd, kind=kind)


def write_offers(found: OffersAppraisal, run_folder: Path) -> Path:
    """Write the folder ``appraise/all-offers`` of a run; whole or not at all."""
    target = run_folder / "appraise" / ALL
    with folder_in_place(target) as part:
        write_json(part / "offers.json", found)
    return target
