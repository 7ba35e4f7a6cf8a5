"""Read a run folder: what each stage wrote, with stages that were not run left out and named.

Comes in: ``plan/`` (``plan.json``, Parquet tables, ``fleet.json``), ``appraise/OFFER/appraisal.json`` and
``rehearse/rehearse.json``, with ``rehearse/NAME/rehearse.json`` of policies or events that were tried beside it, and
``compare.json`` beside either. Goes out: one :class:`Run`. It computes nothing and draws nothing; see ``sums.py`` for
the figures that are made from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet, read_fleet
from offtake.plan.result import APPRAISAL_FORMAT, OFFERS_FORMAT, PLAN_FORMAT, Appraisal, OffersAppraisal, PlanResult
from offtake.rehearse.compare import FORMAT as COMPARISON_FORMAT
from offtake.rehearse.compare import Comparison
from offtake.rehearse.summary import FORMAT as REHEARSAL_FORMAT
from offtake.rehearse.summary import Summary

Record = TypeVar("Record", bound=msgspec.Struct)

# The columns that the report reads, table by table, by kind: w a word, n a number, d a date.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "capacity": {
        "period": "n",
        "start": "d",
        "provider": "w",
        "site": "w",
        "chip": "w",
        "firmness": "w",
        "kw_mean": "n",
    },
    "demand": {
        "period": "n",
        "start": "d",
        "block": "w",
        "workload": "w",
        "rps_mean": "n",
        "rps_p10": "n",
        "rps_p90": "n",
        "served_mean": "n",
        "refused_mean": "n",
    },
    "cost": {"scenario": "w", "probability": "n", "period": "n", "start": "d", "part": "w", "usd": "n"},
    "prices": {
        "family": "w",
        "site": "w",
        "chip": "w",
        "period": "n",
        "start": "d",
        "block": "w",
        "price": "n",
        "unit": "w",
    },
    "scenarios": {"scenario": "w", "probability": "n", "growth_branch": "w", "description": "w", "net_usd": "n"},
}
STALE = "Stages made from another version of the portfolio are left out: run them again."
MEND = "Run the stage again, or give the folder of a whole run."


@dataclass(frozen=True, kw_only=True)
class Run:
    """Hold what was found in a run folder; what a stage did not write is None or empty, and ``missing`` says so."""

    name: str
    plan: PlanResult | None
    frames: dict[str, pl.DataFrame]
    fleet: Fleet | None
    appraisals: list[Appraisal]
    offers: OffersAppraisal | None
    rehearsals: dict[str, Summary]
    comparisons: dict[str, Comparison]
    missing: list[str]


def read_run(folder: Path) -> Run:
    """Read a run folder, whole or in part.

    Raises
    ------
    InputError
        Where the folder holds no stage at all, or with every file that cannot be read.
    """
    if not any((folder / stage).is_dir() for stage in ("plan", "appraise", "rehearse")):
        mend = "Give a run folder such as runs/may-2026, or make one with `offtake plan`."
        raise InputError([Fault(str(folder), "the folder holds no plan, no appraisal and no rehearsal", mend)])
    faults: list[Fault] = []
    plan = read_record(folder / "plan" / "plan.json", PlanResult, PLAN_FORMAT, faults)
    frames = read_frames(folder / "plan", faults) if plan is not None else {}
    found = [
        read_record(path, Appraisal, APPRAISAL_FORMAT, faults)
        for path in sorted((folder / "appraise").glob("*/appraisal.json"))
    ]
    offers = read_record(folder / "appraise" / "all-offers" / "offers.json", OffersAppraisal, OFFERS_FORMAT, faults)
    rehearsals = read_by_folder(folder / "rehearse", "rehearse.json", (Summary, REHEARSAL_FORMAT), faults)
    comparisons = read_by_folder(folder / "rehearse", "compare.json", (Comparison, COMPARISON_FORMAT), faults)
    fleet = read_fleet_if_there(folder / "plan" / "fleet.json", faults)
    if faults:
        raise InputError(faults)
    appraisals = [appraisal for appraisal in found if appraisal is not None and same_portfolio(plan, appraisal)]
    stale = [
        one
        for one in (*found, offers, *rehearsals.values(), *comparisons.values())
        if one is not None and not same_portfolio(plan, one)
    ]
    rehearsals = {name: summary for name, summary in rehearsals.items() if same_portfolio(plan, summary)}
    return Run(
        name=plan.name if plan else folder.name,
        plan=plan,
        frames=frames,
        fleet=fleet,
        appraisals=appraisals,
        offers=offers if offers is not None and same_portfolio(plan, offers) else None,
        rehearsals=rehearsals,
        comparisons={name: one for name, one in comparisons.items() if same_portfolio(plan, one)},
        missing=[*missing_of_plan(plan, frames), *missing_stages(appraisals, rehearsals), *([STALE] if stale else [])],
    )


def same_portfolio(plan: PlanResult | None, stage: Appraisal | OffersAppraisal | Summary | Comparison) -> bool:
    """Tell whether a stage was made from the portfolio that the plan was made from."""
    return plan is None or stage.portfolio_hash == plan.portfolio_hash


def read_record(path: Path, record: type[Record], form: str, faults: list[Fault]) -> Record | None:
    """Return one JSON record, or None where the file is not there; add a fault where it is not what it should be."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        faults.append(Fault(str(path), f"the file cannot be read: {error}", MEND))
        return None
    found = getattr(read, "format", form)
    if found != form:
        faults.append(Fault(str(path), f"the file's format is not {form}", MEND, row="format", value=str(found)))
        return None
    return read


