"""Time what is asked after a plan of the May-2026 example: one question, a price curve, a whole negotiation sheet.

CPU seconds of one thread, beside the goals (which are for a whole machine). The question is the lease signed in full;
the curve is that at four fees; the sheet is every clause that can be moved, its problem put together anew, to the gap
that an appraisal tightens by itself. The work is checked: the answer to the question is the one that a fresh solve
gives, within both gaps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.harness import Figure
from offtake.files import cache_folder
from offtake.plan.appraise import asking, at_fee, case_of, forced_in_full
from offtake.plan.clauses import amendments
from offtake.plan.negotiate import Desk, moved
from offtake.plan.plan import PlanOptions, prepare
from offtake.plan.pool import Pool
from offtake.plan.solve import Options, solve
from offtake.schema.read import read_folder

Answer = TypeVar("Answer")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "may-2026"
QUESTION_BAR_S, CURVE_BAR_S, SHEET_BAR_S = 1.0, 3.0, 15.0
FEES = (0.6, 0.8, 1.2, 1.4)
CLAUSES = 13


def run() -> list[Figure]:
    """Return the CPU seconds of each, beside its goal, and those of the plan and of the question asked alone."""
    options = Options(threads=1)
    tables = read_folder(EXAMPLE)
    some = prepare(tables, PlanOptions(solver=options, cache=cache_folder()))
    offer = some.problem.axes.offers.index("spacex-colossus")
    pool = Pool(some.problem, options)
    ask = asking(pool)
    plan_s, plan = timed(pool.solve)
    variables = sum(plan.columns.values())
    forced = forced_in_full(some.problem, offer)
    question_s, answer = timed(lambda: ask(forced))
    alone_s, fresh = timed(lambda: solve(forced, options))
    assert answer.objective_usd <= fresh.bound_usd, "the answer is worth more than can be"
    assert fresh.objective_usd <= answer.bound_usd, "the answer's bound is too low"
    curve_s, _ = timed(lambda: [ask(forced_in_full(at_fee(some, offer, ratio), offer)) for ratio in FEES])
    clauses = amendments(tables, "spacex-colossus")
    assert len(clauses) == CLAUSES, "the sheet is not the one that was measured"
    case, warm = case_of(tables, "spacex-colossus", PlanOptions(solver=options, cache=cache_folder()))
    desk = Desk(case=case, solve=warm, progress=lambda _stage, _share: None)
    sheet_s, _ = timed(lambda: [moved(desk, one) for one in clauses])
    return [
        Figure(f"plan of {variables:,} variables", plan_s, "s of CPU"),
        Figure("one question after it, asked alone", alone_s, "s of CPU"),
        Figure("one question after it", question_s, "s of CPU", QUESTION_BAR_S),
        Figure(f"price curve of {len(FEES)} fees", curve_s, "s of CPU", CURVE_BAR_S),
        Figure(f"sheet of {len(clauses)} clauses", sheet_s, "s of CPU", SHEET_BAR_S),
    ]


def timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """Return the CPU seconds of some work, and its answer."""
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer
