"""Say what is known of an event before it happens: that it comes too late, what is expected, what thinning makes of it.

Comes in: the timeline, and the fleet that is simulated. Goes out: words, by the place of the event. This module must
never know an engine.
"""

from __future__ import annotations

from typing import NamedTuple

from offtake.fleet import Fleet
from offtake.rehearse.failures import expected_failures
from offtake.rehearse.shares import struck
from offtake.rehearse.timeline import ChipFailures, Timeline, span_of
from offtake.schema.tables import Row

TOO_LATE = "it begins after the load has ended"


class Frame(NamedTuple):
    """Hold what every event needs: the fleet that is simulated, 1 in ``thin``, the seed, and the load's hours."""

    fleet: Fleet
    thin: int
    seed: int
    hours: float


def notes_of(timeline: Timeline, frame: Frame) -> dict[int, str]:
    """Return what is known beforehand of the events of which anything is."""
    notes = {event: _note(row, frame) for event, row in enumerate(timeline.rows)}
    return {event: note for event, note in notes.items() if note}


def _note(row: Row, frame: Frame) -> str:
    """Say what is known of one event; of most nothing."""
    if span_of(row)[0] > frame.hours:
        return TOO_LATE
    return _expected(row, frame) if isinstance(row, ChipFailures) else _thinned(row, frame)


def _expected(row: ChipFailures, frame: Frame) -> str:
    """Say how many failures are expected, of the whole fleet."""
    pools = [pool for pool in frame.fleet.pools if pool.kind == "chips" and row.pool in {None, pool.name}]
    mean = sum(expected_failures(pool, row, frame.hours) for pool in pools) * frame.thin
    hours = 1 / row.per_chip_hour
    return (
        f"{mean:.3g} failures expected, one per {hours:,.0f} chip-hours"
        if hours >= 1
        else f"{mean:.3g} failures expected"
    )


def _thinned(row: Row, frame: Frame) -> str:
    """Say where thinning strikes at least one replica of the whole fleet more or fewer than was asked."""
    both = [struck(row, pool, frame.fleet, frame.thin) for pool in frame.fleet.pools]
    asked, done = sum(exact for exact, _ in both) * frame.thin, sum(count for _, count in both) * frame.thin
    if frame.thin == 1 or abs(done - asked) < 1:
        return ""
    return f"{done:,} replicas struck for {asked:,.3g}, as 1 in {frame.thin} is simulated: a smaller --thin is nearer"
