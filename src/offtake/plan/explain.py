"""Say in the user's words why no plan exists, and what the cheapest change would be.

Comes in: a model whose program two algorithms found infeasible. Goes out: the families of limits in conflict and
at most five sentences. The conflict is HiGHS's irreducible set of rows, grouped; the change is the least total
violation of limits that can be relaxed, each weighed in its own unit. It must never know how the model was solved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import highspy
import numpy as np

from offtake.plan import highs
from offtake.plan.blocks import Bools, Floats, Program
from offtake.plan.split import BUDGET, Split, split
from offtake.plan.variables import Model
from offtake.plan.violation import least_violation
from offtake.plan.words import listing
from offtake.units import BITS_PER_BYTE, BITS_PER_GBIT, KW_PER_MW, USD_PER_BILLION, USD_PER_MILLION

SENTENCES_MAX = 5
NAMES_MAX = 3
BROKEN = 1e-6
SMALL = 3_000


def figure(amount: float) -> str:
    """Write an amount to three digits, in full."""
    return f"{float(f'{amount:.3g}'):,.10g}"


def power(kw: float) -> str:
    """Write power in MW, or in kW below one MW."""
    return f"{figure(kw / KW_PER_MW)} MW" if kw >= KW_PER_MW else f"{figure(kw)} kW"


def dollars(usd: float) -> str:
    """Write US dollars in billions, millions or one by one."""
    for size, word in ((USD_PER_BILLION, " billion"), (USD_PER_MILLION, " million")):
        if usd >= size:
            return f"{figure(usd / size)}{word} USD"
    return f"{figure(usd)} USD"


@dataclass(frozen=True)
class Limit:
    """Describe a family of limits that a user could relax: its name in words, and how an amount of it reads."""

    words: str
    change: Callable[[float], str]


LIMITS = {
    "power_of_a_site_carries_busy_and_idle_chips": Limit("power of a site", lambda kw: f"{power(kw)} more power"),
    "busy_chips_fit_the_power_left_by_curtailment": Limit("power of a site", lambda kw: f"{power(kw)} more power"),
    "traffic_fits_the_link_of_a_site": Limit(
        "link of a site", lambda x: f"{figure(x * BITS_PER_BYTE / BITS_PER_GBIT)} Gbit/s more on the link"
    ),
    "no_group_holds_more_than_its_share_of_firm_power": Limit(
        "share of firm power a group may hold",
        lambda kw: f"room under the limit for {power(kw)} more",
    ),
    "critical_work_survives_the_loss_of_any_one_group (work)": Limit(
        "critical work without any one group", lambda rps: f"{figure(rps)} requests/s less to survive"
    ),
    "research_keeps_its_floor": Limit("research floor", lambda chips: f"{figure(chips)} chips less for research"),
    "a_years_spend_is_within_its_budget": Limit("budget of a year", lambda usd: f"{dollars(usd)} more budget"),
    "prepayment_is_within_its_limit": Limit("prepayment limit", lambda usd: f"{dollars(usd)} more prepayment"),
}
OF_OFFERS = {
    "an_order_is_within_its_size (least)": "size of an order",
    "an_order_is_within_its_size (greatest)": "size of an order",
    "an_offer_is_signed_at_most_in_full": "size of an offer",
    "at_most_one_of_exclusive_offers": "exclusive offers",
}
LEFT_OUT = ("served", "deferred", "training", "trained", "runs", "hosts")
SHOWN_AXES = ("site", "cell", "workload", "group", "offer", "job", "year", "period")


def explain(model: Model, program: Program) -> tuple[list[str], list[str]]:
    """Give the families in conflict, in words, and at most five sentences that explain and mend."""
    rows, amounts = find(model, program)
    families = _families(model, [*rows, *np.flatnonzero(amounts)])
    mends = _mends(model, program, amounts)
    limits = f"these limits together: {', '.join(families)}" if families else "the limits"
    first = f"No plan meets {limits}{_where(model, rows)}."
    last = (
        [] if mends else ["Whole units and lots leave no plan although fractions would: allow smaller units or lots."]
    )
    return families, [first, *_told(mends), *last]


def find(model: Model, program: Program) -> tuple[list[int], Floats]:
    """Find the rows in conflict and by how much each limit must give, in the user's units [rows].

    A large program is not searched whole: its master is, and where that has an answer the operations' least violation
    with the duals that prove it.
    """
    penalty, program = _penalty(model, program), idle(model, program)
    if program.cost.size <= SMALL:
        return conflict(program), relax(program, penalty)
    parted = split(model, program)
    whole, rows_of = parted.levels, parted.back.rows
    amounts = np.zeros(penalty.size)
    rows = conflict(whole.master)
    if rows:
        master_rows = rows_of[whole.rows]
        amounts[master_rows] = relax(whole.master, penalty[master_rows])
        return [int(master_rows[row]) for row in rows], amounts
    proof = _proof(parted, penalty) or _proof(split(model, program, _every_budget(model)), penalty)
    if proof is None:
        return [], amounts
    amounts[rows_of] = proof[0]
    return [int(rows_of[row]) for row in np.flatnonzero(np.abs(proof[1]) > BROKEN)], amounts * program.row_unit


def _proof(parted: Split, penalty: Floats) -> tuple[Floats, Floats] | None:
    """Prove that operations cannot meet their limits: by how much each must give and its dual [rows of the split]."""
    rows = parted.back.rows
    relaxed = np.zeros(parted.levels.program.row_lower.size)
    relaxed[: rows.size] = np.maximum(penalty[rows], 0.0)
    proof = least_violation(parted.levels, relaxed, highs.Effort())
    return None if proof is None else (proof[0][: rows.size], proof[1][: rows.size])


def _every_budget(model: Model) -> Bools:
    """Link every budget that there is [scenario, year]."""
    there: Bools = model.blocks.row_blocks[BUDGET].ids >= 0
    return there


def idle(model: Model, program: Program) -> Program:
    """Leave out of a program the work that no limit asks for: what may be refused or missed breaks none by it.

    A chip that trains counts for the research floor, but no more than one for research would.
    """
    ids = np.concatenate([model[name].ids.ravel() for name in LEFT_OUT])
    upper = program.upper.copy()
    upper[ids[ids >= 0]] = np.maximum(program.lower[ids[ids >= 0]], 0.0)
    return replace(program, upper=upper)


def conflict(program: Program) -> list[int]:
    """Find an irreducible set of rows that no values meet, integers left out; empty where fractions would do."""
    solver = highs.load(program, highs.Effort(), whole=False)
    solver.setOptionValue("iis_strategy", int(highspy.IisStrategy.kIisStrategyFromLp))
    solver.run()
    if solver.getModelStatus() == highs.OK or highs.run_otherwise(highs.load(program, highs.Effort(), whole=False)):
        return []
    _, found = solver.getIis()
    return [int(row) for row in found.row_index_]


def relax(program: Program, penalty: Floats) -> Floats:
    """Find by how much each limit must give for a plan to exist, least in total, in the user's units [rows].

    ``penalty`` weighs each row's violation in solver units; a row below 0 must hold.
    """
    solver = highs.load(program, highs.Effort())
    done = solver.feasibilityRelaxation(-1.0, -1.0, -1.0, None, None, penalty)
    values = np.asarray(solver.getSolution().col_value)
    if done == highspy.HighsStatus.kError or values.size != program.cost.size:
        return np.zeros(program.row_lower.size)
    activity = program.matrix @ values
    broken = np.maximum(program.row_lower - activity, activity - program.row_upper)
    amounts: Floats = np.maximum(broken, 0.0) * program.row_unit * (broken > BROKEN)
    return amounts


def _penalty(model: Model, program: Program) -> Floats:
    """Weigh limits that a user could relax 1 each, and let all other rows hold."""
    penalty = np.full(program.row_lower.size, -1.0)
    for family in LIMITS:
        block = model.blocks.row_blocks[family]
        penalty[block.start : block.start + block.size] = 1.0
    return penalty


def _where(model: Model, rows: list[int]) -> str:
    """Say with which offers, at which sites and in which periods a conflict lies; nothing where that is not told."""
    problem, axes = model.problem, model.problem.axes
    found: dict[str, set[int]] = {"offer": set(), "site": set(), "period": set()}
    for row in rows:
        family, index = model.blocks.name_row(row)
        for axis, place in zip(model.blocks.row_blocks[family].axes, index, strict=True):
            if axis == "vintage":
                found["offer"].add(int(problem.vintages.offer[place]))
            elif axis == "cell":
                found["site"].add(int(problem.cells.site[place]))
            elif axis in found:
                found[axis].add(place)
    offers = [axes.offers[i] for i in sorted(found["offer"])]
    sites = [axes.sites[i] for i in sorted(found["site"])]
    periods = [axes.periods[i] for i in sorted(found["period"])]
    span = "" if not periods else f"in {periods[0]}" if len(periods) == 1 else f"from {periods[0]} to {periods[-1]}"
    said = [
        f"with {listing(offers, NAMES_MAX)}" if offers else "",
        f"at {listing(sites, NAMES_MAX)}" if sites else "",
        span,
    ]
    return f"; the conflict lies {' '.join(part for part in said if part)}" if any(said) else ""


def _families(model: Model, rows: list[int]) -> list[str]:
    """Name the families of limits among rows, each once, in the order of the constraints."""
    numbers = np.array(sorted(rows), dtype=np.int64)
    found = {
        name
        for name, block in model.blocks.row_blocks.items()
        if np.any((numbers >= block.start) & (numbers < block.start + block.size))
    }
    words = {name: limit.words for name, limit in LIMITS.items()} | OF_OFFERS
    return list(dict.fromkeys(words[name] for name in model.blocks.row_blocks if name in found and name in words))


def _told(mends: list[str]) -> list[str]:
    """Say what it would take, the largest change first; count those that are too many to name."""
    shown = mends if len(mends) < SENTENCES_MAX else mends[: SENTENCES_MAX - 2]
    said = [f"It would {'also ' if place else ''}take {mend}." for place, mend in enumerate(shown)]
    rest = len(mends) - len(shown)
    return [*said, f"It would also take {rest} changes beside these."] if rest else said


def _place_words(axes: tuple[str, ...], place: str) -> str:
    """Say where or for what a limit would give: in a year, from a group, for work if a group is lost, or at a place."""
    if "workload" in axes and "group" in axes:
        work, _, group = place.partition(", ")
        return f" for {work} if {group} is lost"
    if not place:
        return ""
    return f" {'in' if 'year' in axes else 'from' if 'group' in axes else 'at'} {place}"


def _mends(model: Model, program: Program, amounts: Floats) -> list[str]:
    """Say for each limit and place by how much it would have to give, the largest change (in solver units) first."""
    groups: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for row in np.flatnonzero(amounts):
        family, index = model.blocks.name_row(int(row))
        if family not in LIMITS:
            continue
        axes = model.blocks.row_blocks[family].axes
        named = dict(zip(axes, index, strict=True))
        words = {axis: model.blocks.labels[axis][i] for axis, i in named.items()}
        place = _place_words(axes, ", ".join(words[axis] for axis in SHOWN_AXES[:-1] if axis in words))
        size = float(amounts[row] / program.row_unit[row])
        key = (LIMITS[family].words, place)
        groups.setdefault(key, []).append((size, float(amounts[row]), named.get("period", -1)))
    change = {limit.words: limit.change for limit in LIMITS.values()}
    order = sorted(groups.items(), key=lambda item: (-sum(part[0] for part in item[1]), item[0]))
    return [
        f"{change[words](max(part[1] for part in parts))}{place}"
        f"{_between(model, [part[2] for part in parts if part[2] >= 0])}"
        for (words, place), parts in order
    ]


def _between(model: Model, periods: list[int]) -> str:
    """Say in which periods, from the first to the last."""
    if not periods:
        return ""
    first, last = (model.blocks.labels["period"][i] for i in (min(periods), max(periods)))
    return f" in {first}" if min(periods) == max(periods) else f" between {first} and {last}"
