from __future__ import annotations

import numpy as np
import pytest

from offtake.performance.calibration import Levers
from offtake.performance.fit_replay import closed_loop, replay, simulator
from offtake.performance.library import StoredTable, load_shipped
from offtake.performance.measurements import Ledger, Load, Measured, Point
from offtake.performance.steps import ReplicaLimits, StepTable

PAIR = np.array([1.0, 1e6])


def constant(step_ms: float, kv_blocks: int = 1_000_000) -> StoredTable:
    """Every step takes ``step_ms``, whatever is in it."""
    flat, square = np.full(2, step_ms * 1e6), np.full((2, 2), step_ms * 1e6)
    table = StepTable(PAIR, flat, np.array([0.0, 1e6]), np.zeros(2), PAIR, PAIR, square * 0, square, 0.0)
    return StoredTable("constant", table, ReplicaLimits(kv_blocks, 16, 64, 8192, 131_072), {})


def test_one_slot_serves_one_request_after_the_other() -> None:
    times = closed_loop(constant(10.0), 1, np.full(5, 100, np.int32), np.full(5, 4, np.int32))
    assert times.ttft_ms.tolist() == [10.0] * 5  # each is sent when the last one ends, so none waits
    assert times.tpot_ms.tolist() == [10.0] * 5


def test_the_burst_at_the_start_waits_for_its_turn_in_the_step() -> None:
    prompts = np.full(4, 8192, np.int32)  # each fills a step
    times = closed_loop(constant(10.0), 4, prompts, np.full(4, 1, np.int32))
    assert times.ttft_ms.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert np.isnan(times.tpot_ms).all()  # one token has no time between tokens


def test_as_many_requests_are_in_flight_as_there_are_slots() -> None:
    stored = constant(10.0)
    times = closed_loop(stored, 8, np.full(80, 16, np.int32), np.full(80, 5, np.int32))
    assert times.ttft_ms.sum() + (times.tpot_ms * 4).sum() == pytest.approx(80 * 50.0)  # all 8 decode together
    assert len(times.ttft_ms) == 80


def test_levers_change_what_they_name() -> None:
    measured = Measured("", "", (Point(Load(512.0, 64.0, 8.0), 1.0, 1.0),))
    simulate = simulator(load_shipped("llama-3.1-8b-h100-tp1"), measured)
    (base,) = simulate(Levers())
    (request,) = simulate(Levers(request_ms=50.0))
    (decode,) = simulate(Levers(decode=2.0))
    (prefill,) = simulate(Levers(prefill=2.0))
    assert request.tolist() == pytest.approx([base[0] + 50.0, base[1]])
    assert decode[1] > 1.8 * base[1]
    assert prefill[0] > 1.5 * base[0]
    assert prefill[1] < 1.5 * base[1]


def test_a_rate_is_replayed_as_poisson_arrivals_and_a_higher_one_waits_longer() -> None:
    stored = constant(10.0)
    slow, fast = (replay(stored, Load(2048.0, 20.0, 0.0, rate)).ttft_ms.mean() for rate in (1.0, 300.0))
    assert len(replay(stored, Load(2048.0, 20.0, 0.0, 1.0)).ttft_ms) == 1000
    assert 10.0 <= slow < 20.0
    assert fast > 2 * slow


def test_a_ledger_is_replayed_with_its_own_arrivals_window_by_window() -> None:
    arrival_ns = (np.arange(4) * 1_000_000_000).astype(np.int64)
    ones = np.ones(4)
    lengths = np.full(4, 100, np.int32)
    ledger = Ledger(arrival_ns, lengths, np.full(4, 3, np.int32), ones, ones, np.array([0, 0, 1, 1]))
    points = (Point(Load(100.0, 3.0, 1.0), 1.0, 1.0),) * 2
    found = simulator(constant(10.0), Measured("", "", points, ledger))(Levers(request_ms=5.0))
    assert found.tolist() == [[15.0, 10.0], [15.0, 10.0]]


def test_the_same_load_gives_the_same_times() -> None:
    stored = load_shipped("llama-3.1-8b-h100-tp1")
    load = Load(700.0, 90.0, 6.0, 0.0, 0.5)
    assert replay(stored, load).ttft_ms.tolist() == replay(stored, load).ttft_ms.tolist()
