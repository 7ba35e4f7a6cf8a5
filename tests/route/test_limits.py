from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from offtake.route.columns import Host
from offtake.route.config import TenantRow
from offtake.route.dialects.usage import Usage
from offtake.route.entries import Bill
from offtake.route.limits import Allowances
from offtake.units import NS_PER_DAY, NS_PER_S

NOON_NS = 20_000 * NS_PER_DAY + NS_PER_DAY // 2


class Many:
    """Workers of one host, each with its own numbers."""

    def __init__(self, folder: Path, workers: int, **limits: float) -> None:
        self.rows = [TenantRow(name="t", workloads=["w"], **limits)]
        self.folder = folder
        self.workers = [Allowances(self.rows, Host(folder), NOON_NS) for _ in range(workers)]
        self.look(0)

    def look(self, now_ns: int) -> None:
        for worker in self.workers:
            worker.host.look()
            worker.look(now_ns)


@pytest.fixture
def allowances(tmp_path: Path) -> Callable[..., Allowances]:
    return lambda **limits: Many(tmp_path, 1, **limits).workers[0]


Make = Callable[..., Allowances]


def bill(usd: float = 0.0, tokens: int = 0) -> Bill:
    return Bill(Usage(tokens, 0), counted=False, cost_usd=usd)


def test_a_minutes_requests_may_come_at_once_and_come_back_evenly(allowances: Make) -> None:
    limits = allowances(requests_per_minute=60)
    assert [limits.take(0, 1, 0) for _ in range(60)] == [None] * 60
    denied = limits.take(0, 1, 0)
    assert denied is not None
    assert (denied.limit, denied.retry_ns) == ("requests_per_minute", NS_PER_S)
    assert limits.take(0, 1, NS_PER_S) is None
    assert limits.take(0, 1, NS_PER_S) is not None


def test_tokens_are_put_right_when_the_provider_has_counted(allowances: Make) -> None:
    limits = allowances(tokens_per_minute=1_000)
    assert limits.take(0, 900, 0) is None
    assert limits.take(0, 200, 0) is not None
    limits.settle(0, 900, bill(tokens=100), 0)
    assert limits.take(0, 900, 0) is None
    limits.settle(0, 900, bill(tokens=2_900), 0)
    denied = limits.take(0, 1, 0)
    assert denied is not None
    assert denied.retry_ns > 110 * NS_PER_S  # 2,000 tokens too many are two minutes


def test_a_request_larger_than_a_minutes_limit_is_served_from_a_full_bucket(allowances: Make) -> None:
    limits = allowances(tokens_per_minute=100)
    assert limits.take(0, 5_000, 0) is None
    assert limits.take(0, 1, 0) is not None


def test_a_days_money_ends_at_midnight_utc(allowances: Make) -> None:
    limits = allowances(usd_per_day=1.0)
    assert limits.take(0, 1, 0) is None
    limits.settle(0, 1, bill(usd=1.5), 0)
    denied = limits.take(0, 1, 0)
    assert denied is not None
    assert (denied.limit, denied.retry_ns) == ("usd_per_day", NS_PER_DAY // 2)
    assert limits.take(0, 1, NS_PER_DAY // 2) is None


def test_no_limit_is_no_limit(allowances: Make) -> None:
    limits = allowances()
    assert all(limits.take(0, 10**9, 0) is None for _ in range(1_000))


def test_all_workers_of_a_host_keep_one_limit(tmp_path: Path) -> None:
    many = Many(tmp_path, 4, requests_per_minute=60, tokens_per_minute=10_000)
    chance = np.random.default_rng([11, 7])
    granted = 0
    for step in range(30_000):  # ten minutes, far more asked for than there is
        now_ns = step * NS_PER_S // 50
        if step % 10 == 0:
            many.look(now_ns)
        granted += many.workers[int(chance.integers(4))].take(0, 10, now_ns) is None
    assert 60 + 600 - 2 <= granted <= 60 + 600


def test_two_workers_at_the_last_request_are_never_both_let_through(tmp_path: Path) -> None:
    many = Many(tmp_path, 2, requests_per_minute=1)
    one, two = many.workers
    answers = [one.take(0, 1, 0), two.take(0, 1, 0)]
    assert [answer is None for answer in answers] == [True, False]


def test_a_new_worker_begins_with_no_full_bucket(tmp_path: Path) -> None:
    many = Many(tmp_path, 1, requests_per_minute=60)
    for _ in range(60):
        assert many.workers[0].take(0, 1, NS_PER_S) is None
    many.look(NS_PER_S)
    late = Allowances(many.rows, Host(tmp_path), NOON_NS + NS_PER_S)
    assert late.take(0, 1, 0) is not None


def test_a_worker_that_dies_with_requests_open_leaves_no_phantom_budget(tmp_path: Path) -> None:
    many = Many(tmp_path, 2, tokens_per_minute=1_000, usd_per_day=1.0)
    dying, living = many.workers
    assert dying.take(0, 1_000, NS_PER_S) is None  # and never settled
    dying.host.close()
    living.look(NS_PER_S)
    assert living.take(0, 1_000, NS_PER_S) is not None
    living.look(62 * NS_PER_S)
    assert living.take(0, 1_000, 62 * NS_PER_S) is None
    assert living.tenants[0].usd(NOON_NS // NS_PER_DAY) == 0.0


def test_a_days_money_is_remembered_when_the_router_begins_again(tmp_path: Path) -> None:
    many = Many(tmp_path, 2, usd_per_day=1.0)
    many.workers[0].settle(0, 1, bill(usd=0.7), 0)
    many.workers[1].settle(0, 1, bill(usd=0.4), 0)
    for worker in many.workers:
        worker.host.close()
    [again] = Many(tmp_path, 1, usd_per_day=1.0).workers
    denied = again.take(0, 1, 0)
    assert denied is not None
    assert denied.limit == "usd_per_day"


def test_a_request_refused_for_its_tokens_takes_no_request(allowances: Make) -> None:
    limits = allowances(requests_per_minute=2, tokens_per_minute=100)
    assert limits.take(0, 100, 0) is None
    for _ in range(5):
        denied = limits.take(0, 100, 0)
        assert denied is not None
        assert denied.limit == "tokens_per_minute"
    assert limits.take(0, 100, 60 * NS_PER_S) is None
