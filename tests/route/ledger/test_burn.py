from __future__ import annotations

import msgspec
import pytest

from offtake.route.ledger.burn import burn_down
from offtake.route.ledger.rows import Entry, row_of
from offtake.route.ledger.span import Span, hour_of_week, monday_ns
from offtake.route.ledger.store import Store
from offtake.route.ledger.sums import Use, last_arrival_ns, sums, uses
from tests.rehearse.fleets import small_fleet
from tests.route.ledger.records import MONDAY_NS, S, closed, opened

HOUR_NS = 3_600 * S


def test_the_week_begins_on_monday_at_midnight_utc() -> None:
    assert monday_ns(MONDAY_NS) == monday_ns(MONDAY_NS + 7 * 24 * HOUR_NS - 1) == MONDAY_NS
    assert hour_of_week(MONDAY_NS + 30 * HOUR_NS + HOUR_NS // 2) == 30.5
    assert monday_ns(MONDAY_NS - 1) == MONDAY_NS - 7 * 24 * HOUR_NS


def test_the_ledger_is_added_up_by_tenant_pool_and_outcome(store: Store) -> None:
    nothing = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_usd": 0.0, "pool": "", "attempts": 0}
    store.write(
        [
            row_of(Entry("w", opened("a", 1.0), closed("a", cost_usd=0.25))),
            row_of(Entry("w", opened("b", 2.0), closed("b", cost_usd=0.5, counted=True, attempts=2))),
            row_of(Entry("w", opened("c", 3.0, tenant="umbrella"), closed("c", outcome="refused", **nothing))),  # type: ignore[arg-type]  # values of a record
            row_of(Entry("w", opened("d", 4.0, tenant="umbrella"), None)),
        ]
    )
    by_tenant = {each.name: each for each in sums(store, "tenant", Span())}
    acme = by_tenant["acme"]
    assert (acme.requests, acme.served, acme.input_tokens, acme.output_tokens, acme.counted) == (2, 2, 220, 80, 1)
    assert (acme.cost_usd, acme.attempts, acme.cached_tokens) == (0.75, 3, 20)
    assert (by_tenant["umbrella"].requests, by_tenant["umbrella"].served) == (2, 0)
    outcomes = {each.name: each.requests for each in sums(store, "outcome", Span())}
    assert outcomes == {"served": 2, "refused": 1, "open": 1}
    assert [each.name for each in sums(store, "pool", Span(MONDAY_NS + 2 * S, MONDAY_NS + 4 * S))] == ["", "a-one"]
    assert uses(store, Span()) == [Use(pool="a-one", workload="chat", tokens=300, cost_usd=0.75, requests=2)]
    assert last_arrival_ns(store, Span()) == MONDAY_NS + 4 * S
    assert last_arrival_ns(store, Span(0, 1)) is None


def test_a_contract_is_burnt_down_against_its_chips_and_the_plan() -> None:
    fleet = small_fleet()
    first, second = fleet.workloads
    pool = msgspec.structs.replace(
        fleet.pools[0],
        kind="chips",
        replicas=3,
        chips_per_replica=8,
        offers=["one", "two"],
        offer_share=[0.75, 0.25],
        usd_per_chip_hour=2.0,
        goodput_rps=[4.0, 0.0],
        allotment_rps=[[1.0 + block, 0.5] for block in range(len(fleet.block_share))],
    )
    api = msgspec.structs.replace(fleet.pools[1], offers=["two"], offer_share=[], kind="api", replicas=0)
    api = msgspec.structs.replace(api, allotment_rps=[[0.0, 0.0] for _ in fleet.block_share])
    fleet = msgspec.structs.replace(
        fleet, pools=[pool, api], block_of_hour=[0] * 100 + [len(fleet.block_share) - 1] * 68
    )
    each = first.input_tokens_mean + first.output_tokens_mean
    other = second.input_tokens_mean + second.output_tokens_mean
    used = [
        Use(pool=pool.name, workload=first.name, tokens=round(7_200 * each), cost_usd=4.0, requests=7_200),
        Use(pool=api.name, workload=second.name, tokens=1_000, cost_usd=6.0, requests=5),
    ]
    span = Span(MONDAY_NS + 99 * HOUR_NS + HOUR_NS // 2, MONDAY_NS + 101 * HOUR_NS)
    one, two = burn_down(fleet, used, span)
    last = len(fleet.block_share) - 1
    planned = 3_600 * (0.5 * (1.0 * each + 0.5 * other) + 1.0 * ((1.0 + last) * each + 0.5 * other))
    assert (one.contract, one.pools, one.hours) == ("one", [pool.name], 1.5)
    assert (two.contract, two.pools) == ("two", [pool.name, api.name])
    assert one.chip_hours_there == pytest.approx(0.75 * 3 * 8 * 1.5)
    assert one.fee_usd == pytest.approx(2.0 * 0.75 * 3 * 8 * 1.5)
    assert one.chip_hours_used == pytest.approx(0.75 * 7_200 * 8 / 4.0 / 3_600)
    assert one.tokens_planned == pytest.approx(0.75 * planned)
    assert one.used_share == pytest.approx(4.0 / 36.0)
    assert two.use_usd == pytest.approx(0.25 * 4.0 + 6.0)
    assert two.tokens == pytest.approx(0.25 * round(7_200 * each) + 1_000)
