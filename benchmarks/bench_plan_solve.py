"""Time the solving of plans of ten thousand, a hundred thousand and, where asked, a million and ten million variables.

Both sides solve one program, whole numbers and all, to a gap of 1e-3: cutting planes here, HiGHS's branch and bound on
the extensive form there, which is stopped past ten times our CPU seconds: the ratio is then a lower bound. The work
is the proof: neither side's plan may beat the other side's bound. ``OFFTAKE_PLAN_SIZES`` names more sizes, such as
``1e6,1e7``. A question after a plan bans one signed offer. Problems are synthetic and seeded.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np

from benchmarks.harness import Figure
from offtake.plan import highs
from offtake.plan.blocks import Program
from offtake.plan.highs import Answer, Effort
from offtake.plan.parts import Parts
from offtake.plan.pool import Pool
from offtake.plan.problem import Problem
from offtake.plan.solve import Options, Stated, find, state
from offtake.plan.split import split
from tests.plan.problems import frontier

SCENARIOS_PERIODS = {"1e4": (3, 10), "1e5": (12, 25), "1e6": (113, 25), "1e7": (1_130, 25)}
ALWAYS = ("1e4", "1e5")
GAP, PATIENCE, BAR = 1e-3, 10.5, {"1e5": 10.0}
WALL_BAR_S = {"1e6": 60.0, "1e7": 300.0}
QUESTION_BAR_S, QUESTION_GAP = 1.0, 5e-3
LOOKS = 3


def run() -> list[Figure]:
    """Return the figures of each size."""
    asked = [size for size in os.environ.get("OFFTAKE_PLAN_SIZES", "").split(",") if size]
    figures = []
    for size in dict.fromkeys((*ALWAYS, *asked)):
        scenarios, periods = SCENARIOS_PERIODS[size]
        problem = frontier(scenarios=scenarios, periods=periods)
        figures += solved(size, problem)
        if size == "1e5":
            figures += [*questions(problem), *workers(problem)]
    return figures


def solved(size: str, problem: Problem) -> list[Figure]:
    """Return what solving takes, and how often our time the extensive form takes."""
    model, program = state(problem)
    highs.start()
    start, wall = time.process_time(), time.perf_counter()
    answer = find(model, program, Effort(gap=GAP, time_limit_s=3_600.0))
    ours_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    assert answer.algorithm.startswith("cutting planes"), "cutting planes can tell"
    assert answer.objective - answer.bound <= GAP * abs(answer.objective), "the gap is reached"
    name = f"solve {program.cost.size:,} variables"
    figures = [
        Figure(f"{name}, {answer.algorithm}", ours_s, "CPU s"),
        Figure(f"{name}, by the clock", wall_s, "s", WALL_BAR_S.get(size)),
    ]
    return figures + (
        [against_the_whole(program, answer, ours_s)._replace(bar=BAR.get(size))] if size in ALWAYS else []
    )


def against_the_whole(program: Program, ours: Answer, ours_s: float) -> Figure:
    """Return how many times our CPU seconds HiGHS takes on the extensive form."""
    start = time.process_time()
    late = start + PATIENCE * ours_s
    effort = Effort(gap=GAP, time_limit_s=3_600.0, late=lambda: time.process_time() > late)
    solver = highs.load(program, effort)
    highs.attend(solver, effort)
    solver.run()
    spent_s, info = time.process_time() - start, solver.getInfo()
    tolerance = 1e-6 * abs(ours.objective)
    assert info.mip_dual_bound <= ours.objective + tolerance, "no plan beats HiGHS's bound"
    assert ours.bound <= info.objective_function_value + tolerance, "no plan of HiGHS beats our bound"
    done = solver.getModelStatus() == highs.OK
    so_far = "" if done else f", stopped there at a gap of {info.mip_gap:.1%}"
    return Figure(f"HiGHS on the extensive form, times our CPU{so_far}", spent_s / ours_s, "×", at_least=True)


def questions(problem: Problem) -> list[Figure]:
    """Return what a question after a plan takes: the plan without one of the offers it signs."""
    pool = Pool(problem, Options(gap=GAP))
    plan = pool.solve()
    open_offers = problem.vintages.offer[plan.signed.any(axis=1) & ~problem.vintages.signed]
    offer = open_offers[0]
    most = np.where(problem.vintages.offer == offer, 0.0, np.nan)[:, None]
    figures = []
    for gap, bar in ((GAP, QUESTION_BAR_S), (QUESTION_GAP, QUESTION_BAR_S)):
        start = time.process_time()
        without = pool.solve(upper={"signed": most}, gap=gap)
        name = f"a question after the plan, to a gap of {gap:.1%}: without one signed offer"
        figures.append(Figure(name, time.process_time() - start, "CPU s", bar))
        assert not without.signed[problem.vintages.offer == offer].any(), "the offer is banned"
        assert without.objective_usd <= plan.bound_usd, "banning an offer gains nothing"
        pool.solve(gap=QUESTION_GAP)
    return figures


def workers(problem: Problem) -> list[Figure]:
    """Return how the clock falls when two threads ask the operations, the same to the byte; and what a look costs."""
    stated: Stated = state(problem)
    levels = split(*stated).levels
    rng = np.random.default_rng([7, 1])
    x = np.where(np.isfinite(levels.master.upper), levels.master.upper, 0.0)
    points = [x * share for share in rng.uniform(0.1, 0.9, LOOKS)]
    seconds, said = {}, {}
    for threads in (1, 2):
        highs.start()
        parts = Parts(levels, replace(Effort(), threads=threads))
        parts.ask(points[0])
        start = time.perf_counter()
        replies = [parts.ask(point) for point in points[1:]]
        seconds[threads] = time.perf_counter() - start
        said[threads] = b"".join(reply.duals.data.tobytes() for reply in replies)
    assert said[1] == said[2], "the same answers"
    each_ms = seconds[1] / (LOOKS - 1) / len(levels.parts) * 1e3
    return [
        Figure("one operation, asked at a far point", each_ms, "ms by the clock"),
        Figure("two threads against one, by the clock", seconds[1] / seconds[2], "×"),
    ]
