from __future__ import annotations

import random
from collections import Counter

import pytest

from offtake.route.config import Breaker
from offtake.route.health import Health, RetryBudget
from offtake.route.seams import NOTHING, Dialect, Failure, Times, Upstream
from offtake.units import NS_PER_S

TIMES = Times(connect_ns=1, first_ns=1, between_ns=1, total_ns=1)


def upstreams(count: int) -> list[Upstream]:
    return [
        Upstream(
            pool=0, name=f"u{i}", host="h", port=1, path=b"", dialect=Dialect.OPENAI, model="m", headers=(), times=TIMES
        )
        for i in range(count)
    ]


def test_an_upstream_that_cannot_be_reached_is_left_alone_and_tried_with_one_request() -> None:
    [only] = upstreams(1)
    health = Health([only], Breaker(open_s=1.0))
    health.began(only, 0)
    assert health.failed(only, Failure.UNREACHABLE, 0)
    health.left(only, trial=False)
    assert health.pick(0, NOTHING, NS_PER_S - 1) is None
    assert health.pick(0, NOTHING, NS_PER_S) is only
    assert health.began(only, NS_PER_S)
    assert health.pick(0, NOTHING, NS_PER_S) is None
    health.succeeded(only)
    assert health.pick(0, NOTHING, NS_PER_S) is only


def test_a_trial_whose_client_left_does_not_close_the_upstream_for_good() -> None:
    [only] = upstreams(1)
    health = Health([only], Breaker())
    health.failed(only, Failure.UNREACHABLE, 0)
    assert health.began(only, 2 * NS_PER_S)
    health.left(only, trial=True)
    assert health.pick(0, NOTHING, 2 * NS_PER_S) is only


def test_it_is_left_alone_twice_as_long_each_time_up_to_half_a_minute() -> None:
    [only] = upstreams(1)
    health, now, waits = Health([only], Breaker(open_s=1.0)), 0, []
    for _ in range(8):
        health.failed(only, Failure.UNREACHABLE, now)
        until = health.by_name["u0"].open_until_ns
        waits.append((until - now) // NS_PER_S)
        now = until
        health.began(only, now)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_failures_below_the_limit_leave_it_open_and_a_good_answer_starts_the_count_again() -> None:
    [only] = upstreams(1)
    health = Health([only], Breaker(failures=3))
    for _ in range(5):
        assert not health.failed(only, Failure.STATUS, 0)
        assert not health.failed(only, Failure.RESET, 0)
        health.succeeded(only)
    assert [health.failed(only, Failure.STATUS, 0) for _ in range(3)] == [False, False, True]


def test_one_that_fails_more_than_the_others_is_ejected_but_never_the_most_of_a_pool() -> None:
    three = upstreams(3)
    health = Health(three, Breaker(failures=1_000))
    found = [health.failed(three[0], Failure.STATUS, 0) for _ in range(30)]
    assert found.index(True) == 13  # 1 - 0.95^14 is the first above one half
    for _ in range(30):
        health.failed(three[1], Failure.STATUS, 0)
    assert health.pick(0, NOTHING, 0) is not None
    assert health.up_share(0, 0) == pytest.approx(2 / 3)


def test_one_that_is_busy_is_left_alone_for_as_long_as_it_says() -> None:
    one, other = upstreams(2)
    health = Health([one, other], Breaker())
    health.busy(one, 3 * NS_PER_S, 0)
    assert health.pick(0, NOTHING, 3 * NS_PER_S - 1) is other
    assert {health.pick(0, s, 3 * NS_PER_S) for s in range(20)} == {one, other}


def test_a_session_keeps_its_upstream_and_one_that_goes_moves_only_its_own() -> None:
    four = upstreams(4)
    health = Health(four, Breaker())
    before = {session: health.pick(0, session, 0) for session in range(400)}
    counts = Counter(found.name for found in before.values() if found)
    assert min(counts.values()) > 60
    health.failed(four[2], Failure.UNREACHABLE, 0)
    after = {session: health.pick(0, session, 0) for session in range(400)}
    assert all(after[s] is before[s] for s in range(400) if before[s] is not four[2])


@pytest.mark.parametrize("seed", range(3))
def test_no_upstream_takes_much_more_than_its_share_of_a_hot_session(seed: int) -> None:
    four, rng = upstreams(4), random.Random(seed)  # noqa: S311  # a test's choice, seeded
    health = Health(four, Breaker())
    for _ in range(200):
        found = health.pick(0, rng.choice([7, 7, 7, rng.randrange(100)]), 0)
        assert found is not None
        health.began(found, 0)
    assert max(one.in_flight for one in health.by_name.values()) <= 64  # 1.25 · 201 / 4


def test_retries_are_a_share_of_requests_however_many_fail() -> None:
    budget, retries = RetryBudget(0.1), 0
    for _ in range(10_000):
        budget.request()
        retries += budget.take(0)
    assert 900 <= retries <= 1_011


def test_without_a_budget_nothing_is_tried_again() -> None:
    budget = RetryBudget(0.0)
    budget.request()
    assert not budget.take(5 * NS_PER_S)
