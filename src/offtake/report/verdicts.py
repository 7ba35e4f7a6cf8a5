"""Say what may be told of a group of requests: a share in time only where the group was stationary.

A run that is cut off before its queues have filled serves nearly all in time, whatever the load; so where a group was
not stationary, or too short or too few to tell, the reason stands in the place of its share. Comes in: groups of a
rehearsal, and policies that were compared. Goes out: words. It must never load the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from offtake.performance.stationary import Stationarity
from offtake.report.words import NOTHING, against, duration, number, plural, share, tally
from offtake.units import PERCENT

if TYPE_CHECKING:  # their modules load the engine, which the other verbs do without
    from offtake.rehearse.compare import Comparison, Interval, Row
    from offtake.rehearse.summary import Group, Summary

MARK = "*"
PLACES = 9  #: of a share: what is smaller comes of rounding sums
WHY = {
    str(
        Stationarity.NOT_STATIONARY
    ): "the requests under way keep growing in number: waits grow for as long as that lasts",
    str(Stationarity.TOO_SHORT): "the run is too short beside the time that requests stay to tell",
    str(Stationarity.TOO_FEW): "too few requests ran to tell",
    str(Stationarity.INTERRUPTED): "only the requests that had ended are counted",
}


def sound(status: str) -> bool:
    """Tell whether a group was stationary, so that its figures hold for longer than the run."""
    return status == Stationarity.STATIONARY


def in_time(group: Group, write: Callable[[float], str] = share) -> str:
    """Write the share served in time, or why it would say nothing."""
    return write(group.share_within_slo) if sound(group.status) else group.status


def wait(group: Group, milliseconds: float | None) -> str:
    """Write a percentile of a wait, where there is one."""
    return NOTHING if milliseconds is None or not sound(group.status) else duration(milliseconds)


def overall(summary: Summary) -> Group:
    """Return the group of all requests, judged no better than the worst of the workloads."""
    return msgspec.structs.replace(summary.total, status=summary.status)


def answer(summary: Summary) -> str:
    """Say in a sentence or two how a rehearsal went."""
    total = summary.total
    if sound(summary.status):
        error = thinned(summary)
        beside = f" ({error})" if error else ""
        return f"{share(total.share_within_slo)} of {tally(total.requests)} requests were served in time{beside}."
    refused, failed = (share(part / max(total.requests, 1)) for part in (total.refused, total.failed))
    return (
        f"{summary.status.capitalize()}: {WHY[summary.status]}. What share is served in time cannot be told; "
        f"of {tally(total.requests)} requests {refused} were refused and {failed} failed."
    )


def doubts(comparison: Comparison) -> list[str]:
    """Say which policies were not stationary on every load, so that their shares hold for its length alone."""
    return [
        f"{MARK} {status}{on_loads(comparison, status)}: {WHY[status]}. What is marked holds for that length alone."
        for status in dict.fromkeys(row.status for row in comparison.rows if not sound(row.status))
    ]


def on_loads(comparison: Comparison, status: str) -> str:
    """Say on how many loads there was such a status, where there are several."""
    seeds = {score.seed for score in comparison.scores if score.status == status}
    return f" on {len(seeds)} of {plural(len(comparison.seeds), 'load')}" if len(comparison.seeds) > 1 else ""


def marked(text: str, row: Row) -> str:
    """Mark a figure of a policy that was not stationary on some load."""
    return text if sound(row.status) else f"{text}{MARK}"


def beside(difference: Interval, whole: float) -> str:
    """Write a difference in percentage points of ``whole``, with its interval where there is one."""
    ends = (difference.mean, difference.low, difference.high)
    mean, low, high = (None if end is None else round(end / whole, PLACES) for end in ends)
    return against(mean or 0.0, low, high)


def policy_name(row: Row | Summary) -> str:
    """Write a policy's name."""
    return row.policy.replace("_", " ")


def points_of(error: float) -> str:
    """Write an error of a share in percentage points."""
    return f"{number(error * PERCENT, 2)} points"


def thinned(summary: Summary) -> str:
    """Say beside the share in time how far thinning may put it off; empty where it was not thinned or not measured."""
    for each in summary.thin_figures:
        if (each.figure, each.kind) == ("share_within_slo", "all") and each.error is not None:
            return f"±{points_of(each.error)} by thinning to 1 in {summary.thin}"
    return ""
