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
from offtake.policy.build import view_of
from offtake.policy.doors import admit, can_serve, choose, late_by_load, update
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Answer, Event, EventKind, Policy, Reason, Request, View
from offtake.units import NS_PER_MS, NS_PER_S
from tests.rehearse.fleets import fleet, pool, small_deployments, small_fleet, workload

CHAT, CODE = 0, 1


def see(seen: Fleet, start_hour: float = 0.0) -> View:
    """Return the view of a fleet on the small tables."""
    names, tables = ["one", "two"], small_deployments(1)
    deployment = np.array([names.index(p.deployment) if p.kind == "chips" else -1 for p in seen.pools], np.int64)
    return view_of(seen, prepare([tables[name] for name in names]), deployment, start_hour)


def ask(kind: int, tokens: int = 50, context: int = 60, session: int = -1, last_ns: int = -1) -> Request:
    """Return a request from the first region."""
    return Request(kind, 0, tokens, 0, context, session, last_ns)


def route(view: View, index: int, count: int, kind: int = CHAT, tokens: int = 50) -> None:
    """Send requests to a pool; they begin to run at once and give their first token."""
    for _ in range(count):
        update(view, Event(EventKind.ROUTED, index, kind, 1, tokens, 0, 0))
    update(view, Event(EventKind.ADMITTED, index, 0, count, 0, 0, 0))
    update(view, Event(EventKind.FIRST_TOKEN, index, 0, count, count * tokens, 0, 0))


def finish(view: View, index: int, service_ns: int, late: int = 0) -> None:
    """Finish one request of the first workload."""
    update(view, Event(EventKind.GONE, index, CHAT, 0, 0, 0, 0))
    update(view, Event(EventKind.FINISHED, index, 0, 1, late, service_ns, 0))


def fill(view: View, index: int, share: float, kind: int = CHAT) -> None:
    """Send requests of one kind to a pool until it is at a share of its limit."""
    while float(view.pools[index].pressure) < share:
        route(view, index, 1, kind)


def chosen(policy: Policy, view: View, request: Request, u: float = 0.0, now_ns: int = 0) -> int:
    return int(choose(int(policy), view, request, now_ns, u).pool)


