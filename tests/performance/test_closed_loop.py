from __future__ import annotations

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.closed_loop import Door, LoopOutcome, run_closed_loop
from offtake.performance.dense import prepare
from offtake.performance.replica import simulate_prepared
from offtake.performance.steps import ReplicaLimits, Scheduler, StepTable

PAIR = np.array([1.0, 1001.0])
STEP_NS = 1_000.0
FLAT = np.full((2, 2), STEP_NS)
TABLE = StepTable(PAIR, np.full(2, STEP_NS), PAIR - 1, np.zeros(2), PAIR, PAIR, 0 * FLAT, FLAT, 0.0)
LIMITS = ReplicaLimits(10_000, 16, 64, 1_000, 2_000, prefix_cache=0)


def run(count: int, clients: int, door: Door | None = None, limits: ReplicaLimits = LIMITS) -> LoopOutcome:
    """Run prompts of 100 tokens with answers of 11, every step taking 1 µs."""
    lengths = (np.full(count, 100, np.int32), np.full(count, 11, np.int32))
    return run_closed_loop(prepare([(TABLE, limits)]), *lengths, clients, door)


def test_each_client_sends_its_next_prompt_when_its_last_one_ended() -> None:
    found = run(6, 2)
    assert found.sent_ns.tolist() == [0, 0, 11_000, 11_000, 22_000, 22_000]
    assert found.outcome.first_token_ns.tolist() == [1_000, 1_000, 12_000, 12_000, 23_000, 23_000]


def test_prompts_beyond_the_clients_are_never_under_way() -> None:
    found = run(40, 7)
    ends = found.outcome.finish_ns
    for sent in found.sent_ns:
        assert np.count_nonzero((found.sent_ns <= sent) & (ends > sent)) <= 7


def test_without_a_door_a_loop_of_all_prompts_is_a_burst() -> None:
    lengths = (np.arange(50, 90, dtype=np.int32), np.arange(5, 45, dtype=np.int32))
    tables = prepare([(TABLE, LIMITS)])
    burst = simulate_prepared(tables, np.zeros(40, np.int64), *lengths)
    assert np.array_equal(run_closed_loop(tables, *lengths, 40).outcome.finish_ns, burst.finish_ns)


def test_the_front_end_takes_one_request_after_the_other() -> None:
    found = run(3, 3, Door(request_ns=100_000, token_ns=10, latency_ns=5_000))
    assert found.outcome.start_ns.tolist() == [106_000, 207_000, 308_000]


def test_an_engine_that_looks_every_ten_steps_finds_a_new_request_at_the_tenth() -> None:
    door = Door(request_ns=3_500, receive_steps=10)
    found = run(2, 2, door, LIMITS._replace(scheduler=Scheduler.SGLANG))
    first = found.outcome.start_ns[0]
    assert first == 3_500
    assert found.outcome.start_ns[1] == first + 11_000  # one step with prefill, then ten decode steps


def test_a_prompt_is_held_back_until_enough_tokens_wait_or_the_steps_have_passed() -> None:
    alone = run(2, 2, Door(request_ns=3_500, gather_steps=5, gather_tokens=500))
    assert alone.outcome.start_ns[1] - alone.outcome.start_ns[0] >= 8_000
    enough = run(2, 2, Door(request_ns=3_500, gather_steps=5, gather_tokens=100))
    assert enough.outcome.start_ns[1] - enough.outcome.start_ns[0] == 4_000


def test_a_prompt_without_delay_is_there_when_the_next_step_is_chosen() -> None:
    found = run(4, 2, limits=LIMITS._replace(step_tokens_max=110))  # one prompt a step: the clients end a step apart
    assert found.sent_ns.tolist() == [0, 0, 11_000, 12_000]
    assert found.outcome.first_token_ns.tolist() == [1_000, 2_000, 12_000, 13_000]


def test_the_steps_for_which_a_prompt_is_held_back_go_on_when_others_end() -> None:
    lengths = (np.full(6, 100, np.int32), np.array([60, 5, 8, 11, 5, 5], np.int32))
    door = Door(request_ns=1, gather_steps=5, gather_tokens=100_000)
    found = run_closed_loop(prepare([(TABLE, LIMITS)]), *lengths, 4, door)
    assert found.outcome.finish_ns[1:4].tolist() == [6_001, 9_001, 12_001]
    assert found.outcome.start_ns[4] == 12_001  # sent at 6,001: the step under way, and five more


def test_prompts_are_held_back_until_there_is_one_for_each_rank() -> None:
    found = run(3, 3, Door(request_ns=3_500, gather_steps=50, gather_prompts=2))
    assert found.outcome.start_ns.tolist() == [3_500, 10_500, 10_500]


def test_every_prompt_ends_once_and_gets_its_tokens() -> None:
    rng = np.random.default_rng([7, 1])
    lengths = (rng.integers(1, 900, 300).astype(np.int32), rng.integers(1, 60, 300).astype(np.int32))
    door = Door(200, 3, 1_000, receive_steps=4)
    found = run_closed_loop(prepare([(TABLE, LIMITS._replace(scheduler=Scheduler.SGLANG))]), *lengths, 16, door)
    assert found.outcome.row["finished"] == 300
    assert found.outcome.row["prefill_tokens"] == lengths[0].sum()
    assert np.all(found.outcome.finish_ns >= found.outcome.first_token_ns)
    assert np.all(found.outcome.first_token_ns > found.sent_ns)


@pytest.mark.parametrize(("clients", "tokens", "problem"), [(0, 10, "no client"), (1, 5_000, "a replica holds")])
def test_an_impossible_loop_is_refused(clients: int, tokens: int, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        run_closed_loop(prepare([(TABLE, LIMITS)]), np.full(2, tokens, np.int32), np.full(2, 5, np.int32), clients)
