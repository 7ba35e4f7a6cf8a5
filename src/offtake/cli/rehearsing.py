"""Offer the verb that rehearses.

Comes in: a run folder and options. Goes out: the rehearsal in the run folder and a short answer. Rooms are imported
inside the verb, so that ``offtake --help`` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offtake.cli.shell import INTERRUPTED, AsJson, RunFolder, app, emit, progress_bars, show
from offtake.errors import NotStationaryError

if TYPE_CHECKING:
    from offtake.rehearse.verb import Rehearsed

NOTHING_DONE = "no request had ended, so there is nothing to keep"
Lose = Annotated[list[str] | None, typer.Option("--lose", help="Lose a site: SITE@HOUR+HOURS. May be given again.")]
Trace = Annotated[
    list[str] | None,
    typer.Option(help="Replay WORKLOAD=FILE, or FILE, instead of making traffic. May be given again."),
]
ShiftHours = Annotated[
    list[str] | None, typer.Option(help="Move a region's clock later: REGION=HOURS. May be given again.")
]
ClosedLoop = Annotated[int, typer.Option(help="So many users who each ask again as soon as answered.", min=0)]
Thin = Annotated[int, typer.Option(help="Run 1 in n replicas and requests; 0 to choose n by --requests.", min=0)]
Requests = Annotated[int, typer.Option(help="Thin to about this many simulated requests.", min=1000)]


@app.command()
def rehearse(
    run: RunFolder,
    policy: Annotated[str, typer.Option(help="bid_price, or a baseline such as least_loaded.")] = "bid_price",
    compare: Annotated[str, typer.Option(help="Compare with other policies: all, or names with commas.")] = "",
    seeds: Annotated[int, typer.Option(help="Loads on which policies are compared.", min=1)] = 5,
    workers: Annotated[int, typer.Option(help="Processes that compare; 0: one for each core.", min=0)] = 0,
    trace: Trace = None,
    workload: Annotated[str, typer.Option(help="The workload of a trace that was given without one.")] = "",
    scale: Annotated[float, typer.Option(help="Multiply the rate of the traces.")] = 1.0,
    stretch: Annotated[float, typer.Option(help="Multiply the times of the traces.")] = 1.0,
    shift_hours: ShiftHours = None,
    loop: Annotated[bool, typer.Option("--loop", help="Repeat the traces for --hours.")] = False,
    closed_loop: ClosedLoop = 0,
    sessions: Annotated[bool, typer.Option("--sessions", help="Let people and agents go on after an answer.")] = False,
    lose: Lose = None,
    events: Annotated[Path | None, typer.Option(help="TOML file of events.")] = None,
    scenario: Annotated[str, typer.Option(help="A scenario of the plan: its name, worst, or all.")] = "",
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

    asked = Asked(
        policy=policy,
        compare=compare,
        seeds=seeds,
        workers=workers,
        traces=tuple(trace or ()),
        workload=workload,
        scale=scale,
        stretch=stretch,
        shift_hours=tuple(shift_hours or ()),
        loop=loop,
        closed_loop=closed_loop,
        sessions=sessions,
        lose=tuple(lose or ()),
        events=events,
        scenario=scenario,
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
    tell(found, as_json=as_json, strict=strict)
    refuse_unanswered(found, strict=strict)


def tell(found: Rehearsed, *, as_json: bool, strict: bool) -> None:
    """Say how it went: as one document, or as tables."""
    from offtake.report.terminal import comparison_table, rehearsal_table

    if as_json:
        code = exit_code_of(found, strict=strict)
        told = {"exit_code": code} if code else {}
        where = None if found.folder is None else str(found.folder)
        more = {} if found.comparison is None else {"comparison": found.comparison}
        emit("rehearse", ok=not code, folder=where, kept=found.kept, rehearsals=found.summaries, **more, **told)
    elif found.folder is not None:
        tables = [] if found.comparison is None else ["", comparison_table(found.comparison)]
        show(rehearsal_table(found.summaries), *tables, f"\nRehearsal: {found.folder}", *kept_words(found))


def kept_words(found: Rehearsed) -> list[str]:
    """Say how far an interrupted run came, and which earlier rehearsals stayed."""
    from offtake.report.words import share

    told = [f"Kept beside it: {', '.join(found.kept)}."] if found.kept else []
    if found.compared_share < 1:
        told.append(f"The comparison came to {share(found.compared_share)} and is not kept; the rehearsals above are.")
    elif not found.complete:
        told.append(f"The last rehearsal came to {share(found.summaries[-1].done_share)} of its requests.")
    return told


def exit_code_of(found: Rehearsed, *, strict: bool) -> int:
    """Return 130 where it was interrupted, 3 where a stationary answer was demanded and there is none, or else 0."""
    if not found.complete:
        return INTERRUPTED
    return NotStationaryError.exit_code if strict and found.summaries[0].status != "stationary" else 0


def refuse_unanswered(found: Rehearsed, *, strict: bool) -> None:
    """Stop with the exit code of a rehearsal that did not answer."""
    code = exit_code_of(found, strict=strict)
    if code == INTERRUPTED:
        raise KeyboardInterrupt(*([] if found.folder is not None else [NOTHING_DONE]))
    if code:
        status = found.summaries[0].status
        raise NotStationaryError(f"The rehearsal is {status}: no percentile exists. See rehearse.json.")