def read_by_folder(folder: Path, name: str, record: tuple[type[Record], str], faults: list[Fault]) -> dict[str, Record]:
    """Return every record of a type and format by its folder's name below ``folder``, the main one (``main``) first."""
    found = {}
    for path in [folder / name, *sorted(folder.glob(f"**/*/{name}"))]:
        read = read_record(path, *record, faults)
        if read is not None:
            found["/".join(path.relative_to(folder).parts[:-1]) or "main"] = read
    return found


def read_fleet_if_there(path: Path, faults: list[Fault]) -> Fleet | None:
    """Return the fleet, or None where no plan wrote one."""
    if not path.is_file():
        return None
    try:
        return read_fleet(path)
    except InputError as error:
        faults.extend(error.faults)
        return None


def read_frames(folder: Path, faults: list[Fault]) -> dict[str, pl.DataFrame]:
    """Return the tables that are there, each with the columns and kinds that the report reads."""
    frames = {}
    for name, columns in COLUMNS.items():
        path = folder / f"{name}.parquet"
        if not path.is_file():
            continue
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            faults.append(Fault(str(path), f"the table cannot be read: {error}", MEND))
            continue
        lacking = [column for column in columns if column not in frame.columns]
        faults.extend(Fault(str(path), "a column is missing", MEND, column=column) for column in lacking)
        if not lacking:
            frames[name] = frame.with_columns(as_kind(column, kind) for column, kind in columns.items())
    return frames


def as_kind(column: str, kind: str) -> pl.Expr:
    """Cast a column to the type of its kind, so that files of other makers read alike."""
    if column == "period":
        return pl.col(column).cast(pl.Int64)
    return pl.col(column).cast({"w": pl.String(), "n": pl.Float64(), "d": pl.Date()}[kind])


def missing_of_plan(plan: PlanResult | None, frames: Mapping[str, pl.DataFrame]) -> list[str]:
    """Say what the plan did not write."""
    if plan is None:
        return ["No plan: this folder holds no plan.json, so capacity, cost and prices are left out."]
    lacking = [name for name in COLUMNS if name not in frames]
    return [f"The plan's tables {', '.join(lacking)} are missing; what they would show is left out."] if lacking else []


def missing_stages(appraisals: list[Appraisal], rehearsals: Mapping[str, Summary]) -> list[str]:
    """Say in one sentence each what was not run after the plan."""
    missing = []
    if not appraisals:
        missing.append("No appraisal: no single offer was weighed with and without (`offtake appraise`).")
    if not rehearsals:
        missing.append("No rehearsal: the plan was not tried on traffic (`offtake rehearse`).")
    return missing
