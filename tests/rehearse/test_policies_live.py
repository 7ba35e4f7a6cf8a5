"""What a policy tells and promises holds in the fleet: when to try again, deadlines, floors, value in a shortage."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.demand.request import Requests, concat, part, requests_of
from offtake.fleet import Fleet
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import rehearse
from offtake.units import NS_PER_MS, NS_PER_S
from tests.rehearse.fleets import fleet, load, pool, small_deployments, workload

CHAT, CODE = 0, 1


def one_pool(**changes: Any) -> Fleet:
    """Return a pool that code, worth a tenth of chat, also wants."""
    code = workload("code", **{"value_usd_per_request": 0.001, **changes})
    return fleet([pool("a", "A", replicas=3)], workloads=[workload("chat"), code])


def then(requests: Requests, row: int, at_ns: int) -> Requests:
    """Return the requests up to ``row``, and that one once more at ``at_ns``."""
    first, again = part(requests, 0, row + 1), part(requests, row, row + 1)
    again = again._replace(arrival_ns=np.array([at_ns]))
    return concat([first, again])


@pytest.mark.parametrize("seed", range(6))
def test_a_request_that_comes_back_when_it_was_told_is_served_if_nobody_else_comes(seed: int) -> None:
    deployments, options = small_deployments(seed), Options(seed=seed)
    requests = load(seed, 500, 2e6)
    frame = rehearse(one_pool(), deployments, requests, options).frame
    refused = np.flatnonzero((frame["status"] == "refused").to_numpy() & (frame["retry_after_ms"] > 0).to_numpy())
    assert len(refused) > 20
    for row in refused[:: max(1, len(refused) // 6)]:
        at_ns = int(requests.arrival_ns[row]) + round(float(frame["retry_after_ms"][int(row)]) * NS_PER_MS)
        again = rehearse(one_pool(), deployments, then(requests, int(row), at_ns), options).frame
        assert again["status"][-1] == "served"


@pytest.mark.parametrize("seed", range(3))
def test_work_that_can_wait_is_served_before_its_deadline_when_the_rush_is_over(seed: int) -> None:
    patient = one_pool(deferral_hours=0.1, ttft_ms_p95=60_000.0)
    frame = rehearse(patient, small_deployments(seed), load(seed, 500, 2e6), Options(seed=seed)).frame
    code = frame.filter(frame["workload"] == "code")
    assert (code["status"] == "served").all()
    assert (code["deferred_ms"] > 0).any()
    assert code["deferred_ms"].max() <= 0.1 * 3_600_000  # type: ignore[operator]  # polars types a maximum widely


@pytest.mark.parametrize("floor", [0.2, 0.6])
def test_a_floor_holds_through_a_rush(floor: float) -> None:
    frame = rehearse(one_pool(admit_share_min=floor), small_deployments(1), load(1, 800, 1e6), Options()).frame
    code = frame.filter(frame["workload"] == "code")
    assert (code["status"] == "served").sum() >= floor * len(code) - 1


@pytest.mark.parametrize("seed", range(3))
def test_in_a_shortage_bid_price_serves_more_value_in_time_than_any_baseline(seed: int) -> None:
    requests, deployments = load(seed, 1_500, 2e6), small_deployments(seed)
    served = {
        policy: rehearse(one_pool(), deployments, requests, Options(policy=policy, seed=seed)).summary.total
        for policy in Policy
    }
    best = max(total.value_in_time_usd for policy, total in served.items() if policy is not Policy.BID_PRICE)
    assert served[Policy.BID_PRICE].value_in_time_usd > 1.1 * best


@pytest.mark.parametrize("seed", range(3))
def test_with_slack_bid_price_serves_everything_in_time(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    arrival_ns = np.cumsum(rng.exponential(NS_PER_S / 3.0, 600)).astype(np.int64)
    prompts, answers = (rng.integers(1, high, 600).astype(np.int32) for high in (120, 40))
    two = msgspec.structs.replace(one_pool(), pools=[pool("a", "A", replicas=9), pool("b", "A", replicas=9)])
    done = rehearse(two, small_deployments(seed), requests_of(arrival_ns, prompts, answers), Options(seed=seed)).summary
    assert done.total.refused == 0
    assert done.total.share_within_slo > 0.99
