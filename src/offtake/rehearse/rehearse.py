"""Rehearse a fleet under a load: the one door to this room.

Comes in: a fleet, the step tables that its pools name, requests, options. Goes out: a ``Rehearsal``, the table of
requests and the summary, verified; or ``VerificationError``. Same input, same bytes, however the load is cut into
batches. An interrupted rehearsal keeps what was done, says how far it came, and prints no percentile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from offtake.demand.request import Requests
from offtake.files import write_json
from offtake.fleet import Fleet
from offtake.performance.library import StoredTable
from offtake.performance.named import load_named
from offtake.performance.steps import ReplicaLimits, StepTable
from offtake.rehearse.arrivals import ahead, checked, thin_fleet
from offtake.rehearse.ceiling import ceilings
from offtake.rehearse.costs import Costs, costs_of
from offtake.rehearse.notes import Frame
from offtake.rehearse.options import Options
from offtake.rehearse.outcome import Ends, Outcome
from offtake.rehearse.run import Course, Drive, cut, run_all
from offtake.rehearse.schedule import schedule, surges_of
from offtake.rehearse.state import new_engine
from offtake.rehearse.summary import Parts, Summary, summarise
from offtake.rehearse.surge import with_surges
from offtake.rehearse.tally import new_tally, requests_in
from offtake.rehearse.thinning import with_thin_error
from offtake.rehearse.told import told as told_events
from offtake.rehearse.verify import ledger_of, verify
from offtake.units import HOURS_PER_WEEK, NS_PER_S, S_PER_HOUR

Deployments = Mapping[str, tuple[StepTable, ReplicaLimits]]
Progress = Callable[[float], None]


class Rehearsal(NamedTuple):
    """Hold the outcome of a rehearsal: what became of each request, and the summary."""

    outcome: Outcome
    summary: Summary

    @property
    def frame(self) -> pl.DataFrame:
        """Return one row per request; see ``outcome_frame``."""
        return self.outcome.frame()


def named_tables(fleet: Fleet) -> dict[str, StoredTable]:
    """Return the step tables that the fleet's pools name, sped up where the name says so, with where they come from.

    Raises
    ------
    InputError
        If a pool names a table that there is not.
    """
    names = {pool.deployment for pool in fleet.pools if pool.kind == "chips"}
    return {name: load_named(name) for name in sorted(names)}


def deployments_of(stored: Mapping[str, StoredTable]) -> dict[str, tuple[StepTable, ReplicaLimits]]:
    """Return the step tables and limits of ``named_tables``, as a rehearsal takes them."""
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
        Step table and limits by the names that the fleet's pools use (``deployments_of``).
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
    thin = 1 if options.thinned_load else options.thin
    options = replace(options, span_s=_span_ns(requests, options) / NS_PER_S)
    surged = with_surges(checked(requests, fleet, thin, options.seed), surges_of(options.timeline, fleet), options.seed)
    load = cut(surged, options.batch)
    first = next(load)
    first_ns = int(first.arrival_ns[0])
    runs = [_Run(fleet, deployments, options, first_ns)]
    if options.thin > 1 and options.measure_thinning:
        thinner = replace(options, thin=2 * options.thin, keep_most=0)
        runs.append(_Run(fleet, deployments, thinner, first_ns, keep_one_in=2))
    told = _progress(requests, options, progress)
    complete = run_all([each.course for each in runs], ahead(chain([first], load)), told)
    done_share = 1.0 if complete else _done_share(runs[0].course.drive, requests, options)
    summaries = [each.summary(complete, done_share) for each in runs]
    summary = with_thin_error(*summaries) if complete and len(runs) > 1 else summaries[0]
    return Rehearsal(runs[0].outcome(), summary)


class _Run:
    """Hold one rehearsal under way, of the fleet thinned as ``options`` say."""

    def __init__(
        self, fleet: Fleet, deployments: Deployments, options: Options, first_ns: int, *, keep_one_in: int = 1
    ) -> None:
        self.options = options
        self.fleet, self.errors = thin_fleet(fleet, options.thin)
        hours = options.span_s / S_PER_HOUR or float(HOURS_PER_WEEK)  # a week where it is not known
        self.plan = schedule(options.timeline, Frame(self.fleet, options.thin, options.seed, hours))
        self.ends = Ends(options.keep_most)
        drive = Drive(new_engine(self.fleet, deployments, options), new_tally(self.fleet, first_ns), self.ends.keep)
        self.course = Course(drive, self.plan.actions, options.seed, keep_one_in)

    def costs(self) -> Costs:
        """Return the prices of what was served."""
        drive = self.course.drive
        span_ns = int(drive.engine.book["last_ns"][0] - drive.tally.clock[0])
        return costs_of(drive.tally, drive.engine.seen, self.fleet, self.options.timeline, span_ns)

    def outcome(self) -> Outcome:
        """Return what became of each request."""
        return Outcome(self.ends, self.fleet, self.costs())

    def summary(self, complete: bool, done_share: float) -> Summary:  # noqa: FBT001  # passed on as it is
        """Return the summary, verified if the run came to its end."""
        engine, tally = self.course.drive.engine, self.course.drive.tally
        checks = ["not checked: the rehearsal was interrupted"]
        if complete:
            checks = verify(ledger_of(engine, tally), ceilings(self.fleet, self.options.stored, tally))
        parts = Parts(
            engine=engine,
            tally=tally,
            costs=self.costs(),
            fleet=self.fleet,
            options=self.options,
            capacity_errors=self.errors,
            complete=complete,
            done_share=done_share,
            outcome_kept=self.ends.kept,
            checks=checks,
            events=told_events(self.options.timeline, engine.capacity.effects, self.plan.notes, self.options.thin),
        )
        return summarise(parts)


def _progress(
    requests: Requests | Iterable[Requests], options: Options, told: Progress | None
) -> Callable[[int], None]:
    """Return what is called with the time of the last arrival."""
    span_ns = _span_ns(requests, options)
    return lambda now_ns: told(min(now_ns / span_ns, 1.0) if span_ns > 0 else 0.0) if told is not None else None


def _span_ns(requests: Requests | Iterable[Requests], options: Options) -> float:
    """Return how long the load lasts, 0 if that is not known."""
    if isinstance(requests, Requests) and len(requests.arrival_ns):
        return float(requests.arrival_ns[-1])
    return options.span_s * NS_PER_S


def _done_share(drive: Drive, requests: Requests | Iterable[Requests], options: Options) -> float:
    """Return the share of an interrupted load's requests that have ended, as far as its length is known."""
    known, span_ns = int(drive.engine.book["known"][0]), _span_ns(requests, options)
    came = min(float(drive.engine.book["last_ns"][0]) / span_ns, 1.0) if span_ns > 0 else 1.0
    return came * requests_in(drive.tally) / max(known, 1)


def write_rehearsal(rehearsal: Rehearsal, folder: Path) -> None:
    """Write ``outcome.parquet``, if it was kept, and ``rehearse.json`` into ``folder``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    if rehearsal.summary.outcome_kept:
        rehearsal.outcome.write(folder / "outcome.parquet")
    write_json(folder / "rehearse.json", rehearsal.summary)
