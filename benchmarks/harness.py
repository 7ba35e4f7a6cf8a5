"""Compare two ways of doing the same work, turn by turn in one process.

Comes in: functions that do the work and return how much they did. Goes out: a ratio of median times, beside the
bar it is held to. Sides that did different work are refused: a faster answer to another question is no answer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Work = Callable[[], int]


class Side(NamedTuple):
    """Hold one way of doing the work, with what to call it."""

    name: str
    work: Work


class Skipped(Exception):  # noqa: N818  # it is no error
    """Say why a benchmark cannot be run here."""


class Figure(NamedTuple):
    """Hold one number beside the bar it is held to (at most, unless ``at_least``)."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the bar is met; without one it always is."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "" if self.bar is None else f"   bar {sign} {self.bar:g}: {'met' if self.met else 'NOT met'}"
        return f"{self.name}: {self.value:.4g} {self.unit}{verdict}"


class Measure(NamedTuple):
    """Hold what was measured: median seconds of each side, the work both did, and the bar (yardstick over ours)."""

    name: str
    ours_s: float
    yardstick_s: float
    yardstick: str
    work: int
    bar: float | None = None

    @property
    def ratio(self) -> float:
        """Tell how many times faster than the yardstick we are."""
        return self.yardstick_s / self.ours_s

    def __str__(self) -> str:
        verdict = "" if self.bar is None else f"   bar {self.bar:g}: {'met' if self.ratio >= self.bar else 'NOT met'}"
        rate = self.work / self.ours_s
        return f"{self.name}: {self.ratio:.2f} × {self.yardstick}   ({rate:,.0f} per second){verdict}"


def compare(ours: Side, yardstick: Side, turns: int = 5, clock: Callable[[], float] = time.perf_counter) -> Measure:
    """Time both sides in turn, after one untimed turn each; raise AssertionError when their work differs."""
    works = {side.work() for side in (ours, yardstick)}
    seconds: dict[str, list[float]] = {ours.name: [], yardstick.name: []}
    for _ in range(turns):
        for side in (ours, yardstick):
            start = clock()
            works.add(side.work())
            seconds[side.name].append(clock() - start)
    assert len(works) == 1, f"{ours.name} and {yardstick.name} did different work: {sorted(works)}"
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return Measure(ours.name, medians[ours.name], medians[yardstick.name], yardstick.name, works.pop())