# ── what no policy may do ───────────────────────────────────────────────────────────────────────────────────────────
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
        workload(name, residency=data.draw(zones), security=data.draw(integers(0, 1)), admit_share_min=0.5)
        for name in ("chat", "code")
    ]
    seen = fleet(pools, workloads=loads)
    view = see(seen)
    for index in range(len(pools)):
        for load in (CHAT, CODE):
            route(view, index, data.draw(integers(0, 40)), load, data.draw(integers(1, 10**4)))
        update(view, Event(EventKind.CAPACITY, index, 0, data.draw(integers(0, 1)), 0, 0, 0))
    context = data.draw(integers(2, 1_400))
    request = Request(data.draw(integers(0, 1)), 0, context // 2, 0, context, data.draw(integers(-1, 9)), -1)
    u = data.draw(st.floats(0, 1, exclude_max=True))
    sites = {site.name: site for site in seen.sites}
    kind = loads[request.workload]
    longest = {"one": 1_200, "two": 300}
    fit = [
        index for index, p in enumerate(pools)
        if p.model == "model" and p.goodput_rps[request.workload] > 0 and view.pools[index].replicas_up > 0
        and kind.residency in {"any", sites[p.site].residency} and sites[p.site].security >= kind.security
        and request.context_tokens <= longest[p.deployment]
    ]  # fmt: skip
    assert (admit(view, request, 0) == Reason.NONE) == bool(fit)
    for policy in Policy:
        choice = choose(int(policy), view, request, 0, u)
        assert choice.pool in fit or choice.pool == NO_POOL
        if policy is not Policy.BID_PRICE:
            assert (choice.pool == NO_POOL) == (not fit)


@pytest.mark.plain
def test_no_pool_serves_a_request_beyond_the_context_of_its_model() -> None:
    short = [msgspec.structs.replace(one, context_tokens_max=59) for one in small_fleet().pools]
    assert admit(see(fleet(short)), ask(CHAT, context=59), 0) == Reason.NONE
    assert admit(see(fleet(short)), ask(CHAT, context=60), 0) == Reason.TOO_LONG
    assert admit(see(small_fleet()), ask(CHAT, context=60), 0) == Reason.NONE


def test_a_refusal_carries_its_reason() -> None:
    view = see(small_fleet())
    short, long = ask(CODE), ask(CODE, 1_000, 1_900)
    assert admit(view, short, 0) == Reason.NONE
    assert admit(view, long, 0) == Reason.TOO_LONG
    for index in (0, 1):
        update(view, Event(EventKind.CAPACITY, index, 0, 0, 0, 0, 0))
    assert admit(view, short, 0) == Reason.NO_CAPACITY
    nowhere = fleet([pool("a", "A", model="other")])
    assert admit(see(nowhere), short, 0) == Reason.NO_FIT
    assert not can_serve(see(nowhere), short, 0)


@pytest.mark.parametrize("policy", list(Policy))
def test_work_spills_only_where_residency_and_security_allow(policy: Policy) -> None:
    home, abroad, unsafe = pool("home", "A"), pool("abroad", "B"), pool("unsafe", "B")
    chat = workload("chat", residency="us")
    view = see(fleet([abroad, home, unsafe], workloads=[chat, workload("code", security=1)]))
    fill(view, 1, 3.0)
    for kind in (CHAT, CODE):
        for u in (0.0, 0.4, 0.9):
            assert chosen(policy, view, ask(kind, session=3), u) == (NO_POOL if policy is Policy.BID_PRICE else 1)


# ── baselines ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_round_robin_takes_pools_in_turn_for_each_workload() -> None:
    view, taken = see(small_fleet()), []
    for kind in (CHAT, CHAT, CODE, CHAT, CODE, CHAT, CODE):
        index = chosen(Policy.ROUND_ROBIN, view, ask(kind))
        update(view, Event(EventKind.ROUTED, index, kind, 1, 50, 0, 0))
        taken.append(index)
    assert taken == [0, 1, 0, 2, 1, 3, 0]


def test_weighted_shares_out_as_the_plan_places_and_else_by_capacity() -> None:
    planned = see(fleet([pool("a", "A", allotment_rps=[[3.0, 0.0]]), pool("b", "A", allotment_rps=[[1.0, 0.0]])]))
    counts = np.bincount([chosen(Policy.WEIGHTED, planned, ask(CHAT), u) for u in np.arange(0.005, 1, 0.01)])
    assert counts.tolist() == [75, 25]
    none = [[1.0, 0.0]]
    bare = see(fleet([pool("a", "A", replicas=1, allotment_rps=none), pool("b", "A", replicas=4, allotment_rps=none)]))
    counts = np.bincount([chosen(Policy.WEIGHTED, bare, ask(CODE), u) for u in np.arange(0.005, 1, 0.01)])
    assert counts.tolist() == [20, 80]


def test_least_loaded_counts_places_not_requests() -> None:
    view = see(small_fleet())
    for index in range(4):
        route(view, index, 10)
    places = [float(row.slots * row.replicas_up) for row in view.pools]
    assert chosen(Policy.LEAST_LOADED, view, ask(CHAT)) == int(np.argmax(places))


def test_power_of_two_draws_every_pair_and_takes_the_less_loaded() -> None:
    view = see(fleet([pool(name, "A") for name in "abcd"]))
    for index, count in enumerate((30, 20, 10, 1)):
        route(view, index, count)
    counts = np.bincount([chosen(Policy.POWER_OF_TWO, view, ask(CHAT), u) for u in np.arange(0, 1, 1 / 1_200)])
    assert counts.tolist() == [0, 200, 400, 600]


def test_cheapest_first_fills_the_cheapest_pool_and_then_the_next() -> None:
    free, paid = pool("free", "A"), pool("paid", "A", usd_per_chip_hour_used=3.0)
    view = see(fleet([paid, free]))
    assert chosen(Policy.CHEAPEST_FIRST, view, ask(CHAT)) == 1
    route(view, 1, int(view.pools[1].slots * 3) + 1)
    assert chosen(Policy.CHEAPEST_FIRST, view, ask(CHAT)) == 0
    route(view, 0, int(view.pools[0].slots * 3) + 9)
    assert chosen(Policy.CHEAPEST_FIRST, view, ask(CHAT)) == 1


def test_latency_first_takes_the_nearest_until_its_queue_is_longer_than_the_way() -> None:
    view = see(fleet([pool("far", "B"), pool("near", "A")]))
    assert chosen(Policy.LATENCY_FIRST, view, ask(CHAT)) == 1
    for _ in range(200):
        update(view, Event(EventKind.ROUTED, 1, CHAT, 1, 500, 0, 0))
    assert chosen(Policy.LATENCY_FIRST, view, ask(CHAT)) == 0


def test_a_session_keeps_its_pool_until_that_is_overloaded() -> None:
    view = see(fleet([pool(name, "A") for name in "abcdef"]))
    own = [chosen(Policy.PREFIX_AFFINITY, view, ask(CHAT, session=s), u=0.1 * (s % 9)) for s in range(600)]
    again = [chosen(Policy.PREFIX_AFFINITY, view, ask(CHAT, session=s), u=0.05) for s in range(600)]
    assert own == again
    counts = np.bincount(own, minlength=6)
    assert counts.min() > 70
    assert counts.max() < 130
    for index in range(6):
        route(view, index, 30 if index == own[0] else 10)
    spilled = [chosen(Policy.PREFIX_AFFINITY, view, ask(CHAT, session=s)) for s in range(600)]
    assert own[0] not in spilled
    assert [s for s in range(600) if spilled[s] != own[s]] == [s for s in range(600) if own[s] == own[0]]


# ── bid price ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_idle_pool_charges_nothing_whatever_the_plan_says() -> None:
    view = see(fleet([pool("a", "A", replicas=60, bid_usd_per_chip_s=[5.0])]))
    route(view, 0, 5)
    choice = choose(int(Policy.BID_PRICE), view, ask(CHAT), 0, 0.5)
    assert choice.pool == 0
    assert choice.margin_usd == pytest.approx(0.01)


def test_the_price_rises_with_the_load_to_the_most_that_capacity_can_earn() -> None:
    view, prices = see(fleet([pool("a", "A")])), []
    for share in (0.2, 0.5, 0.8, 1.0):
        fill(view, 0, share)
        prices.append(float(view.pools[0].price_usd))
    assert prices == sorted(prices)
    density = float(view.pools[0].density_usd)
    assert density == pytest.approx(0.01 / (2 / 20.0))  # a request's worth over chips / goodput
    assert prices[0] < 0.1 * density
    assert prices[-1] == pytest.approx(density, rel=0.2)


def test_the_plans_price_is_charged_from_further_off_and_never_beyond_what_capacity_can_earn() -> None:
    free, planned, mad = (pool("a", "A", bid_usd_per_chip_s=[bid]) for bid in (0.0, 0.05, 50.0))
    prices = []
    for each in (free, planned, mad):
        view = see(fleet([each]))
        fill(view, 0, 0.8)
        prices.append(float(view.pools[0].price_usd))
    assert prices[0] < prices[1] < prices[2] < float(view.pools[0].density_usd)


def test_in_a_shortage_what_is_worth_least_is_refused_first() -> None:
    loads = [workload("chat"), workload("code", value_usd_per_request=0.001)]
    view = see(fleet([pool("a", "A")], workloads=loads))
    refused_from: dict[int, float] = {}
    for share in np.arange(0.05, 1.3, 0.05):
        fill(view, 0, float(share))
        for kind in (CHAT, CODE):
            if chosen(Policy.BID_PRICE, view, ask(kind)) == NO_POOL:
                refused_from.setdefault(kind, float(share))
    assert refused_from[CODE] < refused_from[CHAT]
    assert 0.9 <= refused_from[CHAT] <= 1.1


def test_work_goes_where_it_costs_least_until_that_is_nearly_full() -> None:
    view = see(fleet([pool("paid", "A", usd_per_chip_hour_used=30.0), pool("free", "A")]))
    assert chosen(Policy.BID_PRICE, view, ask(CHAT)) == 1
    fill(view, 1, 0.95)
    assert chosen(Policy.BID_PRICE, view, ask(CHAT)) == 0


def test_between_equal_pools_the_emptier_is_taken() -> None:
    view = see(fleet([pool("a", "A", replicas=50), pool("b", "A", replicas=50)]))
    route(view, 0, 3)
    assert {chosen(Policy.BID_PRICE, view, ask(CHAT), u) for u in (0.0, 0.3, 0.6, 0.9)} == {1}


def test_a_queue_sends_a_request_to_the_pool_that_is_further_but_free() -> None:
    view = see(fleet([pool("near", "A"), pool("far", "B")]))
    for _ in range(60):
        update(view, Event(EventKind.ROUTED, 0, CHAT, 1, 800, 0, 0))
    assert chosen(Policy.BID_PRICE, view, ask(CHAT)) == 1


def test_a_request_that_waits_for_the_next_step_beside_free_places_is_no_queue() -> None:
    view = see(fleet([pool("a", "A", replicas=8)]))
    update(view, Event(EventKind.ROUTED, 0, CHAT, 1, 50, 0, 0))
    assert int(view.pools[0].waiting) == 1
    assert float(view.pools[0].wait_ns) < 0.1 * float(view.pools[0].service_ns)
    places = int(view.pools[0].places) * 8
    route(view, 0, places - 1)
    for _ in range(places):
        update(view, Event(EventKind.ROUTED, 0, CHAT, 1, 1, 0, 0))
    assert float(view.pools[0].wait_ns) == pytest.approx(float(view.pools[0].service_ns), rel=0.1)


def test_a_prompt_too_long_to_be_read_in_time_says_nothing_of_what_a_pool_bears() -> None:
    view = see(fleet([pool("a", "A")]))
    limit_ns, row = float(view.workloads[CHAT].slo_ttft_ns), view.pools[0]
    tokens = 10
    while (alone_ns := row.own_ns + tokens * (row.read_ns_per_token + tokens * row.read_ns_per_token2)) <= limit_ns:
        tokens *= 2
    room_ns = 1.0 / float(view.rate[0, CHAT, 1])
    assert late_by_load(view, 0, Answer(CHAT, tokens, 0, int(alone_ns + 0.9 * room_ns), 1.0)) == 0
    assert late_by_load(view, 0, Answer(CHAT, tokens, 0, int(alone_ns + 1.1 * room_ns), 1.0)) == 1
    assert late_by_load(view, 0, Answer(CHAT, 10, 0, int(limit_ns), 1.0)) == 0
    assert late_by_load(view, 0, Answer(CHAT, 10, 0, int(2 * limit_ns), 1.0)) == 1
    slow_ns = 1.01 * float(view.workloads[CHAT].slo_tpot_ns)
    assert late_by_load(view, 0, Answer(CHAT, 10, 0, int(0.5 * limit_ns), slow_ns)) == 1


def test_a_prompt_of_mean_length_takes_the_mean_time_a_token_and_a_longer_one_more() -> None:
    seen = fleet([pool("a", "A")])
    row, mean = see(seen).pools[0], seen.workloads[CHAT].input_tokens_mean
    per_token = [float(row.read_ns_per_token + tokens * row.read_ns_per_token2) for tokens in (mean, 4 * mean)]
    assert per_token[0] == pytest.approx(float(row.prefill_ns_per_token))
    assert per_token[1] > per_token[0]


def test_late_answers_shrink_a_pools_reach_and_a_full_pool_in_time_extends_it() -> None:
    view = see(fleet([pool("a", "A")]))
    fill(view, 0, 1.0)
    for late, sign in ((1, -1.0), (0, 1.0)):
        before = float(view.pools[0].reach)
        for _ in range(10):
            finish(view, 0, NS_PER_S, late)
            route(view, 0, 1)
        assert (float(view.pools[0].reach) - before) * sign > 0


def test_an_idle_pool_in_time_learns_nothing() -> None:
    view = see(fleet([pool("a", "A", replicas=200)]))
    for _ in range(100):
        route(view, 0, 1)
        finish(view, 0, NS_PER_S)
    assert float(view.pools[0].reach) == pytest.approx(1.0, abs=1e-6)


# ── floors, patience, retries ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.75, 1.0])
def test_a_floor_is_kept_however_short_capacity_is(floor: float) -> None:
    loads = [workload("chat"), workload("code", value_usd_per_request=1e-6, admit_share_min=floor)]
    view = see(fleet([pool("a", "A")], workloads=loads))
    fill(view, 0, 1.5)
    served = 0
    for asked in range(1, 201):
        index = chosen(Policy.BID_PRICE, view, ask(CODE))
        kind = EventKind.DECLINED if index == NO_POOL else EventKind.ROUTED
        update(view, Event(kind, index, CODE, 1, 50, 0, 0))
        served += index != NO_POOL
        assert floor * asked - 1 - 1e-9 <= served <= floor * asked + 1


def test_work_that_can_wait_leaves_room_until_its_deadline_and_then_pays_in_full() -> None:
    loads = [workload("chat"), workload("code", deferral_hours=1.0, ttft_ms_p95=60_000.0)]
    view = see(fleet([pool("a", "A")], workloads=loads))
    fill(view, 0, 0.85)
    hour_ns = 3_600 * NS_PER_S
    assert chosen(Policy.BID_PRICE, view, ask(CODE, last_ns=hour_ns)) == NO_POOL
    assert chosen(Policy.BID_PRICE, view, ask(CODE, last_ns=hour_ns), now_ns=hour_ns) == 0
    assert chosen(Policy.BID_PRICE, view, ask(CHAT)) == 0


def test_there_is_no_retry_after_when_waiting_cannot_help() -> None:
    view = see(fleet([pool("a", "A", usd_per_chip_hour_used=10_000.0)]))
    choice = choose(int(Policy.BID_PRICE), view, ask(CHAT), 0, 0.0)
    assert (choice.pool, choice.reason, choice.retry_after_ns) == (NO_POOL, Reason.BELOW_BID, NO_RETRY_NS)


def test_where_an_api_never_pays_the_retry_after_is_that_of_the_busy_chips() -> None:
    dear = pool("api", "B", kind="api", replicas=0, usd_per_million_input_tokens=1e6, tokens_per_minute_max=1e6)
    view = see(fleet([pool("a", "A"), dear]))
    fill(view, 0, 40.0)
    choice = choose(int(Policy.BID_PRICE), view, ask(CHAT), 0, 0.0)
    assert (choice.pool, choice.reason) == (NO_POOL, Reason.BELOW_BID)
    alone = see(fleet([pool("a", "A")]))
    fill(alone, 0, 40.0)
    assert choice.retry_after_ns == choose(int(Policy.BID_PRICE), alone, ask(CHAT), 0, 0.0).retry_after_ns > 0


@settings(deadline=None, max_examples=60)
@given(over=st.floats(1.1, 4.0), service_s=st.floats(0.1, 20.0))
def test_retry_after_is_when_enough_have_finished_and_not_much_later(over: float, service_s: float) -> None:
    view = see(fleet([pool("a", "A")]))
    view.pools[0].service_ns = service_s * NS_PER_S
    fill(view, 0, over)
    choice = choose(int(Policy.BID_PRICE), view, ask(CHAT), 0, 0.0)
    assert choice.pool == NO_POOL
    held = int(view.pools[0].in_flight)
    stay_ns = max(service_s * NS_PER_S, 20.0 * float(view.pools[0].tpot_now_ns))
    waited = choice.retry_after_ns / stay_ns
    late = [np.log((held + 1) / (still + 1)) + 2 / np.sqrt(still + 1) for still in range(held + 1)]
    left = next(still for still in range(held + 1) if late[still] <= waited + 1e-6)  # random ends, two deviations late
    for _ in range(held - left):
        finish(view, 0, int(view.pools[0].service_ns))
    assert chosen(Policy.BID_PRICE, view, ask(CHAT)) == 0
    assert choice.retry_after_ns <= (np.log(held + 1) + 2.0) * stay_ns + NS_PER_MS


# ── the view ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_view_follows_a_request_from_routing_to_finish() -> None:
    view = see(small_fleet())

    def row() -> tuple[Any, ...]:
        return tuple(int(view.pools[2][name]) for name in ("in_flight", "waiting", "queued_tokens"))

    steps = [(EventKind.ROUTED, 1, 70), (EventKind.ADMITTED, 1, 0), (EventKind.FIRST_TOKEN, 1, 70),
             (EventKind.GONE, 0, 0)]  # fmt: skip
    told = []
    for kind, size, tokens in steps:
        update(view, Event(kind, 2, CHAT, size, tokens, 0, 0))
        told.append(row())
    assert told == [(1, 1, 70), (1, 0, 70), (1, 0, 0), (0, 0, 0)]
    update(view, Event(EventKind.ROUTED, 2, CHAT, 1, 70, 0, 0))
    update(view, Event(EventKind.GONE, 2, CHAT, 1, 70, 0, 0))
    update(view, Event(EventKind.CAPACITY, 2, 0, 0, 0, 0, 0))
    assert row() == (0, 0, 0)
    assert view.pools[2].replicas_up == 0
    assert view.pools[2].work_ns == 0


def test_chip_seconds_per_token_add_up_to_chips_over_goodput() -> None:
    seen = small_fleet()
    view = see(seen)
    for kind, load in enumerate(seen.workloads):
        per = view.chip_s_per_token[0, kind]
        assert per[0] * load.input_tokens_mean + per[1] * load.output_tokens_mean == pytest.approx(2 / 20.0)
        assert per.min() > 0
    assert not view.chip_s_per_token[3].any()


def test_the_block_of_the_week_decides_which_price_of_the_plan_counts() -> None:
    seen = msgspec.structs.replace(
        fleet([pool("a", "A", bid_usd_per_chip_s=[0.05, 0.0], allotment_rps=[[1.0, 1.0]] * 2)]),
        block_of_hour=[0] * 20 + [1] * 148, block_share=[0.1, 0.9],
    )  # fmt: skip
    prices = []
    for hour in (19.5, 20.5):
        view = see(seen, start_hour=hour)
        fill(view, 0, 0.8)
        prices.append(float(view.pools[0].price_usd))
    assert prices[0] > 1.5 * prices[1]
