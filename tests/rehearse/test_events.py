"""Events as a person writes them, and the actions they become."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from offtake.errors import InputError
from offtake.fleet import Fleet, Scenario, ScenarioEvent
from offtake.rehearse.events import parse_loss, read_events
from offtake.rehearse.failures import draw_failures, expected_failures
from offtake.rehearse.measured import (
    CHIP_FAILURES,
    CHIP_FAILURES_PER_CHIP_HOUR,
    CHIP_FAILURES_SWITCH,
    SATELLITE_LOSS_SHARE,
    SATELLITE_RANKS,
    SATELLITE_RTT_MS,
    satellite_rtt_ms,
)
from offtake.rehearse.notes import Frame
from offtake.rehearse.scenario import chosen_scenarios, strain, timeline_of_scenario, with_demand
from offtake.rehearse.schedule import retries_of, schedule, surges_of
from offtake.rehearse.timeline import (
    TABLES,
    Autoscale,
    ChipFailures,
    Curtailment,
    Kind,
    LateTranche,
    LinkDegraded,
    LostSite,
    Reclaim,
    RetryStorm,
    Scale,
    SlowReplica,
    SurgeRow,
    Timeline,
    Training,
)
from offtake.schema.tables import Row
from offtake.units import HOURS_PER_WEEK, NS_PER_HOUR
from tests.demand.real import real_trace
from tests.rehearse.fleets import fleet, pool, small_fleet

ALL = """
[loading]
warm_up_s = 30

[[lost_site]]
site = "A"
start_hour = 1
hours = 2

[[reclaim]]
pool = "a-one"
share = 0.5
notice_hour = 0
notice_hours = 3

[[curtailment]]
site = "A"
start_hour = 4
cut_share = 0.4

[[chip_failures]]
repair_hours = 4

[[slow_replica]]
pool = "b-one"
count = 2
factor = 1.5
start_hour = 0

[[link_degraded]]
site = "B"
regions = ["us"]
start_hour = 0
hours = 1
kind = "satellite"

[[late_tranche]]
pool = "api"
until_hour = 2

[[surge]]
start_hour = 1
hours = 1
factor = 2
workload = "chat"

[[retry_storm]]
share = 0.5

[[control_plane_down]]
start_hour = 5
hours = 0.5

[[scale]]
pool = "a-one"
hour = 2
replicas = 1

[[autoscale]]
pool = "b-one"

[[training]]
site = "A"
chip = "chip"
chips = 2
start_hour = 1
hours = 3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "events.toml"
    path.write_text(text, "utf-8")
    return path


def faults(folder: Path, text: str) -> list[tuple[object, str | None, str, str]]:
    with pytest.raises(InputError) as caught:
        read_events(written(folder, text), small_fleet())
    return [(fault.row, fault.column, fault.problem, fault.mend) for fault in caught.value.faults]


def actions(row: Row, seen: Fleet | None = None, thin: int = 1) -> list[tuple[float, str, int, int]]:
    """Return hour, kind, target and size of each action of one event in a load of ten hours."""
    frame = Frame(seen or small_fleet(), thin, 0, 10.0)
    return [
        (round(one.at_ns / NS_PER_HOUR, 6), Kind(one.kind).name, one.target, one.size)
        for one in schedule(Timeline((row,)), frame).actions
    ]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_kind_of_event_reads_as_written(tmp_path: Path) -> None:
    found = read_events(written(tmp_path, ALL), small_fleet())
    assert [type(row) for row in found.rows] == list(TABLES.values())
    assert found.loading.warm_up_s == 30.0
    assert schedule(found, Frame(small_fleet(), 1, 0, 6.0)).actions


