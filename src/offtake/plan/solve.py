"""Solve a planning problem: build the program, solve it, check the answer independently, price what is scarce.

Comes in: a :class:`~offtake.plan.problem.Problem` and :class:`Options`. Goes out: a checked
:class:`~offtake.plan.solution.Solution`, or ``InfeasibleError`` with sentences, or ``SolverError``: never an
answer that breaks a limit, or whose money does not add up when recounted. It must never know a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from offtake.errors import InfeasibleError, SolverError
from offtake.plan import constraints, duals, explain, highs, objective
from offtake.plan.blocks import Index, Program
from offtake.plan.decompose import Planner
from offtake.plan.few import few_of, laid_out
from offtake.plan.highs import Answer, Effort
from offtake.plan.problem import Floats, Problem
from offtake.plan.scale import Units
from offtake.plan.solution import Quantities, Solution
from offtake.plan.variables import Model, declare

Stated = tuple[Model, Program]
Finder = Callable[[Model, Program, Effort], Answer]

FEASIBLE = 1e-5  # of a solver's unit; HiGHS itself works to 1e-7, crossing its own presolve may lose some
LARGE = 3_000  # columns; measured: cutting planes are quicker from about here
AGREES = 1e-6  # of the larger of the two objectives


@dataclass(frozen=True, kw_only=True)
class Options:
    """Choose how hard to solve.

    ``gap`` is relative to the objective. ``clock`` gives seconds from any origin (``time.perf_counter`` from the
    command line); without one the solution's times are 0. ``progress(stage, share_done)`` is called between stages.
    ``stop`` is asked often, and ends the search with the best plan so far.
    """

    gap: float = 1e-3
    time_limit_s: float = 600.0
    threads: int = 2
    seed: int = 1
    clock: Callable[[], float] | None = None
    progress: Callable[[str, float], None] | None = None
    stop: Callable[[], bool] = bool


def solve(problem: Problem, options: Options | None = None) -> Solution:
    """Find the plan of highest risk-adjusted value, and prove it.

    Raises
    ------
    InfeasibleError
        No plan meets the limits; its sentences say which, in the user's words.
    SolverError
        The solver stopped without an answer that passes the checks.
    """
    return solve_stated(lambda: state(problem), options or Options(), find)


def solve_stated(stated: Callable[[], Stated], options: Options, finder: Finder) -> Solution:
    """Solve what ``stated`` states by what ``finder`` finds; see :func:`solve`."""
    clock, tell = options.clock or (lambda: 0.0), options.progress or (lambda _stage, _share: None)
    started = clock()
    tell("build", 0.0)
    model, program = stated()
    built = clock()
    tell("solve", 0.0)
    highs.start()
    effort = Effort(
        gap=options.gap,
        time_limit_s=options.time_limit_s,
        threads=options.threads,
        seed=options.seed,
        late=lambda: options.stop() or clock() - started > options.time_limit_s,
        left_s=lambda: started + options.time_limit_s - clock(),
        tell=lambda share: tell("solve", share),
    )
    try:
        answer = finder(model, program, effort)
    except highs.ProgramInfeasibleError:
        tell("explain", 0.0)
        highs.start()
        families, sentences = explain.explain(model, program)
        raise InfeasibleError(families, sentences) from None
    tell("check", 0.0)
    check(program, answer)
    solution = interpret(model, program, answer)
    tell("done", 1.0)
    return replace(solution, build_seconds=built - started, solve_seconds=clock() - built)


def find(model: Model, program: Program, effort: Effort) -> Answer:
    """Solve a small program whole and a large one by cutting planes; whole again where these cannot tell."""
    return found(model, program, effort)[0]


def found(model: Model, program: Program, effort: Effort) -> tuple[Answer, list[Floats]]:
    """Solve like :func:`find`; give values of the columns at other plans that tempted the search, too."""
    if program.cost.size <= LARGE:
        return highs.solve_whole(program, effort), []
    planner = Planner()
    answer = planner.find(model, program, effort, sketched(model, program, effort))
    return answer or highs.solve_whole(program, effort), planner.tried


def sketched(model: Model, program: Program, effort: Effort) -> list[Floats]:
    """Give columns from the plan for a few of the scenarios, then from the plans that tempted it; none may be found."""
    few = few_of(model.problem)
    if few is None:
        return []
    sketch, small = state(few.problem, model.units)
    try:
        answer, tried = found(sketch, small, replace(effort, tell=lambda _share: None))
    except (highs.ProgramInfeasibleError, SolverError):
        return []
    plans = [answer.values, *tried]
    return [laid_out(few, sketch, model, plan * small.column_unit) / program.column_unit for plan in plans]


def state(problem: Problem, units: Units | None = None) -> Stated:
    """State a problem's program."""
    model = build(problem, units)
    return model, model.blocks.build(model.units.usd)


