from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from offtake.report import rehearsals
from offtake.report.parts import Figure, Page, Sentences
from offtake.report.sections import page
from offtake.report.tables import read_run
from tests.report.parts_of import figures_of, grid_of, words_of
from tests.report.run_folder import Wish, build_run, summary

GOOD, OVERLOADED = summary("bid_price", Wish()), summary("bid_price", Wish(overloaded=True))


@pytest.fixture(scope="module")
def overloaded(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(read_run(build_run(tmp_path_factory.mktemp("over"), Wish(overloaded=True))))


def test_an_overloaded_system_is_called_not_stationary_before_anything_else(overloaded: Page) -> None:
    verdict = words_of(overloaded, "rehearsal")
    assert verdict.startswith("Not stationary (coding and batch): the requests under way keep growing in number")
    figure = overloaded.key_figures[-1]
    assert (figure.value, figure.tone) == ("not stationary", "bad")


def test_an_overloaded_workload_has_no_percentile_anywhere(overloaded: Page) -> None:
    rows = {row[0]: row for row in grid_of(overloaded, "Service by workload").rows}
    assert rows["coding"][-4:] == ["–", "–", "–", "–"]
    assert rows["chat"][-4:] == ["310 ms", "1.24 s", "2.41 s", "48.5 ms"]


def test_an_overloaded_workload_has_no_share_in_time_anywhere(overloaded: Page) -> None:
    rows = {row[0]: row for row in grid_of(overloaded, "Service by workload").rows}
    assert (rows["coding"][3], rows["chat"][3]) == ("not stationary", "97.7%")
    chart = next(figure for figure in figures_of(overloaded) if figure.key == "fates")
    assert "coding,served in time,0.0" in chart.csv
    assert chart.says.startswith(
        "What share is served in time cannot be told of coding (not stationary) and batch (not stationary)."
    )
    assert "Of the others us-only fares worst" in chart.says


def test_cells_that_are_not_stationary_are_left_out_of_the_chart_and_named(overloaded: Page) -> None:
    chart = next(figure for figure in figures_of(overloaded) if figure.key == "attainment")
    assert "coding at colossus-1, council-bluffs, denton, new-carlisle and wisconsin (not stationary)" in chart.note
    assert ",coding," not in chart.csv
    assert ",chat," in chart.csv


def test_shares_of_an_overloaded_run_carry_a_caution(overloaded: Page) -> None:
    chart = next(figure for figure in figures_of(overloaded) if figure.key == "fates")
    assert chart.note.endswith("these shares depend on how long it lasts.")


def test_a_sound_rehearsal_shows_the_share_served_in_time() -> None:
    figure = rehearsals.key_figure(GOOD)
    assert (figure.value, figure.tone) == ("95.5%", "good")


def test_the_ends_of_a_workloads_requests_add_up_to_all() -> None:
    for group in [*GOOD.workloads, *OVERLOADED.workloads]:
        assert sum(rehearsals.ends_of(group)) == pytest.approx(1.0)


def test_what_was_lost_and_how_it_was_thinned_is_said() -> None:
    text = " ".join(rehearsals.verdict(GOOD).sentences)
    assert "Lost on the way: denton from 12 h to 18 h." in text
    assert "Thinned: 1 in 40 replicas and requests" in text


def test_a_fleet_that_thinning_has_bent_is_warned_of() -> None:
    bent = msgspec.structs.replace(GOOD, pools=[msgspec.structs.replace(GOOD.pools[0], capacity_error=7.9)])
    assert rehearsals.warnings(GOOD) == []
    assert rehearsals.warnings(bent)[0].startswith(
        "The rehearsal is thinned to 1 in 40, which changes the capacity of "
    )


def test_several_policies_stand_side_by_side(tmp_path: Path) -> None:
    wish = Wish(rehearsals=("bid_price", "round_robin"))
    grid = grid_of(page(read_run(build_run(tmp_path, wish))), "The same plan in each rehearsal")
    assert [row[:2] for row in grid.rows] == [["main", "bid price"], ["round robin", "round robin"]]


def test_one_policy_is_not_compared_with_itself() -> None:
    captions = [
        part.caption for part in rehearsals.section({"main": GOOD}).parts if not isinstance(part, Figure | Sentences)
    ]
    assert "The same plan in each rehearsal" not in captions


def test_a_run_without_a_rehearsal_has_no_such_section(tmp_path: Path) -> None:
    made = page(read_run(build_run(tmp_path, Wish(rehearsals=()))))
    assert "rehearsal" not in [section.key for section in made.sections]
    assert "No rehearsal" in words_of(made, "left-out")


def test_an_interrupted_rehearsal_is_told_even_where_nothing_had_ended() -> None:
    half = msgspec.structs.replace(GOOD, status="interrupted", complete=False, done_share=0.4)
    empty = msgspec.structs.replace(half, workloads=[], cells=[], pools=[])
    for told in (half, empty):
        assert rehearsals.key_figure(told).value == "interrupted"
        assert "The run was interrupted at 40" in " ".join(rehearsals.verdict(told).sentences)
    keys = [part.key for part in rehearsals.section({"main": empty}).parts if isinstance(part, Figure)]
    assert keys == []
