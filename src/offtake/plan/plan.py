"""Make a plan: from checked tables to decisions, tables and a fleet; and write it, whole or not at all.

Comes in: the tables of a portfolio and :class:`PlanOptions`. Goes out: a :class:`PlanRun`. This is the verb
``offtake plan``; it must never read a clock or print.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np

from offtake.files import folder_in_place, write_json
from offtake.fleet import Fleet, write_fleet
from offtake.plan.assemble import Assembled, Inputs, Progress, assemble, silent
from offtake.plan.calendar import calendar_of
from offtake.plan.cuts import cut_week, default_week
from offtake.plan.decisions import answer_of, decisions_of, fees_by_offer
from offtake.plan.displace import refused_share
from offtake.plan.fleets import fleet_of
from offtake.plan.futures import with_futures
from offtake.plan.goodputs import Goodputs
from offtake.plan.hold import Earlier, solve_near
from offtake.plan.judging import Case, TrustOptions
from offtake.plan.lead import lead_prices
from offtake.plan.load import load_of
from offtake.plan.pool import Pool
from offtake.plan.prices import budget_prices, prices_of
from offtake.plan.result import PLAN_FORMAT, Decision, Mark, Money, PlanResult, Size
from offtake.plan.serving import sentence_of, supplies_of
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from offtake.plan.story import assumptions_of, warnings_of
from offtake.plan.tables import Frames, chips_by_offer, frames_of
from offtake.plan.tree import tree_of
from offtake.plan.trust import trust_of
from offtake.plan.words import listing, percent
from offtake.schema.columns import Confidence
from offtake.schema.marks import count_marks
from offtake.schema.portfolio import Tables
from offtake.schema.tables import OfferRow, TrancheRow
from offtake.supply.portfolio import portfolio_of

FEE_COLUMNS = (
    "fee_usd_per_month",
    "fee_usd_per_chip_hour",
    "fee_usd_per_million_output_tokens",
    "fee_usd_per_million_input_tokens",
)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Choose how a plan is made.

    ``week``: any day of the week that the fleet is for; None for the first full week with the questioned offer.
    ``cache``: a folder for goodputs, or None. ``progress(stage, share)`` is called as work goes on. ``earlier``: the
    plan whose decisions are kept where that loses little. ``trust``: what is worked out about how far the plan can be
    trusted; None for nothing.
    """

    solver: Options = field(default_factory=Options)
    week: date | None = None
    cache: Path | None = None
    progress: Progress = silent
    earlier: Earlier | None = None
    trust: TrustOptions | None = None


@dataclass(frozen=True, kw_only=True)
class PlanRun:
    """Hold a plan whole: its record, its tables by name, its fleet, and what they were made from.

    ``kept`` says what was kept of an earlier plan, where one was given.
    """

    result: PlanResult
    frames: Frames
    fleet: Fleet
    assembled: Assembled
    solution: Solution
    kept: list[str] = field(default_factory=list)


def make_plan(tables: Tables, options: PlanOptions | None = None) -> PlanRun:
    """Make a plan of a portfolio.

    Raises
    ------
    InputError
        With every fault between its tables, or workloads that may run nowhere.
    InfeasibleError
        Where no plan meets the limits; names the families in conflict.
    """
    options = options or PlanOptions()
    assembled = prepare(tables, options)
    pool = Pool(assembled.problem, replace(options.solver, progress=options.progress))
    solution, kept = solve_for(assembled, options, pool)
    options.progress("tables", 0.0)
    frames = frames_of(assembled, solution)
    week = options.week or default_week(assembled)
    cut = cut_week(assembled, solution, week)
    fleet = with_futures(cut, fleet_of(cut, package_version(), portfolio_hash(tables)))
    result = result_of(assembled, solution, fleet)
    result = msgspec.structs.replace(result, warnings=kept + result.warnings)
    options.progress("tables", 1.0)
    result = with_trust(result, assembled, (solution, pool), options)
    return PlanRun(result=result, frames=frames, fleet=fleet, assembled=assembled, solution=solution, kept=kept)


def prepare(tables: Tables, options: PlanOptions) -> Assembled:
    """Draw the scenarios of a portfolio and put its problem together."""
    portfolio = portfolio_of(tables)
    calendar = calendar_of(tables.settings)
    tree = tree_of(portfolio)
    options.progress("demand", 0.0)
    load = load_of(tables, calendar, tree)
    options.progress("demand", 1.0)
    lengths = {row.workload: sample for row, sample in zip(tables.workloads, load.lengths, strict=True)}
    goodputs = Goodputs(tables, lengths, options.cache, on_new=counted(tables, options.progress))
    inputs = Inputs(portfolio=portfolio, calendar=calendar, tree=tree, load=load, goodput_of=goodputs)
    assembled = assemble(inputs, options.progress)
    options.progress("goodput", 1.0)
    return assembled


