"""Show what happened in a rehearsal beside its shares: events, the error by thinning, and what else was counted.

Comes in: :class:`~offtake.rehearse.summary.Summary` records. Goes out: tables and sentences, each only where there is
something to show. It must never load the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offtake.report.parts import Column, Grid, Part
from offtake.report.verdicts import points_of, sound
from offtake.report.words import NOTHING, duration, listing, money, number, plural, share, tally

if TYPE_CHECKING:  # their modules load the engine, which the other verbs do without
    from offtake.rehearse.summary import Summary, ThinFigure
    from offtake.rehearse.told import EventApplied

RETRIED = 1.0005  # requests offered over requests: from here on it is shown
FIGURES = {
    "share_within_slo": "served in time",
    "share_refused": "refused",
    "ttft_ms_p50": "TTFT p50",
    "ttft_ms_p95": "TTFT p95",
    "value_in_time_usd": "value in time",
}


def tables(summary: Summary) -> list[Part]:
    """Return the tables that have something to show."""
    found = [event_grid(summary), thin_grid(summary), more_grid(summary)]
    return [grid for grid in found if grid is not None]


def event_grid(summary: Summary) -> Grid | None:
    """Table what happened and what each event did."""
    if not summary.events_applied:
        return None
    columns = [Column(name="Event"), Column(name="What it did"), Column(name="Where")]
    columns += [Column(name="From", figures=True), Column(name="To", figures=True)]
    rows = [
        [each.kind.replace("_", " "), effect(each), each.target, hour(each.from_hour), hour(each.to_hour)]
        for each in summary.events_applied
    ]
    return Grid(caption="What happened, in hours from the first request", columns=columns, rows=rows)


def hour(at: float | None) -> str:
    """Write an hour of a run."""
    return "for good" if at is None else f"{number(at)} h"


def effect(event: EventApplied) -> str:
    """Return the part of an event's sentence that says what it did."""
    did = event.sentence.partition(": ")[2]
    return f"{did[:1].upper()}{did[1:]}"


def event_lines(summary: Summary) -> list[str]:
    """Say under which future it was rehearsed, and what happened, a line for each event."""
    future = [f"Rehearsed under the plan's scenario {summary.scenario}."] if summary.scenario else []
    return future + [f"Event: {each.sentence}." for each in summary.events_applied]


def thin_grid(summary: Summary) -> Grid | None:
    """Table each figure that was thinned with its error, by kind of workload."""
    status = {group.kind: group.status for group in summary.kinds} | {"all": summary.status}
    shown = [each for each in summary.thin_figures if each.value is not None and told(each, status)]
    if not shown:
        return None
    columns = [Column(name="Requests"), Column(name="Figure")]
    columns += [
        Column(name=f"1 in {summary.thin}", figures=True),
        Column(name=f"1 in {2 * summary.thin}", figures=True),
    ]
    columns.append(Column(name="Error to expect", figures=True))
    rows = [
        [
            each.kind,
            FIGURES.get(each.figure, each.figure.replace("_", " ")),
            written(each.figure, each.value),
            written(each.figure, each.value_thinner),
            error_written(each),
        ]
        for each in shown
    ]
    caption = f"How far thinning to 1 in {summary.thin} may put figures off, from a rehearsal of half as many requests"
    return Grid(caption=caption, columns=columns, rows=rows, folded=True)


def told(figure: ThinFigure, status: dict[str, str]) -> bool:
    """Tell whether a figure may be shown: the share in time, and the value, only where the group was stationary."""
    return sound(status.get(figure.kind, "")) or figure.figure == "share_refused"


def written(figure: str, value: float | None) -> str:
    """Write a figure in its own unit."""
    if value is None:
        return NOTHING
    if figure.startswith("share"):
        return share(value)
    return duration(value) if "_ms_" in figure else money(value)


def error_written(figure: ThinFigure) -> str:
    """Write the error of a figure, in points for a share."""
    if figure.error is None:
        return "not known"
    if figure.figure.startswith("share"):
        return f"±{points_of(figure.error)}"
    return f"±{written(figure.figure, figure.error)}"


def more_grid(summary: Summary) -> Grid | None:
    """Table what else was counted, where there was any: cache hits, preemptions, cut answers, retries, tenants."""
    rows = [[name, value, note] for name, value, note in more_rows(summary)]
    columns = [Column(name="Count"), Column(name="Amount", figures=True), Column(name="What it means")]
    return Grid(caption="What else was counted", columns=columns, rows=rows) if rows else None


def more_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Return name, amount and meaning of each count that is not zero."""
    total, tenants = summary.total, summary.tenants
    pushed = {pool.pool: pool.preemptions for pool in summary.pools if pool.preemptions}
    rows: list[tuple[str, str, str]] = []
    if total.cache_hits:
        saved = f"{share(total.cached_tokens / max(total.input_tokens, 1))} of the prompt tokens served came from there"
        rows.append(
            ("Prefix cache hits", share(total.cache_hits / max(total.served, 1)), f"Of served requests; {saved}.")
        )
    if pushed:
        rows.append(
            ("Preemptions", tally(sum(pushed.values())), f"Pushed back for lack of memory, at {listing([*pushed])}.")
        )
    if total.cut_short:
        rows.append(
            ("Cut short", tally(total.cut_short), "Answers that ended at the longest context a replica can hold.")
        )
    if summary.amplification >= RETRIED:
        came = f"{tally(summary.offered)} tries of {tally(total.requests)} requests: clients asked again."
        rows.append(("Retries", f"{number(summary.amplification)} times", came))
    if tenants is not None and tenants.count > 1:
        least, most = share(tenants.share_served_min), share(tenants.share_served_max)
        who = f"{plural(tenants.count, 'tenant')}, of whom {least} to {most} of requests were served; 1 is even."
        rows.append(("Fairness (Jain)", f"{tenants.jain_index:.3f}", who))
    return rows


def extrapolated(summary: Summary) -> list[str]:
    """Warn of pools whose step times nobody measured."""
    if not summary.extrapolated:
        return []
    names = listing(summary.extrapolated)
    return [
        f"Step times of {names} are extrapolated from a data sheet, not measured, and so is all that rests on them."
    ]