def build(problem: Problem, units: Units | None = None) -> Model:
    """Declare the variables and state every constraint, account and price of a problem, in units that fit it."""
    model = declare(problem, units)
    for state in (*constraints.ALL, *objective.ALL):
        state(model)
    objective.price(model)
    return model


def check(program: Program, answer: Answer) -> None:
    """Check limits and whole numbers of an answer against the program itself.

    Raises
    ------
    SolverError
        A bound, a row or an integer is broken by more than ``FEASIBLE`` of the solver's unit.
    """
    x = answer.values
    activity = program.matrix @ x
    broken = max(
        _worst(program.lower - x),
        _worst(x - program.upper),
        _worst((program.row_lower - activity) / np.maximum(1.0, _finite(program.row_lower))),
        _worst((activity - program.row_upper) / np.maximum(1.0, _finite(program.row_upper))),
        _worst(np.abs(x - np.round(x))[program.integer]),
    )
    if not broken <= FEASIBLE:
        raise SolverError(f"the solver's answer breaks a limit by {broken:.1e} of its unit; it is not used")


def interpret(model: Model, program: Program, answer: Answer) -> Solution:
    """Turn an answer into a solution in the user's units, with its money recounted from the plan's arrays.

    Raises
    ------
    SolverError
        The recounted objective disagrees with the solver's.
    """
    problem = model.problem
    plan = quantities(model, np.where(program.integer, np.round(answer.values), answer.values) * program.column_unit)
    money = objective.recount(problem, plan)
    expected = float(problem.probability @ money.net_usd)
    tail = objective.cvar_usd(-money.net_usd, problem.probability, problem.risk_alpha)
    value = expected - problem.risk_weight * tail
    flows = money.value_usd + money.spend_usd + money.refusal_usd
    gross = float(problem.probability @ flows @ problem.discount) + abs(value)
    claimed = -answer.objective * program.objective_unit
    if not abs(value - claimed) <= AGREES * max(gross, 1.0):
        raise SolverError(
            f"the plan recounts to {value:.9g} USD where the solver claims {claimed:.9g} USD; it is not used"
        )
    bound = max(-answer.bound * program.objective_unit, value)
    return Solution(
        **vars(plan),
        money=money,
        expected_net_usd=expected,
        cvar_usd=tail,
        objective_usd=value,
        bound_usd=bound,
        gap=(bound - value) / max(abs(value), 1.0),
        prices=duals.prices(model, program, answer),
        algorithm=answer.algorithm,
        integers=int((program.integer & (program.lower < program.upper)).sum()),
        columns={name: block.size for name, block in model.blocks.columns.items()},
        rows={name: block.size for name, block in model.blocks.row_blocks.items()},
        nonzeros=int(program.matrix.nnz),
    )


def quantities(model: Model, values: Floats) -> Quantities:
    """Lay values of columns, in the user's units, out along the problem's axes; what does not exist is 0."""
    positive = np.maximum(values, 0.0)
    return Quantities(
        signed=at_node(positive, model.signed),
        kept=at_node(positive, model.kept),
        served_rps=model["served"].spread(positive),
        refused_rps=model["refused"].spread(positive),
        deferred_rps=model["deferred"].spread(values),
        training_chips=model["training"].spread(positive),
        research_chips=model["research"].spread(positive),
        missed_chip_hours=model["missed"].spread(positive),
        used_chips=model["used"].spread(positive),
        hosts=model["hosts"].spread(positive) > 0,
    )


def at_node(values: Floats, columns: Index) -> Floats:
    """Give every scenario the value of its node's column; 0 where there is none."""
    return np.where(columns >= 0, values[columns], 0.0)


def _worst(excess: Floats) -> float:
    """Give the largest excess, 0 where there is none."""
    return float(excess.max(initial=0.0))


def _finite(bound: Floats) -> Floats:
    """Give the sizes of bounds, 0 for those that do not bind."""
    return np.where(np.isfinite(bound), np.abs(bound), 0.0)