def counted(tables: Tables, progress: Progress) -> Callable[[str], None]:
    """Return a callback that reports progress by the number of goodputs asked for."""
    pairs = max(len(tables.workloads) * len(tables.deployments), 1)
    done: Counter[str] = Counter()

    def on_new(name: str) -> None:
        done[name] += 1
        progress("goodput", min(sum(done.values()) / (pairs + 1), 1.0))

    return on_new


def solve_for(assembled: Assembled, options: PlanOptions, pool: Pool) -> tuple[Solution, list[str]]:
    """Solve an assembled problem, near an earlier plan where one is given, with sentences on what that kept."""
    if options.earlier is None:
        return pool.solve(), []
    return solve_near(assembled, lambda one: solve_with(one, options), options.earlier)


def solve_with(assembled: Assembled, options: PlanOptions) -> Solution:
    """Solve an assembled problem, its progress reported with the plan's."""
    return solve(assembled.problem, replace(options.solver, progress=options.progress))


def result_of(assembled: Assembled, solution: Solution, fleet: Fleet) -> PlanResult:
    """Return the record of a plan."""
    tables = assembled.inputs.portfolio.tables
    decisions, supplies = decisions_of(assembled, solution), supplies_of(assembled, solution)
    refused = max(1.0 - sum(one.share for one in supplies), 0.0)
    return PlanResult(
        format=PLAN_FORMAT,
        name=tables.settings.name,
        title=tables.settings.title,
        version=package_version(),
        seed=tables.settings.seed,
        portfolio_hash=portfolio_hash(tables),
        inputs=dict(sorted(tables.hashes.items())),
        start=tables.settings.start.isoformat(),
        end=tables.settings.end.isoformat(),
        answer=answer_of(assembled, decisions),
        objective_usd=solution.objective_usd,
        bound_usd=solution.bound_usd,
        gap=solution.gap,
        mean_net_usd=solution.expected_net_usd,
        cvar_loss_usd=solution.cvar_usd,
        risk_weight=tables.risk.weight,
        risk_alpha=tables.risk.alpha,
        money=money_of(assembled, solution),
        size=size_of(assembled, solution),
        decisions=decisions,
        prices=prices_of(assembled.problem, solution) + budget_prices(assembled.problem, solution),
        refused_share=dict(
            zip(assembled.problem.axes.workloads, refused_share(assembled, solution).tolist(), strict=True)
        ),
        marks=marks_of(assembled, solution, decisions),
        assumptions=assumptions_of(assembled.inputs),
        warnings=warnings_of(assembled) + rivals(assembled, decisions) + uncertain_gap(solution),
        fleet_week=fleet.week,
        supplies=supplies,
        serving=sentence_of(supplies, refused),
    )


def with_trust(
    result: PlanResult, assembled: Assembled, solved: tuple[Solution, Pool], options: PlanOptions
) -> PlanResult:
    """Return the record of a plan with how far it can be trusted; the plan stands where that is interrupted."""
    if options.trust is None:
        return result
    solution, pool = solved
    pool.options = replace(options.solver, stop=bool)  # its progress is told as that of the questions
    case = Case(
        assembled=assembled,
        solution=solution,
        pool=pool,
        options=options.trust,
        solver=replace(options.solver, stop=bool),
        progress=options.progress,
    )
    warning = "How far to trust this plan was not worked out: it was interrupted."
    untold = msgspec.structs.replace(result, warnings=[*result.warnings, warning])
    try:
        if options.solver.stop():
            return untold
        told = msgspec.structs.replace(result, prices=[*result.prices, *lead_prices(case)])
        return msgspec.structs.replace(told, trust=trust_of(case))
    except KeyboardInterrupt:
        return untold


def rivals(assembled: Assembled, decisions: list[Decision]) -> list[str]:
    """Return a sentence on the firm power that stands with partners that compete with the buyer."""
    providers = assembled.inputs.portfolio.tables.providers
    names = [row.provider for row in providers if row.competes]
    total = sum(one.firm_kw for one in decisions)
    theirs = sum(one.firm_kw for one in decisions if one.provider in names)
    if theirs <= 0:
        return []
    held = listing([name for name in names if any(one.provider == name and one.firm_kw > 0 for one in decisions)])
    return [f"{percent(theirs / total)} of the plan's firm power stands with partners that compete with it: {held}."]


def uncertain_gap(solution: Solution) -> list[str]:
    """Return a warning where the plan may be far from the best one."""
    tolerable = 0.005  # assumption: less than the figures of a portfolio are sure to
    if solution.gap <= tolerable:
        return []
    why = "the solver stopped at its limit, or decisions of an earlier plan were kept"
    return [f"The plan may be {percent(solution.gap)} below the best one: {why}."]


