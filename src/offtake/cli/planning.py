"""Offer the verbs that decide: init, check, plan, compare, appraise.

Comes in: a portfolio folder and options. Goes out: a run folder and a short answer. Rooms are imported inside the
verbs, so that ``offtake --help`` stays quick.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from offtake.cli.shell import (
    INTERRUPTED,
    AsJson,
    Folder,
    Gap,
    Limit,
    Out,
    Progress,
    app,
    emit,
    first_interrupt_stops_the_search,
    made,
    progress_bars,
    show,
)
from offtake.errors import Fault, InputError

CHURN = "0.1%"  #: what a change must gain where nothing else is asked
FRESH = 4  #: fresh draws that an appraisal is tried on where nothing else is asked

if TYPE_CHECKING:
    from offtake.plan.hold import Earlier
    from offtake.plan.plan import PlanOptions, PlanRun
    from offtake.schema.portfolio import Tables


# ── the work, without a word printed ─────────────────────────────────────────────────────────────────────────────────
def plan_options(gap: float, limit_s: float, progress: Progress, stop: Callable[[], bool] = bool) -> PlanOptions:
    """Return the options of a plan made from the command line."""
    from offtake.files import cache_folder
    from offtake.plan.plan import PlanOptions
    from offtake.plan.solve import Options

    solver = Options(gap=gap, time_limit_s=limit_s, clock=time.perf_counter, stop=stop)
    return PlanOptions(solver=solver, cache=cache_folder(), progress=progress)


def earlier_plan(run: Path | None, churn: str) -> Earlier | None:
    """Return the plan to stay near to, with what a change must gain; None where none is given."""
    from offtake.plan.compare import read_plan
    from offtake.plan.hold import Earlier, churn_of

    asked = churn_of(churn or CHURN)
    return None if run is None else Earlier(plan=read_plan(run), churn=asked)


def do_plan(tables: Tables, out: Path, options: PlanOptions) -> PlanRun:
    """Make a plan and write it."""
    from offtake.plan.plan import make_plan, write_plan

    run = make_plan(tables, options)
    write_plan(run, out)
    made()
    return run


def read_checked(folder: Path) -> Tables:
    """Read a portfolio and check it in every room that reads it, so that all faults come at once."""
    from offtake.demand.workload import demand_of
    from offtake.performance.deployment import resolve_all
    from offtake.plan.admission import check_places
    from offtake.schema.read import read_loosely
    from offtake.supply.portfolio import portfolio_of

    tables, faults, unsafe = read_loosely(folder)
    rooms: tuple[tuple[Callable[[Tables], object], set[str]], ...] = (
        (portfolio_of, {"portfolio.toml", "providers.csv", "sites.csv", "links.csv", "offers.csv", "tranches.csv"}),
        (demand_of, {"portfolio.toml", "training.csv"}),
        (resolve_all, {"portfolio.toml", "deployments.csv", "chips.csv"}),
        (check_places, {*tables.hashes, "portfolio.toml"}),
    )
    for room, files in rooms:
        if files & unsafe:
            continue
        try:
            room(tables)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return tables


def refuse_idle(*options: tuple[bool, str, str]) -> None:
    """Refuse options that would do nothing: whether one is idle, its name, and what to do instead.

    Raises
    ------
    InputError
        With every one of them.
    """
    faults = [Fault(name, "the option would do nothing here", mend) for idle, name, mend in options if idle]
    if faults:
        raise InputError(faults)


def run_folder(out: Path | None, tables: Tables) -> Path:
    """Choose the run folder, as asked or runs/NAME, and see that it can be written, before any long work.

    What was made to see that is taken away again, so that a run without an answer leaves nothing behind.
    """
    where = out if out is not None else Path("runs") / tables.settings.name
    new = [path for path in (where, *where.parents) if not path.exists()]
    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".try-", dir=where):
        pass
    with suppress(OSError):  # somebody else has begun to write there
        for path in new:
            path.rmdir()
    return where


# ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must be empty or not there yet.")],
    as_json: AsJson = False,
) -> None:
    """Write a small commented portfolio to start from."""
    from offtake.schema.begin import write_starter

    write_starter(folder)
    if as_json:
        emit("init", folder=str(folder))
    else:
        show(f"Wrote {folder}. Edit its tables, then run: offtake check {folder}")


@app.command()
def check(folder: Folder, as_json: AsJson = False) -> None:
    """Check a portfolio: every fault at once, and how much of it rests on assumptions."""
    from offtake.demand.profile import profile_names
    from offtake.report.terminal import check_table
    from offtake.schema.marks import count_marks

    tables = read_checked(folder)
    counts = count_marks(tables)
    if as_json:
        emit("check", name=tables.settings.name, files=tables.hashes, figures=counts, profiles=profile_names())
    else:
        show(check_table(tables, counts), f"\nProfiles of demand to choose from: {', '.join(profile_names())}.")


Trusting = Annotated[
    Literal["none", "quick", "full"],
    typer.Option("--trust", help="How much to work out about how far the plan can be trusted."),
]
Replan = Annotated[int, typer.Option(help="Fresh paths on which the plan is made anew at each stage date.", min=0)]
Workers = Annotated[int, typer.Option(help="Processes that work out trust; 0: one for each core.", min=0)]


@app.command()
def plan(
    folder: Folder,
    out: Out = None,
    gap: Gap = 1e-3,
    limit_s: Limit = 600.0,
    earlier: Annotated[
        Path | None, typer.Option("--from", help="Run folder of an earlier plan, to be changed only where it pays.")
    ] = None,
    churn: Annotated[
        str, typer.Option(help=f"With --from: what a change must gain, as 0.5% or 2 m USD; {CHURN} where not given.")
    ] = "",
    trust: Trusting = "quick",
    replan: Replan = 0,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Decide which offers to sign, when and how much, and where each workload runs."""
    from offtake.plan.judging import TrustOptions
    from offtake.report.terminal import plan_table

    refuse_idle(
        (bool(churn) and earlier is None, "--churn", "Name the earlier plan with --from."),
        (replan > 0 and trust == "none", "--replan", "Ask for it with --trust quick or full."),
    )
    near = earlier_plan(earlier, churn)
    tables = read_checked(folder)
    where = run_folder(out, tables)
    with progress_bars() as progress, first_interrupt_stops_the_search(progress) as search:
        asked = TrustOptions(level=trust, replan=replan, workers=workers or os.cpu_count() or 1)
        options = plan_options(gap, limit_s, search.progress, search.stopped)
        run = do_plan(tables, where, replace(options, earlier=near, trust=asked))
    if as_json:
        told = {"ok": False, "exit_code": INTERRUPTED} if search.stopped() else {}
        emit("plan", **told, folder=str(where / "plan"), plan=run.result)
    else:
        show(plan_table(run.result), *run.kept, f"\nPlan: {where / 'plan'}")
    if search.stopped():
        raise KeyboardInterrupt


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Run folder of the first plan.")],
    second: Annotated[Path, typer.Argument(help="Run folder of the second plan; compare.json is written there.")],
    gap: Gap = 1e-3,
    limit_s: Limit = 600.0,
    as_json: AsJson = False,
) -> None:
    """Say what changed from one plan to another and why: decisions, inputs, and value by cause."""
    from offtake.files import write_json
    from offtake.plan.compare import compare as work_out
    from offtake.plan.compare import read_planned
    from offtake.report.terminal import plan_comparison_table

    plans = read_planned(first), read_planned(second)
    with progress_bars() as progress:
        found = work_out(*plans, plan_options(gap, limit_s, progress))
    path = write_json(second / "compare.json", found)
    if as_json:
        emit("compare", file=str(path), comparison=found)
    else:
        show(plan_comparison_table(found), f"\nComparison: {path}")


