"""Wait until another process has come so far, where nothing but asking again can tell.

Comes in: a question. Goes out: whether its answer was yes in time. It knows nothing of what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_S = 0.02


def until(happened: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Ask again and again, with short pauses, until it happened or the time is up."""
    deadline = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_S)
    return True
