"""One replica with steps of equal length is a queue with known waits: Erlang, and Pollaczek and Khinchine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from offtake.performance.replica import simulate_replica
from offtake.performance.steps import ReplicaLimits, StepTable

STEP_NS = 1_000
STEPS_MEAN = 20_000  # so many that a step is nothing beside a wait


def table() -> StepTable:
    """Make a table in which every step takes one microsecond."""
    pair, square = np.array([1.0, 2.0]), np.zeros((2, 2))
    return StepTable(pair, np.full(2, 1e3), pair - 1.0, np.zeros(2), pair, pair, square, square + STEP_NS, 0.0)


def limits(places: int) -> ReplicaLimits:
    """Return limits in which only the number of places counts."""
    return ReplicaLimits(2**40, 1, places, 2**16, 2**40)


def waits(servers: int, load: float, seed: int, lengths: str) -> Any:
    """Return the waits of a million requests in mean service times (the sample's own means are set right)."""
    rng = np.random.default_rng([seed, servers])
    count = 1_000_000
    spacing_ns = STEP_NS * STEPS_MEAN / (servers * load)
    gaps, steps = rng.exponential(1.0, count), np.ones(count)
    if lengths == "exponential":
        steps = rng.exponential(1.0, count)
    arrival_ns = np.cumsum(gaps * (spacing_ns / gaps.mean())).astype(np.int64)
    steps *= STEPS_MEAN / steps.mean()
    outputs = np.maximum(1, np.rint(steps)).astype(np.int32)
    outcome = simulate_replica(table(), limits(servers), arrival_ns, np.ones(count, np.int32), outputs)
    return (outcome.start_ns - arrival_ns)[count // 20 :] / (STEP_NS * STEPS_MEAN)


def erlang_c(servers: int, load: float) -> float:
    """Return the chance to wait in M/M/c (Erlang, 1917)."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = servers * load * blocked / (n + servers * load * blocked)
    return blocked / (1.0 - load * (1.0 - blocked))


def test_erlang_c_is_the_published_one() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 0.75) == pytest.approx(9 / 14)  # Gross and Harris, Fundamentals of Queueing Theory


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (1, 0.9), (8, 0.7), (8, 0.9), (64, 0.9)])
def test_mean_and_p99_wait_are_those_of_m_m_c_within_five_percent(servers: int, load: float) -> None:
    chance, rate = erlang_c(servers, load), servers * (1.0 - load)
    found = [waits(servers, load, seed, "exponential") for seed in range(4)]
    means = np.array([each.mean() for each in found])
    p99 = np.array([np.percentile(each, 99) for each in found])
    margin = 3.182 / math.sqrt(4)  # Student, 3 degrees of freedom, 95%
    assert means.mean() == pytest.approx(chance / rate, rel=0.05)
    assert abs(means.mean() - chance / rate) < 3 * margin * means.std(ddof=1) + 0.01 * chance / rate
    assert p99.mean() == pytest.approx(math.log(chance / 0.01) / rate, rel=0.05)


@pytest.mark.slow
def test_the_chance_to_wait_is_that_of_m_m_64_at_70_percent() -> None:
    # One in 230 waits and those come in bunches, so a few seeds say little: the first forty are taken, as they come.
    found = np.array([(waits(64, 0.7, seed, "exponential") > 1.01 / STEPS_MEAN).mean() for seed in range(40)])
    assert found.mean() == pytest.approx(erlang_c(64, 0.7), rel=0.05)
    assert abs(found.mean() - erlang_c(64, 0.7)) < 3 * found.std(ddof=1) / math.sqrt(found.size)


@pytest.mark.parametrize("load", [0.5, 0.9])
def test_the_mean_wait_of_one_server_is_that_of_pollaczek_and_khinchine(load: float) -> None:
    found = np.mean([waits(1, load, seed, "constant").mean() for seed in range(4)])
    assert found == pytest.approx(load / (2 * (1 - load)), rel=0.03)
