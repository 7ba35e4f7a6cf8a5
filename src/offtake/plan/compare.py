"""Say what changed from one plan to another, and why: inputs, decisions, and the value each cause brought.

Comes in: two plans with the portfolios that they were made from. Goes out: a :class:`PlanComparison`. The waterfall
re-plans: starting from the first portfolio, what differs is taken over from the second, cause by cause in the order
of :func:`steps`, and each step is the best plan's value after it less that before. New rows come first and rows that
went go last, so that every portfolio between is whole; one that cannot be planned is told together with the next.
The order matters where causes act together. It must never read a clock or print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from offtake.errors import Fault, InputError, OfftakeError
from offtake.plan.assemble import Assembled
from offtake.plan.hold import solve_held, units_wanted
from offtake.plan.plan import PlanOptions, prepare, solve_with
from offtake.plan.result import PLAN_FORMAT, Decision, PlanResult
from offtake.plan.solution import Solution
from offtake.plan.words import listing, money
from offtake.schema.check import places
from offtake.schema.portfolio import Tables
from offtake.schema.read import read_folder
from offtake.schema.tables import Row

COMPARISON_FORMAT = "offtake-plan-comparison-1"
UNSAID = ("at", "confidence", "marks", "source", "note")
FEES = (
    "fee_usd_per_chip_hour",
    "fee_usd_per_month",
    "fee_usd_per_million_input_tokens",
    "fee_usd_per_million_output_tokens",
    "take_or_pay_share",
    "prepay_share",
    "ramp_discount_share",
    "ramp_discount_until",
    "late_remedy_share",
    "renewal_fee_ratio",
    "terminal_usd_per_chip_hour",
)
BY_KEY = ("regions", "models", "providers", "sites", "links", "chips", "deployments", "offers")
CENT = 0.005
ANEW = "Make the plan anew with `offtake plan`."


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Name one changed input."""

    file: str  #: File of the portfolio.
    row: str  #: Key of the row, or its section.
    column: str  #: Column; empty where the whole row came or went.
    before: str  #: Value in the first portfolio; empty where the row came.
    after: str  #: Value in the second; empty where the row went.


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the two decisions on one offer, side by side; an offer that one plan does not have is `none` there."""

    offer: str  #: Key of the offer.
    name: str  #: Its full name.
    changed: bool  #: Whether what is done, how much or until when differs.
    action: tuple[str, str]  #: `keep`, `sign`, `sign part`, `wait`, `leave` or `none`.
    units: tuple[float, float]  #: Units signed in all, mean over scenarios.
    units_now: tuple[float, float]  #: Units signed on the first day.
    sign_date: tuple[str, str]  #: Day or days of signing.
    kept_until: tuple[str, str]  #: Last day on which any of it is kept.
    fees_usd: tuple[float, float]  #: Mean discounted fees.


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Give one step of the waterfall."""

    cause: str  #: What was taken over from the second portfolio.
    change_usd: float  #: What that changed in the risk-adjusted value of the best plan.
    value_usd: float  #: That value after the step.
    doubt_usd: float = 0.0  #: What the solver leaves open in `change_usd`; a change that is no larger says nothing.

    @property
    def unclear(self) -> bool:
        """Tell whether the change is within what the solver leaves open."""
        return 0.0 < abs(self.change_usd) <= self.doubt_usd


class PlanComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what changed from the first plan to the second, and why."""

    format: str  #: `offtake-plan-comparison-1`.
    first: str  #: Run folder of the first plan.
    second: str  #: Run folder of the second plan.
    answer: str  #: What changed, in a sentence.
    same_inputs: bool  #: Whether the two portfolios ask the same.
    objective_usd: tuple[float, float]  #: Risk-adjusted value of each plan.
    waterfall: list[Cause]  #: From the first value to the second, cause by cause, in the order taken.
    money_usd: dict[str, float]  #: Change of each part of the mean net value, signed as in the plans.
    #: Value of the second if its first day signs what the first plan signs at once; null where it cannot.
    decisions_kept_usd: float | None
    decisions: list[Move]  #: One for each offer of either plan.
    inputs: list[Change]  #: Every input that differs.


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Hold a plan with the portfolio that it was made from, and where it stands."""

    folder: str
    result: PlanResult
    tables: Tables


