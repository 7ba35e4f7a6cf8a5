from __future__ import annotations

from copy import copy, deepcopy

import joblib
import numpy as np
import pytest
from scipy import sparse

from offtake.plan import highs
from offtake.plan.blocks import Program
from offtake.plan.highs import Effort
from offtake.plan.parts import Bundle, Parts, Question, Sent, Solver
from offtake.plan.solve import Options, solve, state
from offtake.plan.split import split
from tests.plan.problems import frontier

ALONE = Effort(threads=1)


@pytest.fixture(autouse=True)
def anew() -> None:
    """Forget how many threads earlier tests gave HiGHS."""
    highs.start()


def between(low: float, high: float, *, cost: float = 1.0) -> Program:
    """A column from 0 to ``high`` that must be at least ``low``, and one that must not lie half below it."""
    return Program(
        cost=np.full(2, cost),
        lower=np.zeros(2),
        upper=np.array([high, np.inf]),
        integer=np.zeros(2, dtype=np.bool_),
        matrix=sparse.csc_matrix(np.array([[1.0, 0.0], [-1.0, 1.0]])),
        row_lower=np.array([low, -0.5]),
        row_upper=np.full(2, np.inf),
        column_unit=np.ones(2),
        row_unit=np.ones(2),
        objective_unit=1.0,
    )


def test_a_part_that_lacks_less_than_is_counted_as_a_violation_is_answered() -> None:
    told = Solver(between(1.0 + 5e-7, 1.0), ALONE).ask(Question(np.zeros(2)))
    assert told.violation == 0
    assert told.cost == pytest.approx(1.5, abs=1e-5)


def test_a_part_that_lacks_more_is_broken_by_as_much() -> None:
    told = Solver(between(3.0, 1.0), ALONE).ask(Question(np.zeros(2)))
    assert told.cost == np.inf
    assert told.violation == pytest.approx(2.0)


def test_after_a_loose_answer_limits_are_kept_as_usual() -> None:
    solver = Solver(between(1.0 + 5e-7, 1.0), ALONE)
    solver.ask(Question(np.zeros(2)))
    assert solver.solver.getOptions().primal_feasibility_tolerance == pytest.approx(1e-7)


def test_an_answer_does_not_depend_on_what_its_solver_did_before() -> None:
    first, second, third = (Question(np.array([move, 0.0])) for move in (-0.4, 0.3, -0.7))
    used, fresh = Solver(between(0.2, 1.0), ALONE), Solver(between(0.2, 1.0), ALONE)
    starts = used.ask(first).starts
    for other in (second, third, second):
        used.ask(other)
    one, two = (solver.ask(Question(second.moved, starts)) for solver in (used, fresh))
    assert (one.cost, one.duals.tobytes(), one.values.tobytes()) == (
        two.cost,
        two.duals.tobytes(),
        two.values.tobytes(),
    )


def test_a_basis_sent_to_another_process_is_the_same_basis() -> None:
    solver = Solver(between(0.2, 1.0), ALONE)
    start = solver.ask(Question(np.zeros(2))).starts[0]
    assert start is not None
    sent = deepcopy(start)
    assert sent.basis.col_status == start.basis.col_status
    assert sent.basis.row_status == start.basis.row_status
    assert sent.basis.valid


def test_a_process_that_does_not_know_a_bundle_says_so_until_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offtake.plan.parts.KEPT", {})
    bundle = Bundle([between(0.2, 1.0)], ALONE)
    question = {0: Question(np.zeros(2))}
    assert copy(bundle).ask(question) is None  # a copy is made as another process makes one
    sent: object = copy(Sent(bundle))
    for one in (sent, copy(bundle)):
        assert isinstance(one, Bundle)
        told = one.ask(question)
        assert told is not None
        assert told[0].cost == pytest.approx(0.2)


@pytest.mark.slow
def test_the_plan_is_the_same_to_the_bit_in_threads_and_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offtake.plan.parts.SHARED", 0)
    problem = frontier(scenarios=3, periods=10, blocks=3, offers=6, sites=5, workloads=3, seed=2)
    plans = []
    for backend, workers in (("threading", 1), ("threading", 2), ("loky", 2)):
        with joblib.parallel_config(backend=backend):
            plan = solve(problem, Options(threads=workers))
        assert plan.algorithm.startswith("cutting planes")
        plans.append((plan.signed.tobytes(), plan.served_rps.tobytes(), plan.objective_usd, plan.bound_usd))
    assert plans[0] == plans[1] == plans[2]


def test_parts_that_did_not_change_keep_their_last_answer() -> None:
    problem = frontier(scenarios=2, periods=4, blocks=2, offers=4, sites=3, workloads=2, seed=2)
    levels = split(*state(problem)).levels
    parts = Parts(levels, Effort(threads=1))
    x = np.where(np.isfinite(levels.master.upper), levels.master.upper, 0.0)
    before = parts.ask(x)
    again = Parts(split(*state(problem)).levels, Effort(threads=1), parts)
    assert [solver is not None for solver in again.solvers] == [True] * len(levels.parts)
    assert again.ask(x).duals.data.tobytes() == before.duals.data.tobytes()
