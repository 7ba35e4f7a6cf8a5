"""Policies choose only what can serve, keep their view true, and tell the truth about trying again."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offtake.fleet import Fleet
from offtake.performance.dense import prepare
from offtake.policy.admit import admit, can_serve
from offtake.policy.build import view_of
from offtake.policy.choose import choose
from offtake.policy.price import margin_usd, surge
from offtake.policy.update import update
from offtake.policy.view import NO_POOL, Event, EventKind, Policy, Reason, Request, View
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S
from tests.rehearse.fleets import fleet, pool, small_deployments, small_fleet, workload

CHAT, CODE = 0, 1


def see(seen: Fleet, start_hour: float = 0.0) -> View:
    """Return the view of a fleet on the small tables."""
    names, tables = ["one", "two"], small_deployments(1)
    deployment = np.array([names.index(p.deployment) if p.kind == "chips" else -1 for p in seen.pools], np.int64)
    return view_of(seen, prepare([tables[name] for name in names]), deployment, start_hour)


def fill(view: View, index: int, in_flight: int, waiting: int, queued_tokens: int) -> None:
    """Put load on a pool."""
    row = view.pools[index]
    row.in_flight, row.waiting, row.queued_tokens = in_flight, waiting, queued_tokens


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_down_or_unfit_pool_is_never_chosen(data: st.DataObject) -> None:
    integers, zones = st.integers, st.sampled_from(["any", "us", "eu"])
    pools = [
        pool(
            f"p{i}",
            data.draw(st.sampled_from(["A", "B"])),
            model=data.draw(st.sampled_from(["model", "other"])),
            goodput_rps=data.draw(st.lists(st.sampled_from([0.0, 20.0]), min_size=2, max_size=2)),
            deployment=data.draw(st.sampled_from(["one", "two"])),
        )
        for i in range(data.draw(integers(1, 6)))
    ]
    loads = [
        workload(name, residency=data.draw(zones), security=data.draw(integers(0, 1))) for name in ("chat", "code")
    ]
    seen = fleet(pools, workloads=loads)
    view = see(seen)
    for index in range(len(pools)):
        view.pools[index].replicas_up = data.draw(integers(0, 1))
        fill(view, index, data.draw(integers(0, 90)), data.draw(integers(0, 9)), data.draw(integers(0, 10**6)))
    request = Request(data.draw(integers(0, 1)), 0, data.draw(integers(1, 700)), data.draw(integers(1, 700)))
    u = data.draw(st.floats(0, 1, exclude_max=True))
    sites = {site.name: site for site in seen.sites}
    kind = loads[request.workload]
    longest = {"one": 1_200, "two": 300}
    fit = [
        index for index, p in enumerate(pools)
        if p.model == "model" and p.goodput_rps[request.workload] > 0 and view.pools[index].replicas_up > 0
        and kind.residency in {"any", sites[p.site].residency} and sites[p.site].security >= kind.security
        and request.input_tokens + request.output_tokens_max <= longest[p.deployment]
    ]  # fmt: skip
    assert (admit(view, request, 0) == Reason.NONE) == bool(fit)
    for policy in Policy:
        choice = choose(int(policy), view, request, 0, u)
        assert choice.pool in fit or choice.pool == NO_POOL
        if policy is not Policy.BID_PRICE:
            assert (choice.pool == NO_POOL) == (not fit)


@pytest.mark.plain
def test_a_refusal_carries_its_reason() -> None:
    view = see(small_fleet())
    short, long = Request(CODE, 0, 50, 10), Request(CODE, 0, 1_000, 900)
    assert admit(view, short, 0) == Reason.NONE
    assert admit(view, long, 0) == Reason.TOO_LONG
    view.pools[0].replicas_up = view.pools[1].replicas_up = 0
    assert admit(view, short, 0) == Reason.NO_CAPACITY
    nowhere = fleet([pool("a", "A", model="other")])
    assert admit(see(nowhere), short, 0) == Reason.NO_FIT
    assert not can_serve(see(nowhere), short, 0)


def test_round_robin_takes_pools_in_turn_for_each_workload() -> None:
    view, chosen = see(small_fleet()), []
    for kind in (CHAT, CHAT, CODE, CHAT, CODE, CHAT, CODE):
        choice = choose(int(Policy.ROUND_ROBIN), view, Request(kind, 0, 50, 10), 0, 0.0)
        update(view, Event(EventKind.ROUTED, choice.pool, kind, 1, 50, 0, 0))
        chosen.append(choice.pool)
    assert chosen == [0, 1, 0, 2, 1, 3, 0]


def test_least_loaded_counts_places_not_requests() -> None:
    view = see(small_fleet())
    for index in range(4):
        fill(view, index, 10, 0, 0)
    places = [float(row.slots * row.replicas_up) for row in view.pools]
    assert choose(int(Policy.LEAST_LOADED), view, Request(CHAT, 0, 50, 10), 0, 0.0).pool == int(np.argmax(places))


def test_bid_price_takes_the_larger_margin_and_refuses_when_nothing_pays() -> None:
    cheap, dear = pool("cheap", "A", bid_usd_per_chip_s=[0.01]), pool("dear", "A", bid_usd_per_chip_s=[0.05])
    view = see(fleet([dear, cheap]))
    for index in range(2):
        fill(view, index, 30, 0, 0)  # so full that the bid price is charged in full
    worth = 0.01  # 20 requests/s on two chips: 0.1 chip-seconds a request
    choice = choose(int(Policy.BID_PRICE), view, Request(CHAT, 0, 60, 20), 0, 0.9)
    assert choice.pool == 1
    assert choice.margin_usd == pytest.approx(worth - 0.01 * 0.1, rel=1e-9)
    view.bid_usd[0, :, 0] = 0.2
    refused = choose(int(Policy.BID_PRICE), view, Request(CHAT, 0, 60, 20), 0, 0.9)
    assert (refused.pool, refused.reason) == (NO_POOL, Reason.BELOW_BID)
    assert refused.margin_usd == pytest.approx(worth - 0.2 * 0.1, rel=1e-9)


def test_an_idle_pool_charges_no_bid_price() -> None:
    view = see(fleet([pool("a", "A", bid_usd_per_chip_s=[5.0])]))
    assert choose(int(Policy.BID_PRICE), view, Request(CHAT, 0, 60, 20), 0, 0.5).pool == 0


def test_lateness_sends_a_request_to_the_pool_that_is_further_but_free() -> None:
    view = see(fleet([pool("near", "A"), pool("far", "B")]))
    request = Request(CHAT, 0, 60, 20)
    near = margin_usd(view, request, 0, 0, 0.0)
    assert choose(int(Policy.BID_PRICE), view, request, 0, 0.0).pool == 0
    fill(view, 0, 40, 10, 0)
    view.pools[0].service_ns = 5.0 * NS_PER_S
    assert margin_usd(view, request, 0, 0, 0.0) < near
    assert choose(int(Policy.BID_PRICE), view, request, 0, 0.0).pool == 1


def refused(view: View, request: Request, now_ns: int) -> int:
    choice = choose(int(Policy.BID_PRICE), view, request, now_ns, 0.0)
    assert (choice.pool, choice.reason) == (NO_POOL, Reason.BELOW_BID)
    return choice.retry_after_ns


@settings(deadline=None, max_examples=60)
@given(running=st.integers(1, 60), waiting=st.integers(0, 300), service_s=st.floats(0.1, 20.0))
def test_retry_after_is_when_enough_have_left_and_no_sooner(running: int, waiting: int, service_s: float) -> None:
    request = Request(CHAT, 0, 60, 20)

    def choice_after(past_ns: float) -> int:
        """Choose after ``past_ns`` in which nobody came and requests left one by one as they do in a steady state."""
        view = see(fleet([pool("a", "A")]))
        left = running * past_ns / (service_s * NS_PER_S)
        still_waiting = max(0.0, waiting - left)
        view.pools[0].service_ns = service_s * NS_PER_S
        fill(view, 0, round(running + waiting - left), round(still_waiting), 0)
        return choose(int(Policy.BID_PRICE), view, request, 0, 0.0).pool

    view = see(fleet([pool("a", "A")]))
    view.pools[0].service_ns = service_s * NS_PER_S
    fill(view, 0, running + waiting, waiting, 0)
    choice = choose(int(Policy.BID_PRICE), view, request, 0, 0.0)
    if choice.pool == NO_POOL:
        one_ns = service_s * NS_PER_S / running  # the time in which one more request leaves
        assert choice.retry_after_ns > 0
        assert choice_after(choice.retry_after_ns + one_ns) == 0
        assert choice.retry_after_ns <= (running + waiting + 1) * one_ns + NS_PER_S


def test_retry_after_a_surge_is_when_the_surge_has_faded() -> None:
    view, request = see(fleet([pool("a", "A")])), Request(CHAT, 0, 60, 20)
    view.pools[0].surge_usd_per_chip_s, view.pools[0].surge_at_ns = 1.0, 0
    retry_ns = refused(view, request, NS_PER_S)
    assert choose(int(Policy.BID_PRICE), view, request, NS_PER_S + retry_ns, 0.0).pool == 0


def test_retry_after_a_dear_block_is_when_a_cheaper_block_begins() -> None:
    seen = msgspec.structs.replace(
        fleet([pool("a", "A", bid_usd_per_chip_s=[0.0] * 2, bid_usd_per_token=[1.0, 0.0])]),
        block_of_hour=[0] * 20 + [1] * 148, block_share=[0.1, 0.9],
    )  # fmt: skip
    view, request = see(seen, start_hour=17.5), Request(CHAT, 0, 60, 20)
    retry_ns = refused(view, request, 0)
    assert retry_ns == 2.5 * NS_PER_HOUR
    assert choose(int(Policy.BID_PRICE), view, request, retry_ns, 0.0).pool == 0


def test_there_is_no_retry_after_when_waiting_cannot_help() -> None:
    view = see(fleet([pool("a", "A", usd_per_chip_hour_used=10_000.0)]))
    assert refused(view, Request(CHAT, 0, 60, 20), 0) < 0


def test_late_first_tokens_raise_a_surge_and_early_ones_take_it_back() -> None:
    view = see(small_fleet())
    late = Event(EventKind.FIRST_TOKEN, 0, 0, 10, 0, 10 * 900 * NS_PER_MS, NS_PER_S)
    early = Event(EventKind.FIRST_TOKEN, 0, 0, 100, 0, 100 * 10 * NS_PER_MS, NS_PER_S)
    update(view, early)
    assert surge(view, 0, float(NS_PER_S)) == 0.0
    update(view, late)  # 900 ms of an SLO of 500 ms: 1.8 - 0.5, held at 1, times 10 requests times 0.02 units
    unit = float(view.pools[0].surge_usd)
    assert surge(view, 0, float(NS_PER_S)) == pytest.approx(0.2 * unit)
    assert surge(view, 0, float(11 * NS_PER_S)) == pytest.approx(0.1 * unit)
    update(view, early)
    assert surge(view, 0, float(NS_PER_S)) == 0.0


def test_the_view_follows_a_request_from_routing_to_finish() -> None:
    view = see(small_fleet())

    def row() -> tuple[Any, ...]:
        return tuple(int(view.pools[2][name]) for name in ("in_flight", "waiting", "queued_tokens"))

    steps = [(EventKind.ROUTED, 1, 70, 0), (EventKind.ADMITTED, 1, 0, 0), (EventKind.FIRST_TOKEN, 1, 70, 5),
             (EventKind.FINISHED, 1, 0, 100)]  # fmt: skip
    told = []
    for kind, size, tokens, sum_ns in steps:
        update(view, Event(kind, 2, CHAT, size, tokens, sum_ns, 0))
        told.append(row())
    assert told == [(1, 1, 70), (1, 0, 70), (1, 0, 0), (0, 0, 0)]
    update(view, Event(EventKind.ROUTED, 2, CHAT, 1, 70, 0, 0))
    update(view, Event(EventKind.CAPACITY, 2, 0, 0, 0, 0, 0))
    assert row() == (1, 1, 70)  # it may still drain
    assert view.pools[2].replicas_up == 0
    update(view, Event(EventKind.GONE, 2, CHAT, 1, 70, 0, 0))
    assert row() == (0, 0, 0)


def test_chip_seconds_per_token_add_up_to_chips_over_goodput() -> None:
    seen = small_fleet()
    view = see(seen)
    for kind, load in enumerate(seen.workloads):
        per = view.chip_s_per_token[0, kind]
        assert per[0] * load.input_tokens_mean + per[1] * load.output_tokens_mean == pytest.approx(2 / 20.0)
        assert per.min() > 0
    assert not view.chip_s_per_token[3].any()