def read_planned(run_folder: Path) -> Planned:
    """Read a plan and its inputs from a run folder.

    Raises
    ------
    InputError
        Where there is no plan, or one of another format, or its inputs are gone or have been changed since.
    """
    result = read_plan(run_folder)
    return Planned(folder=str(run_folder), result=result, tables=read_inputs(run_folder / "plan" / "inputs", result))


def read_inputs(folder: Path, result: PlanResult) -> Tables:
    """Read the portfolio that a plan was made from.

    Raises
    ------
    InputError
        Where it cannot be read, or is not the one that the plan was made from.
    """
    if not folder.is_dir():
        raise InputError([Fault(str(folder), "the inputs of the plan are gone", ANEW)])
    try:
        tables = read_folder(folder)
    except InputError as error:
        raise InputError([replace(fault, file=str(folder / fault.file)) for fault in error.faults]) from None
    files = sorted({*result.inputs, *tables.hashes})
    other = [name for name in files if result.inputs.get(name) != tables.hashes.get(name)]
    if other:
        raise InputError([Fault(str(folder / name), "the plan was made from another file", ANEW) for name in other])
    return tables


def read_plan(run_folder: Path) -> PlanResult:
    """Read the record of a plan.

    Raises
    ------
    InputError
        Where there is none, or one of another format.
    """
    path = run_folder / "plan" / "plan.json"
    try:
        result = msgspec.json.decode(path.read_bytes(), type=PlanResult)
    except OSError:
        mend = "Give a run folder such as runs/may-2026, or make one with `offtake plan`."
        raise InputError([Fault(str(run_folder), "the folder holds no plan", mend)]) from None
    except msgspec.DecodeError as error:
        raise InputError([Fault(str(path), f"the file is no plan of this version ({error})", ANEW)]) from None
    if result.format != PLAN_FORMAT:
        mend = f"Make the plan anew: this version reads {PLAN_FORMAT}."
        raise InputError([Fault(str(path), "the plan is of another format", mend, value=result.format)])
    return result


def compare(first: Planned, second: Planned, options: PlanOptions) -> PlanComparison:
    """Compare two plans; the waterfall re-plans once for each cause but the last, and once for decisions kept."""
    inputs = changes(first.tables, second.tables)
    moves = moves_of(first.result, second.result)
    waterfall = waterfall_of(first, second, options)
    kept: float | None = second.result.objective_usd
    if any(move.changed for move in moves):
        kept = decisions_kept_usd(first, second, options)
    return PlanComparison(
        format=COMPARISON_FORMAT,
        first=first.folder,
        second=second.folder,
        answer=answer_of(moves, waterfall, inputs),
        same_inputs=not inputs,
        objective_usd=(first.result.objective_usd, second.result.objective_usd),
        waterfall=waterfall,
        money_usd=money_changes(first.result, second.result),
        decisions_kept_usd=kept,
        decisions=moves,
        inputs=inputs,
    )


def money_changes(first: PlanResult, second: PlanResult) -> dict[str, float]:
    """Return the change of each part of the mean net value."""
    before, after = msgspec.structs.asdict(first.money), msgspec.structs.asdict(second.money)
    return {part: after[part] - before[part] for part in before}


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────────
def moves_of(first: PlanResult, second: PlanResult) -> list[Move]:
    """Set the decisions of two plans side by side, offers of the second first."""
    before = {one.offer: one for one in first.decisions}
    after = {one.offer: one for one in second.decisions}
    return [move_of(offer, before.get(offer), after.get(offer)) for offer in {**after, **before}]


def move_of(offer: str, before: Decision | None, after: Decision | None) -> Move:
    """Set two decisions on one offer side by side."""
    one, other = before or absent(offer), after or absent(offer)
    same = abs(one.units - other.units) <= CENT and abs(one.units_now - other.units_now) <= CENT
    same = same and (one.action, one.sign_date, one.kept_until) == (other.action, other.sign_date, other.kept_until)
    return Move(
        offer=offer,
        name=other.name or one.name,
        changed=not same,
        action=(one.action, other.action),
        units=(one.units, other.units),
        units_now=(one.units_now, other.units_now),
        sign_date=(one.sign_date, other.sign_date),
        kept_until=(one.kept_until, other.kept_until),
        fees_usd=(one.fees_usd, other.fees_usd),
    )


