"""Fleets of simple replicas are queues with a known answer, and keep the properties that any fleet must keep."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import t as student

from offtake.demand.request import requests_of
from offtake.fleet import Fleet
from offtake.performance.steps import ReplicaLimits
from offtake.policy.view import Policy
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import rehearse
from offtake.rehearse.run import Drive, run
from offtake.rehearse.state import new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.timeline import Loading, LostSite, Timeline
from offtake.rehearse.verify import ledger_of, verify
from offtake.units import S_PER_HOUR
from tests.performance.queues import erlang_c, wait_g_m_1
from tests.rehearse.fleets import constant_table, fleet, load, pool, small_deployments, small_fleet, workload

STEP_NS, STEPS_MEAN = 1_000, 20_000
ONE_PLACE = {"one": (constant_table(float(STEP_NS)), ReplicaLimits(2**40, 1, 1, 2**16, 2**40))}


def waits(replicas: int, share: float, seed: int, policy: Policy, count: int) -> Any:
    """Return the waits, in mean services, at a pool of replicas that serve one request at a time."""
    rng = np.random.default_rng([seed, replicas])
    gaps, steps = rng.exponential(1.0, count), rng.exponential(1.0, count)
    spacing_ns = STEP_NS * STEPS_MEAN / (replicas * share)
    arrival_ns = np.cumsum(gaps * (spacing_ns / gaps.mean())).astype(np.int64)
    outputs = np.maximum(1, np.rint(steps * (STEPS_MEAN / steps.mean()))).astype(np.int32)
    requests = requests_of(arrival_ns, np.ones(count, np.int32), outputs)
    chat = workload("chat", region_share=[1.0, 0.0])
    one = fleet([pool("a", "A", replicas=replicas, goodput_rps=[1.0])], workloads=[chat])
    found: list[Any] = []
    drive = Drive(
        new_engine(one, ONE_PLACE, Options(policy)),
        new_tally(one, 0),
        lambda rows: found.append((rows["start_ns"] - rows["arrival_ns"])[rows["serial"] >= count // 20]),
    )
    assert run(drive, [requests], [], 0, lambda _now_ns: None)
    verify(ledger_of(drive.engine, drive.tally))
    return np.concatenate(found) / (STEP_NS * STEPS_MEAN)


@pytest.mark.slow
@pytest.mark.parametrize(("replicas", "share"), [(1, 0.9), (2, 0.8), (8, 0.9), (32, 0.95)])
def test_replicas_in_turn_are_queues_with_erlang_arrivals(replicas: int, share: float) -> None:
    """Every k-th request of a Poisson stream comes after an Erlang-k gap: E_k/M/1, whose waits are known."""
    found = np.array(
        [np.percentile(waits(replicas, share, seed, Policy.ROUND_ROBIN, 4_000_000), 99) for seed in range(6)]
    )
    exact = wait_g_m_1(replicas, share, 0.99)
    half = student.ppf(0.9995, 5) * found.std(ddof=1) / math.sqrt(6)
    assert found.mean() == pytest.approx(exact, rel=0.05)
    assert abs(found.mean() - exact) <= half + 2 / STEPS_MEAN


@pytest.mark.slow
@pytest.mark.parametrize(("replicas", "share"), [(2, 0.9), (16, 0.9)])
def test_joining_the_shortest_queue_lies_between_one_queue_for_all_and_queues_in_turn(
    replicas: int, share: float
) -> None:
    found = np.mean([waits(replicas, share, seed, Policy.LEAST_LOADED, 1_000_000).mean() for seed in range(4)])
    in_turn = np.mean([waits(replicas, share, seed, Policy.ROUND_ROBIN, 1_000_000).mean() for seed in range(4)])
    assert erlang_c(replicas, share) / (replicas * (1.0 - share)) < found < in_turn


# ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────────
SPACING_NS = 4e6


def frame_of(asked: Fleet, seed: int, policy: Policy = Policy.BID_PRICE, lost: tuple[LostSite, ...] = ()) -> Any:
    """Rehearse 600 requests and return what became of each."""
    options = Options(policy, seed, timeline=Timeline(lost, Loading(warm_up_s=0.0)))
    return rehearse(asked, small_deployments(seed), load(seed, 600, SPACING_NS), options).frame


@pytest.mark.parametrize("seed", range(4))
def test_giving_pools_and_sites_another_order_changes_no_request(seed: int) -> None:
    """Every pool has a price of its own per use, so that no two are equally good."""
    pools = [msgspec.structs.replace(p, usd_per_chip_hour_used=1.0 + i) for i, p in enumerate(small_fleet().pools)]
    small = msgspec.structs.replace(small_fleet(), pools=pools)
    turned = msgspec.structs.replace(small, pools=small.pools[::-1], sites=small.sites[::-1])
    columns = ["pool", "site", "status", "ttft_ms", "finish_ns"]
    assert frame_of(small, seed)[columns].rows() == frame_of(turned, seed)[columns].rows()


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("seed", range(3))
def test_twice_the_replicas_never_serve_less_nor_answer_later_in_the_mean(policy: Policy, seed: int) -> None:
    def doubled(small: Fleet) -> Fleet:
        pools = [msgspec.structs.replace(each, replicas=2 * each.replicas) for each in small.pools]
        return msgspec.structs.replace(small, pools=pools)

    few, many = frame_of(small_fleet(), seed, policy), frame_of(doubled(small_fleet()), seed, policy)
    served = [int((frame["status"] == "served").sum()) for frame in (few, many)]
    ttft_ms = [frame.filter(frame["status"] == "served")["ttft_ms"].mean() for frame in (few, many)]
    assert served[1] >= served[0]
    assert ttft_ms[1] <= ttft_ms[0]


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("seed", range(3))
def test_a_pool_that_is_down_or_unfit_never_gets_a_request(policy: Policy, seed: int) -> None:
    down = LostSite(site="A", start_hour=0.5 / S_PER_HOUR, hours=0.7 / S_PER_HOUR)
    frame = frame_of(small_fleet(), seed, policy, (down,))
    while_down = frame.filter(frame["arrival_ns"].is_between(500_000_000, 1_199_999_999))
    assert len(while_down) > 50
    assert "A" not in while_down["site"].to_list()
    residents = frame.filter((frame["workload"] == "code") & (frame["status"] == "served"))
    assert set(residents["site"].to_list()) == {"A"}
