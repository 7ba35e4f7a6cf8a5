"""Say what each event of a rehearsal did.

Comes in: the timeline, what the engine counted, and notes made beforehand. Goes out: one record and one sentence for
each event, for ``rehearse.json``. With thinning n, counts are those of the full fleet: the simulated ones times n. This
module must never change an engine.
"""

from __future__ import annotations

import msgspec

from offtake.performance.compiled import Rows
from offtake.rehearse.notes import TOO_LATE
from offtake.rehearse.timeline import (
    Autoscale,
    ChipFailures,
    ControlPlaneDown,
    Curtailment,
    LateTranche,
    LinkDegraded,
    LostSite,
    Reclaim,
    RetryStorm,
    Scale,
    SlowReplica,
    SurgeRow,
    Timeline,
    Training,
    span_of,
    table_of,
)
from offtake.schema.tables import Row

EVERYTHING = "all"


class EventApplied(msgspec.Struct, frozen=True, kw_only=True):
    """Say what one event was, and what it did."""

    kind: str  #: Table of the events file.
    target: str  #: Site, pool, offer or workload; `all`.
    from_hour: float  #: From the first instant of the load.
    to_hour: float | None  #: Null where it is for good.
    requests_moved: int  #: Requests without a first token that were routed again.
    requests_failed: int  #: Requests that had begun to answer and were lost.
    replicas_stopped: int  #: Replicas stopped with whatever they ran.
    replicas_drained: int  #: Replicas that finished what they had and took nothing new.
    replicas_loaded: int  #: Replicas that began to load their weights.
    sentence: str  #: All of it, in a sentence.


def told(timeline: Timeline, effects: Rows, notes: dict[int, str], thin: int) -> list[EventApplied]:
    """Return a record for each event of ``timeline``, in its order."""
    return [_applied(row, effects[place], notes.get(place, ""), thin) for place, row in enumerate(timeline.rows)]


def _applied(row: Row, effect: Rows, note: str, thin: int) -> EventApplied:
    """Return the record of one event."""
    target, (first, last) = _target(row), span_of(row)
    counts = {name: int(effect[name]) * thin for name in ("moved", "failed", "stopped", "drained", "loaded")}
    until = f"to {last:g} h" if last is not None else "on"
    words = (
        ("stopped", "replicas stopped"),
        ("drained", "replicas drained"),
        ("loaded", "replicas loaded"),
        ("moved", "requests routed again"),
        ("failed", "requests failed"),
    )
    did = [f"{counts[name]:,} {word}" for name, word in words if counts[name] > 0]
    fee = "" if note == TOO_LATE else _fee(row)
    parts = ", ".join([*did, *([note] if note else [])]) or _without_counts(row)
    return EventApplied(
        kind=table_of(row),
        target=target,
        from_hour=first,
        to_hour=last,
        requests_moved=counts["moved"],
        requests_failed=counts["failed"],
        replicas_stopped=counts["stopped"],
        replicas_drained=counts["drained"],
        replicas_loaded=counts["loaded"],
        sentence=f"{table_of(row).replace('_', ' ')}, {target}, from {first:g} h {until}: {parts}{fee}",
    )


def _fee(row: Row) -> str:
    """Say when the fee of chips that are away is not owed; see ``costs``."""
    match row:
        case Reclaim():
            return ", no fee from then on"
        case LateTranche():
            return ", no fee until it comes, as far as the late remedy goes"
        case LostSite() if span_of(row)[1] is None:
            return ", no fee from then on"
        case _:
            return ""


def _without_counts(row: Row) -> str:
    """Say what an event does that takes no replica and no request away."""
    match row:
        case SlowReplica():
            return f"steps take {row.factor:.3g} times as long"
        case LinkDegraded():
            satellite = " and a satellite's round trip" if row.kind == "satellite" else ""
            return f"{row.adds_ms:g} ms{satellite} added, {row.loss_share:.2%} of packets lost"
        case SurgeRow():
            return f"{row.factor:g} times the demand"
        case RetryStorm():
            return f"{row.share:.0%} of clients ask again, {row.attempts_max} times in all"
        case ControlPlaneDown():
            return "new requests were refused"
        case _:
            return "nothing had to give way"


def _target(row: Row) -> str:
    """Name what an event strikes."""
    match row:
        case LostSite() | Curtailment() | LinkDegraded() | Training():
            return row.site
        case Reclaim() | LateTranche():
            return row.pool or f"{row.offer}"
        case SlowReplica() | Scale():
            return row.pool
        case Autoscale() | ChipFailures():
            return row.pool or EVERYTHING
        case SurgeRow():
            return ", ".join(name for name in (row.workload, row.region) if name) or EVERYTHING
        case _:
            return EVERYTHING
