"""A rehearsal end to end: its laws, its honesty about overload, its events, its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from offtake.demand.request import Requests, part, requests_of
from offtake.errors import InputError, VerificationError
from offtake.fleet import Fleet
from offtake.performance.compiled import entry
from offtake.performance.named import load_named
from offtake.performance.steps import ReplicaLimits, scaled
from offtake.policy.view import Policy
from offtake.rehearse.arrivals import checked, thin_fleet
from offtake.rehearse.options import Options
from offtake.rehearse.rehearse import Rehearsal, rehearse, write_rehearsal
from offtake.rehearse.run import Drive, run
from offtake.rehearse.state import ENDED, Status, new_engine
from offtake.rehearse.tally import add, bin_edge_ns, bin_of, new_tally, percentile_ns
from offtake.rehearse.timeline import Action, Kind, LateTranche, Loading, LostSite, Reclaim, Timeline
from offtake.rehearse.verify import Ledger, ledger_of, verify
from offtake.schema.tables import Row
from offtake.units import NS_PER_MS, NS_PER_S, S_PER_HOUR
from tests.rehearse.fleets import constant_table, fleet, load, pool, small_deployments, small_fleet, workload

STEP_MS = 10
#: replicas of 8 places whose steps take 10 ms: a request of 50 tokens takes half a second, 16 requests/s at most
PLAIN = {"one": (constant_table(STEP_MS * NS_PER_MS), ReplicaLimits(10_000, 16, 8, 4_096, 10_000))}


def one_pool(replicas: int, **changes: Any) -> Fleet:
    """Return a fleet of one pool of plain replicas."""
    return fleet([pool("a", "A", replicas=replicas, goodput_rps=[14.0], **changes)],
                 workloads=[workload("chat", ttft_ms_p95=300.0, region_share=[1.0, 0.0])])  # fmt: skip


def poisson(rate_rps: float, count: int, seed: int = 5) -> Requests:
    """Return Poisson requests of 100 tokens in and 50 out on average."""
    rng = np.random.default_rng(seed)
    arrival_ns = np.cumsum(rng.exponential(NS_PER_S / rate_rps, count)).astype(np.int64)
    return requests_of(arrival_ns, np.full(count, 100, np.int32), rng.integers(1, 100, count).astype(np.int32))


def at_load(replicas: int, share: float, count: int, policy: Policy = Policy.LEAST_LOADED) -> Rehearsal:
    """Rehearse plain replicas at a share of what they can serve."""
    rate_rps = share * replicas * 8 / (50 * STEP_MS / 1_000)
    return rehearse(one_pool(replicas), PLAIN, poisson(rate_rps, count), Options(policy=policy))


# ── honesty ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_p99_falls_when_the_fleet_grows_at_the_same_load_per_replica() -> None:
    small, large = at_load(2, 0.85, 30_000).summary, at_load(24, 0.85, 30_000).summary
    assert small.status == large.status == "stationary"
    assert small.total.ttft_ms_p99 is not None
    assert large.total.ttft_ms_p99 is not None
    assert large.total.ttft_ms_p99 < 0.5 * small.total.ttft_ms_p99


@pytest.mark.parametrize("count", [400, 2_000, 20_000])
def test_an_overloaded_fleet_is_never_given_a_percentile_however_short_the_run(count: int) -> None:
    summary = at_load(4, 1.24, count).summary
    assert summary.status in {"not stationary", "too short"}
    assert summary.total.ttft_ms_p95 is None
    assert summary.total.ttft_ms_p50 is None
    assert summary.pools[0].queue_ms_mean is None


def test_a_long_overload_is_called_not_stationary() -> None:
    assert at_load(4, 1.05, 40_000).summary.status == "not stationary"


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_a_fleet_below_its_capacity_is_stationary(share: float) -> None:
    assert at_load(4, share, 20_000).summary.status == "stationary"


def test_a_policy_that_refuses_keeps_an_overloaded_fleet_within_its_slo() -> None:
    group = at_load(4, 1.5, 20_000, Policy.BID_PRICE).summary.total
    assert group.status == "stationary"
    assert group.refused_by_reason["below_bid"] == group.refused > 0.25 * group.requests
    assert group.ttft_ms_p95 is not None
    assert group.ttft_ms_p95 < 2 * 300.0


# ── laws ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def ledger() -> Ledger:
    """Return the ledger of a good rehearsal with a lost site."""
    lost = [Action(300_000_000, Kind.LOST, 0, 1.0), Action(600_000_000, Kind.LOST, 0, 0.0)]
    drive = Drive(new_engine(small_fleet(), small_deployments(2), Options()), new_tally(small_fleet(), 0))
    run(drive, [load(2, 500, 4e6)], lost, 0, lambda _now_ns: None)
    return ledger_of(drive.engine, drive.tally)


def test_a_good_rehearsal_keeps_every_law() -> None:
    assert len(verify(ledger())) == 10


def lose_a_request(found: Ledger) -> None:
    found.tally.cells["served"][0, 0] -= 1


def keep_a_slot(found: Ledger) -> None:
    found.book["free"][0] -= 1


def invent_a_request(found: Ledger) -> None:
    found.pools["arrived"][0] += 1


def finish_early(found: Ledger) -> None:
    found.tally.cells["stay_ns"][0, 0] -= 1_000_000.0


def start_before_arrival(found: Ledger) -> None:
    row = np.zeros(1, ENDED)
    row["status"] = Status.SERVED
    row["entered_ns"], row["start_ns"], row["first_token_ns"], row["finish_ns"] = 5, 4, 6, 7
    add(found.tally, row.view(np.recarray), 1)


def skip_a_token(found: Ledger) -> None:
    found.rows["decode_tokens"][0] -= 1


def read_twice(found: Ledger) -> None:
    found.rows["prefill_tokens"][0] += 16


def free_a_place_too_early(found: Ledger) -> None:
    found.rows["running_ns"][0] *= 0.9999


def overdraw_memory(found: Ledger) -> None:
    found.rows["kv_free_min"][1] = -1


def work_overtime(found: Ledger) -> None:
    found.rows["busy_ns"][1] = found.horizon_ns + 1


@pytest.mark.parametrize(
    ("harm", "law"),
    [
        (lose_a_request, "served, refused or failed"),
        (keep_a_slot, "served, refused or failed"),
        (invent_a_request, "as many requests as came in"),
        (finish_early, "Little's law holds at every pool"),
        (start_before_arrival, "backwards in time"),
        (skip_a_token, "answer tokens"),
        (read_twice, "prompt tokens"),
        (free_a_place_too_early, "places in service"),
        (overdraw_memory, "KV blocks"),
        (work_overtime, "busiest replica"),
    ],
)
def test_a_broken_law_is_an_error(harm: Any, law: str) -> None:
    found = ledger()
    harm(found)
    with pytest.raises(VerificationError, match=law):
        verify(found)


def test_more_tokens_than_the_roofline_are_an_error() -> None:
    verify(ledger(), {0: 1e9})
    with pytest.raises(VerificationError, match="roofline"):
        verify(ledger(), {0: 1.0})


def test_the_roofline_of_a_pool_follows_from_its_chip_and_stops_steps_that_are_too_fast() -> None:
    name = "llama-3.1-8b-h100-tp1"
    stored = load_named(name)
    chips = one_pool(2, deployment=name)
    honest = rehearse(chips, {name: (stored.table, stored.limits)}, poisson(20.0, 500), Options(stored={name: stored}))
    assert any("under its roofline" in check for check in honest.summary.checks)
    # at 2 · 8e9 operations a token, 1,978 TFLOP/s give 123,000 tokens a second at most; this load asks for 2.5 million
    tables = {name: (scaled(stored.table, 1e-4), stored.limits)}
    with pytest.raises(VerificationError, match="roofline"):
        rehearse(chips, tables, poisson(5e4, 5_000), Options(policy=Policy.ROUND_ROBIN, stored={name: stored}))


def test_littles_law_can_be_read_off_the_summary() -> None:
    found = at_load(4, 0.8, 40_000).summary.pools[0]
    assert found.in_system_mean == pytest.approx(found.arrivals_rps * found.stay_s_mean, rel=2e-3)
    assert found.load_planned == pytest.approx(0.8 * 16 / 14, rel=0.03)
    assert found.busy_share <= 1.0


LOST_A = Timeline((LostSite(site="A", start_hour=1 / 3_600, hours=1 / 3_600),), Loading(warm_up_s=0.0))


# ── money and groups ────────────────────────────────────────────────────────────────────────────────────────────────
def test_paid_capacity_is_either_used_by_a_request_or_idle() -> None:
    seen = one_pool(4, usd_per_chip_hour=3.0, usd_per_chip_hour_used=1.0)
    found = rehearse(seen, PLAIN, poisson(20.0, 20_000), Options())
    hours = found.summary.hours
    held_usd = float(found.frame["held_usd"].sum())
    assert held_usd + found.summary.idle_usd == pytest.approx(4 * 2 * 3.0 * hours)
    assert found.summary.total.cost_usd == pytest.approx(held_usd * (3.0 + 1.0) / 3.0)
    assert found.summary.cost_usd == pytest.approx(found.summary.total.cost_usd + found.summary.idle_usd)
    assert found.summary.total.value_usd == pytest.approx(0.01 * 20_000)


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (Reclaim(offer="one", notice_hour=0.1, notice_hours=0.1, drain_hours=0.05), 1 - 0.75 / 2),
        (LateTranche(offer="two", share=0.5, until_hour=0.2), 1 - 0.125 / 2),
        (LostSite(site="A", start_hour=0.3), 0.75),
        (LostSite(site="A", start_hour=0.1, hours=0.2), 1.0),
        (Reclaim(pool="a", notice_hour=0.1, notice_hours=0.5), 1.0),
    ],
)
def test_the_fee_of_chips_is_owed_while_they_are_the_buyers(row: Row, left: float) -> None:
    seen = one_pool(4, usd_per_chip_hour=3.0, offers=["one", "two"], offer_share=[0.75, 0.25])
    seconds = np.linspace(0.0, 0.4, 3_000) * S_PER_HOUR
    asked = poisson(1.0, 3_000)._replace(arrival_ns=np.round(seconds * NS_PER_S).astype(np.int64))
    found = rehearse(seen, PLAIN, asked, Options(timeline=Timeline((row,)))).summary
    assert found.cost_usd == pytest.approx(4 * 2 * 3.0 * 0.4 * left)
    assert found.pools[0].not_owed_usd == pytest.approx(4 * 2 * 3.0 * 0.4 * (1 - left))
    assert ("no fee" in found.events_applied[0].sentence) == (left < 1)


@pytest.mark.parametrize(("remedy", "not_owed"), [(1.0, 0.5), (0.4, 0.2), (0.0, 0.0)])
def test_late_chips_are_owed_as_far_as_the_late_remedy_leaves_it(remedy: float, not_owed: float) -> None:
    seen = one_pool(4, usd_per_chip_hour=3.0, offers=["one"], late_remedy_share=remedy)
    asked = poisson(1.0, 3_000)
    late = Timeline((LateTranche(offer="one", share=0.5, until_hour=24.0),))
    found = rehearse(seen, PLAIN, asked, Options(timeline=late)).summary
    assert found.pools[0].not_owed_usd == pytest.approx(4 * 2 * 3.0 * found.hours * not_owed)


def test_an_overloaded_pool_costs_what_it_costs_and_no_more() -> None:
    # 4 replicas of 2 chips; twice what they can serve: no chip is idle and none is paid twice.
    seen = one_pool(4, usd_per_chip_hour=3.0)
    found = rehearse(seen, PLAIN, poisson(200.0, 20_000), Options(policy=Policy.ROUND_ROBIN))
    assert found.summary.pools[0].load_planned > 1.5
    assert found.summary.cost_usd == pytest.approx(4 * 2 * 3.0 * found.summary.hours)
    assert found.summary.idle_usd == pytest.approx(0.0, abs=1e-9)


def test_groups_add_up_and_refusals_count_as_misses() -> None:
    found = rehearse(small_fleet(), small_deployments(1), load(1, 3_000, 4e6), Options(timeline=LOST_A))
    summary = found.summary
    for groups in (summary.workloads, summary.kinds, summary.sites, summary.cells):
        assert sum(group.requests for group in groups) == summary.total.requests == 3_000
        assert sum(group.served for group in groups) == summary.total.served
        assert sum(group.cost_usd for group in groups) == pytest.approx(summary.total.cost_usd)
    assert summary.total.refused > 0
    assert summary.total.share_within_slo <= summary.total.share_served < 1.0
    assert summary.total.served + summary.total.refused + summary.total.failed == 3_000


def test_the_round_trip_is_part_of_what_the_user_waits() -> None:
    requests = requests_of(np.array([0]), np.array([10]), np.array([3]))
    far = [requests._replace(region=np.array([region], np.int16)) for region in (0, 1)]
    waits = [rehearse(one_pool(1), PLAIN, each, Options()).frame.row(0, named=True) for each in far]
    assert [wait["ttft_ms"] for wait in waits] == [10.0 + 10.0, 10.0 + 80.0]
    assert [wait["e2e_ms"] for wait in waits] == [30.0 + 10.0, 30.0 + 80.0]
    assert [wait["tpot_ms"] for wait in waits] == [10.0, 10.0]


def test_an_api_waits_for_its_tokens_per_minute_and_then_takes_its_time() -> None:
    api = pool("api", "A", kind="api", replicas=0, tokens_per_minute_max=600.0, ttft_ms=200.0, tpot_ms=20.0,
               usd_per_million_input_tokens=10.0, usd_per_million_output_tokens=20.0)  # fmt: skip
    requests = requests_of(np.zeros(3, np.int64), np.full(3, 400, np.int32), np.full(3, 100, np.int32))
    seen = fleet([msgspec.structs.replace(api, goodput_rps=[20.0])], workloads=[workload("chat")])
    found = rehearse(seen, {}, requests, Options(policy=Policy.LEAST_LOADED)).frame
    # a bucket of one minute's 600 tokens, 500 taken each time, 10 tokens a second coming back
    assert found["queue_ms"].to_list() == [0.0, 0.0, 40_000.0]
    assert found["ttft_ms"].to_list() == [210.0, 210.0, 40_210.0]
    assert found["tpot_ms"].to_list() == [20.0] * 3
    assert found["cost_usd"].to_list() == pytest.approx([0.006] * 3)


def test_a_deferred_request_is_served_when_it_pays_and_its_wait_counts_from_then() -> None:
    kind = workload("batch", deferral_hours=3.0)
    dear_then_free = pool(
        "a", "A", replicas=1, bid_usd_per_chip_s=[0.0] * 2, bid_usd_per_token=[9.0, 0.0], goodput_rps=[14.0]
    )
    seen = msgspec.structs.replace(
        fleet([dear_then_free], workloads=[msgspec.structs.replace(kind, level=[1.0, 1.0])]),
        block_of_hour=[0, 0, *[1] * 166], block_share=[0.1, 0.9],
    )  # fmt: skip
    requests = requests_of(np.zeros(40, np.int64), np.full(40, 50, np.int32), np.full(40, 20, np.int32))
    found = rehearse(seen, PLAIN, requests, Options()).frame
    waited = found.filter(pl.col("deferred_ms") > 0)
    assert found["status"].to_list() == ["served"] * 40
    assert 30 <= len(waited) < 40  # a pool that is idle takes the first few at once
    assert min(waited["deferred_ms"].to_list()) >= 60_000.0
    assert max(waited["ttft_ms"].to_list()) < 1_000.0


# ── thinning, batches, interrupts, files ────────────────────────────────────────────────────────────────────────────
def test_thinning_states_its_error_and_keeps_a_pool_that_would_vanish() -> None:
    seen = fleet([pool("big", "A", replicas=101), pool("tiny", "A", replicas=3)])
    small, errors = thin_fleet(seen, 10)
    assert [each.replicas for each in small.pools] == [10, 1]
    assert errors == pytest.approx({"big": 100 / 101 - 1, "tiny": 10 / 3 - 1})
    found = rehearse(seen, {"one": PLAIN["one"]}, poisson(900.0, 20_000), Options(thin=10)).summary
    assert found.requests_simulated == pytest.approx(2_000, rel=0.1)
    assert found.total.requests == 10 * found.requests_simulated
    assert "tiny is off by +233.3%" in found.thin_error


def test_a_thinned_fleet_waits_much_like_the_whole_one() -> None:
    whole = rehearse(one_pool(80), PLAIN, poisson(900.0, 60_000), Options()).summary.total
    thin = rehearse(one_pool(80), PLAIN, poisson(900.0, 60_000), Options(thin=4)).summary.total
    assert whole.ttft_ms_p50 is not None
    assert thin.ttft_ms_p50 == pytest.approx(whole.ttft_ms_p50, rel=0.1)
    assert thin.requests == pytest.approx(60_000, rel=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_stated_of_a_thinned_fleet_covers_what_thinning_did(seed: int) -> None:
    # 96 replicas at 85%, thinned 1 in 4 with the error measured at 1 in 8, against the whole fleet
    rate_rps = 0.85 * 96 * 8 / (50 * STEP_MS / 1_000)
    requests, seen = poisson(rate_rps, 80_000, seed), one_pool(96)
    options = Options(policy=Policy.LEAST_LOADED, seed=seed)
    whole = rehearse(seen, PLAIN, requests, options).summary
    thin = rehearse(seen, PLAIN, requests, replace(options, thin=4)).summary
    assert whole.thin_figures == []
    assert "the error to expect is" in thin.thin_error
    for figure in thin.thin_figures:
        exact = {"share_refused": 0.0}.get(figure.figure, getattr(whole.total, figure.figure, None))
        assert exact is not None
        assert figure.value is not None
        assert figure.error is not None
        assert abs(figure.value - exact) <= 2 * figure.error + 0.01 * exact


def test_a_thinner_rehearsal_beside_changes_nothing_in_the_first() -> None:
    requests = poisson(200.0, 4_000)
    both, one = (
        rehearse(one_pool(40), PLAIN, requests, Options(thin=4, measure_thinning=measure)) for measure in (True, False)
    )
    assert both.frame.equals(one.frame)
    assert one.summary == msgspec.structs.replace(both.summary, thin_figures=[], thin_error=one.summary.thin_error)
    assert one.summary.thin_error.endswith("not measured beside a thinner run")


def test_batches_in_a_stream_are_the_same_as_one() -> None:
    requests = load(4, 900, 5e6)
    stream = (part(requests, start, start + 250) for start in range(0, 900, 250))
    whole = rehearse(small_fleet(), small_deployments(4), requests, Options())
    parts = rehearse(small_fleet(), small_deployments(4), stream, Options(batch=70))
    assert parts.frame.equals(whole.frame)
    assert parts.summary == whole.summary


def test_a_load_too_large_for_a_table_is_summed_all_the_same(tmp_path: Path) -> None:
    whole = rehearse(small_fleet(), small_deployments(4), load(4, 900, 5e6), Options())
    summed = rehearse(small_fleet(), small_deployments(4), load(4, 900, 5e6), Options(keep_most=500))
    assert msgspec.structs.replace(summed.summary, outcome_kept=True) == whole.summary
    assert not summed.summary.outcome_kept
    write_rehearsal(summed, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rehearse.json"]


@entry
def bin_seen(value_ns: float) -> int:
    """Return the bin of a time; the kernel itself has no door from Python."""
    return bin_of(value_ns)


@pytest.mark.parametrize("seed", range(4))
def test_a_percentile_read_from_bins_is_as_close_as_stated(seed: int) -> None:
    times_ns = np.random.default_rng([seed, 9]).lognormal(18.0, 1.5, 50_000)
    histogram = np.zeros(10_000, np.int64)
    np.add.at(histogram, [bin_seen(each) for each in times_ns], 1)
    for rank in (50, 95, 99):
        assert percentile_ns(histogram, rank) == pytest.approx(float(np.percentile(times_ns, rank)), rel=1 / 256)
    for index in (1, 255, 256, 5_000):
        assert bin_seen(bin_edge_ns(index)) == index
        assert bin_seen(bin_edge_ns(index) * (1 - 1e-12)) == index - 1


def test_the_summary_agrees_with_the_table_of_requests() -> None:
    found = at_load(4, 0.7, 5_000)
    served = found.frame.filter(pl.col("status") == "served")
    total = found.summary.total
    assert total.served == len(served)
    assert total.share_within_slo == found.frame["within_slo"].sum() / 5_000
    assert total.cost_usd == pytest.approx(found.frame["cost_usd"].sum())
    for rank in (50, 95, 99):
        exact = float(np.percentile(served["ttft_ms"].to_numpy(), rank))
        assert getattr(total, f"ttft_ms_p{rank}") == pytest.approx(exact, rel=1 / 256)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        found = rehearse(small_fleet(), small_deployments(4), load(4, 900, 5e6), Options(seed=3))
        write_rehearsal(found, tmp_path / name)
    for file in ("outcome.parquet", "rehearse.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    written = json.loads((tmp_path / "first" / "rehearse.json").read_text())
    assert written["total"]["requests"] == pl.read_parquet(tmp_path / "first" / "outcome.parquet").height == 900
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == ["outcome.parquet", "rehearse.json"]


def test_an_interrupted_rehearsal_keeps_what_was_done_and_prints_no_percentile() -> None:
    def stop(share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    found = rehearse(one_pool(4), PLAIN, poisson(20.0, 2_000), Options(batch=100), stop)
    assert not found.summary.complete
    assert 0.4 < found.summary.done_share < 0.6
    assert len(found.frame) == found.summary.total.requests < 1_100
    assert found.summary.status == "interrupted"
    assert found.summary.total.ttft_ms_p50 is None


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    rehearse(one_pool(4), PLAIN, poisson(20.0, 1_000), Options(batch=300), told.append)
    assert told == sorted(told)
    assert len(told) == 4
    assert told[-1] == 1.0


# ── input ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"arrival_ns": np.array([5, 4])}, "not sorted"),
        ({"arrival_ns": np.array([-5, 4])}, "negative"),
        ({"output_tokens": np.array([1, 0])}, "no tokens"),
        ({"workload": np.array([0, 2])}, "workload is not in the fleet"),
        ({"region": np.array([-1, 0])}, "region is not in the fleet"),
    ],
)
def test_a_faulty_load_is_refused_in_one_line(change: dict[str, Any], problem: str) -> None:
    good = load(1, 2, 1e6)
    with pytest.raises(InputError, match=problem):
        list(checked(good._replace(**change), small_fleet()))


def test_an_empty_load_is_refused() -> None:
    with pytest.raises(InputError, match="there are none"):
        list(checked(part(load(1, 2, 1e6), 0, 0), small_fleet()))