def money_of(assembled: Assembled, solution: Solution) -> Money:
    """Return the mean over scenarios of each part of the money, discounted; costs are positive."""
    problem, money = assembled.problem, solution.money

    def mean(part: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(problem.probability @ (part @ problem.discount))

    last = np.minimum(problem.jobs.last_period, problem.discount.size - 1)
    missed = solution.missed_chip_hours @ (problem.jobs.missed_usd * problem.discount[last])
    return Money(
        value_served_usd=mean(money.value_usd),
        fees_usd=mean(money.fees_usd),
        prepay_usd=mean(money.prepay_usd),
        used_fees_usd=mean(money.used_usd),
        energy_usd=mean(money.energy_usd),
        request_fees_usd=mean(money.request_usd),
        refusal_usd=mean(money.refusal_usd),
        training_missed_usd=float(problem.probability @ missed),
        net_usd=solution.expected_net_usd,
        terminal_usd=float(problem.probability @ money.terminal_usd) * problem.end_discount,
    )


def size_of(assembled: Assembled, solution: Solution) -> Size:
    """Return the size of the model and the seconds it took."""
    problem = assembled.problem
    return Size(
        scenarios=problem.probability.size,
        periods=problem.period_hours.size,
        blocks=problem.block_share.size,
        variables=sum(solution.columns.values()),
        integers=solution.integers,
        rows=sum(solution.rows.values()),
        nonzeros=solution.nonzeros,
        build_s=solution.build_seconds,
        solve_s=solution.solve_seconds,
    )


def marks_of(assembled: Assembled, solution: Solution, decisions: list[Decision]) -> list[Mark]:
    """Return how much rests on each mark: figures by count, fees by the mark of the fee, kW by that of the chips."""
    fees, kw = fees_by_mark(assembled, solution, decisions), kw_by_mark(assembled, solution)
    figures: Counter[Confidence] = sum(count_marks(assembled.inputs.portfolio.tables).values(), Counter[Confidence]())
    return [
        Mark(
            confidence=mark.value,
            figures=figures[mark],
            figures_share=figures[mark] / max(figures.total(), 1),
            fees_share=fees[mark] / (sum(fees.values()) or 1.0),
            kw_share=kw[mark] / (sum(kw.values()) or 1.0),
        )
        for mark in Confidence
    ]


def fees_by_mark(assembled: Assembled, solution: Solution, decisions: list[Decision]) -> dict[Confidence, float]:
    """Return the mean fees in USD of each mark."""
    sums = dict.fromkeys(Confidence, 0.0)
    offers = assembled.inputs.portfolio.offers
    for decision, usd in zip(decisions, fees_by_offer(assembled, solution), strict=True):
        sums[fee_mark(offers[decision.offer].row)] += max(float(usd), 0.0)
    return sums


def kw_by_mark(assembled: Assembled, solution: Solution) -> dict[Confidence, float]:
    """Return the mean kW there of each mark."""
    problem = assembled.problem
    sums = dict.fromkeys(Confidence, 0.0)
    hours = problem.period_hours / problem.period_hours.sum()
    offers = list(assembled.inputs.portfolio.offers.values())
    for (offer, cell), chips in chips_by_offer(assembled, solution).items():
        place = assembled.cells[cell]
        here = [row for row in offers[offer].tranches if row.site == place.site]
        rows = [row for row in here if place.chip in {row.chip, row.substitute_chip}]
        sums[chips_mark(rows)] += float(problem.probability @ chips @ hours * problem.cells.kw_per_chip[cell])
    return sums


def fee_mark(row: OfferRow) -> Confidence:
    """Return the mark of an offer's fee."""
    column = next((name for name in FEE_COLUMNS if getattr(row, name) > 0), "")
    return row.marks.get(column, row.confidence)


def chips_mark(rows: list[TrancheRow]) -> Confidence:
    """Return the weakest mark of what tranches bring."""
    marks = [row.marks.get("chips_per_unit", row.confidence) for row in rows]
    return max(marks, key=list(Confidence).index, default=Confidence.ASSUMPTION)


def portfolio_hash(tables: Tables) -> str:
    """Return one hash of all files of a portfolio."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(tables.hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def package_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("offtake")
    except PackageNotFoundError:
        return "unknown"


def write_plan(run: PlanRun, run_folder: Path) -> Path:
    """Write the folder ``plan`` of a run: record, tables, fleet and a copy of the inputs; whole or not at all."""
    target = run_folder / "plan"
    with folder_in_place(target) as part:
        write_json(part / "plan.json", run.result)
        for name, frame in run.frames.items():
            frame.write_parquet(part / f"{name}.parquet", statistics=False)
        write_fleet(run.fleet, part / "fleet.json")
        inputs = part / "inputs"
        inputs.mkdir()
        tables = run.assembled.inputs.portfolio.tables
        for name in tables.hashes:
            shutil.copyfile(Path(tables.folder) / name, inputs / name)
    return target
