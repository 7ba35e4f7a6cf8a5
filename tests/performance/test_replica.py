"""The kernel of one replica: equal to its plain twin bit for bit, and right where the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.dense import prepare
from offtake.performance.replica import ReplicaOutcome, simulate_prepared, simulate_replica
from offtake.performance.steps import ReplicaLimits, StepTable, step_ns
from tests.performance.replica_twin import Request, walk

ROOMY = ReplicaLimits(kv_blocks=1000, block_tokens=16, batch_max=8, step_tokens_max=64, context_tokens_max=10**6)


def table_of(seed: int) -> StepTable:
    """Make a random table with the shapes of a real one (times in ns, small enough to collide)."""
    rng = np.random.default_rng([seed, 1])
    grid = [np.array([1.0, 16.0, 70.0, 300.0]), np.array([0.0, 30.0, 100.0, 400.0])]
    batch, context = np.array([1.0, 3.0, 8.0, 20.0]), np.array([1.0, 20.0, 50.0, 120.0, 1000.0])
    attention = np.cumsum(np.cumsum(rng.uniform(5, 300, (4, 5)), axis=0), axis=1)
    token, prefill = np.cumsum(rng.uniform(50, 900, 4)), np.concatenate([[0.0], np.cumsum(rng.uniform(10, 5000, 3))])
    return StepTable(grid[0], token, grid[1], prefill, batch, context, attention, attention * 1.3 + 400.0, 17.25)


def constant_table(time_ns: float) -> StepTable:
    """Make a table in which every step takes the same time."""
    pair, zero = np.array([1.0, 2.0]), np.zeros((2, 2))
    return StepTable(
        pair, np.full(2, time_ns), np.array([0.0, 1.0]), np.zeros(2), pair, pair, zero, zero + time_ns, 0.0
    )


def requests_of(seed: int, count: int, spacing_ns: float) -> tuple[Any, Any, Any]:
    """Make random arrivals (some at the same instant) and lengths."""
    rng = np.random.default_rng([seed, 2])
    arrival = np.cumsum(rng.exponential(spacing_ns, count) * (rng.random(count) > 0.2)).astype(np.int64)
    lengths = [rng.integers(1, high, count, dtype=np.int32) for high in (150, 60)]
    return arrival, lengths[0], lengths[1]


def assert_equal_to_twin(table: StepTable, limits: ReplicaLimits, requests: tuple[Any, Any, Any]) -> ReplicaOutcome:
    outcome = simulate_replica(table, limits, *requests)
    twins = [Request(int(t), int(i), int(o)) for t, i, o in zip(*requests, strict=True)]
    replica = walk(table, limits, twins)
    assert outcome.start_ns.tolist() == [twin.start_ns for twin in twins]
    assert outcome.first_token_ns.tolist() == [twin.first_token_ns for twin in twins]
    assert outcome.finish_ns.tolist() == [twin.finish_ns for twin in twins]
    assert int(outcome.row.steps) == replica.steps
    return outcome


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "limits",
    [
        ReplicaLimits(1000, 16, 8, 64, 10**6),  # batch-bound
        ReplicaLimits(18, 16, 20, 64, 10**6),  # KV-bound
        ReplicaLimits(300, 1, 50, 5, 10**6),  # tiny step budget: long chunking, decode fills the budget
        ReplicaLimits(1000, 16, 40, 300, 10**6),  # many prompts in one step
        ReplicaLimits(13, 16, 1, 33, 10**6),  # one at a time
    ],
)
def test_the_kernel_equals_the_twin_bit_for_bit_at_every_load(seed: int, limits: ReplicaLimits) -> None:
    for spacing_ns in (300.0, 20_000.0, 200_000.0):
        outcome = assert_equal_to_twin(table_of(seed), limits, requests_of(seed, 120, spacing_ns))
        assert outcome.row.kv_free_min >= 0


@pytest.mark.plain
def test_the_kernel_equals_the_twin_on_a_tiny_case() -> None:
    assert_equal_to_twin(table_of(3), ReplicaLimits(20, 16, 4, 40, 10**6), requests_of(3, 25, 2_000.0))


@pytest.mark.plain
def test_one_request_takes_its_prefill_and_one_step_for_each_further_token() -> None:
    outcome = simulate_replica(constant_table(1000.0), ROOMY, *(np.array([x]) for x in (500, 130, 11)))
    assert outcome.start_ns.tolist() == [500]
    assert outcome.first_token_ns.tolist() == [3_500]  # 130 tokens are chunks of 64, 64 and 2
    assert outcome.finish_ns.tolist() == [13_500]


@pytest.mark.plain
def test_arrivals_at_one_instant_share_the_first_step() -> None:
    outcome = simulate_replica(constant_table(1000.0), ROOMY, np.zeros(4, int), np.full(4, 10), np.full(4, 5))
    assert outcome.first_token_ns.tolist() == [1_000] * 4
    assert outcome.finish_ns.tolist() == [5_000] * 4


@pytest.mark.plain
def test_a_request_whose_prompt_does_not_fit_in_memory_waits_for_a_finish() -> None:
    limits = ReplicaLimits(kv_blocks=3, block_tokens=10, batch_max=8, step_tokens_max=64, context_tokens_max=100)
    outcome = simulate_replica(constant_table(1000.0), limits, np.array([0, 0]), np.full(2, 18), np.full(2, 6))
    assert outcome.start_ns.tolist() == [0, 6_000]
    assert outcome.row.kv_free_min == 0  # the third block is for its 21st token


def test_counters_hold_every_token_and_every_second_of_service() -> None:
    arrival, inputs, outputs = requests_of(7, 2_000, 20_000.0)
    outcome = simulate_replica(table_of(7), ROOMY, arrival, inputs, outputs)
    assert outcome.row.prefill_tokens == inputs.sum()
    assert outcome.row.decode_tokens == outputs.sum() - 2_000
    assert outcome.row.running_ns == (outcome.finish_ns - outcome.start_ns).sum()
    assert outcome.row.wait_ns == (outcome.first_token_ns - arrival).sum()
    assert (outcome.row.in_flight, outcome.row.queued_tokens, outcome.row.finished) == (0, 0, 2_000)


def test_dense_tables_say_what_the_step_table_says() -> None:
    table = table_of(5)
    dense = prepare([(constant_table(9.0), ROOMY), (table, ROOMY)])
    cells = dense.cells[1, 6, 2]
    assert dense.token_ns[1, 41] == pytest.approx(step_ns(table, 41, 0.0, 0, 0.0), rel=1e-12)
    assert cells[0] + cells[1] * 33.5 == pytest.approx(step_ns(table, 0, 0.0, 6, 83.5), rel=1e-12)
    mixed = dense.token_ns[1, 41] + cells[2] + cells[3] * 33.5
    assert mixed == pytest.approx(step_ns(table, 35, 0.0, 6, 83.5), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ((np.array([5, 4]), np.array([3, 3]), np.array([3, 3])), "not sorted"),
        ((np.array([4, 5]), np.array([3, 0]), np.array([3, 3])), "fewer than one"),
        ((np.array([4, 5]), np.array([3, 16_000]), np.array([3, 3])), "longer than the 16000 tokens"),
    ],
)
def test_requests_that_cannot_be_served_are_refused_at_the_door(change: tuple[Any, Any, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        simulate_replica(table_of(1), ROOMY, *change)


def test_a_table_with_steps_that_take_no_time_is_refused() -> None:
    with pytest.raises(InputError, match="takes no time"):
        prepare([(constant_table(0.0), ROOMY)])


def chunked(seed: int) -> StepTable:
    """Make a random table whose prefill attention is a staircase over the end and the length of a chunk."""
    end, chunk = np.array([20.0, 64.0, 100.0]), np.array([7.0, 32.0, 48.0, 60.0])
    chunk_ns = np.random.default_rng([seed, 5]).uniform(10, 5000, (3, 4))
    return table_of(seed)._replace(end_grid=end, chunk_grid=chunk, chunk_ns=chunk_ns)


@pytest.mark.parametrize("seed", range(4))
def test_a_table_of_chunks_equals_the_twin_bit_for_bit(seed: int) -> None:
    for scheduler in range(3):
        limits = ROOMY._replace(scheduler=scheduler)
        outcome = assert_equal_to_twin(chunked(seed), limits, requests_of(seed, 60, 20_000.0))
        plain = simulate_replica(table_of(seed), limits, *requests_of(seed, 60, 20_000.0))
        assert outcome.first_token_ns.tolist() != plain.first_token_ns.tolist()


@pytest.mark.plain
def test_a_deployment_without_a_table_of_chunks_beside_one_with_it_is_not_changed() -> None:
    requests = requests_of(1, 20, 20_000.0)
    both = (table_of(1), ROOMY), (chunked(2), ROOMY)
    for pair in (both, both[::-1]):
        alone, beside = simulate_prepared(prepare([pair[0]]), *requests), simulate_prepared(prepare(pair), *requests)
        assert alone.finish_ns.tolist() == beside.finish_ns.tolist()


@pytest.mark.plain
def test_beside_a_table_of_chunks_a_chunk_of_one_token_is_one_more_decoding_request() -> None:
    end, chunk = np.array([64.0, 128.0]), np.array([2.0, 64.0])
    table = constant_table(1_000.0)._replace(decode_attention_ns=np.full((2, 2), 7.0))
    table = table._replace(end_grid=end, chunk_grid=chunk, chunk_ns=np.array([[10.0, 20.0], [30.0, 40.0]]))
    outcomes = [simulate_replica(table, ROOMY, *(np.array([n]) for n in (0, prompt, 1))) for prompt in (64, 65, 66)]
    assert [int(outcome.first_token_ns[0]) for outcome in outcomes] == [1_020, 2_027, 2_050]