def absent(offer: str) -> Decision:
    """Return the decision on an offer that a plan does not have."""
    nothing: dict[str, object] = {
        name: 0.0 if kind == "float" else "" for name, kind in Decision.__annotations__.items()
    }
    return msgspec.convert(nothing | {"offer": offer, "action": "none", "reduced_cost_usd": None}, Decision)


# ── inputs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def said(row: Row) -> dict[str, object]:
    """Return what a row says, without where it stands and who says so."""
    return {name: value for name, value in row.model_dump().items() if name not in UNSAID}


def changes(first: Tables, second: Tables) -> list[Change]:
    """List every input that differs, by file, row and column."""
    found: list[Change] = []
    for (name, file, record, before), (_, _, _, after) in zip(places(first), places(second), strict=True):

        def keyed(rows: tuple[Row, ...], name: str = name, key: tuple[str, ...] = record.key) -> dict[str, Row]:
            return {" ".join(str(getattr(row, column)) for column in key) or name: row for row in rows}

        found += row_changes(file, keyed(before), keyed(after))
    return found


def row_changes(file: str, before: dict[str, Row], after: dict[str, Row]) -> Iterator[Change]:
    """Yield what differs between two versions of one table."""
    for key in {**before, **after}:
        if key not in after:
            yield Change(file=file, row=key, column="", before="there", after="")
        elif key not in before:
            yield Change(file=file, row=key, column="", before="", after="there")
        else:
            one, other = said(before[key]), said(after[key])
            for column, value in one.items():
                if other[column] != value:
                    yield Change(file=file, row=key, column=column, before=str(value), after=str(other[column]))


# ── the waterfall ────────────────────────────────────────────────────────────────────────────────────────────────────
Step = Callable[[Tables, Tables], Tables]


def waterfall_of(first: Planned, second: Planned, options: PlanOptions) -> list[Cause]:
    """Walk from the first value to the second; see the module for the rule."""
    now, worth, end = first.tables, worth_of(first.result), worth_of(second.result)
    walked: list[Cause] = []
    waiting: list[str] = []
    reached = []
    for name, step in steps():
        after = step(now, second.tables)
        if differs(now, after):
            reached.append((name, after))
        now = after
    for place, (name, tables) in enumerate(reached):
        waiting.append(name)
        then = end if place == len(reached) - 1 else best_worth(tables, options)
        if then is not None:
            walked.append(cause_of(" with ".join(waiting), worth, then))
            worth, waiting = then, []
    if not reached and abs(end.usd - worth.usd) > CENT:
        name = "the solver's gap, its options or its version: the inputs are the same"
        walked.append(cause_of(name, worth, end))
    return walked


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Hold the risk-adjusted value of a plan, and what the solver leaves open in it."""

    usd: float
    open_usd: float


def worth_of(plan: PlanResult | Solution) -> Worth:
    """Return what a plan is worth."""
    return Worth(usd=plan.objective_usd, open_usd=max(plan.bound_usd - plan.objective_usd, 0.0))


def cause_of(name: str, before: Worth, after: Worth) -> Cause:
    """Return one step of the waterfall."""
    return Cause(
        cause=name,
        change_usd=after.usd - before.usd,
        value_usd=after.usd,
        doubt_usd=max(before.open_usd, after.open_usd),
    )


def best_worth(tables: Tables, options: PlanOptions) -> Worth | None:
    """Return what the best plan is worth, or None where there is none."""
    try:
        return worth_of(solve_with(prepare(tables, options), options))
    except OfftakeError:
        return None


def decisions_kept_usd(first: Planned, second: Planned, options: PlanOptions) -> float | None:
    """Return the second portfolio's value with the first plan's decisions of the first day, or None if it cannot."""

    def solve(assembled: Assembled) -> Solution:
        return solve_with(assembled, options)

    assembled = prepare(second.tables, options)
    kept = solve_held(assembled, solve, units_wanted(assembled.problem, first.result))
    return None if kept is None else kept.objective_usd


def differs(one: Tables, other: Tables) -> bool:
    """Tell whether two portfolios ask something else."""
    pairs = zip(places(one), places(other), strict=True)
    return any([said(row) for row in before] != [said(row) for row in after] for (*_, before), (*_, after) in pairs)


def steps() -> list[tuple[str, Step]]:
    """Return the causes in the order in which they are taken over, each with what takes it over."""
    return [
        ("offers and places that came", arrivals),
        ("horizon, scenarios and seed", whole("settings")),
        ("demand", whole("workloads", "growth", "nodes", "shocks")),
        ("models, chips and their speed", by_key("models", "chips", "deployments")),
        ("places: sites, power and links", lambda now, then: whole("power")(by_key("sites", "links")(now, then), then)),
        ("partners", by_key("providers", "regions")),
        ("deliveries", of_offers("tranches")),
        ("fees", fees),
        ("terms of offers", lambda now, then: of_offers("exits")(by_key("offers")(now, then), then)),
        ("training", whole("training")),
        ("limits", whole("limits", "concentration")),
        ("weight of risk", whole("risk")),
        ("offers and places that went", lambda _now, then: then),
    ]


def whole(*names: str) -> Step:
    """Take whole tables over."""
    return lambda now, then: replace(now, **{name: getattr(then, name) for name in names})


def by_key(*names: str) -> Step:
    """Take the rows over that both have."""

    def step(now: Tables, then: Tables) -> Tables:
        rows: dict[str, Any] = {name: merged(getattr(now, name), getattr(then, name)) for name in names}
        return replace(now, **rows)

    return step


def key_of(row: Row) -> tuple[str, ...]:
    """Return the key of a row."""
    return tuple(str(getattr(row, column)) for column in row.key)


def merged(now: tuple[Row, ...], then: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the rows there now, each as it is then."""
    later = {key_of(row): row for row in then}
    return tuple(later.get(key_of(row), row) for row in now)


