"""Offer each verb on the command line: a thin shell that reads, calls a room, and tells a person what came out.

Standard output carries the answer: a short table, or one JSON object with ``--json``. Progress and errors go to
standard error. Exit codes: 0 answered, 1 failed, 2 bad input (or an output that cannot be written), 3 infeasible or
not stationary, 130 interrupted (or ended by SIGTERM). Rooms are imported inside the verbs, so that ``offtake --help``
stays quick. This is the only module that reads a clock.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from offtake.errors import Fault, InfeasibleError, InputError, NotStationaryError, OfftakeError

if TYPE_CHECKING:
    from offtake.plan.plan import PlanOptions, PlanRun
    from offtake.rehearse.verb import Rehearsed
    from offtake.schema.portfolio import Tables

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
DISK_MEND = "Check the path, its rights and the room on the disk."
LOST_FROM_HOUR, LOST_HOURS = 0.1, 0.05
HELP = """Plan which AI compute to sign, rehearse the plan on real traffic, and see why.

Exit codes: 0 answered; 1 failed; 2 bad input; 3 infeasible or not stationary; 130 interrupted or ended."""
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Argument(help="Portfolio folder: portfolio.toml and its tables.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder, such as runs/may-2026.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/NAME of the portfolio by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output.")]
Gap = Annotated[float, typer.Option(help="Stop when the plan is proven this close to the best.", min=0.0, max=1.0)]
Limit = Annotated[float, typer.Option(help="Stop the solver after this long, with the best plan so far.", min=1.0)]
Lose = Annotated[list[str] | None, typer.Option("--lose", help="Lose a site: SITE@HOUR+HOURS. May be given again.")]
Progress = Callable[[str, float], None]


# ── what a person or a program sees ──────────────────────────────────────────────────────────────────────────────────
@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show stages, their progress and the time left on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:

        def report(stage: str, done: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
                if not console.is_terminal:
                    console.print(f"{stage} …", highlight=False)
            bars.update(tasks[stage], completed=min(done, 1.0))

        yield report


def within(stage: str, progress: Progress) -> Progress:
    """Report the stages of a part of the work under its own name."""
    return lambda part, done: progress(f"{stage}: {part}", done)


def show(*renderables: Any) -> None:  # noqa: ANN401  # whatever Rich can print
    """Print answers for a person on standard output."""
    from rich.console import Console

    console = Console(highlight=False)
    for renderable in renderables:
        console.print(renderable, soft_wrap=isinstance(renderable, str), markup=False)


def emit(verb: str, **document: Any) -> None:  # noqa: ANN401  # whatever msgspec can encode
    """Write the one JSON object of a verb to standard output."""
    from offtake.files import json_bytes

    sys.stdout.write(json_bytes({"verb": verb, "ok": True, **document}).decode())


# ── the work of each verb, without a word printed ────────────────────────────────────────────────────────────────────
def plan_options(gap: float, limit_s: float, progress: Progress) -> PlanOptions:
    """Return the options of a plan made from the command line."""
    from offtake.performance.goodput import default_cache
    from offtake.plan.plan import PlanOptions
    from offtake.plan.solve import Options

    solver = Options(gap=gap, time_limit_s=limit_s, clock=time.perf_counter)
    return PlanOptions(solver=solver, cache=default_cache(), progress=progress)


def do_plan(tables: Tables, out: Path, options: PlanOptions) -> PlanRun:
    """Make a plan and write it."""
    from offtake.plan.plan import make_plan, write_plan

    run = make_plan(tables, options)
    write_plan(run, out)
    return run


def read_checked(folder: Path) -> Tables:
    """Read a portfolio and check it in every room that reads it, so that all faults come at once."""
    from offtake.demand.workload import demand_of
    from offtake.performance.deployment import resolve_all
    from offtake.schema.read import read_folder
    from offtake.supply.portfolio import portfolio_of

    tables = read_folder(folder)
    faults: list[Fault] = []
    for room in (portfolio_of, demand_of, resolve_all):
        try:
            room(tables)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return tables


def run_folder(out: Path | None, tables: Tables) -> Path:
    """Make the run folder, as asked or runs/NAME, and see that it can be written, before any long work."""
    where = out if out is not None else Path("runs") / tables.settings.name
    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".try-", dir=where):
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


@app.command()
def plan(folder: Folder, out: Out = None, gap: Gap = 1e-3, limit_s: Limit = 600.0, as_json: AsJson = False) -> None:
    """Decide which offers to sign, when and how much, and where each workload runs."""
    from offtake.report.terminal import plan_table

    tables = read_checked(folder)
    where = run_folder(out, tables)
    with progress_bars() as progress:
        run = do_plan(tables, where, plan_options(gap, limit_s, progress))
    if as_json:
        emit("plan", folder=str(where / "plan"), plan=run.result)
    else:
        show(plan_table(run.result), f"\nPlan: {where / 'plan'}")


@app.command()
def appraise(
    folder: Folder,
    offer: Annotated[str, typer.Argument(help="The offer; the portfolio's question by default.")] = "",
    out: Out = None,
    gap: Gap = 1e-3,
    limit_s: Limit = 600.0,
    as_json: AsJson = False,
) -> None:
    """Say what one offer is worth: the best plan with it less the best plan without it."""
    from offtake.plan.appraise import appraise as work_out
    from offtake.plan.appraise import write_appraisal
    from offtake.report.terminal import appraisal_table

    tables = read_checked(folder)
    offer = offer or asked_offer(tables)
    where = run_folder(out, tables)
    with progress_bars() as progress:
        appraisal = work_out(tables, offer, plan_options(gap, limit_s, progress))
    path = write_appraisal(appraisal, where)
    if as_json:
        emit("appraise", folder=str(path), appraisal=appraisal)
    else:
        show(appraisal_table(appraisal), *appraisal.sentences, f"\nAppraisal: {path}")


def asked_offer(tables: Tables) -> str:
    """Return the offer that the portfolio asks about."""
    if not tables.settings.question:
        mend = f"Name one: {', '.join(row.offer for row in tables.offers)}."
        raise InputError(
            [Fault("portfolio.toml", "the portfolio asks about no offer", mend, "[portfolio]", "question")]
        )
    return tables.settings.question


Thin = Annotated[int, typer.Option(help="Run 1 in n replicas and requests; 0 to choose n by --requests.", min=0)]
Requests = Annotated[int, typer.Option(help="Thin to about this many simulated requests.", min=1000)]


@app.command()
def rehearse(
    run: RunFolder,
    policy: Annotated[str, typer.Option(help="bid_price, least_loaded or round_robin.")] = "bid_price",
    compare: Annotated[bool, typer.Option("--compare", help="Run every policy on the same requests.")] = False,
    trace: Annotated[Path | None, typer.Option(help="Replay this trace instead of making traffic.")] = None,
    workload: Annotated[str, typer.Option(help="The workload that the trace stands for.")] = "",
    lose: Lose = None,
    events: Annotated[Path | None, typer.Option(help="TOML file of events.")] = None,
    from_hour: Annotated[float, typer.Option(help="Hour of the week from Monday 00:00 UTC; -1: the busiest.")] = -1.0,
    hours: Annotated[float, typer.Option(help="Hours of traffic to make.")] = 0.25,
    surge: Annotated[float, typer.Option(help="Multiply every rate.")] = 1.0,
    thin: Thin = 0,
    requests: Requests = 2_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the traffic; -1: the plan's.")] = -1,
    name: Annotated[str, typer.Option(help="Keep it beside the main rehearsal, under this name.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 unless every workload is stationary.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve traffic with the plan's fleet: who waits, who is turned away, what it costs."""
    from offtake.rehearse.verb import Asked, rehearse_run
    from offtake.report.terminal import rehearsal_table

    asked = Asked(
        policy=policy,
        compare=compare,
        trace=trace,
        workload=workload,
        lose=tuple(lose or ()),
        events=events,
        from_hour=from_hour,
        hours=hours,
        surge=surge,
        thin=thin,
        requests=requests,
        seed=seed,
        name=name,
    )
    with progress_bars() as progress:
        found = rehearse_run(run, asked, progress)
    if as_json:
        code = exit_code_of(found, strict=strict)
        told = {"exit_code": code} if code else {}
        where = None if found.folder is None else str(found.folder)
        emit("rehearse", ok=not code, folder=where, kept=found.kept, rehearsals=found.summaries, **told)
    elif found.folder is not None:
        show(rehearsal_table(found.summaries), f"\nRehearsal: {found.folder}", *kept_words(found.kept))
    refuse_unanswered(found, strict=strict)