@app.command()
def appraise(
    folder: Folder,
    offer: Annotated[str, typer.Argument(help="The offer; the portfolio's question by default.")] = "",
    out: Out = None,
    gap: Gap = 1e-3,
    limit_s: Limit = 600.0,
    brief: Annotated[bool, typer.Option("--brief", help="Only its value and its break-even fee.")] = False,
    vary: Annotated[bool, typer.Option("--vary", help="Move each assumption over its range.")] = False,
    fresh: Annotated[
        int | None, typer.Option(help=f"Fresh draws to try the answer on; {FRESH} where not given.", min=0, max=100)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every open offer, alone and by pairs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what one offer is worth, what each of its clauses is worth, and what would flip the answer."""
    from offtake.plan.appraise import appraise as in_brief
    from offtake.plan.appraise import write_appraisal
    from offtake.plan.negotiate import Depth, negotiate
    from offtake.report.terminal import appraisal_table, more_lines, regret_table, sheet_table, tornado_table

    refuse_idle(
        (every and bool(offer), "OFFER", "Leave it out: --all appraises every open offer."),
        (every and brief, "--brief", "Leave it out: --all gives values only."),
        (vary and (every or brief), "--vary", "Ask for it without --all and --brief."),
        (fresh is not None and (every or brief), "--fresh", "Ask for it without --all and --brief."),
    )
    tables = read_checked(folder)
    if every:
        appraise_every(tables, run_folder(out, tables), gap, limit_s, as_json)
        return
    offer = offer or asked_offer(tables)
    where = run_folder(out, tables)
    with progress_bars() as progress:
        options = plan_options(gap, limit_s, progress)
        appraisal = (
            in_brief(tables, offer, options)
            if brief
            else negotiate(tables, offer, options, Depth(vary=vary, fresh=FRESH if fresh is None else fresh))
        )
    path = write_appraisal(appraisal, where)
    if as_json:
        emit("appraise", folder=str(path), appraisal=appraisal)
    else:
        sheet = ["", sheet_table(appraisal)] if appraisal.clauses else []
        choices = ["", regret_table(appraisal)] if appraisal.branches else []
        swings = ["", tornado_table(appraisal)] if appraisal.swings else []
        told = [*appraisal.sentences, more_lines(appraisal), *sheet, *choices, *swings]
        show(appraisal_table(appraisal), *told, f"\nAppraisal: {path}")


def appraise_every(tables: Tables, where: Path, gap: float, limit_s: float, as_json: bool) -> None:
    """Appraise every open offer, and show how they stand to each other."""
    from offtake.plan.substitutes import appraise_all, write_offers
    from offtake.report.terminal import offers_table

    with progress_bars() as progress:
        found = appraise_all(tables, plan_options(gap, limit_s, progress))
    path = write_offers(found, where)
    if as_json:
        emit("appraise", folder=str(path), offers=found)
    else:
        show(offers_table(found), f"\nAppraisal: {path}")


def asked_offer(tables: Tables) -> str:
    """Return the offer that the portfolio asks about."""
    if not tables.settings.question:
        mend = f"Name one: {', '.join(row.offer for row in tables.offers)}."
        raise InputError(
            [Fault("portfolio.toml", "the portfolio asks about no offer", mend, "[portfolio]", "question")]
        )
    return tables.settings.question
