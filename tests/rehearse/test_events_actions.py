"""What events do to a small fleet: who takes no request, what is lost, when capacity is back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from offtake.demand.request import Requests, requests_of
from offtake.fleet import Fleet
from offtake.performance.steps import ReplicaLimits
from offtake.policy.view import Policy, Reason
from offtake.rehearse.capacity import EFFECT
from offtake.rehearse.notes import Frame
from offtake.rehearse.options import Options
from offtake.rehearse.run import Drive, cut, feed_of, run
from offtake.rehearse.schedule import schedule
from offtake.rehearse.state import Engine, Replica, Status, new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.timeline import (
    Action,
    Autoscale,
    ChipFailures,
    ControlPlaneDown,
    Curtailment,
    Kind,
    LateTranche,
    LinkDegraded,
    Loading,
    LostSite,
    Reclaim,
    RetryStorm,
    Scale,
    SlowReplica,
    Timeline,
    Training,
)
from offtake.rehearse.told import told
from offtake.rehearse.verify import ledger_of, verify
from offtake.schema.tables import Row
from offtake.units import NS_PER_MS, NS_PER_S
from tests.rehearse.fleets import constant_table, fleet, pool, workload

#: a step takes 10 ms, so a request of 100 tokens in and 50 out takes half a second; 8 places a replica
PLAIN = {"one": (constant_table(10 * NS_PER_MS), ReplicaLimits(10_000, 16, 8, 4_096, 10_000))}
S = 1 / 3_600  #: a second, in hours


class Ran(NamedTuple):
    engine: Engine
    ends: Any
    events: list[Any]

    def entered(self, pool_index: int) -> Any:
        """Return when requests entered a pool, s."""
        return self.ends["entered_ns"][self.ends["pool"] == pool_index] / NS_PER_S


def steady(rate_rps: float, seconds: float, seed: int = 1) -> Requests:
    rng = np.random.default_rng(seed)
    count = int(rate_rps * seconds)
    arrival_ns = np.sort(rng.integers(0, round(seconds * NS_PER_S), count))
    region = rng.integers(0, 2, count).astype(np.int16)
    return requests_of(arrival_ns, np.full(count, 100, np.int32), np.full(count, 50, np.int32))._replace(region=region)


def two_sites(**changes: Any) -> Fleet:
    """Return four replicas at A and four at B, that serve chat for users in both regions."""
    fields: dict[str, Any] = {"replicas": 4, "goodput_rps": [14.0], "allotment_rps": [[1.0]], "offers": ["one", "two"]}
    kind = workload("chat", ttft_ms_p95=5_000.0)
    return fleet([pool("a", "A", **(fields | changes)), pool("b", "B", **(fields | changes))], workloads=[kind])


def ran(
    rows: Sequence[Row], seconds: float = 60.0, rate_rps: float = 60.0, seen: Fleet | None = None, **options: Any
) -> Ran:
    """Rehearse two sites with events, and keep every law."""
    seen = seen or two_sites()
    loading = options.pop("loading", Loading(warm_up_s=5.0))
    known: dict[str, Any] = {"policy": Policy.LEAST_LOADED, "timeline": Timeline(tuple(rows), loading)}
    chosen = Options(**(known | options))
    found: list[Any] = []
    requests = steady(rate_rps, seconds)
    drive = Drive(
        new_engine(seen, PLAIN, chosen), new_tally(seen, int(requests.arrival_ns[0])), lambda e: found.append(e.copy())
    )
    plan = schedule(chosen.timeline, Frame(seen, 1, chosen.seed, seconds * S))
    assert run(drive, cut([requests], 500), plan.actions, chosen.seed, lambda _now_ns: None)
    verify(ledger_of(drive.engine, drive.tally))
    assert not any(drive.engine.seen.pools[name].any() for name in ("in_flight", "waiting", "queued_tokens"))
    counted(drive.engine)
    ends = np.concatenate(found)
    applied = told(chosen.timeline, drive.engine.capacity.effects, plan.notes, 1)
    return Ran(drive.engine, ends[np.argsort(ends["serial"])], applied)


def counted(engine: Engine) -> None:
    """Check that what the engine counts is what its replicas are."""
    for index, row in enumerate(engine.capacity.pools):
        states = engine.replica_state[engine.pool_of_replica == index]
        for state, name in ((Replica.UP, "up"), (Replica.LOADING, "loading"), (Replica.DRAINING, "draining")):
            assert int((states == state).sum()) == row[name]
        assert engine.seen.pools[index].replicas_up == row.up


def test_nothing_happens_without_events() -> None:
    found = ran([])
    assert (found.ends["status"] == Status.SERVED).all()
    assert found.events == []


def test_a_lost_site_takes_no_request_and_comes_back_only_after_loading() -> None:
    found = ran([LostSite(site="A", start_hour=10 * S, hours=20 * S)])
    entered = found.entered(0)
    assert not ((entered > 10.0) & (entered < 35.0)).any()
    assert (entered > 35.0).any()
    failed = found.ends["status"] == Status.FAILED
    assert failed.sum() == found.events[0].requests_failed > 0
    assert found.events[0].replicas_stopped == found.events[0].replicas_loaded == 4
    assert (found.ends["reason"][failed] == Reason.SITE_LOST).all()


def test_a_draining_replica_gets_no_new_request_and_finishes_what_it_has() -> None:
    found = ran([Scale(pool="a", hour=20 * S, replicas=0)])
    assert found.entered(0).max() <= 20.0
    assert (found.ends["status"] == Status.SERVED).all()
    assert found.events[0].replicas_drained == 4
    assert found.engine.replica_state.tolist() == [Replica.DOWN] * 4 + [Replica.UP] * 4
    at_a = found.ends["finish_ns"][found.ends["pool"] == 0]
    assert at_a.max() > 20 * NS_PER_S


def test_what_is_scaled_up_again_loads_first() -> None:
    found = ran([Scale(pool="a", hour=20 * S, replicas=0), Scale(pool="a", hour=30 * S, replicas=4)])
    entered = found.entered(0)
    assert not ((entered > 20.0) & (entered < 35.0)).any()
    assert ((entered >= 35.0) & (entered < 36.0)).any()


def test_weights_cross_the_link_once_for_all_replicas_and_pools_wait_their_turn() -> None:
    # 100 GB over 80 Gbit/s take 10 s; both pools are at A, so the second waits for the link; then 5 s of warm-up.
    seen = two_sites(weights_gb=100.0)
    linked = msgspec.structs.replace(seen.sites[0], link_gbit_s=80.0)
    there = msgspec.structs.replace(seen.pools[1], site="A")
    spare = msgspec.structs.replace(seen.pools[1], name="c")
    seen = msgspec.structs.replace(seen, sites=[linked, seen.sites[1]], pools=[seen.pools[0], there, spare])
    found = ran([LostSite(site="A", start_hour=10 * S, hours=10 * S)], seen=seen)
    first, second = found.entered(0), found.entered(1)
    assert first[first > 10.0].min() == pytest.approx(35.0, abs=0.3)
    assert second[second > 10.0].min() == pytest.approx(45.0, abs=0.3)


def test_a_reclaim_drains_before_the_end_of_notice_and_is_for_good() -> None:
    reclaim = Reclaim(offer="one", share=1.0, notice_hour=10 * S, notice_hours=20 * S, drain_hours=5 * S)
    found = ran([reclaim])
    counts = found.engine.capacity.pools["held"]
    assert counts.tolist() == [2, 2]  # half the chips of each pool are of offer one
    assert found.engine.capacity.pools["up"].tolist() == [2, 2]
    assert (found.ends["status"] == Status.SERVED).all()
    assert found.events[0].replicas_drained == 4
    assert found.events[0].replicas_stopped == 0
    assert found.events[0].from_hour == pytest.approx(30 * S)
    assert found.events[0].to_hour is None


def test_a_reclaim_without_drain_loses_what_runs() -> None:
    found = ran([Reclaim(pool="a", notice_hour=10 * S, notice_hours=20 * S, drain_hours=0.0)])
    assert found.events[0].replicas_stopped == 4
    assert found.events[0].requests_failed == (found.ends["status"] == Status.FAILED).sum() > 0
    assert found.entered(0).max() <= 30.0


def test_a_late_tranche_is_not_there_until_its_hour_and_loads_then() -> None:
    found = ran([LateTranche(pool="a", until_hour=20 * S)])
    assert found.entered(0).min() == pytest.approx(25.0, abs=0.3)
    assert found.events[0].replicas_loaded == 4
    assert found.events[0].requests_failed == 0


@pytest.mark.parametrize("given", [{"cut_share": 0.6}, {"power_kw": 3.2}])
def test_a_power_cap_is_kept(given: dict[str, float]) -> None:
    # 4 replicas of 2 chips of 1 kW: of 8 kW are 3.2 left, enough for one replica of 2 kW.
    seen = two_sites(kw_per_chip=1.0)
    found = ran([Curtailment(site="A", start_hour=20 * S, hours=20 * S, **given)], seen=seen, rate_rps=40.0)
    busy = [(row["start_ns"], row["finish_ns"]) for row in found.ends if row["pool"] == 0 and row["status"] == 3]
    during = [sum(first <= at < last for first, last in busy) for at in range(21 * NS_PER_S, 40 * NS_PER_S, NS_PER_S)]
    assert max(during) <= 8  # the places of one replica
    assert found.events[0].replicas_stopped == 3
    assert found.events[0].replicas_loaded == 3
    assert found.engine.capacity.pools["up"].tolist() == [4, 4]


def test_a_power_cap_with_notice_drains_and_loses_nothing() -> None:
    found = ran([Curtailment(site="A", start_hour=20 * S, hours=20 * S, cut_share=0.6, drain_hours=5 * S)])
    assert found.events[0].replicas_drained == 3
    assert found.events[0].replicas_stopped == 0
    assert (found.ends["status"] == Status.SERVED).all()


def test_control_plane_down_refuses_though_replicas_are_idle() -> None:
    found = ran([ControlPlaneDown(start_hour=20 * S, hours=10 * S)], rate_rps=10.0)
    refused = found.ends["status"] == Status.REFUSED
    arrived = found.ends["arrival_ns"] / NS_PER_S
    assert (refused == ((arrived > 20.0) & (arrived <= 30.0))).all()
    assert (found.ends["reason"][refused] == Reason.CONTROL_PLANE).all()
    assert refused.sum() > 50


def test_clients_that_ask_again_come_back_during_a_storm_only() -> None:
    storm = RetryStorm(start_hour=0.0, hours=25 * S, attempts_max=3, backoff_s=2.0)
    found = ran([ControlPlaneDown(start_hour=20 * S, hours=10 * S), storm], rate_rps=10.0)
    assert (found.ends["tries"] > 0).any()
    refused = found.ends[found.ends["status"] == Status.REFUSED]
    assert refused["tries"].max() <= 2
    late = found.ends[(found.ends["arrival_ns"] > 25 * NS_PER_S)]
    assert (late["tries"] == 0).all()


def test_a_slow_replica_slows_only_itself() -> None:
    found = ran([SlowReplica(pool="a", count=1, factor=3.0, start_hour=0.0)], policy=Policy.ROUND_ROBIN, rate_rps=20.0)
    tpot_ms = (found.ends["finish_ns"] - found.ends["first_token_ns"]) / 49 / NS_PER_MS
    slow = np.abs(tpot_ms - 30.0) < 1e-6
    assert (slow | (np.abs(tpot_ms - 10.0) < 1e-6)).all()
    assert slow.sum() == pytest.approx(len(tpot_ms) / 8, rel=0.05)
    assert (found.ends["pool"][slow] == 0).all()


def test_a_degraded_link_changes_only_what_users_of_that_site_and_region_see() -> None:
    event = LinkDegraded(site="A", regions=("eu",), start_hour=20 * S, hours=20 * S, adds_ms=55.0, loss_share=0.5)
    found = ran([event], policy=Policy.ROUND_ROBIN)
    entered, region = found.ends["entered_ns"] / NS_PER_S, found.ends["region"]
    hit = (found.ends["pool"] == 0) & (region == 1) & (entered > 20.0) & (entered <= 40.0)
    usual = np.array([[10.0, 80.0], [90.0, 20.0]])[found.ends["pool"], region]
    assert (found.ends["rtt_ns"] / NS_PER_MS - usual).tolist() == pytest.approx((hit * (55.0 + 200.0)).tolist())
    assert hit.any()


def test_a_satellite_draws_a_new_round_trip_every_interval() -> None:
    event = LinkDegraded(site="A", start_hour=0.0, hours=60 * S, kind="satellite", interval_s=10.0)
    found = ran([event], policy=Policy.ROUND_ROBIN)
    mine = found.ends[(found.ends["pool"] == 0) & (found.ends["region"] == 0)]
    added_ms = mine["rtt_ns"] / NS_PER_MS - 10.0
    assert len(np.unique(added_ms)) == 6
    assert added_ms.min() >= 18.31
    assert added_ms.max() <= 295.62


def test_training_takes_chips_and_gives_them_back() -> None:
    job = Training(site="A", chip="chip", chips=4.0, start_hour=20 * S, hours=20 * S, drain_hours=5 * S)
    found = ran([job])
    assert found.events[0].replicas_drained == found.events[0].replicas_loaded == 2
    assert found.engine.capacity.pools["up"].tolist() == [4, 4]
    assert (found.ends["status"] == Status.SERVED).all()


@pytest.mark.parametrize(("interruptible", "serving"), [(True, 2), (False, 1)])
def test_interruptible_training_gives_way_to_a_power_cap(*, interruptible: bool, serving: int) -> None:
    job = Training(site="A", chip="chip", chips=2.0, start_hour=0.0, hours=1e6, interruptible=interruptible)
    cut = Curtailment(site="A", start_hour=20 * S, hours=1e6, cut_share=0.5)  # power for two of four replicas
    assert ran([job]).engine.capacity.pools["up"].tolist() == [3, 4]
    assert ran([job, cut]).engine.capacity.pools["up"].tolist() == [serving, 4]


def test_failed_replicas_lose_their_requests_and_come_back_mended_and_loaded() -> None:
    rows = [ChipFailures(pool="a", per_chip_hour=40.0, repair_hours=10 * S, hours=30 * S)]
    found = ran(rows, seed=4)
    assert found.events[0].replicas_stopped > 0
    assert found.events[0].replicas_loaded == found.events[0].replicas_stopped
    assert (found.ends["pool"][found.ends["status"] == Status.FAILED] == 0).all()
    assert found.engine.capacity.pools["up"].tolist() == [4, 4]
    assert "failures expected" in found.events[0].sentence


def test_the_same_seed_breaks_the_same_replicas_under_every_policy() -> None:
    rows: list[Row] = [ChipFailures(per_chip_hour=40.0, repair_hours=10 * S)]
    found = [ran(rows, rate_rps=20.0, seed=2, policy=policy).events[0] for policy in Policy]
    assert len({one.replicas_stopped for one in found}) == 1
    assert found[0].replicas_stopped > 0


def test_an_autoscaler_follows_the_load_between_its_bounds() -> None:
    # Half a second of service at 60/s: 30 present, 15 at each pool; slots of a replica decide what is wanted.
    rows: list[Row] = [Autoscale(pool="a", replicas_min=1, replicas_max=3, interval_s=5.0, down_after_s=10.0)]
    found = ran(rows, rate_rps=4.0)
    assert found.engine.capacity.pools["up"].tolist() == [1, 4]
    assert (found.ends["status"] == Status.SERVED).all()
    busy = ran(rows, rate_rps=100.0, seconds=90.0)
    assert busy.engine.capacity.pools["wanted"][0] == 3


def test_an_autoscaler_takes_the_chips_of_interruptible_training() -> None:
    job = Training(site="A", chip="chip", chips=6.0, start_hour=0.0, hours=1e6, interruptible=True)
    found = ran([job, Autoscale(pool="a", interval_s=5.0)], rate_rps=110.0)
    assert found.engine.capacity.pools["up"][0] > 1
    assert ran([job], rate_rps=40.0).engine.capacity.pools["up"][0] == 1


def test_causes_may_end_in_any_order() -> None:
    rows: list[Row] = [
        LostSite(site="A", start_hour=20 * S, hours=20 * S),
        Curtailment(site="A", start_hour=10 * S, hours=20 * S, cut_share=0.5),
        LateTranche(pool="a", share=0.25, until_hour=25 * S),
        Training(site="A", chip="chip", chips=2.0, start_hour=15 * S, hours=30 * S, drain_hours=0.0),
    ]
    found = ran(rows, seconds=80.0)
    assert found.engine.capacity.pools["up"].tolist() == [4, 4]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("policy", list(Policy))
def test_a_replica_that_is_not_up_is_never_chosen(seed: int, policy: Policy) -> None:
    rng = np.random.default_rng([seed, 77])
    actions = []
    for _ in range(60):
        kind = Kind(int(rng.choice(8)))
        target = int(rng.integers(0, 8)) if kind == Kind.FAILED else int(rng.integers(0, 2))
        size = 1 if kind == Kind.FAILED else int(rng.integers(0, 5))
        actions.append(Action(int(rng.integers(0, 10 * NS_PER_S)), kind, target, float(rng.integers(0, 2)), size))
    actions.sort(reverse=True)
    seen, requests = two_sites(), steady(60.0, 10.0, seed)
    options = Options(policy=policy, timeline=Timeline((), Loading(warm_up_s=0.4)))
    drive = Drive(new_engine(seen, PLAIN, options), new_tally(seen, int(requests.arrival_ns[0])))
    feed = feed_of(requests, rng)
    for row, at_ns in enumerate(requests.arrival_ns):
        while actions and actions[-1].at_ns < at_ns:
            drive.advance(feed, row, actions[-1].at_ns + 1)
            drive.act(actions.pop())
            counted(drive.engine)
        before = drive.engine.plant.replicas.rows["in_flight"].copy()
        drive.advance(feed, row + 1, 0)
        took = drive.engine.plant.replicas.rows["in_flight"] > before
        assert (drive.engine.replica_state[took] == Replica.UP).all()
    drive.advance(feed, len(requests.arrival_ns), 2**62)
    drive.count()
    verify(ledger_of(drive.engine, drive.tally))


def test_a_factor_is_told_in_three_figures() -> None:
    row = SlowReplica(pool="a", share=1.0, factor=1.28671, start_hour=0.0)
    effects = np.zeros(1, EFFECT)
    assert told(Timeline((row,)), effects, {}, 1)[0].sentence.endswith("steps take 1.29 times as long")
