"""Solve a planning problem (the interface; see ``Options`` and ``solve``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offtake.plan.problem import Problem
from offtake.plan.solution import Solution


@dataclass(frozen=True, kw_only=True)
class Options:
    """Choose how hard to solve.

    ``clock`` gives seconds from any origin (``time.perf_counter`` from the command line); without one the
    solution's times are 0. ``progress(stage, share_done)`` is called between and during stages.
    """

    gap: float = 1e-3
    time_limit_s: float = 600.0
    threads: int = 2
    seed: int = 1
    clock: Callable[[], float] | None = None
    progress: Callable[[str, float], None] | None = None


def solve(problem: Problem, options: Options | None = None) -> Solution:
    """Find the plan of highest risk-adjusted value, and prove it."""
    raise NotImplementedError