def test_all_faults_come_at_once_with_table_and_place(tmp_path: Path) -> None:
    text = """
    [[lost_site]]
    site = "A"
    start_hour = 1
    [[lost_site]]
    site = "Q"
    start_hour = -1
    [[recliam]]
    offer = "x"
    [[slow_replica]]
    pool = "a-on"
    factor = "fast"
    start_hour = 0
    [[surge]]
    start_hour = 0
    hours = 1
    factor = 2
    workload = "chaat"
    [[scale]]
    pool = "api"
    hour = 1
    replicas = 2
    """
    found = faults(tmp_path, text)
    assert [(row, column) for row, column, *_ in found] == [
        ("[[recliam]]", None),
        ("[[lost_site]] 2", "start_hour"),
        ("[[slow_replica]] 1", "factor"),
        ("[[surge]] 1", "workload"),
        ("[[scale]] 1", "pool"),
    ]
    assert found[0][3] == "Did you mean 'reclaim'?"
    assert found[3][3] == "Did you mean 'chat'?"


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ('[[lost_site]]\nsite = "A"\nstart_hour = 1\nhours = 0', "hours", "greater than 0"),
        ('[[lost_site]]\nsite = "A"\nstart_hour = 1\nstart = 1', "start", "there is no setting"),
        ('[[lost_site]]\nsite = "C"\nstart_hour = 1', "site", "no site of this name"),
        ('[[lost_site]]\nsite = "A"\nstart_hour = nan', "start_hour", "finite"),
        ("[[reclaim]]\nnotice_hour = 0\nnotice_hours = 1", "offer", "one of offer and pool is needed"),
        ('[[reclaim]]\npool = "api"\nshare = 0.5\nnotice_hour = 0\nnotice_hours = 1', "share", "all or nothing"),
        ('[[curtailment]]\nsite = "A"\nstart_hour = 0', "cut_share", "one of cut_share and power_kw is needed"),
        ('[[curtailment]]\nsite = "A"\nstart_hour = 0\npower_kw = 5', "power_kw", "does not say what a chip"),
        ('[[training]]\nsite = "A"\nchip = "chip"\nchips = 9\nstart_hour = 0\nhours = 1', "chips", "have 8 of these"),
        ('[[late_tranche]]\npool = "a-one"\nstart_hour = 2\nuntil_hour = 1', "until_hour", "before it is missing"),
        ("[[surge]]\nstart_hour = 0\nhours = 1\nfactor = 1e12", "factor", "less than or equal to 1000000"),
        ("[[autoscale]]\nreplicas_min = 4\nreplicas_max = 2", "replicas_max", "below replicas_min"),
        ('[[link_degraded]]\nsite = "A"\nregions = ["mars"]\nstart_hour = 0\nhours = 1', "regions", "no region"),
    ],
)
def test_a_fault_of_an_event_names_its_field(tmp_path: Path, text: str, column: str, problem: str) -> None:
    found = faults(tmp_path, text)
    assert [one[1] for one in found] == [column]
    assert problem in found[0][2]


@pytest.mark.parametrize("text", ["[[lost_site]", "lost_site = 3"])
def test_a_file_that_is_no_list_of_events_is_one_fault(tmp_path: Path, text: str) -> None:
    assert len(faults(tmp_path, text)) == 1


