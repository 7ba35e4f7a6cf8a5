from __future__ import annotations

from offtake.route.config import TenantRow
from offtake.route.dialects.usage import Usage
from offtake.route.entries import Bill
from offtake.route.limits import Allowances
from offtake.units import NS_PER_DAY, NS_PER_S

NOON_NS = 20_000 * NS_PER_DAY + NS_PER_DAY // 2


def allowances(**limits: float) -> Allowances:
    return Allowances([TenantRow(name="t", workloads=["w"], **limits)], NOON_NS)


def bill(usd: float = 0.0, tokens: int = 0) -> Bill:
    return Bill(Usage(tokens, 0), counted=False, cost_usd=usd)


def test_a_minutes_requests_may_come_at_once_and_come_back_evenly() -> None:
    limits = allowances(requests_per_minute=60)
    assert [limits.take(0, 1, 0) for _ in range(60)] == [None] * 60
    denied = limits.take(0, 1, 0)
    assert denied is not None
    assert (denied.limit, denied.retry_ns) == ("requests_per_minute", NS_PER_S)
    assert limits.take(0, 1, NS_PER_S) is None
    assert limits.take(0, 1, NS_PER_S) is not None


def test_tokens_are_put_right_when_the_provider_has_counted() -> None:
    limits = allowances(tokens_per_minute=1_000)
    assert limits.take(0, 900, 0) is None
    assert limits.take(0, 200, 0) is not None
    limits.settle(0, 900, bill(tokens=100), 0)
    assert limits.take(0, 900, 0) is None
    limits.settle(0, 900, bill(tokens=2_900), 0)
    denied = limits.take(0, 1, 0)
    assert denied is not None
    assert denied.retry_ns > 110 * NS_PER_S  # 2,000 tokens too many are two minutes


def test_a_request_larger_than_a_minutes_limit_is_served_from_a_full_bucket() -> None:
    limits = allowances(tokens_per_minute=100)
    assert limits.take(0, 5_000, 0) is None
    assert limits.take(0, 1, 0) is not None


def test_a_days_money_ends_at_midnight_utc() -> None:
    limits = allowances(usd_per_day=1.0)
    assert limits.take(0, 1, 0) is None
    limits.settle(0, 1, bill(usd=1.5), 0)
    denied = limits.take(0, 1, 0)
    assert denied is not None
    assert (denied.limit, denied.retry_ns) == ("usd_per_day", NS_PER_DAY // 2)
    assert limits.take(0, 1, NS_PER_DAY // 2) is None


def test_no_limit_is_no_limit() -> None:
    limits = allowances()
    assert all(limits.take(0, 10**9, 0) is None for _ in range(1_000))
