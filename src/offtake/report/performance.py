"""Make the short tables that end ``offtake performance``: step tables, and what a fit found, as Rich renderables.

Comes in: the records of the performance room. Goes out: what to print; it prints nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from offtake.performance.fit_report import FitReport
from offtake.performance.library import Listed
from offtake.performance.score import MEASURES, ScoreReport, Spread
from offtake.report.terminal import answered, table
from offtake.report.words import NOTHING, number, plural, share, tally

VERDICT_STYLES = {"delivered": "bold green", "below": "bold red", "cannot tell": "yellow"}
METRIC_WORDS = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "throughput": "Throughput"}
SCORE_KINDS = ("all", "constants", "system, backend", "source")  #: groups that a terminal has room for


def tables_table(tables: Sequence[Listed]) -> Group:
    """Table the step tables that can be named."""
    names = [("Table", False), ("Checkpoint", False), ("System", False), ("Engine", False), ("Chips", True)]
    made = table([*names, ("KV tokens", True), ("Confidence", False), ("Kept", False)])
    for one in tables:
        cells = [one.name, one.checkpoint, one.system, one.backend, str(one.chips), tally(one.kv_tokens)]
        made.add_row(*(Text(cell) for cell in (*cells, one.confidence, one.kept)))
    return answered(f"{plural(len(tables), 'step table')}.", made)


def score_table(report: ScoreReport) -> Group:
    """Table the errors of replayed runs by group, beside aiconfigurator's own."""
    heads = [f"{METRIC_WORDS[measure]}, median (p90)" for measure in MEASURES]
    theirs = [f"own {METRIC_WORDS[measure]}" for measure in MEASURES]
    made = table([("Runs", False), ("covered", True), *((head, True) for head in (*heads, *theirs))])
    for group in report.groups:
        if group.kind in SCORE_KINDS:
            cells = [spread_cell(group.errors.get(measure)) for measure in MEASURES]
            cells += [spread_cell(group.own.get(measure)) for measure in MEASURES]
            made.add_row(*(Text(cell) for cell in (group.name, f"{group.covered} of {group.runs}", *cells)))
    whole = report.groups[0]
    told = f"{whole.covered} of {whole.runs} measured runs replayed; {report.dropped} exact duplicates were left out."
    about = "Errors are absolute, relative to what was measured. Own: what aiconfigurator itself predicts of the runs."
    left = [Text(f"Not covered: {reason} ({count}).") for reason, count in sorted(report.reasons.items())]
    return Group(answered(told, made), Text(about, style="dim"), *left)


def spread_cell(spread: Spread | None) -> str:
    """Write an error: its median and 90th percentile."""
    return NOTHING if spread is None else f"{share(spread.median)} ({share(spread.p90)})"


def fit_table(report: FitReport) -> Group:
    """Table what a fit found: levers, errors before and after, and the verdict on each claim."""
    levers = table([("Fitted", False), ("Value", True), ("80% interval", False), ("", False), ("Expected", True)])
    for one in report.levers:
        ends = f"{number(one.low)} to {number(one.high)}"
        levers.add_row(*(Text(cell) for cell in (one.name, number(one.value), ends, one.unit, number(one.expected))))
    names = [
        "Error, median (p90)",
        "points",
        "table as it was",
        "calibrated table",
        "with nearby points",
        "in 80% interval",
    ]
    errors = table([(name, index > 0) for index, name in enumerate(names)])
    for error in report.errors:
        pairs = [
            (error.before_median, error.before_p90),
            (error.table_median, error.table_p90),
            (error.after_median, error.after_p90),
        ]
        cells = [f"{share(median)} ({share(p90)})" if error.points else NOTHING for median, p90 in pairs]
        inside = share(error.inside) if error.points else NOTHING
        errors.add_row(*(Text(cell) for cell in (METRIC_WORDS[error.metric], str(error.points), *cells, inside)))
    verdicts = [Text(one.sentence, style=VERDICT_STYLES[one.verdict]) for one in report.verdicts]
    told = f"{report.table}: {report.calibrated_from} fitted to {plural(count_points(report), 'measured point')}."
    about = "Each point is predicted from the others (the last three columns), never from itself."
    return Group(
        answered(told, levers), Text(""), errors, Text(about, style="dim"), *([Text("")] * bool(verdicts)), *verdicts
    )


def count_points(report: FitReport) -> int:
    """Return how many points were measured."""
    return max((error.points for error in report.errors), default=0)