def test_a_lost_site_may_be_given_in_a_word() -> None:
    lost = parse_loss("A@12+6.5", small_fleet())
    assert (lost.site, lost.start_hour, lost.hours) == ("A", 12.0, 6.5)
    for text, problem in (("A", "not a lost site"), ("A@3+0", "greater than 0"), ("C@1+1", "no site of this name")):
        with pytest.raises(InputError, match=problem):
            parse_loss(text, small_fleet())


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_losses_of_one_site_that_overlap_are_one() -> None:
    rows = tuple(LostSite(site=s, start_hour=a, hours=b) for s, a, b in (("B", 5, 4), ("A", 1, 3), ("A", 3, 5)))
    found = schedule(Timeline(rows), Frame(small_fleet(), 1, 0, 10.0)).actions
    assert [(one.at_ns // NS_PER_HOUR, one.target, one.value) for one in found] == [
        (1, 0, 1.0),
        (5, 1, 1.0),
        (8, 0, 0.0),
        (9, 1, 0.0),
    ]


def test_a_reclaim_of_an_offer_takes_its_share_of_each_pool_and_drains_first() -> None:
    pools = [
        pool("a", "A", replicas=10, offers=["x", "y"], offer_share=[0.25, 0.75]),
        pool("b", "B", replicas=4, offers=["x"]),
    ]
    row = Reclaim(offer="x", share=0.5, notice_hour=1.0, notice_hours=4.0, drain_hours=2.0)
    assert actions(row, fleet(pools)) == [
        (3.0, "HELD", 0, 2),  # an eighth of ten is more than one replica's chips
        (3.0, "HELD", 1, 2),
        (5.0, "HALT", 0, 1),
        (5.0, "HALT", 1, 1),
    ]


def test_what_is_late_from_the_beginning_is_away_before_the_first_request() -> None:
    found = schedule(Timeline((LateTranche(pool="a-one", until_hour=2.0),)), Frame(small_fleet(), 1, 0, 10.0)).actions
    assert [(one.at_ns, Kind(one.kind).name, one.size) for one in found] == [
        (-1, "HELD", 3),
        (-1, "HALT", 1),
        (2 * NS_PER_HOUR, "HELD", 0),
    ]


def test_a_power_cap_leaves_whole_replicas_only() -> None:
    row = Curtailment(site="B", start_hour=1.0, hours=2.0, cut_share=0.3)
    assert actions(row)[:2] == [(1.0, "POWER", 2, 2), (1.0, "HALT", 2, 1)]  # 2.8 of 4
    wide = Curtailment(site="B", start_hour=1.0, hours=2.0, power_kw=9.0)
    fed = msgspec.structs.replace(small_fleet(), pools=[pool("b", "B", replicas=4, kw_per_chip=2.0)])
    assert actions(wide, fed)[0] == (1.0, "POWER", 0, 2)  # 9 of 16 kW


def test_of_two_caps_the_lower_holds() -> None:
    rows = tuple(Curtailment(site="B", start_hour=a, hours=4.0, cut_share=c) for a, c in ((1.0, 0.5), (3.0, 0.75)))
    found = schedule(Timeline(rows), Frame(small_fleet(), 1, 0, 10.0)).actions
    caps = [(one.at_ns // NS_PER_HOUR, one.size) for one in found if one.kind == Kind.POWER]
    assert caps[:2] == [(1, 2), (3, 1)]
    assert caps[2][0] == 7
    assert caps[2][1] > 1_000


def test_slow_replicas_multiply_where_they_overlap() -> None:
    rows = (
        SlowReplica(pool="b-one", count=1, factor=3.0, start_hour=0.0, hours=2.0),
        SlowReplica(pool="b-one", share=0.5, factor=2.0, start_hour=1.0, hours=2.0),
    )
    found = schedule(Timeline(rows), Frame(small_fleet(), 1, 0, 10.0)).actions
    told = [(max(one.at_ns, 0) // NS_PER_HOUR, one.target, one.size, one.value) for one in found]
    assert told == [(0, 4, 1, 3.0), (1, 4, 1, 6.0), (1, 5, 1, 2.0), (2, 4, 1, 2.0), (3, 4, 1, 1.0), (3, 5, 1, 1.0)]


def test_thinning_takes_the_same_share() -> None:
    thinned = fleet([pool("a", "A", replicas=50)])
    assert actions(Scale(pool="a", hour=1.0, replicas=200), thinned, 10) == [(1.0, "SCALE", 0, 20)]
    job = Training(site="A", chip="chip", chips=100.0, start_hour=1.0, hours=1.0, drain_hours=0.0)
    assert actions(job, thinned, 10)[0] == (1.0, "TRAINING", 0, 5)  # 100 of 1,000 chips
    row = SlowReplica(pool="a", count=100, factor=2.0, start_hour=1.0, hours=1.0)
    assert actions(row, thinned, 10)[0] == (1.0, "SLOW", 0, 10)


def test_an_autoscaler_looks_while_the_load_lasts() -> None:
    found = actions(Autoscale(pool="b-one", interval_s=3_600.0))
    assert found == [(float(hour), "TICK", 0, 1) for hour in range(1, 10)]


def test_a_satellite_over_a_week_is_drawn_quickly_and_ends() -> None:
    row = LinkDegraded(site="A", regions=("us",), start_hour=1.0, hours=168.0, kind="satellite", interval_s=60.0)
    found = schedule(Timeline((row,)), Frame(small_fleet(), 1, 0, 200.0)).actions
    assert len(found) == 168 * 60 + 1
    assert found[-1].value == 0.0


def test_an_event_that_begins_after_the_load_does_nothing_and_says_so() -> None:
    timeline = Timeline((LostSite(site="A", start_hour=9.0), LostSite(site="B", start_hour=11.0)))
    found = schedule(timeline, Frame(small_fleet(), 1, 0, 10.0))
    assert [(one.target, one.event) for one in found.actions] == [(0, 0)]
    assert found.notes == {1: "it begins after the load has ended"}


def test_an_event_that_thinning_takes_too_little_or_too_much_for_says_so() -> None:
    two = fleet([pool("a", "A", replicas=2, kw_per_chip=1.0), pool("b", "B", replicas=20)])
    rows = (
        Reclaim(pool="a", share=0.2, notice_hour=0.0, notice_hours=1.0),
        Curtailment(site="A", start_hour=1.0, cut_share=0.2),
        Training(site="A", chip="chip", chips=8.0, start_hour=1.0, hours=1.0),
        SlowReplica(pool="a", count=7, factor=2.0, start_hour=1.0),
        LateTranche(pool="b", share=0.25),
        LostSite(site="A", start_hour=1.0),
    )
    said = "as 1 in 10 is simulated: a smaller --thin is nearer"
    assert schedule(Timeline(rows), Frame(two, 10, 0, 10.0)).notes == {
        0: f"0 replicas struck for 4, {said}",
        1: f"0 replicas struck for 4, {said}",
        2: f"0 replicas struck for 4, {said}",
        3: f"10 replicas struck for 7, {said}",
    }
    assert schedule(Timeline(rows), Frame(two, 1, 0, 10.0)).notes == {}


def test_surges_and_storms_are_told_by_index_and_time() -> None:
    timeline = Timeline(
        (SurgeRow(start_hour=1, hours=2, factor=3, region="eu"), RetryStorm(hours=2, share=0.5, backoff_s=2))
    )
    (surge,), (storm,) = surges_of(timeline, small_fleet()), retries_of(timeline)
    assert (surge.start_ns, surge.end_ns, surge.workload, surge.region) == (NS_PER_HOUR, 3 * NS_PER_HOUR, None, 1)
    assert (storm.start_ns, storm.end_ns, storm.share, storm.backoff_ns) == (0, 2 * NS_PER_HOUR, 0.5, 2 * 10**9)


# ── failures and links as measured ──────────────────────────────────────────────────────────────────────────────────
def test_the_rate_of_failures_is_that_of_the_public_figures() -> None:
    table = pl.read_csv(real_trace("gpu-failures-llama3.csv"))
    assert table["interruptions"].sum() == CHIP_FAILURES
    switches = table.filter(pl.col("component") == "Network switch/cable")["interruptions"].sum()
    assert switches == CHIP_FAILURES_SWITCH
    assert pytest.approx(50_677, abs=0.5) == 1 / CHIP_FAILURES_PER_CHIP_HOUR


def test_the_satellite_is_that_of_the_public_pings() -> None:
    pings = pl.read_csv(real_trace("starlink-latency.csv"))
    rtt_ms = pings.filter(pl.col("lost") == 0)["rtt_ms"].to_numpy()
    assert np.percentile(rtt_ms, SATELLITE_RANKS) == pytest.approx(SATELLITE_RTT_MS, abs=0.006)
    assert pings["lost"].mean() == pytest.approx(SATELLITE_LOSS_SHARE)
    assert satellite_rtt_ms(np.array([0.0, 0.5, 1.0])).tolist() == [18.31, 40.83, 295.62]


@pytest.mark.parametrize("seed", range(3))
def test_failures_come_as_often_as_expected_and_never_to_a_replica_that_is_down(seed: int) -> None:
    big = pool("big", "A", replicas=500, chips_per_replica=8)
    row = ChipFailures(repair_hours=24.0)
    mean = expected_failures(big, row, 1_000.0)
    assert mean == pytest.approx(500 * 8 * 1_000 / 50_677, rel=1e-4)
    found = draw_failures(big, row, 1_000.0, (seed, 0))
    assert len(found) == pytest.approx(mean, abs=4 * mean**0.5)
    for one in range(500):
        mine = [spell for spell in found if spell.first == one]
        assert all(later.start_hour >= sooner.end_hour for sooner, later in pairwise(mine))


def test_a_switch_takes_its_neighbours_with_it() -> None:
    big = pool("big", "A", replicas=100, chips_per_replica=8)
    row = ChipFailures(per_chip_hour=1e-3, repair_hours=1.0, replicas_together=4)
    found = draw_failures(big, row, 200.0, (1, 0))
    starts = [spell.start_hour for spell in found]
    together = [starts.count(start) for start in set(starts)]
    assert set(together) <= {1, 2, 3, 4}
    assert together.count(4) == pytest.approx(0.0835 * len(together), abs=4 * (0.08 * len(together)) ** 0.5)


# ── the plan's futures ──────────────────────────────────────────────────────────────────────────────────────────────
def planned() -> Fleet:
    def happens(kind: str, target: str, start: float, hours: float, value: float) -> ScenarioEvent:
        return ScenarioEvent(kind=kind, target=target, start_hour=start, hours=hours, value=value)

    calm = Scenario(name="s1", probability=0.6, demand_factor=[1.0, 1.0])
    rough = Scenario(
        name="s2",
        probability=0.4,
        demand_factor=[1.2, 1.0],
        events=[
            happens("late_tranche", "a-one", 0.0, 48.0, 0.5),
            happens("reclaim", "b-one", 0.0, 168.0, 1.0),
            happens("curtailment", "A", 50.0, 2.0, 0.4),
            happens("surge", "", 60.0, 24.0, 2.0),
            happens("slow_replica", "b-one", 0.0, 168.0, 1.25),
            happens("lost_site", "B", 100.0, 68.0, 1.0),
        ],
    )
    return msgspec.structs.replace(small_fleet(), scenarios=[calm, rough])


def test_the_worst_scenario_has_the_most_demand_for_what_is_left() -> None:
    seen = planned()
    assert strain(seen, seen.scenarios[0]) == pytest.approx(1.0)
    assert [one.name for one in chosen_scenarios(seen, "worst")] == ["s2"]
    assert [one.name for one in chosen_scenarios(seen, "all")] == ["s2", "s1"]
    assert [one.name for one in chosen_scenarios(seen, "s1")] == ["s1"]


def test_an_unknown_scenario_is_one_fault() -> None:
    with pytest.raises(InputError, match="no such scenario"):
        chosen_scenarios(planned(), "s7")
    with pytest.raises(InputError, match="holds no scenarios"):
        chosen_scenarios(small_fleet(), "worst")


def test_a_scenario_becomes_events_counted_from_the_hour_that_is_rehearsed() -> None:
    rough = planned().scenarios[1]
    found = timeline_of_scenario(rough, 47.0).rows
    assert [(type(row).__name__, getattr(row, "start_hour", None)) for row in found] == [
        ("LateTranche", 0.0),
        ("Reclaim", None),
        ("Curtailment", 3.0),
        ("SurgeRow", 13.0),
        ("SlowReplica", 0.0),
        ("LostSite", 53.0),
    ]
    assert isinstance(found[0], LateTranche)
    assert found[0].until_hour == 1.0
    assert [type(row).__name__ for row in timeline_of_scenario(rough, 90.0).rows] == [
        "Reclaim",
        "SlowReplica",
        "LostSite",
    ]
    assert schedule(Timeline(found), Frame(planned(), 1, 0, float(HOURS_PER_WEEK))).actions


def test_a_scenario_asks_its_own_demand() -> None:
    seen = planned()
    asked = with_demand(seen, seen.scenarios[1]).workloads
    assert [one.rate_rps for one in asked] == pytest.approx([1.2, 1.0])
