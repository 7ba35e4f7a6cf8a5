"""Try that what is compiled ahead of a rehearsal is what it needs."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from offtake.demand.request import no_requests
from offtake.performance.steps import ReplicaLimits
from offtake.policy.view import Policy
from offtake.rehearse.engine import Stop, advance
from offtake.rehearse.options import Options
from offtake.rehearse.run import feed_of
from offtake.rehearse.state import new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.warm import EMPTY, compile_ahead, idle_engine, let_nothing_happen, serve_nothing
from tests.rehearse.fleets import constant_table, fleet, load, pool

typeof: Any = numba.typeof  #: numba has no types


def test_the_engine_of_an_empty_fleet_has_the_types_of_any_other() -> None:
    some = fleet([pool("a", "A"), pool("b", "B")])
    deployments = {"one": (constant_table(1e6), ReplicaLimits(1_000, 16, 8, 64, 1_000))}
    engine = new_engine(some, deployments, Options(policy=Policy.ROUND_ROBIN))
    assert typeof(idle_engine()) == typeof(engine)
    assert typeof(new_tally(EMPTY, 0)) == typeof(new_tally(some, 0))


def test_the_feed_of_no_requests_has_the_types_of_any_other() -> None:
    ties = np.random.default_rng(0)
    nothing, some = feed_of(no_requests(), ties), feed_of(load(9, 1, 1e6), ties)
    assert typeof(nothing) == typeof(some)


@pytest.mark.plain
def test_serving_nothing_ends_at_once() -> None:
    feed = feed_of(no_requests(), np.random.default_rng(0))
    assert advance(idle_engine(), feed, 0, 0) == Stop.DONE
    serve_nothing()
    let_nothing_happen()


@pytest.mark.slow
def test_the_processes_that_compile_ahead_end_well() -> None:
    processes = compile_ahead()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
