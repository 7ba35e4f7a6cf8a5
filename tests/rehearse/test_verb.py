from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from offtake.errors import InputError
from offtake.fleet import Fleet, write_fleet
from offtake.rehearse.summary import Summary
from offtake.rehearse.verb import (
    Asked,
    Case,
    Rehearsed,
    compared_so_far,
    load_maker,
    placed,
    record_of,
    rehearse_run,
    understood,
)
from tests.rehearse.fleets import small_fleet
from tests.report.run_folder import Wish, summary

DONE = summary("bid_price", Wish())
HALF = msgspec.structs.replace(DONE, complete=False, done_share=0.5, status="interrupted")
NOTHING = msgspec.structs.replace(HALF, done_share=0.0)


def faults_of(asked: Asked, fleet: Fleet) -> list[str]:
    with pytest.raises(InputError) as caught:
        understood(asked, fleet)
    return [fault.file for fault in caught.value.faults]


def put(run: Path, name: str, one: Summary, mark: str) -> Path | None:
    part = run / ".part"
    (part / "least_loaded").mkdir(parents=True)
    (part / "asked.json").write_text(mark)
    (part / "rehearse.json").write_bytes(msgspec.json.encode(one))
    return placed(part, run / "rehearse", name, [one]).folder


@pytest.mark.parametrize("name", ["../plan", "..", "a/b", ".", "least_loaded", "Round_Robin", "interrupted", "x\n"])
def test_a_name_that_is_a_path_or_a_policy_is_refused(name: str) -> None:
    assert faults_of(Asked(name=name), small_fleet()) == ["--name"]


def test_a_comparison_with_nothing_is_a_fault() -> None:
    assert faults_of(Asked(compare=","), small_fleet()) == ["--compare", "--compare"]


def test_a_trace_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    assert faults_of(Asked(traces=(str(tmp_path / "typo.csv"),)), small_fleet()) == ["--trace"]
    assert faults_of(Asked(traces=(str(tmp_path),)), small_fleet()) == ["--trace"]


def test_options_of_made_traffic_are_refused_beside_a_trace_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("x")
    traces = (f"chat={tmp_path / 'trace.csv'}",)
    asked = Asked(traces=traces, surge=3.0, sessions=True, closed_loop=4, loop=True, hours=2.0)
    assert faults_of(asked, small_fleet())[:3] == ["--surge", "--closed-loop", "--sessions"]
    assert faults_of(Asked(scale=2.0, loop=True), small_fleet()) == ["--scale", "--loop"]
    assert faults_of(Asked(traces=traces, loop=True), small_fleet()) == ["--loop"]


def test_a_clock_that_is_not_a_regions_is_told() -> None:
    asked = Asked(shift_hours=("eu=6", "mars=1", "us=late", "us"))
    assert faults_of(asked, small_fleet()) == ["--shift-hours"] * 3


def test_a_negative_seed_is_a_fault_of_its_option() -> None:
    with pytest.raises(InputError) as caught:
        understood(Asked(seed=-5, hours=0.0), small_fleet())
    assert [(fault.file, fault.column, fault.value) for fault in caught.value.faults] == [
        ("--seed", None, "-5"),
        ("--hours", None, "0.0"),
    ]


def test_traces_are_written_down_by_workload_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    asked = Asked(traces=(f"code={tmp_path / 'a.csv'}", str(tmp_path / "a.csv")), workload="chat")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert record_of(asked)["traces"] == [
        {"workload": "code", "name": "a.csv", "sha256": digest},
        {"workload": "chat", "name": "a.csv", "sha256": digest},
    ]


