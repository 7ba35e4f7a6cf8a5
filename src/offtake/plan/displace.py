"""Say what an offer displaces: how other decisions and refusals differ between the plan with it and the one without.

Comes in: an assembled problem and two solutions. Goes out: sentences. It must never know a file.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.plan.assemble import Assembled
from offtake.plan.decisions import fees_by_scenario
from offtake.plan.solution import Solution
from offtake.plan.words import count, money, percent, power

Floats = npt.NDArray[np.float64]

UNITS_TOLERANCE = 1e-3
SHARE_TOLERANCE = 1e-4


def displaced_by(assembled: Assembled, signing: Solution, without: Solution, offer: int) -> list[str]:
    """Return what changes elsewhere when one offer is signed, a sentence each; the largest changes of power first."""
    return [*other_offers(assembled, signing, without, offer), *refusals(assembled, signing, without)]


def other_offers(assembled: Assembled, signing: Solution, without: Solution, offer: int) -> list[str]:
    """Tell which other offers are signed for less or more, kept for shorter or longer, or else used less or more."""
    problem = assembled.problem
    names = problem.axes.offers
    fees = [fees_by_scenario(assembled, one) @ problem.probability for one in (signing, without)]
    changes: list[tuple[float, str]] = []
    for index, terms in enumerate(assembled.inputs.portfolio.offers.values()):
        mine = problem.vintages.offer == index
        if index == offer or not mine.any():
            continue
        with_units, without_units = (mean_units(assembled, one, mine) for one in (signing, without))
        kw = [float(kept_kw(assembled, one, mine)) for one in (signing, without)]
        change = with_units - without_units
        if abs(change) > UNITS_TOLERANCE * terms.row.units_max:
            word = "more" if change > 0 else "less"
            changes.append(
                (abs(kw[0] - kw[1]), f"{names[index]}: {count(abs(change))} units {word} ({power(kw[0] - kw[1])}).")
            )
        elif abs(kw[0] - kw[1]) > UNITS_TOLERANCE * max(kw):
            word = "longer" if kw[0] > kw[1] else "for a shorter time"
            changes.append((abs(kw[0] - kw[1]), f"{names[index]}: kept {word} ({power(kw[0] - kw[1])} on average)."))
        elif abs(usd := float(fees[0][index] - fees[1][index])) > SHARE_TOLERANCE * max(fees[0][index], fees[1][index]):
            changes.append(
                (0.0, f"{names[index]}: {money(abs(usd))} {'more' if usd > 0 else 'less'} paid for its use.")
            )
    return [sentence for _, sentence in sorted(changes, key=lambda change: -change[0])]


def mean_units(assembled: Assembled, solution: Solution, mine: npt.NDArray[np.bool_]) -> float:
    """Return the mean units signed of some vintages, over scenarios."""
    return float(solution.signed[mine].sum(axis=0) @ assembled.problem.probability)


def kept_kw(assembled: Assembled, solution: Solution, mine: npt.NDArray[np.bool_]) -> float:
    """Return the mean firm kW kept of some vintages over the plan."""
    hours = assembled.problem.period_hours
    problem = assembled.problem
    kw = np.einsum("vt,vst,s->t", problem.vintages.firm_kw[mine], solution.kept[mine], problem.probability)
    return float(kw @ hours / hours.sum())


def refusals(assembled: Assembled, signing: Solution, without: Solution) -> list[str]:
    """Tell whose requests are refused less or more."""
    before, after = refused_share(assembled, without), refused_share(assembled, signing)
    return [
        f"{name}: {percent(after[place])} of requests refused with it, {percent(before[place])} without."
        for place, name in enumerate(assembled.problem.axes.workloads)
        if abs(after[place] - before[place]) > SHARE_TOLERANCE
    ]


def refused_share(assembled: Assembled, solution: Solution) -> Floats:
    """Return the share of each workload's requests that is refused, over all scenarios and periods [K]."""
    problem = assembled.problem
    weight = np.einsum("s,t,b->stb", problem.probability, problem.period_hours, problem.block_share)
    asked = np.einsum("stb,stbk->k", weight, problem.demand_rps)
    refused = np.einsum("stb,stbk->k", weight, solution.refused_rps)
    share = np.divide(refused, asked, out=np.zeros_like(asked), where=asked > 0)
    clipped: Floats = np.clip(share, 0.0, 1.0)
    return clipped
