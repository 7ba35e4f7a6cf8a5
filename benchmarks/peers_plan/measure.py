"""Measure one statement of the plan in a process of its own: CPU seconds to HiGHS, memory, and the answer.

Comes in: the name of a module of this folder that can ``read`` a file, ``state`` a model and ``hand_over`` it to HiGHS,
and names its ``PACKAGES``; a file; how often. Goes out: what can be written as JSON, or a line of it from ``python -m
benchmarks.peers_plan.measure MODULE FILE TURNS [solve]``. It runs in any environment that has the packages.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import highspy

from benchmarks.process import peak_mb

GAP, PATIENCE_S = 1e-3, 600.0


def measure(module: str, file: str, turns: str, solve: str = "") -> dict[str, Any]:
    """Return what stating and handing over takes, and, to ``solve``, the least loss with and without whole numbers."""
    statement = importlib.import_module(f"benchmarks.peers_plan.{module}")
    given = statement.read(Path(file))
    before_mb, peak, seconds = peak_mb(), 0.0, []
    for _ in range(int(turns)):
        start = time.process_time()
        model = statement.state(given)
        solver = statement.hand_over(model)
        seconds.append(time.process_time() - start)
        peak = peak or peak_mb()
    found = {
        "columns": solver.getNumCol(),
        "coefficients": solver.getNumNz(),
        "first_s": seconds[0],
        "best_s": min(seconds),
        "before_mb": before_mb,
        "peak_mb": peak,
        "versions": {name: importlib.metadata.version(name) for name in statement.PACKAGES},
    }
    return found | (answers(solver) if solve else {})


def answers(solver: highspy.Highs) -> dict[str, Any]:
    """Return the optimum of the linear program, then the plan in whole numbers to a gap, with CPU seconds of each.

    In millions of USD, the unit of money of the peers.
    """
    for option, value in (("output_flag", False), ("mip_rel_gap", GAP), ("time_limit", PATIENCE_S)):
        solver.setOptionValue(option, value)
    found = {}
    for name, relax in (("linear", True), ("whole", False)):
        solver.clearSolver()
        solver.setOptionValue("solve_relaxation", relax)
        start = time.process_time()
        solver.run()
        found[f"{name}_s"] = time.process_time() - start
        found[f"{name}_musd"] = solver.getInfo().objective_function_value
    return found | {"bound_musd": solver.getInfo().mip_dual_bound}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
