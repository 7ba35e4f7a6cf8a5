"""Drive the engine through a load, in slices that can be watched and interrupted.

Comes in: an engine, the switches of sites, and a callback. Goes out: the engine as it stands at the end, or where it
was interrupted. The slices change nothing in the outcome. This module must never read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from offtake.performance.replica import NEVER_NS
from offtake.rehearse.engine import advance
from offtake.rehearse.loss import switch_site
from offtake.rehearse.state import Engine

Progress = Callable[[float], None]
Switch = tuple[int, int, int]


def run(engine: Engine, switches: list[Switch], batch: int, progress: Progress | None = None) -> bool:
    """Serve every request; return False if the user interrupted.

    ``switches`` are (ns, site, up) in order of time; ``progress`` gets the share of requests that have arrived, after
    every ``batch`` of them.
    """
    total = max(len(engine.flow), 1)
    try:
        for first, last, until_ns, switch in _slices(engine, switches, batch):
            advance(engine, first, last, until_ns)
            if switch is not None:
                switch_site(engine, switch[1], switch[2], switch[0])
            if progress is not None:
                progress(last / total)
    except KeyboardInterrupt:
        return False
    return True


def _slices(engine: Engine, switches: list[Switch], batch: int) -> Iterator[tuple[int, int, int, Switch | None]]:
    """Yield ranges of arrivals, the time to advance to, and the switch to apply then."""
    arrival_ns = np.ascontiguousarray(engine.flow["arrival_ns"])
    first = 0
    for switch in [*switches, None]:
        end_ns = NEVER_NS if switch is None else switch[0] + 1
        last = int(np.searchsorted(arrival_ns, end_ns, side="left"))
        edges = [*range(first, last, batch), last]
        for low, high in pairwise(edges):
            yield low, high, 0, None
        yield last, last, end_ns, switch
        first = last
