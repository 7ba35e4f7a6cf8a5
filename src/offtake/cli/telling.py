"""Offer the verbs that show: report, and demo, which does everything once.

Comes in: a run folder, or a portfolio for the demo. Goes out: one page. Rooms are imported inside the verbs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from offtake.cli.planning import asked_offer, do_plan, plan_options, read_checked, run_folder
from offtake.cli.rehearsing import refuse_unanswered
from offtake.cli.shell import AsJson, Gap, Limit, Out, RunFolder, app, emit, progress_bars, show, within

LOST_FROM_HOUR, LOST_HOURS = 0.1, 0.05


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
    from offtake.rehearse.warm import compile_ahead
    from offtake.report.page import write_page
    from offtake.report.terminal import appraisal_table, rehearsal_table
    from offtake.schema.marks import count_marks

    tables = read_checked(folder)
    where = run_folder(out, tables)
    with progress_bars() as progress:
        compiling = compile_ahead()
        progress("check", 1.0)
        options = plan_options(gap, limit_s, progress)
        run = do_plan(tables, where, options)
        again = replace(options, progress=within("appraise", progress))
        appraisal = work_out(tables, asked_offer(tables), again, run)
        write_appraisal(appraisal, where)
        site = largest_site(run.fleet)
        for process in compiling:
            process.join()
        found = rehearse_run(where, Asked(compare="least_loaded,round_robin", seeds=1), progress)
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
