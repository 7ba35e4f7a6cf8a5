"""Name a stretch of time in the ledger, and find the week that it lies in.

Comes in: times in nanoseconds since 1970. Goes out: spans. It must never read a clock.
"""

from __future__ import annotations

from typing import NamedTuple

from offtake.units import DAYS_PER_WEEK, HOURS_PER_WEEK, NS_PER_DAY, NS_PER_HOUR

EVER_NS = 2**63 - 1
MONDAY_NS = 4 * NS_PER_DAY  #: the first Monday after 1 January 1970, a Thursday
WEEK_NS = DAYS_PER_WEEK * NS_PER_DAY


class Span(NamedTuple):
    """Name the arrivals that are meant: from ``since_ns`` up to, but not at, ``until_ns``; ns since 1970."""

    since_ns: int = 0
    until_ns: int = EVER_NS


def hour_of_week(time_ns: int) -> float:
    """Return how long after Monday 00:00 UTC a time is, hours."""
    return (time_ns - MONDAY_NS) / NS_PER_HOUR % HOURS_PER_WEEK


def monday_ns(time_ns: int) -> int:
    """Return the Monday 00:00 UTC at or before a time, ns since 1970."""
    return time_ns - (time_ns - MONDAY_NS) % WEEK_NS
