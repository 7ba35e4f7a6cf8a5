"""Rehearse a fleet under a load: the one door to this room.

Comes in: a fleet, the step tables that its pools name, requests, options. Goes out: a ``Rehearsal``, the table of
requests and the summary, verified; or ``VerificationError``. Same input, same bytes. An interrupted rehearsal keeps
what was done, says how far it came, and prints no percentile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from offtake.demand.request import Requests
from offtake.files import write_json
from offtake.fleet import Fleet
from offtake.performance.deployment import load_named
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.rehearse.arrivals import gather, thin_fleet
from offtake.rehearse.events import switches
from offtake.rehearse.options import Options
from offtake.rehearse.outcome import outcome_frame
from offtake.rehearse.run import Progress, run
from offtake.rehearse.state import new_engine
from offtake.rehearse.summary import Parts, Summary, summarise
from offtake.rehearse.verify import ENDED, ledger_of, verify

Deployments = Mapping[str, tuple[StepTable, ReplicaLimits]]


class Rehearsal(NamedTuple):
    """Hold the outcome of a rehearsal: one row per request, and the summary."""

    frame: pl.DataFrame
    summary: Summary


def named_deployments(fleet: Fleet) -> dict[str, tuple[StepTable, ReplicaLimits]]:
    """Return the step tables that the fleet's pools name, sped up where the name says so.

    Raises
    ------
    InputError
        If a pool names a table that there is not.
    """
    names = {pool.deployment for pool in fleet.pools if pool.kind == "chips"}
    stored = {name: load_named(name) for name in sorted(names)}
    return {name: (found.table, found.limits) for name, found in stored.items()}


def rehearse(
    fleet: Fleet,
    deployments: Deployments,
    requests: Requests | Iterable[Requests],
    options: Options,
    progress: Progress | None = None,
) -> Rehearsal:
    """Serve ``requests`` with ``fleet`` and say what became of them.

    Parameters
    ----------
    fleet
        The plan's fleet for one week.
    deployments
        Step table and limits by the names that the fleet's pools use (``named_deployments``).
    requests
        One batch or many, sorted by arrival.
    options
        Policy, seed, thinning and events.
    progress
        Called with the share of requests that have arrived.

    Raises
    ------
    InputError
        If the load is faulty.
    VerificationError
        If the run broke one of its own checks.
    """
    small, errors = thin_fleet(fleet, options.thin)
    load = gather(requests, small, 1 if options.thinned_load else options.thin, options.seed)
    engine = new_engine(small, deployments, load, options)
    sites = [site.name for site in small.sites]
    complete = run(engine, switches(options.losses, sites), options.batch, progress)
    ledger = ledger_of(engine)
    checks = verify(ledger) if complete else ["not checked: the rehearsal was interrupted"]
    ended = np.isin(engine.flow["status"], ENDED)
    frame = outcome_frame(engine, small)
    parts = Parts(
        frame=frame if complete else frame.filter(pl.Series(ended)),
        engine=engine,
        fleet=small,
        options=options,
        capacity_errors=errors,
        complete=complete,
        done_share=float(ended.mean()),
        checks=checks,
    )
    return Rehearsal(parts.frame, summarise(parts))


def write_rehearsal(rehearsal: Rehearsal, folder: Path) -> None:
    """Write ``outcome.parquet`` and ``rehearse.json`` into ``folder``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "outcome.parquet"
    part = table.with_name(f".{table.name}.part")
    rehearsal.frame.write_parquet(part)
    part.replace(table)
    write_json(folder / "rehearse.json", rehearsal.summary)