def kept_words(kept: list[str]) -> list[str]:
    """Say which earlier rehearsals stayed."""
    return [f"Kept beside it: {', '.join(kept)}."] if kept else []


def exit_code_of(found: Rehearsed, *, strict: bool) -> int:
    """Return 130 where it was interrupted, 3 where a stationary answer was demanded and there is none, or else 0."""
    if not found.complete:
        return INTERRUPTED
    return NotStationaryError.exit_code if strict and found.summaries[0].status != "stationary" else 0


def refuse_unanswered(found: Rehearsed, *, strict: bool) -> None:
    """Stop with the exit code of a rehearsal that did not answer."""
    code = exit_code_of(found, strict=strict)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        status = found.summaries[0].status
        raise NotStationaryError(f"The rehearsal is {status}: no percentile exists. See rehearse.json.")


@app.command()
def report(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; report.html in the run folder by default.")
    ] = None,
    show_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one page that works offline: the decision, what it rests on, and why."""
    import webbrowser

    from offtake.report.page import write_page

    path = write_page(run, out if out is not None else run / "report.html")
    if as_json:
        emit("report", path=str(path), bytes=path.stat().st_size)
    else:
        show(f"Report: {path}")
    if show_page:
        webbrowser.open(path.resolve().as_uri())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Portfolio folder.")] = Path("examples/may-2026"),
    out: Out = None,
    gap: Gap = 1e-3,
    limit_s: Limit = 120.0,
    as_json: AsJson = False,
) -> None:
    """Answer a portfolio's question in one go: check, plan, appraise, rehearse, lose the largest site, report."""
    from offtake.plan.appraise import appraise as work_out
    from offtake.plan.appraise import write_appraisal
    from offtake.rehearse.load import largest_site
    from offtake.rehearse.verb import Asked, rehearse_run
    from offtake.report.page import write_page
    from offtake.report.terminal import appraisal_table, rehearsal_table
    from offtake.schema.marks import count_marks

    tables = read_checked(folder)
    where = run_folder(out, tables)
    with progress_bars() as progress:
        progress("check", 1.0)
        options = plan_options(gap, limit_s, progress)
        run = do_plan(tables, where, options)
        again = replace(options, progress=within("appraise", progress))
        appraisal = work_out(tables, asked_offer(tables), again, run)
        write_appraisal(appraisal, where)
        site = largest_site(run.fleet)
        found = rehearse_run(where, Asked(compare=True), progress)
        refuse_unanswered(found, strict=False)
        lost = Asked(lose=(f"{site}@{LOST_FROM_HOUR}+{LOST_HOURS}",), name=f"lost-{site}")
        without = rehearse_run(where, lost, within(f"lose {site}", progress))
        refuse_unanswered(without, strict=False)
        rehearsals = found.summaries + without.summaries
        page = write_page(where, where / "report.html")
        progress("report", 1.0)
    if as_json:
        figures = count_marks(tables)
        emit("demo", figures=figures, plan=run.result, appraisal=appraisal, rehearsals=rehearsals, report=str(page))
    else:
        show(appraisal_table(appraisal), "", rehearsal_table(rehearsals), f"\nReport: {page}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; no user's mistake shows a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    unheard = sys.stdout is None
    sys.stdout, sys.stderr = sys.stdout or nowhere(), sys.stderr or nowhere()
    with ended_like_an_interrupt():
        code = code_of(given)
    return (code or FAILED) if unheard or not flushed() else code


def nowhere() -> TextIO:
    """Open what stands in for a stream that was closed."""
    return Path(os.devnull).open("w", encoding="utf-8")


def code_of(given: list[str]) -> int:
    """Run a verb and return its exit code, with what went wrong told."""
    as_json = "--json" in given
    try:
        code = app(args=given, prog_name="offtake", standalone_mode=False)
        sys.stdout.flush()
    except NotStationaryError as error:  # its rehearsal was told already, as the one object on standard output
        code = tell(error, as_json=False)
    except OfftakeError as error:
        code = tell(error, as_json=as_json)
    except typer.TyperException as error:
        message = error.format_message().rstrip(".")
        sys.stderr.write(f"{message}. See `offtake --help`.\n" if message else "")
        code = BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (SystemExit, BrokenPipeError):  # nobody reads standard output any more
        code = FAILED
    except Exception as error:
        fault = fault_of_disk(error)
        if fault is None:
            raise
        flushed()
        code = tell(InputError([fault]), as_json=as_json)
    if code == INTERRUPTED:
        sys.stderr.write("Interrupted; what was finished is kept.\n")
    return code if isinstance(code, int) else 0


@contextmanager
def ended_like_an_interrupt() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that nothing half written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def flushed() -> bool:
    """Write out standard output; where nobody takes it, drop the rest and return False."""
    try:
        sys.stdout.flush()
    except OSError:
        with nowhere() as sink:
            os.dup2(sink.fileno(), sys.stdout.fileno())
        return False
    return True


def fault_of_disk(error: Exception) -> Fault | None:
    """Return the one fault where a file or folder cannot be read or written, or None for any other error."""
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(error, polars.exceptions.ComputeError) and "os error" in str(error):
        return Fault("a table", f"cannot be written: {' '.join(str(error).split())}", DISK_MEND)
    if not isinstance(error, OSError):
        return None
    place = error.filename2 or error.filename
    path = Path(os.fsdecode(place)) if isinstance(place, str | bytes) else None
    verb = "read" if path is not None and path.is_file() and not os.access(path, os.R_OK) else "written"
    name = "the output" if path is None else str(Path(*map(without_part, path.parts)))
    return Fault(name, f"cannot be {verb}: {error.strerror or error}", DISK_MEND)


def without_part(name: str) -> str:
    """Return the name that a file or folder will have once it is whole."""
    return name[1:].removesuffix(".part") if name.startswith(".") and name.endswith(".part") else name


def tell(error: OfftakeError, *, as_json: bool) -> int:
    """Say what went wrong on standard error, and as one JSON object where that was asked for; return the exit code."""
    faults = error.faults if isinstance(error, InputError) else []
    lines = [str(fault) for fault in faults] or [str(error)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    if len(faults) > 1:
        sys.stderr.write(f"{len(faults)} faults.\n")
    if as_json:
        from offtake.files import json_bytes

        families = error.families if isinstance(error, InfeasibleError) else []
        whole = {"ok": False, "exit_code": error.exit_code, "error": type(error).__name__, "message": lines}
        extra = {"faults": [asdict(fault) for fault in faults], "families": families}
        with suppress(OSError):  # standard output itself may be what cannot be written
            sys.stdout.write(json_bytes(whole | extra).decode())
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
