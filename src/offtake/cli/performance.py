"""Offer the verbs of ``offtake performance``: how fast a model runs on a chip, by table, by measurement and by claim.

Comes in: names of tables, what was measured, claims. Goes out: step tables as files, a short table and the path to the
full result. Rooms are imported inside the verbs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offtake.cli.shell import AsJson, app, emit, progress_bars, show, within
from offtake.errors import Fault, InputError

if TYPE_CHECKING:
    from offtake.performance.fit_claims import Claim
    from offtake.performance.fit_report import FitReport
    from offtake.performance.library import StoredTable
    from offtake.performance.measurements import Measured

HELP = "Build and list step tables, score them against measured runs, and fit one to what was measured."
performance = typer.Typer(help=HELP, no_args_is_help=True)
app.add_typer(performance, name="performance")

Tables = Annotated[Path, typer.Option("--tables", help="Folder with step tables of your own, beside those that ship.")]


@performance.command("list")
def list_tables(tables: Tables = Path(), as_json: AsJson = False) -> None:
    """List the step tables that ship with the program, and those in a folder."""
    from offtake.performance.library import listed
    from offtake.report.performance import tables_table

    found = listed(tables)
    if as_json:
        emit("performance list", tables=[one._asdict() for one in found])
    else:
        show(tables_table(found))


@performance.command("build")
def build_one(
    model: Annotated[str, typer.Argument(help="Checkpoint, such as nvidia/Llama-3.1-70B-Instruct-FP8.")],
    chip: Annotated[str, typer.Argument(help="Chip, such as h100_sxm; with --roofline one of the portfolio's.")],
    backend: Annotated[str, typer.Option(help="Engine: vllm, sglang or trtllm.")] = "vllm",
    chips: Annotated[int, typer.Option(help="Chips of one replica (tensor-parallel).", min=1)] = 1,
    experts: Annotated[int, typer.Option(help="Chips over which experts are split.", min=1)] = 1,
    weight_bits: Annotated[int, typer.Option(help="Bits of a weight; by default as the name tells.", min=0)] = 0,
    kv_bits: Annotated[int, typer.Option(help="Bits of a KV value; 0: 8 where weights have fewer than 16.")] = 0,
    roofline: Annotated[bool, typer.Option("--roofline", help="Extrapolate from the chip's data sheet.")] = False,
    portfolio: Annotated[Path, typer.Option(help="Folder whose chips.csv holds the data sheet.")] = Path(),
    name: Annotated[str, typer.Option(help="Name of the table.")] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder for the table, such as a portfolio.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Build the step table of a model on a chip from measured kernels, or take it from the folder."""
    from offtake.performance.build import Wanted, build, sheet_of
    from offtake.performance.library import listed
    from offtake.report.performance import tables_table
    from offtake.schema.read import read_folder

    wanted = Wanted(model, chip, backend, chips, experts, weight_bits, kv_bits, name)
    sheet = sheet_of(read_folder(portfolio).chips, chip) if roofline else None
    out.mkdir(parents=True, exist_ok=True)
    with progress_bars() as progress:
        progress("build", 0.0)
        stored, new = build(wanted, out, sheet)
        progress("build", 1.0)
    path = out / f"{stored.name}.json"
    if as_json:
        told = {"name": stored.name, "limits": stored.limits._asdict(), "provenance": stored.provenance}
        emit("performance build", path=str(path), built=new, table=told)
        return
    row = [one for one in listed(out) if (one.name, one.kept) == (stored.name, str(out))]
    show(tables_table(row), f"\n{'Built' if new else 'Kept, as it was built before'}: {path}")
    show(f"In deployments.csv: performance = table:{stored.name}")


