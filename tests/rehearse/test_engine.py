"""The engine: equal to its plain twin bit for bit, under every policy, with a site lost on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.demand.request import Requests, part
from offtake.fleet import Fleet
from offtake.policy.view import Policy, Reason
from offtake.rehearse.options import Options
from offtake.rehearse.run import TIE_STREAM, Drive, cut, run
from offtake.rehearse.state import Status, new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.timeline import Action, Kind, Loading, Retries, Timeline
from offtake.rehearse.verify import ledger_of, verify
from tests.rehearse.fleet_twin import Ask, FleetTwin
from tests.rehearse.fleets import load, small_deployments, small_fleet, talk, workload

WARM_UP_NS = 25_000_000
LOST = [
    Action(400_000_000, Kind.LOST, 0, 1.0),
    Action(900_000_000, Kind.LOST, 0, 0.0),
    Action(1_000_000_000, Kind.LOST, 1, 1.0),
    Action(1_200_000_000, Kind.LOST, 1, 0.0),
]


def nobody(now_ns: int) -> None:
    del now_ns


def drive(fleet: Fleet, seed: int, requests: Requests, options: Options, actions: list[Action]) -> tuple[Drive, Any]:
    """Run a small load with few slots, so that they must grow; return its ends by serial number."""
    rows: list[Any] = []
    engine = new_engine(fleet, small_deployments(seed), options, slots=4)
    found = Drive(engine, new_tally(fleet, int(requests.arrival_ns[0])), lambda ended: rows.append(ended.copy()))
    assert run(found, cut([requests], options.batch), actions, options.seed, nobody)
    ends = np.concatenate(rows)
    return found, ends[np.argsort(ends["serial"])]


def run_both(fleet: Fleet, requests: Requests, options: Options, actions: list[Action]) -> tuple[Any, list[Ask]]:
    seed = options.seed
    options = replace(options, timeline=Timeline((), Loading(warm_up_s=0.025)))
    view = new_engine(fleet, small_deployments(seed), options).seen
    twin = FleetTwin(fleet, small_deployments(seed), view, options.policy.name.lower(), options.retries)
    ties = np.random.default_rng([seed, TIE_STREAM]).random(len(requests.arrival_ns))
    asks = [
        Ask(int(t), int(i), int(o), label=label, workload=int(w), region=int(g), session=int(s), think_ns=int(think))
        for label, (t, i, o, w, g, _, s, _, think) in enumerate(zip(*requests, strict=True))
    ]
    urgency = {"interactive": 0, "agentic": 1, "internal": 2, "batch": 3}
    for ask, u, shared in zip(asks, ties.tolist(), requests.shared_tokens.tolist(), strict=True):
        ask.u, ask.shared, ask.asked = u, shared, ask.output_tokens
        ask.priority = urgency[fleet.workloads[ask.workload].kind]
    twin.run(asks, switches(actions))
    found, ends = drive(fleet, seed, requests, options, actions)
    verify(ledger_of(found.engine, found.tally))
    for name in ("in_flight", "waiting", "queued_tokens"):
        assert not found.engine.seen.pools[name].any()
    return ends, asks


def switches(actions: list[Action]) -> list[tuple[int, int, str]]:
    """Return what the twin does to a site: APIs come back at once, replicas after they have warmed up."""
    found = [(at_ns, site, "down" if lost else "calls up") for at_ns, _, site, lost, *_ in actions]
    return sorted(
        found + [(at_ns + WARM_UP_NS, site, "replicas up") for at_ns, _, site, lost, *_ in actions if not lost]
    )


def assert_equal(ends: Any, asks: list[Ask]) -> None:
    said = [Status(code).name.lower() for code in ends["status"]]
    told = [Reason(code).name.lower() for code in ends["reason"]]
    said = [f"refused {why}" if status == "refused" else status for status, why in zip(said, told, strict=True)]
    assert said == [ask.status for ask in asks]
    assert ends["pool"].tolist() == [ask.pool for ask in asks]
    assert ends["finish_ns"].tolist() == [ask.finish_ns for ask in asks]
    served = [index for index, status in enumerate(said) if status == "served"]
    for name in ("start_ns", "first_token_ns"):
        assert ends[name][served].tolist() == [getattr(asks[index], name) for index in served]
    failed = [index for index, status in enumerate(said) if status == "failed"]
    assert ends["output_tokens"][served].tolist() == [asks[index].output_tokens for index in served]
    assert ends["cached_tokens"][served].tolist() == [asks[index].cached for index in served]
    assert ends["output_tokens"][failed].tolist() == [asks[index].given for index in failed]


def sliced(seed: int, policy: Policy = Policy.BID_PRICE) -> Options:
    return Options(policy=policy, seed=seed, batch=64)


def busy_fleet() -> Fleet:
    """Return the small fleet with tight SLOs and some value, so that bid prices bite."""
    chat = workload("chat", ttft_ms_p95=150.0, value_usd_per_request=0.002)
    code = workload("code", residency="us", ttft_ms_p95=400.0, refusal_usd_per_request=0.001, deferral_hours=0.5)
    return msgspec.structs.replace(small_fleet(), workloads=[chat, msgspec.structs.replace(code, kind="batch")])


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("seed", range(4))
def test_the_engine_equals_the_twin_bit_for_bit_with_two_sites_lost(seed: int, policy: Policy) -> None:
    for spacing_ns in (2e6, 8e6):
        assert_equal(*run_both(small_fleet(), load(seed, 250, spacing_ns), sliced(seed, policy), LOST))


@pytest.mark.parametrize("seed", range(6))
def test_bid_price_equals_the_twin_when_it_refuses_and_defers(seed: int) -> None:
    ends, asks = run_both(busy_fleet(), load(seed, 300, 3e6), sliced(seed), LOST)
    assert_equal(ends, asks)
    assert (ends["reason"] == Reason.BELOW_BID).any() or (ends["attempts"] > 1).any()


@pytest.mark.parametrize("seed", range(4))
def test_sessions_equal_the_twin_each_request_after_the_end_of_the_one_before_it(seed: int) -> None:
    requests = talk(seed, 300, 4e6)
    ends, asks = run_both(busy_fleet(), requests, sliced(seed), LOST)
    assert_equal(ends, asks)
    assert ends["arrival_ns"].tolist() == [ask.arrival_ns for ask in asks]
    last: dict[int, int] = {}
    waited = 0
    for row, session, think_ns, known_ns in zip(
        ends, requests.session, requests.think_ns, requests.arrival_ns, strict=True
    ):
        if think_ns >= 0 and session in last:
            assert row["arrival_ns"] == max(known_ns, last[session] + think_ns)
            waited += int(row["arrival_ns"] > known_ns)
        last[session] = row["finish_ns"]
    assert waited > 50


@pytest.mark.parametrize("seed", range(4))
def test_prompts_shared_within_a_session_are_found_in_the_cache_as_in_the_twin(seed: int) -> None:
    requests = talk(seed, 300, 8e6)
    rng = np.random.default_rng([seed, 4])
    shared = (requests.input_tokens * rng.random(300) * (requests.session >= 0)).astype(np.int32)
    for actions, hits in (([], 10), (LOST, 0)):  # a lost site forgets
        ends, asks = run_both(small_fleet(), requests._replace(shared_tokens=shared), sliced(seed), actions)
        assert_equal(ends, asks)
        assert (ends["cached_tokens"] > 0).sum() > hits


def test_an_answer_ends_where_the_context_does_and_nobody_knows_before() -> None:
    requests = load(5, 200, 8e6)
    requests = requests._replace(output_tokens=np.full(200, 290, np.int32))
    ends, asks = run_both(small_fleet(), requests, sliced(5, Policy.ROUND_ROBIN), [])
    assert_equal(ends, asks)
    short = ends["output_tokens"] < 290
    assert set(ends["pool"][short].tolist()) == {1}  # its replicas hold 300 tokens
    assert (ends["output_tokens"] + ends["input_tokens"])[short].tolist() == [300] * short.sum()
    assert short.sum() > 20


@pytest.mark.parametrize("seed", range(4))
def test_clients_who_ask_again_equal_the_twin_and_are_counted_apart(seed: int) -> None:
    storms = (Retries(start_ns=100_000_000, end_ns=10**9, share=0.7, attempts_max=4, backoff_ns=30_000_000),)
    options = replace(sliced(seed), retries=storms)
    fleet, requests = busy_fleet(), talk(seed, 300, 3e6)
    ends, asks = run_both(fleet, requests, options, LOST)
    assert_equal(ends, asks)
    assert ends["tries"].tolist() == [ask.tries for ask in asks]
    assert 0 < ends["tries"].max() <= 3
    found, _ = drive(fleet, seed, requests, options, LOST)
    assert found.engine.book["offered"][0] == 300 + ends["tries"].sum()


@pytest.mark.plain
def test_the_engine_equals_the_twin_on_a_tiny_case() -> None:
    lost = [Action(60_000_000, Kind.LOST, 0, 1.0)]
    assert_equal(*run_both(small_fleet(), load(2, 30, 8e6), sliced(2), lost))


def test_slices_change_nothing() -> None:
    outcomes = [
        drive(small_fleet(), 3, load(3, 400, 4e6), Options(batch=batch), LOST)[1].tolist() for batch in (7, 100_000)
    ]
    assert outcomes[0] == outcomes[1]


def test_memory_holds_the_requests_that_are_in_the_system_not_those_that_were() -> None:
    fleet, requests = small_fleet(), load(3, 20_000, 2e7)
    found, ends = drive(fleet, 3, requests, Options(), [])
    assert len(ends) == 20_000
    assert len(found.engine.flow) <= 512
    assert found.engine.book["free"][0] == len(found.engine.flow)


def test_an_interrupt_stops_between_slices() -> None:
    fleet, requests = small_fleet(), load(3, 400, 4e6)
    engine = new_engine(fleet, small_deployments(3), Options())
    found = Drive(engine, new_tally(fleet, int(requests.arrival_ns[0])))

    def stop(now_ns: int) -> None:
        if now_ns >= requests.arrival_ns[199]:
            raise KeyboardInterrupt

    assert not run(found, cut([part(requests, 0, 150), part(requests, 150, 400)], 50), [], 0, stop)
    assert found.engine.book["known"][0] == 200


def test_a_lost_site_takes_no_request_until_it_is_back() -> None:
    ends, _ = run_both(small_fleet(), load(1, 600, 3e6), sliced(1, Policy.LEAST_LOADED), LOST[:2])
    at_lost_site = np.isin(ends["pool"], [0, 1])
    entered = ends["entered_ns"]
    assert at_lost_site[entered > 900_000_000].any()
    assert not at_lost_site[(entered >= 400_000_001) & (entered < 900_000_000)].any()
    assert (ends["status"] == Status.FAILED).sum() > 0
    assert (ends["attempts"] == 2).sum() > 0
