from __future__ import annotations

import msgspec

from offtake.rehearse.summary import Tenants, ThinFigure
from offtake.rehearse.told import EventApplied
from offtake.report import happenings, rehearsals
from offtake.report.parts import Grid
from offtake.report.terminal import rehearsal_table
from tests.report.run_folder import Wish, summary
from tests.report.test_terminal import printed

PLAIN = summary("bid_price", Wish())
EVENTS = [
    EventApplied(kind="lost_site", target="denton", from_hour=12.0, to_hour=18.0, requests_moved=310,
                 requests_failed=22,
                 replicas_stopped=100, replicas_drained=0, replicas_loaded=100,
                 sentence="lost site, denton, from 12 h to 18 h: 100 replicas stopped, 310 requests routed again"),
    EventApplied(kind="surge", target="all", from_hour=20.0, to_hour=None, requests_moved=0, requests_failed=0,
                 replicas_stopped=0, replicas_drained=0, replicas_loaded=0,
                 sentence="surge, all, from 20 h on: 3 times the demand"),
]  # fmt: skip
STRUCK = msgspec.structs.replace(PLAIN, events_applied=EVENTS, scenario="s07")
THIN = [
    ThinFigure(figure="share_within_slo", kind="all", value=0.955, value_thinner=0.951, error=0.021),
    ThinFigure(figure="ttft_ms_p95", kind="all", value=1240.0, value_thinner=1300.0, error=320.0),
    ThinFigure(figure="ttft_ms_p50", kind="all", value=310.0, value_thinner=None, error=None),
]


def grid_named(grids: list[Grid], start: str) -> Grid:
    return next(grid for grid in grids if grid.caption.startswith(start))


def grids_of(**changes: object) -> list[Grid]:
    parts = happenings.tables(msgspec.structs.replace(PLAIN, **changes))
    return [part for part in parts if isinstance(part, Grid)]


def test_each_event_is_listed_with_what_it_did() -> None:
    grid = grid_named(grids_of(events_applied=EVENTS), "What happened")
    assert grid.rows == [
        ["lost site", "100 replicas stopped, 310 requests routed again", "denton", "12 h", "18 h"],
        ["surge", "3 times the demand", "all", "20 h", "for good"],
    ]


def test_the_terminal_tells_the_scenario_and_each_event() -> None:
    lines = printed(rehearsal_table([STRUCK]))
    assert lines[-3:] == [
        "Rehearsed under the plan's scenario s07.",
        "Event: lost site, denton, from 12 h to 18 h: 100 replicas stopped, 310 requests routed again.",
        "Event: surge, all, from 20 h on: 3 times the demand.",
    ]
    assert "Rehearsed under the plan's scenario s07." in rehearsals.verdict(STRUCK).sentences


def test_nothing_is_shown_where_nothing_happened() -> None:
    assert happenings.tables(PLAIN) == []


def test_the_error_by_thinning_stands_beside_the_share_in_time() -> None:
    thinned = msgspec.structs.replace(PLAIN, thin_figures=THIN)
    assert rehearsals.key_figure(thinned).note.endswith("times, ±2.1 points by thinning to 1 in 40")
    assert printed(rehearsal_table([thinned]))[0].endswith("served in time (±2.1 points by thinning to 1 in 40).")
    assert grid_named(grids_of(thin_figures=THIN), "How far thinning").rows == [
        ["all", "served in time", "95.5%", "95.1%", "±2.1 points"],
        ["all", "TTFT p95", "1.24 s", "1.3 s", "±320 ms"],
        ["all", "TTFT p50", "310 ms", "–", "not known"],
    ]


def test_the_error_of_a_share_that_cannot_be_told_is_not_told_either() -> None:
    assert grids_of(thin_figures=THIN, status="too short") == []


def test_caches_preemptions_cut_answers_retries_and_tenants_share_one_table() -> None:
    pools = [msgspec.structs.replace(PLAIN.pools[0], preemptions=1200)]
    served = msgspec.structs.replace(
        PLAIN.total, served=1000, cache_hits=400, cached_tokens=300, input_tokens=1000, cut_short=7
    )
    tenants = Tenants(count=12, jain_index=0.9871, share_served_min=0.91, share_served_max=1.0)
    grid = grid_named(
        grids_of(pools=pools, total=served, tenants=tenants, amplification=1.25, offered=2_200_000), "What else"
    )
    assert [row[:2] for row in grid.rows] == [
        ["Prefix cache hits", "40%"],
        ["Preemptions", "1,200"],
        ["Cut short", "7"],
        ["Retries", "1.25 times"],
        ["Fairness (Jain)", "0.987"],
    ]
    assert grid.rows[0][2].startswith("Of served requests; 30% of the prompt tokens")


def test_extrapolated_step_times_are_warned_of_and_marked_beside_the_key_figure() -> None:
    guessed = msgspec.structs.replace(PLAIN, extrapolated=["denton/b300/large"])
    assert rehearsals.warnings(guessed)[0].startswith("Step times of denton/b300/large are extrapolated")
    assert rehearsals.key_figure(guessed).note.endswith("on extrapolated step times")
    assert any(line.startswith("Step times of denton/b300/large") for line in printed(rehearsal_table([guessed])))
