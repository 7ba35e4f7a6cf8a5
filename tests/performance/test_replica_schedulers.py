"""Replicas schedule as real engines do: equal to the plain twin, and right where the answer is known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.dense import prepare
from offtake.performance.replica import ReplicaOutcome, new_work, simulate_work
from offtake.performance.steps import ReplicaLimits, Scheduler
from tests.performance.replica_twin import Request, walk
from tests.performance.test_replica import constant_table, requests_of, table_of

STEP_NS = 1_000
SHAPES = (
    ReplicaLimits(1000, 16, 8, 64, 10**6),  # batch-bound
    ReplicaLimits(18, 16, 20, 64, 10**6),  # short of memory, as short as a request allows
    ReplicaLimits(300, 1, 50, 5, 10**6),  # blocks of one token, tiny steps
    ReplicaLimits(60, 4, 20, 64, 10**6),  # short of memory, small blocks
)


def random_work(seed: int, limits: ReplicaLimits, spacing_ns: float) -> Any:
    """Make requests of every kind: sessions, classes, prompts computed elsewhere, longer answers allowed than given."""
    rng = np.random.default_rng([seed, 9])
    arrival, inputs, outputs = requests_of(seed, 60, spacing_ns)
    count = arrival.size
    work = new_work(arrival, inputs, outputs)
    if limits.scheduler != Scheduler.TRTLLM:  # its reservation must fit
        work.output_tokens_max = outputs + rng.integers(0, 3, count)
    work.priority = rng.integers(0, 4, count) * rng.integers(2)
    work.session = rng.integers(-1, 8, count)
    work.shared_tokens = np.minimum(rng.integers(0, 150, count), inputs)
    work.cached_tokens = np.where(rng.random(count) < 0.2 * rng.integers(2), inputs, 0)
    return work


def twins_of(work: Any) -> list[Request]:
    names = {"output_max": "output_tokens_max", "priority": "priority", "session": "session", "shared": "shared_tokens"}
    return [
        Request(
            int(row.arrival_ns),
            int(row.input_tokens),
            int(row.output_tokens),
            label=label,
            cached=int(row.cached_tokens),
            **{mine: int(row[theirs]) for mine, theirs in names.items()},
        )
        for label, row in enumerate(work)
    ]


def assert_equal(seed: int, limits: ReplicaLimits, spacing_ns: float, *, caching: bool) -> ReplicaOutcome:
    table, work = table_of(seed), random_work(seed, limits, spacing_ns)
    twins, prompts, answers = twins_of(work), int(work.input_tokens.sum()), int(work.output_tokens.sum())
    outcome = simulate_work(prepare([(table, limits)]), work, 100 if caching else 0)
    replica, row = walk(table, limits, twins, caching=caching), outcome.row
    assert outcome.start_ns.tolist() == [twin.start_ns for twin in twins]
    assert outcome.first_token_ns.tolist() == [twin.first_token_ns for twin in twins]
    assert outcome.finish_ns.tolist() == [twin.finish_ns for twin in twins]
    assert work.preemptions.tolist() == [twin.preemptions for twin in twins]
    counted = (row.steps, row.preemptions, row.evicted_blocks, row.hit_tokens, row.kv_free_min)
    assert counted == (replica.steps, replica.preemptions, replica.evicted, replica.hit_tokens, replica.kv_free_min)
    assert row.kv_free == limits.kv_blocks
    assert row.kv_free_min >= 0
    assert row.prefill_tokens + row.hit_tokens == prompts + row.prefill_lost + row.prefill_again
    assert row.decode_tokens == answers - len(twins)
    assert row.running_ns == pytest.approx((outcome.finish_ns - outcome.start_ns).sum(), rel=1e-12)
    return outcome


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scheduler", list(Scheduler))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_scheduler_equals_the_twin_bit_for_bit(seed: int, scheduler: Scheduler, shape: ReplicaLimits) -> None:
    spare, prefill = ((0, 16_384), (2, 40))[seed % 2]
    for chunked, spacing_ns, caching in itertools.product((1, 0), (300.0, 20_000.0, 200_000.0), (True, False)):
        limits = shape._replace(
            scheduler=scheduler, chunked=chunked, watermark_blocks=spare, prefill_tokens_max=prefill
        )
        assert_equal(seed, limits, spacing_ns, caching=caching)


@pytest.mark.plain
@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_every_scheduler_equals_the_twin_on_a_tiny_case(scheduler: Scheduler) -> None:
    assert_equal(5, SHAPES[1]._replace(scheduler=scheduler), 2_000.0, caching=True)


def test_the_random_cases_push_back_evict_and_hit() -> None:
    found = [assert_equal(seed, SHAPES[1], 20_000.0, caching=True).row for seed in range(4)]
    assert sum(row.preemptions for row in found) > 20
    assert sum(row.evicted_blocks for row in found) > 500
    assert sum(row.hits for row in found) > 20
    short = [assert_equal(seed, SHAPES[1]._replace(scheduler=1), 300.0, caching=False).row for seed in range(4)]
    assert sum(row.preemptions for row in short) > 0


def run(limits: ReplicaLimits, rows: list[tuple[int, int, int]], **columns: Any) -> tuple[Any, ReplicaOutcome]:
    """Run (arrival ns, prompt, answer) rows at one replica whose steps all take a microsecond."""
    work = new_work(*(np.array(column) for column in zip(*rows, strict=True)))
    for name, column in columns.items():
        work[name] = column
    return work, simulate_work(prepare([(constant_table(float(STEP_NS)), limits)]), work, 10)


@pytest.mark.plain
def test_vllm_gives_tokens_beside_a_prompt_and_sglang_makes_them_wait() -> None:
    limits = ReplicaLimits(1000, 16, 8, 64, 10**6)
    rows = [(0, 10, 10), (2_500, 128, 2)]  # the second takes two steps, at 3,000 and 4,000
    _, mixed = run(limits, rows)
    _, apart = run(limits._replace(scheduler=Scheduler.SGLANG), rows)
    assert mixed.first_token_ns.tolist() == [1_000, 6_000]  # 63 + 63 + 2 tokens, one decode beside each
    assert mixed.finish_ns.tolist() == [10_000, 7_000]
    assert apart.first_token_ns.tolist() == [1_000, 5_000]
    assert apart.finish_ns.tolist() == [12_000, 6_000]


@pytest.mark.plain
def test_trtllm_reserves_the_longest_answer_and_never_pushes_back() -> None:
    limits = ReplicaLimits(4, 10, 8, 64, 100, scheduler=Scheduler.TRTLLM)
    rows = [(0, 10, 5), (0, 10, 5)]
    _, outcome = run(limits, rows, output_tokens_max=20)
    assert outcome.start_ns.tolist() == [0, 5_000]
    _, outcome = run(limits, rows, output_tokens_max=10)
    assert outcome.start_ns.tolist() == [0, 0]


@pytest.mark.plain
def test_without_chunks_a_prompt_waits_until_a_step_has_room_for_all_of_it() -> None:
    limits = ReplicaLimits(1000, 16, 8, 64, 10**6, chunked=0)
    _, outcome = run(limits, [(0, 40, 3), (0, 40, 1), (0, 64, 1), (0, 100, 1)])
    # 40, 40 and nothing beside them; 64 once nobody decodes; 100 is longer than any step: 64 and 36
    assert outcome.first_token_ns.tolist() == [1_000, 2_000, 4_000, 6_000]


@pytest.mark.plain
def test_the_last_admitted_is_pushed_back_and_its_tokens_are_computed_again() -> None:
    limits = ReplicaLimits(kv_blocks=4, block_tokens=10, batch_max=8, step_tokens_max=64, context_tokens_max=100)
    work, outcome = run(limits, [(0, 19, 8), (0, 19, 8)])
    # both hold two blocks; the step after the next token needs a third for each, and the second one goes
    assert outcome.first_token_ns.tolist() == [1_000, 1_000]
    assert work.preemptions.tolist() == [0, 1]
    assert outcome.finish_ns.tolist()[0] == 8_000
    assert outcome.finish_ns.tolist()[1] == 14_000  # 2 tokens out, 21 computed again at 8,000, then 5 more
    assert outcome.row.prefill_again == 21
    assert outcome.row.prefill_tokens == 19 + 19 + 21
    assert outcome.row.decode_tokens == 14


@pytest.mark.plain
def test_the_least_urgent_is_pushed_back_even_if_it_came_first() -> None:
    limits = ReplicaLimits(kv_blocks=4, block_tokens=10, batch_max=8, step_tokens_max=64, context_tokens_max=100)
    work, _ = run(limits, [(0, 19, 8), (500, 19, 8)], priority=[3, 1])
    assert work.preemptions.tolist() == [1, 0]


@pytest.mark.plain
def test_the_most_urgent_waiting_request_is_admitted_first() -> None:
    limits = ReplicaLimits(1000, 16, 1, 64, 10**6)
    _, outcome = run(limits, [(0, 5, 4), (100, 5, 2), (200, 5, 2), (300, 5, 2)], priority=[2, 3, 0, 0])
    assert outcome.start_ns.tolist() == [0, 8_000, 4_000, 6_000]


@pytest.mark.plain
def test_a_prompt_computed_elsewhere_needs_blocks_but_no_prefill() -> None:
    limits = ReplicaLimits(kv_blocks=5, block_tokens=10, batch_max=8, step_tokens_max=64, context_tokens_max=100)
    work, outcome = run(limits, [(0, 30, 4), (0, 30, 4)], cached_tokens=30)
    assert outcome.finish_ns.tolist() == [3_000, 6_000]  # three more tokens each; only one has its four blocks
    assert outcome.row.prefill_tokens == 0
    assert outcome.row.hit_tokens == 60
    assert work.first_token_ns.tolist() == [0, 3_000]  # taken over; given elsewhere


@pytest.mark.plain
def test_a_session_finds_its_prompt_again_in_whole_blocks() -> None:
    limits = ReplicaLimits(1000, 16, 8, 64, 10**6)
    rows = [(0, 100, 5), (50_000, 150, 5)]
    _, hit = run(limits, rows, session=[7, 7], shared_tokens=[0, 104])
    _, other = run(limits, rows, session=[7, 8], shared_tokens=[0, 104])
    _, off = run(limits._replace(prefix_cache=0), rows, session=[7, 7], shared_tokens=[0, 104])
    # 104 tokens were computed, 100 + 5 - 1, so 96 are in whole blocks; 54 of 150 are left: one step instead of three
    assert (hit.row.hits, hit.row.hit_tokens, hit.row.prefill_tokens) == (1, 96, 154)
    assert hit.first_token_ns.tolist() == [2_000, 51_000]
    assert other.first_token_ns.tolist() == off.first_token_ns.tolist() == [2_000, 53_000]
    assert (other.row.hits, off.row.hits) == (0, 0)


@pytest.mark.plain
def test_the_least_recently_used_prompt_makes_room() -> None:
    limits = ReplicaLimits(kv_blocks=10, block_tokens=10, batch_max=8, step_tokens_max=100, context_tokens_max=100)
    # a prompt takes 4 blocks and leaves 3: the third finds 4 free; the fourth finds one, and takes the first one's 3;
    # the fifth finds the second one's, and its own 3; then nothing is left of the first
    rows = [(at, 31, 1) for at in (0, 5_000, 10_000, 15_000, 20_000, 25_000)]
    _, outcome = run(limits, rows, session=[0, 1, 2, 3, 1, 0], shared_tokens=31)
    assert (outcome.row.hits, outcome.row.hit_tokens) == (1, 30)
    assert outcome.row.evicted_blocks == 6


@pytest.mark.plain
def test_of_prompts_that_end_at_one_instant_the_one_admitted_first_makes_room_first() -> None:
    limits = ReplicaLimits(kv_blocks=10, block_tokens=10, batch_max=8, step_tokens_max=100, context_tokens_max=100)
    # the second is admitted before the first, and both end at 2,000; the third needs the room of one of them
    rows = [(0, 31, 2), (0, 31, 2), (5_000, 61, 1), (10_000, 31, 1), (15_000, 31, 1)]
    columns = {"priority": [1, 0, 0, 0, 0], "session": [0, 1, -1, 0, 1], "shared_tokens": 31}
    work, outcome = run(limits, rows, **columns)
    assert outcome.finish_ns[:2].tolist() == [2_000, 2_000]
    assert work.cached_tokens.tolist() == [0, 0, 0, 30, 0]


@pytest.mark.plain
def test_a_full_table_forgets_the_least_recently_used_prompt_of_the_same_replica() -> None:
    work = new_work(np.arange(6) * 5_000, np.full(6, 31), np.ones(6, int))
    work["session"], work["shared_tokens"] = [0, 1, 0, 1, 1, 0], 31
    tables = prepare([(constant_table(float(STEP_NS)), ReplicaLimits(100, 10, 8, 100, 100))])
    outcome = simulate_work(tables, work, cache_entries=1)
    assert outcome.row.hits == 1  # only the fifth comes when its session's is the one prompt remembered
    assert outcome.row.evicted_blocks == 12


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"priority": 4}, "a priority is not one of 0 to 3"),
        ({"output_tokens_max": 3}, "longer than the request allows"),
    ],
)
def test_requests_no_engine_would_take_are_refused_at_the_door(columns: dict[str, int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        run(ReplicaLimits(1000, 16, 8, 64, 10**6), [(0, 10, 5)], **columns)


def test_a_scheduler_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="there is no such scheduler"):
        prepare([(constant_table(1.0), ReplicaLimits(10, 10, 10, 10, 10, scheduler=3))])
