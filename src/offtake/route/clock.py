"""Read the clock and draw what nobody may guess: the one module of the router that does either.

Comes in: nothing. Goes out: nanoseconds that never go back, the wall clock beside them, and names of requests.
"""

from __future__ import annotations

import secrets
import time


class Clock:
    """Tell the time of one router; a jump of the wall clock moves nothing that it measures.

    The wall clock is read once, when the router begins, and its own time is counted on from there. ``speed`` makes time
    pass quicker or slower than it does, and ``begun_wall_ns`` sets the day, beside mock pools of the same speed.
    """

    def __init__(self, speed: float = 1.0, begun_wall_ns: int | None = None) -> None:
        self.speed = speed
        self._zero_ns = time.monotonic_ns()
        self.begun_wall_ns = time.time_ns() if begun_wall_ns is None else begun_wall_ns

    def now_ns(self) -> int:
        """Return the time since the clock was made, ns."""
        if self.speed == 1.0:
            return time.monotonic_ns() - self._zero_ns
        return round((time.monotonic_ns() - self._zero_ns) * self.speed)

    def wall_ns(self, now_ns: int) -> int:
        """Return the time since 1970 that belongs to a time of this clock, ns."""
        return self.begun_wall_ns + now_ns


def fresh_name() -> str:
    """Return a name that nobody else draws: 16 hexadecimal digits."""
    return secrets.token_hex(8)


class RequestNames:
    """Name requests: nobody else draws the first part, and the second counts."""

    def __init__(self) -> None:
        self._prefix = fresh_name()
        self._count = 0

    def next(self) -> str:
        """Return a name that no other request has."""
        self._count += 1
        return f"req_{self._prefix}{self._count:08x}"
