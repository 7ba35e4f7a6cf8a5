"""The engine: equal to its plain twin bit for bit, under every policy, with a site lost on the way."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.demand.request import Requests
from offtake.fleet import Fleet
from offtake.policy.view import Policy, Reason
from offtake.rehearse.options import Options
from offtake.rehearse.run import run
from offtake.rehearse.state import Engine, Status, new_engine
from offtake.rehearse.verify import ledger_of, verify
from tests.rehearse.fleet_twin import Ask, FleetTwin
from tests.rehearse.fleets import load, small_deployments, small_fleet, workload

LOST = [(400_000_000, 0, 0), (900_000_000, 0, 1), (1_000_000_000, 1, 0), (1_200_000_000, 1, 1)]


def run_both(fleet: Fleet, seed: int, requests: Requests, policy: Policy, switches: Any) -> tuple[Engine, list[Ask]]:
    deployments, options = small_deployments(seed), Options(policy=policy, seed=seed, batch=64)
    engine = new_engine(fleet, deployments, requests, options)
    twin = FleetTwin(fleet, deployments, engine.seen, policy.name.lower())
    asks = [
        Ask(int(t), int(i), int(o), label=label, workload=int(w), region=int(g), u=float(engine.flow[label].u))
        for label, (t, i, o, w, g) in enumerate(zip(*requests[:5], strict=True))
    ]
    twin.run(asks, switches)
    assert run(engine, switches, options.batch)
    verify(ledger_of(engine))
    return engine, asks


def assert_equal(engine: Engine, asks: list[Ask]) -> None:
    flow, work = engine.flow, engine.plant.work
    said = [Status(code).name.lower() for code in flow["status"]]
    told = [Reason(code).name.lower() for code in flow["reason"]]
    said = [f"refused {why}" if status == "refused" else status for status, why in zip(said, told, strict=True)]
    assert said == [ask.status for ask in asks]
    assert flow["pool"].tolist() == [ask.pool for ask in asks]
    assert work["finish_ns"].tolist() == [ask.finish_ns for ask in asks]
    served = [index for index, status in enumerate(said) if status == "served"]
    for name in ("start_ns", "first_token_ns"):
        assert work[name][served].tolist() == [getattr(asks[index], name) for index in served]
    assert flow["given_tokens"].tolist() == [ask.given for ask in asks]
    for name in ("in_flight", "waiting", "queued_tokens"):
        assert not engine.seen.pools[name].any()


def busy_fleet() -> Fleet:
    """Return the small fleet with tight SLOs and some value, so that bid prices bite."""
    chat = workload("chat", ttft_ms_p95=150.0, value_usd_per_request=0.002)
    code = workload("code", residency="us", ttft_ms_p95=400.0, refusal_usd_per_request=0.001, deferral_hours=0.5)
    return msgspec.structs.replace(small_fleet(), workloads=[chat, code])


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("seed", range(4))
def test_the_engine_equals_the_twin_bit_for_bit_with_two_sites_lost(seed: int, policy: Policy) -> None:
    for spacing_ns in (2e6, 8e6):
        assert_equal(*run_both(small_fleet(), seed, load(seed, 250, spacing_ns), policy, LOST))


@pytest.mark.parametrize("seed", range(6))
def test_bid_price_equals_the_twin_when_it_refuses_and_defers(seed: int) -> None:
    engine, asks = run_both(busy_fleet(), seed, load(seed, 300, 3e6), Policy.BID_PRICE, LOST)
    assert_equal(engine, asks)
    assert (engine.flow["reason"] == Reason.BELOW_BID).any() or (engine.flow["attempts"] > 1).any()


@pytest.mark.plain
def test_the_engine_equals_the_twin_on_a_tiny_case() -> None:
    assert_equal(*run_both(small_fleet(), 2, load(2, 30, 8e6), Policy.BID_PRICE, [(60_000_000, 0, 0)]))


def test_slices_change_nothing() -> None:
    outcomes = []
    for batch in (7, 100_000):
        engine = new_engine(small_fleet(), small_deployments(3), load(3, 400, 4e6), Options(batch=batch))
        run(engine, LOST, batch)
        outcomes.append(engine.plant.work.tobytes() + engine.flow.tobytes())
    assert outcomes[0] == outcomes[1]


def test_an_interrupt_stops_between_slices() -> None:
    engine = new_engine(small_fleet(), small_deployments(3), load(3, 400, 4e6), Options())

    def stop(share: float) -> None:
        if share > 0.4:
            raise KeyboardInterrupt

    assert not run(engine, [], 50, stop)
    assert np.count_nonzero(engine.flow["attempts"]) == 200


def test_a_lost_site_takes_no_request_until_it_is_back() -> None:
    engine, _ = run_both(small_fleet(), 1, load(1, 600, 3e6), Policy.LEAST_LOADED, LOST[:2])
    at_lost_site = np.isin(engine.flow["pool"], [0, 1])
    entered = engine.flow["entered_ns"]
    assert at_lost_site[entered > 900_000_000].any()
    assert not at_lost_site[(entered >= 400_000_001) & (entered < 900_000_000)].any()
    assert (engine.flow["status"] == Status.FAILED).sum() > 0
    assert (engine.flow["attempts"] == 2).sum() > 0
