"""Policies are compared on the same requests, and none does better than hindsight."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import numpy as np
import pytest

from offtake.demand.request import Requests, requests_of
from offtake.fleet import Fleet
from offtake.performance.steps import ReplicaLimits
from offtake.policy.view import Policy
from offtake.rehearse.compare import Comparison, Contest, bound_of, compare, interval_of
from offtake.rehearse.hindsight import hindsight_usd
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import rehearse
from offtake.rehearse.timeline import RetryStorm, SurgeRow, Timeline
from offtake.units import NS_PER_MS, NS_PER_S
from tests.rehearse.fleets import constant_table, fleet, load, pool, small_deployments, small_fleet, workload

STEP_MS = 10
#: replicas of 8 places whose steps take 10 ms: 800 answer tokens/s at most
PLAIN = {"one": (constant_table(STEP_MS * NS_PER_MS), ReplicaLimits(10_000, 16, 8, 4_096, 10_000))}


def made(spacing_ns: float, seed: int) -> Iterator[Requests]:
    yield load(seed, 400, spacing_ns)


def run(workers: int = 1, spacing_ns: float = 3e6, seeds: tuple[int, ...] = (1, 2)) -> Comparison:
    contest = Contest(policies=tuple(Policy), seeds=seeds, workers=workers)
    case = (small_fleet(), small_deployments(1), partial(made, spacing_ns))
    return compare(case, Options(), contest, lambda _name, _share: None)


def test_every_policy_faces_the_same_requests() -> None:
    found = run()
    assert [row.policy for row in found.rows] == [policy.name.lower() for policy in Policy]
    assert all(score.offered_usd == pytest.approx(4.0) for score in found.scores)
    assert [score.seed for score in found.scores] == [1, 2] * len(Policy)
    assert found.rows[0].differences["value_in_time_usd"].mean == 0.0


def test_a_policy_scores_as_it_does_in_a_rehearsal_of_its_own() -> None:
    found = next(score for score in run().scores if score.policy == "cheapest_first" and score.seed == 2)
    alone = rehearse(small_fleet(), small_deployments(1), made(3e6, 2), Options(policy=Policy.CHEAPEST_FIRST, seed=2))
    assert found.value_in_time_usd == alone.summary.total.value_in_time_usd
    assert found.cost_usd == alone.summary.cost_usd


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_a_byte() -> None:
    assert msgspec.json.encode(run(workers=2)) == msgspec.json.encode(run())


def test_an_interval_is_students() -> None:
    known = interval_of([1.0, 2.0, 3.0])  # 4.3027 · 1 / √3
    assert known.mean == 2.0
    assert known.low == pytest.approx(-0.48414, abs=1e-4)
    assert known.high == pytest.approx(4.48414, abs=1e-4)
    assert interval_of([5.0]).low is None


# ── hindsight ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spacing_ns", [5e5, 2e6, 1e7])
def test_no_policy_does_better_than_hindsight(seed: int, spacing_ns: float) -> None:
    tight = workload("chat", ttft_ms_p95=150.0, tpot_ms_p95=30.0)
    seen = msgspec.structs.replace(small_fleet(), workloads=[tight, workload("code", value_usd_per_request=0.003)])
    requests, deployments = load(seed, 600, spacing_ns), small_deployments(seed)
    bound = hindsight_usd(seen, deployments, requests)
    for policy in Policy:
        done = rehearse(seen, deployments, requests, Options(policy=policy, seed=seed)).summary
        assert done.total.value_in_time_usd <= bound * (1 + 1e-9)


def one_pool(replicas: int) -> Fleet:
    loads = [workload("chat", value_usd_per_request=1.0, region_share=[1.0, 0.0]), workload("code")]
    return fleet([pool("a", "A", replicas=replicas, goodput_rps=[14.0, 0.0])], workloads=loads)


def steady(rate_rps: float, seconds: int) -> Requests:
    """Return evenly spaced requests of one prompt token and 51 answer tokens."""
    count = int(rate_rps * seconds)
    arrival_ns = (np.arange(count) * (NS_PER_S / rate_rps)).astype(np.int64)
    return requests_of(arrival_ns, np.ones(count, np.int32), np.full(count, 51, np.int32))


@pytest.mark.parametrize("replicas", [1, 5])
def test_hindsight_of_a_threefold_overload_is_a_third(replicas: int) -> None:
    rate_rps = 3 * replicas * 8 / (50 * STEP_MS / 1_000)
    requests = steady(rate_rps, 200)
    share = hindsight_usd(one_pool(replicas), PLAIN, requests) / len(requests.arrival_ns)
    longest_s = 0.5 + 51 * 0.1  # TTFT limit and 51 tokens at the TPOT limit
    assert share == pytest.approx((1 + longest_s / 200) / 3, rel=0.01)


def test_hindsight_of_an_idle_fleet_is_everything() -> None:
    assert hindsight_usd(one_pool(1), PLAIN, steady(2.0, 100)) == pytest.approx(200.0)


def test_work_that_may_wait_for_a_day_hides_no_rush_hour_from_hindsight() -> None:
    loads = [workload("chat", value_usd_per_request=1.0), workload("code", value_usd_per_request=0.0)]
    loads[1] = msgspec.structs.replace(loads[1], deferral_hours=24.0)
    seen = msgspec.structs.replace(one_pool(1), pools=[pool("a", "A", replicas=1)], workloads=loads)
    requests = steady(48.0, 200)  # every second one of chat: 1.5 times what the replica serves
    mixed = requests._replace(workload=(np.arange(len(requests.arrival_ns)) % 2).astype(np.int16))
    assert hindsight_usd(seen, PLAIN, mixed) < 0.72 * 4_800


def test_hindsight_counts_no_prompt_that_cannot_be_read_in_time() -> None:
    requests = steady(2.0, 100)
    loads = [workload("chat", value_usd_per_request=1.0, ttft_ms_p95=STEP_MS / 2), workload("code")]
    seen = fleet([pool("a", "A", replicas=1, goodput_rps=[14.0, 0.0])], workloads=loads)
    assert hindsight_usd(seen, PLAIN, requests) == 0.0


def test_hindsight_prefers_what_is_worth_more() -> None:
    seen = msgspec.structs.replace(
        one_pool(1), pools=[pool("a", "A", replicas=1)],
        workloads=[workload("chat", value_usd_per_request=1.0), workload("code", value_usd_per_request=0.1)],
    )  # fmt: skip
    requests = steady(32.0, 200)  # twice what one replica serves, half of it worth a tenth
    mixed = requests._replace(workload=(np.arange(len(requests.arrival_ns)) % 2).astype(np.int16))
    assert hindsight_usd(seen, PLAIN, mixed) == pytest.approx(3_200.0 * (1 + 0.05 * 0.03), rel=0.01)


def test_there_is_no_hindsight_where_arrivals_depend_on_answers() -> None:
    requests = steady(2.0, 100)
    closed = requests._replace(think_ns=np.zeros(200, np.int64), session=np.zeros(200, np.int32))
    assert bound_of(one_pool(1), PLAIN, [closed], Options()) is None
    assert bound_of(one_pool(1), PLAIN, [requests], Options()) is not None


def test_hindsight_sees_the_surges_of_the_timeline_and_knows_no_bound_where_clients_ask_again() -> None:
    requests = load(11, 400, 3e6)
    surge = Timeline((SurgeRow(start_hour=0.0, hours=1.0, factor=3.0),))
    plain = bound_of(one_pool(64), PLAIN, [requests], Options())
    surged = bound_of(one_pool(64), PLAIN, [requests], Options(timeline=surge))
    assert plain is not None
    assert surged is not None
    assert surged > 2 * plain
    storm = Timeline((RetryStorm(),))
    assert bound_of(one_pool(64), PLAIN, [requests], Options(timeline=storm)) is None