def arrivals(now: Tables, then: Tables) -> Tables:
    """Add the rows that are new, with what new offers deliver and how they end, and the power of new sites."""
    more: dict[str, Any] = {}
    for name in BY_KEY:
        have: tuple[Row, ...] = getattr(now, name)
        known = {key_of(row) for row in have}
        more[name] = have + tuple(row for row in getattr(then, name) if key_of(row) not in known)
    offers, sites = {row.offer for row in now.offers}, {row.site for row in now.sites}
    more["tranches"] = now.tranches + tuple(row for row in then.tranches if row.offer not in offers)
    more["exits"] = now.exits + tuple(row for row in then.exits if row.offer not in offers)
    more["power"] = now.power + tuple(row for row in then.power if row.site not in sites)
    return replace(now, folder=then.folder, hashes=then.hashes, **more)


def of_offers(name: str) -> Step:
    """Take the rows of offers over that both have."""

    def step(now: Tables, then: Tables) -> Tables:
        both = {row.offer for row in then.offers}
        taken: dict[str, Any] = {name: tuple(row for row in getattr(now, name) if row.offer not in both)}
        taken[name] += getattr(then, name)
        return replace(now, **taken)

    return step


def fees(now: Tables, then: Tables) -> Tables:
    """Take the fees of offers over that both have."""
    later = {row.offer: row for row in then.offers}
    rows = tuple(
        row.model_copy(update={column: getattr(later[row.offer], column) for column in FEES})
        if row.offer in later
        else row
        for row in now.offers
    )
    return replace(now, offers=rows)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def answer_of(moves: list[Move], waterfall: list[Cause], inputs: list[Change]) -> str:
    """Say what changed in a sentence."""
    changed = [move.name for move in moves if move.changed]
    total = sum(cause.change_usd for cause in waterfall)
    if not changed and not inputs and abs(total) <= CENT:
        return "Nothing changed."
    decided = f"Decisions change on {listing(changed)}" if changed else "No decision changes"
    worth = "the plan is worth the same" if abs(total) <= CENT else f"the plan is worth {money(abs(total))} "
    side = "" if abs(total) <= CENT else "more" if total > 0 else "less"
    main = max(waterfall, key=lambda cause: abs(cause.change_usd), default=None)
    why = f", most of it through {main.cause}" if main is not None and len(waterfall) > 1 else ""
    only = f", through {main.cause}" if main is not None and len(waterfall) == 1 else ""
    return f"{decided}; {worth}{side}{why}{only}."
