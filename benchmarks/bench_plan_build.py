"""Time the building of a plan's program at ten thousand, a hundred thousand and a million variables.

From a problem's arrays to the scaled sparse program, every variable, constraint and price. The yardstick hands the
same rows to HiGHS one at a time. The work is the number of coefficients; microseconds and peak bytes per variable
are told in the name. Problems are synthetic and seeded.
"""

from __future__ import annotations

import time
import tracemalloc
from functools import partial

import highspy

from benchmarks.harness import Measure, Side, compare
from offtake.plan.blocks import Program
from offtake.plan.highs import choose
from offtake.plan.problem import Problem
from offtake.plan.solve import build
from tests.plan.problems import frontier

SCENARIOS_PERIODS = ((3, 10), (12, 25), (113, 25))
ROWS_COEFFICIENTS = ((8_483, 62_848), (78_586, 654_249), (719_840, 6_065_713))
TURNS = (9, 5, 1)


def program_of(problem: Problem) -> Program:
    """Return the program of a problem, built from nothing."""
    model = build(problem)
    return model.blocks.build(model.units.usd)


def coefficients(problem: Problem) -> int:
    """Return how many coefficients a problem's program has, building it."""
    return int(program_of(problem).matrix.nnz)


def row_by_row(program: Program) -> int:
    """Return how many coefficients HiGHS holds after taking the columns at once and the rows one by one."""
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # highspy's own class is not annotated
    choose(solver, output_flag=False)
    solver.addVars(program.cost.size, program.lower, program.upper)
    rows = program.matrix.tocsr()
    for row in range(rows.shape[0]):
        start, stop = rows.indptr[row], rows.indptr[row + 1]
        bounds = program.row_lower[row], program.row_upper[row]
        solver.addRow(*bounds, stop - start, rows.indices[start:stop], rows.data[start:stop])
    return int(solver.getNumNz())


def bytes_per_variable(problem: Problem) -> float:
    """Return the peak of memory taken while building, per variable."""
    tracemalloc.start()
    size = program_of(problem).cost.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / size


def run() -> list[Measure]:
    """Return one measure per size."""
    measures = []
    for (scenarios, periods), expected, turns in zip(SCENARIOS_PERIODS, ROWS_COEFFICIENTS, TURNS, strict=True):
        problem = frontier(scenarios=scenarios, periods=periods)
        program = program_of(problem)
        assert (program.row_lower.size, program.matrix.nnz) == expected, "the program is not the one that was measured"
        memory = bytes_per_variable(problem)
        seconds = min(timed(problem) for _ in range(turns))
        ours = Side(f"{program.cost.size:,} variables", partial(coefficients, problem))
        yardstick = Side("row by row", partial(row_by_row, program))
        measure = compare(ours, yardstick, turns=turns)
        each = f"{seconds / program.cost.size * 1e6:.2f} µs of CPU (best), {memory:.0f} bytes each"
        measures.append(measure._replace(name=f"build {measure.name}, {each}"))
    return measures


def timed(problem: Problem) -> float:
    """Return the CPU seconds of one build."""
    start = time.process_time()
    program_of(problem)
    return time.process_time() - start