@pytest.mark.parametrize("traced", [False, True])
def test_the_load_of_a_case_can_be_made_again_and_differs_by_seed(tmp_path: Path, *, traced: bool) -> None:
    rows = "".join(f"{second},{second + 10},5\n" for second in range(200))
    (tmp_path / "a.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    fleet = small_fleet()
    chat = [msgspec.structs.replace(one, profile="chat") for one in fleet.workloads]
    fleet = msgspec.structs.replace(fleet, workloads=chat, pools=[])
    asked = Asked(traces=(f"chat={tmp_path / 'a.csv'}",) if traced else ())
    make = load_maker(Case(asked, *understood(asked, fleet), {}), fleet)
    mine, again, other = (np.concatenate([batch.region for batch in make(seed)]) for seed in (3, 3, 4))
    assert mine.tobytes() == again.tobytes()
    assert mine.tobytes() != other.tobytes()


def test_an_unnamed_rehearsal_keeps_the_named_ones_and_drops_old_policies(tmp_path: Path) -> None:
    put(tmp_path, "", DONE, "first")
    (tmp_path / "rehearse" / "round_robin").mkdir()
    put(tmp_path, "mine", DONE, "named")
    put(tmp_path, "", DONE, "second")
    home = tmp_path / "rehearse"
    assert (home / "asked.json").read_text() == "second"
    assert (home / "mine" / "asked.json").read_text() == "named"
    assert sorted(path.name for path in home.glob("*/")) == ["least_loaded", "mine"]


@pytest.mark.parametrize("name", ["", "mine"])
def test_an_interrupted_rehearsal_never_replaces_a_finished_one(tmp_path: Path, name: str) -> None:
    first = put(tmp_path, name, DONE, "whole")
    assert first is not None
    for mark in ("half", "another half"):
        assert put(tmp_path, name, HALF, mark) == tmp_path / "rehearse" / "interrupted"
        assert (tmp_path / "rehearse" / "interrupted" / "asked.json").read_text() == mark
    assert (first / "asked.json").read_text() == "whole"


def test_an_interrupted_rehearsal_gives_way_to_the_next(tmp_path: Path) -> None:
    assert put(tmp_path, "", HALF, "half") == tmp_path / "rehearse"
    assert put(tmp_path, "", DONE, "whole") == tmp_path / "rehearse"
    assert (tmp_path / "rehearse" / "asked.json").read_text() == "whole"


def test_a_rehearsal_that_did_nothing_writes_nothing(tmp_path: Path) -> None:
    assert put(tmp_path, "", NOTHING, "none") is None
    assert not (tmp_path / "rehearse").exists()


def test_a_fleet_without_a_pool_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    fleet = small_fleet()
    chat = [msgspec.structs.replace(one, profile="chat") for one in fleet.workloads]
    write_fleet(msgspec.structs.replace(fleet, workloads=chat, pools=[]), tmp_path / "plan" / "fleet.json")
    with pytest.raises(InputError, match="the fleet has no pool"):
        rehearse_run(tmp_path, Asked(), lambda _stage, _done: None)
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_an_interrupted_comparison_keeps_the_rehearsals_and_says_how_far_it_came(tmp_path: Path) -> None:
    def press(_stage: str, _share: float) -> None:
        raise KeyboardInterrupt

    fleet = small_fleet()
    chat = [msgspec.structs.replace(one, profile="chat") for one in fleet.workloads]
    api = [msgspec.structs.replace(fleet.pools[0], kind="api", replicas=0, tokens_per_minute_max=1e6)]
    fleet = msgspec.structs.replace(fleet, workloads=chat, pools=api)
    asked = Asked(compare="bid_price", seeds=1, workers=1, hours=0.01)
    done = msgspec.structs.replace(DONE, workloads=[], seed=1)
    case = Case(asked, *understood(asked, fleet), {})
    comparison, share = compared_so_far(tmp_path, case, [done], press)
    assert (comparison, list(tmp_path.iterdir())) == (None, [])
    assert 0.0 <= share < 1.0
    found = put(tmp_path, "", DONE, "whole")
    assert found is not None
    assert not Rehearsed([DONE], found, [], compared_share=share).complete