@performance.command()
def fit(
    measured: Annotated[Path, typer.Argument(help="Benchmark (CSV) or ledger of requests (CSV or Parquet).")],
    table: Annotated[str, typer.Option(help="Step table to start from; the column `table` by default.")] = "",
    name: Annotated[str, typer.Option(help="Name of the calibrated table; TABLE-DEPLOYMENT by default.")] = "",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the table and the report, such as a portfolio.")
    ] = Path(),
    tables: Tables = Path(),
    claim: Annotated[list[str] | None, typer.Option(help="A promise, such as tpot_ms=25@concurrency=64,...")] = None,
    claims: Annotated[Path | None, typer.Option(help="CSV of promises: metric, value, and a load.")] = None,
    replicas: Annotated[int, typer.Option(help="Replicas that shared a ledger's requests.", min=1)] = 1,
    pool: Annotated[str, typer.Option(help="Pool of a ledger that holds several, such as outcome.parquet.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fit a step table to measurements, and tell whether a partner delivers what the contract says."""
    from offtake.files import write_json
    from offtake.performance.fit_claims import parse_claims
    from offtake.performance.fit_prior import shipped_lessons
    from offtake.performance.fit_report import Job, fit_deployment
    from offtake.performance.library import save_table
    from offtake.performance.measurements import read_measured
    from offtake.report.performance import fit_table

    faults: list[Fault] = []
    promised: list[Claim] = []
    found: list[Measured] = []
    with gathered(faults):
        promised = parse_claims(claim or [], claims)
    with gathered(faults):
        found = read_measured(measured, replicas, pool)
    starts = starting_tables(found, table, tables, faults)
    names = names_of(found, starts, name)
    out.mkdir(parents=True, exist_ok=True)
    lessons, reports = shipped_lessons(), []
    with progress_bars() as progress:
        for one, start, called in zip(found, starts, names, strict=True):
            stage = progress if len(found) == 1 else within(called, progress)
            calibrated, report = fit_deployment(Job(one, start, called, promised, lessons), stage)
            save_table(calibrated, out)
            write_json(out / f"{called}.fit.json", report)
            reports.append(report)
    paths = [str(out / f"{called}.fit.json") for called in names]
    if as_json:
        emit("performance fit", reports=reports, paths=paths)
    else:
        show(*(fit_table(report) for report in reports), *told(reports, paths))


@performance.command()
def score(
    file: Annotated[
        Path | None, typer.Option(help="Measured runs; by default those that aiconfigurator-core ships.")
    ] = None,
    every: Annotated[int, typer.Option(help="Replay one run in so many.", min=1)] = 1,
    own: Annotated[bool, typer.Option(help="Ask aiconfigurator for its own prediction of each run.")] = True,
    out: Annotated[Path, typer.Option("--out", help="File for every replay and every group.")] = Path("score.json"),
    as_json: AsJson = False,
) -> None:
    """Replay measured serving runs and tell how far off the simulation is, by system, backend and model."""
    from offtake.files import cache_folder, write_json
    from offtake.performance.score import Options, record_of
    from offtake.performance.score import score as replay_all
    from offtake.report.performance import score_table

    with progress_bars() as progress:
        options = Options(path=file, cache=cache_folder(), every=every, own=own)
        found = replay_all(options, lambda done, total, _: progress("replay", done / max(total, 1)))
        progress("replay", 1.0)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, record_of(found, every))
    if as_json:
        emit("performance score", path=str(out), score=record_of(found, every, replays=False))
    else:
        show(score_table(found), f"\nEvery replay and group: {out}")


def told(reports: list[FitReport], paths: list[str]) -> list[str]:
    """Say where the full results are, and how to use the tables."""
    lines = [f"\nReport: {path}" for path in paths]
    return [*lines, *(f"In deployments.csv: performance = table:{report.table}" for report in reports)]


@contextmanager
def gathered(faults: list[Fault]) -> Iterator[None]:
    """Keep the faults of bad input, so that others can be found beside them."""
    try:
        yield
    except InputError as error:
        faults += error.faults


def starting_tables(found: list[Measured], table: str, folder: Path, faults: list[Fault]) -> list[StoredTable]:
    """Return the table that each deployment starts from; raise all faults found so far."""
    from offtake.performance.named import load_named

    mend = "Give --table NAME, or a column `table`; `offtake performance list` names them."
    starts: list[StoredTable] = []
    for one in found:
        if not (table or one.table):
            faults.append(Fault("--table", "no step table to start from", mend, value=one.deployment or None))
            continue
        with gathered(faults):
            starts.append(load_named(table or one.table, folder))
    if faults:
        raise InputError(faults)
    return starts


def names_of(found: list[Measured], starts: list[StoredTable], name: str) -> list[str]:
    """Return the names of the calibrated tables."""
    from offtake.schema.columns import NAME_PATTERN

    if name and len(found) > 1:
        raise InputError([Fault("--name", "the file holds several deployments", "Leave --name out.", value=name)])
    names = [name or f"{start.name}-{one.deployment or 'fitted'}" for one, start in zip(found, starts, strict=True)]
    names = [each if name else re.sub(r"[^A-Za-z0-9_.+-]+", "-", each) for each in names]
    bad = [each for each in names if not re.match(NAME_PATTERN, each)]
    if bad or len(set(names)) < len(names):
        mend = "Use letters, digits, . _ + and -, each name once."
        raise InputError([Fault("--name", "no name for a table", mend, value=", ".join(bad or names))])
    return names
