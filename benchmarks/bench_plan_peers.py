"""Compare the stating of a plan with linopy, which states all of it, and with PyPSA, which states a part.

From a problem's arrays to a program inside HiGHS, each in a process of its own, in CPU seconds: the first time, and the
best of several. linopy's statement (``peers_plan/in_linopy.py``) must have as many variables and coefficients, and the
same optimum to 1e-6; it is then solved in whole numbers by HiGHS, beside our cutting planes, to a gap of 1e-3. What
PyPSA can state is told by ``peers_plan/part.py``: the same part is stated by us, with the same optimum; since PyPSA
needs more variables for it, problems are chosen so that PyPSA has about as many as asked. Both are installed in an
environment of their own. Problems are synthetic and seeded.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import Environment
from benchmarks.harness import Figure
from benchmarks.peers_plan.in_offtake import write
from benchmarks.peers_plan.part import part_of
from benchmarks.process import in_new_process
from offtake.plan import highs
from offtake.plan.problem import Problem
from offtake.plan.solve import find, state
from tests.plan.problems import frontier

PEERS = Environment("linopy and PyPSA", ("linopy==0.10.1", "pypsa==1.4.0", "highspy==1.15.1"), "OFFTAKE_PEERS_PYTHON")
MEGA, MS_PER_S = 1e6, 1e3
LINOPY = {"1e4": (3, 10), "1e5": (12, 25), "1e6": (113, 25)}  # scenarios, periods
PYPSA = {"1e4": (4, 5), "1e5": (5, 22), "1e6": (44, 25)}
TURNS = {"1e4": 5, "1e5": 3, "1e6": 2}
OURS_TURNS = 9
BUILD_BAR_MS, EACH_BARS = {10_000: 10.0}, (1.0, 400.0)  # microseconds, bytes
SAME, GAP = 1e-6, 1e-3
Found = dict[str, Any]


def run() -> list[Figure]:
    """Return the figures of each size, beside linopy and beside PyPSA."""
    figures = []
    with tempfile.TemporaryDirectory() as name:
        for size, (scenarios, periods) in LINOPY.items():
            problem = frontier(scenarios=scenarios, periods=periods)
            ours, theirs = both(problem, Path(name), size, "in_linopy")
            assert (ours["columns"], ours["coefficients"]) == (theirs["columns"], theirs["coefficients"]), "one program"
            figures += [*stating("linopy", ours, theirs), *answers(problem, theirs)]
        for size, (scenarios, periods) in PYPSA.items():
            part = part_of(frontier(scenarios=scenarios, periods=periods))
            ours, theirs = both(part, Path(name), size, "in_pypsa")
            figures += [*stating("pypsa", ours, theirs), *answers(part, theirs)]
    return figures


def both(problem: Problem, folder: Path, size: str, module: str) -> tuple[Found, Found]:
    """Return what we and a peer take, each in a process of its own; the smallest is solved as well."""
    file = folder / "problem.npz"
    write(file, problem)
    ours = in_new_process("peers_plan.measure", "measure", "in_offtake", str(file), str(OURS_TURNS)).returned
    words = [module, str(file), str(TURNS[size]), *(["solve"] if size == "1e4" else [])]
    said = PEERS.call("-W", "ignore", "-m", "benchmarks.peers_plan.measure", *words)
    return ours, json.loads(said.splitlines()[-1])


def stating(peer: str, ours: Found, theirs: Found) -> list[Figure]:
    """Return what stating and handing over takes, and what memory above that of the libraries and the arrays."""
    name = f"{ours['columns']:,} variables"
    peers = f"  {peer} {theirs['versions'][peer]}, {theirs['columns']:,} variables"
    best, first = (theirs[key] / ours[key] for key in ("best_s", "first_s"))
    bars = (BUILD_BAR_MS.get(round(ours["columns"], -4)), *EACH_BARS) if peer == "linopy" else (None, None, None)
    figures = [
        Figure(
            name, ours["best_s"] * MS_PER_S, f"ms of CPU ({ours['first_s'] * MS_PER_S:.0f} the first time)", bars[0]
        ),
        Figure(f"{name}, each", ours["best_s"] / ours["columns"] * MEGA, "µs of CPU", bars[1]),
        memory(name, ours, bars[2]),
        Figure(peers, best, f"× our CPU ({first:.3g} × the first time)"),
        memory(peers, theirs),
    ]
    if ours["columns"] == theirs["columns"]:
        return figures
    return [*figures, Figure(f"{peers}, each", best * ours["columns"] / theirs["columns"], "× our CPU")]


def memory(name: str, one: Found, bar: float | None = None) -> Figure:
    """Return the most memory a process took beyond its libraries and the arrays, for each variable."""
    more = one["peak_mb"] - one["before_mb"]
    each = f"bytes each ({one['before_mb']:.0f} + {more:.0f} MB)"
    return Figure(f"{name}, most memory", more * MEGA / one["columns"], each, bar)


def answers(problem: Problem, theirs: Found) -> list[Figure]:
    """Return what solving takes, where the peer solved: the same optimum, and plans within each other's bounds."""
    if "linear_musd" not in theirs:
        return []
    model, program = state(problem)
    unit = program.objective_unit / MEGA
    linear = highs.solve_linear(replace(program, integer=np.zeros_like(program.integer)), highs.Effort())
    assert abs(linear.objective * unit / theirs["linear_musd"] - 1.0) <= SAME, "the same optimum"
    figure = Figure(
        "  the same optimum, relative difference", abs(linear.objective * unit / theirs["linear_musd"] - 1), "", SAME
    )
    if not program.integer.any():
        return [figure]
    highs.start()
    start = time.process_time()
    whole = find(model, program, highs.Effort(gap=GAP))
    ours_s = time.process_time() - start
    tolerance = SAME * abs(whole.objective)
    assert whole.bound * unit <= theirs["whole_musd"] + tolerance, "no plan of the peer beats our bound"
    assert theirs["bound_musd"] <= whole.objective * unit + tolerance, "no plan of ours beats the peer's bound"
    name = "  whole numbers to a gap of 0.1%: HiGHS on what the peer stated, times our CPU"
    return [figure, Figure(name, theirs["whole_s"] / ours_s, f"× ({theirs['whole_s']:.1f} against {ours_s:.1f} s)")]
