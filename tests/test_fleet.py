from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offtake.errors import InputError
from offtake.fleet import Fleet, Pool, Site, Workload, check_fleet, read_fleet, stand_ins, write_fleet
from offtake.policy.build import allowed_of


def small_fleet() -> Fleet:
    """One site, one chat workload, one pool of chips; two blocks, two regions."""
    site = Site(name="memphis", residency="US", security=1, power_kw_max=300_000.0, rtt_ms=[20.0, 110.0])
    chat = Workload(
        name="chat",
        model="llama",
        kind="interactive",
        profile="chat",
        rate_rps=100.0,
        level=[0.5, 1.5],
        region_share=[0.75, 0.25],
        input_tokens_mean=1_155.0,
        output_tokens_mean=211.0,
        ttft_ms_p95=1_000.0,
        tpot_ms_p95=50.0,
        value_usd_per_request=0.01,
        refusal_usd_per_request=0.002,
    )
    pool = Pool(
        name="memphis-h100-llama",
        kind="chips",
        provider="spacex",
        site="memphis",
        chip="h100",
        model="llama",
        deployment="llama-3.1-70b-h100-tp4",
        replicas=12,
        chips_per_replica=4,
        offers=["lease"],
        goodput_rps=[9.0],
        allotment_rps=[[50.0], [100.0]],
        bid_usd_per_chip_s=[0.0, 0.0007],
    )
    return Fleet(
        format="offtake-fleet-1",
        name="small",
        week="2026-06-01",
        seed=1,
        version="0.1.0",
        portfolio_hash="0",
        regions=["us", "eu"],
        block_of_hour=[0] * 84 + [1] * 84,
        block_share=[0.5, 0.5],
        sites=[site],
        workloads=[chat],
        pools=[pool],
    )


def write_changed(path: Path, **changes: Any) -> Path:
    """Write the small fleet with some fields of its file changed; ``pools__kind`` is that of the first pool."""
    write_fleet(small_fleet(), path)
    document = json.loads(path.read_text("utf-8"))
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            document[outer][0][inner] = value
        else:
            document[outer] = value
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_fleet_comes_back_from_its_file_as_it_was_written(tmp_path: Path) -> None:
    write_fleet(small_fleet(), tmp_path / "fleet.json")
    assert read_fleet(tmp_path / "fleet.json") == small_fleet()


def test_the_same_fleet_gives_the_same_bytes(tmp_path: Path) -> None:
    write_fleet(small_fleet(), tmp_path / "a.json")
    write_fleet(small_fleet(), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_sound_fleet_has_no_fault() -> None:
    assert check_fleet(small_fleet(), "fleet.json") == []


@pytest.mark.parametrize(
    "field, value, row, problem",
    [
        ("format", "offtake-fleet-0", "format", "must be offtake-fleet-1"),
        ("block_of_hour", [0, 1], "block_of_hour", "must hold 168 hours"),
        ("block_of_hour", [0] * 84 + [2] * 84, "block_of_hour", "names a block that is not there"),
        ("sites__rtt_ms", [20.0], "sites[0].rtt_ms", "must hold 2 regions"),
        ("workloads__level", [1.0], "workloads[0].level", "must hold 2 blocks"),
        ("workloads__region_share", [1.0], "workloads[0].region_share", "must hold 2 regions"),
        ("workloads__rate_rps", -1.0, "workloads[0].rate_rps", "must not be negative"),
        ("pools__kind", "spoons", "pools[0].kind", "must be chips or api"),
        ("pools__site", "nowhere", "pools[0].site", "names a site that is not in the file"),
        ("pools__model", "qwen", "pools[0].model", "names a model that no workload asks for"),
        ("pools__goodput_rps", [], "pools[0].goodput_rps", "must hold 1 workloads"),
        ("pools__allotment_rps", [[50.0]], "pools[0].allotment_rps", "must hold 2 blocks of 1 workloads"),
        ("pools__bid_usd_per_chip_s", [0.0], "pools[0].bid_usd_per_chip_s", "must hold 2 blocks"),
        ("pools__replicas", -1, "pools[0].replicas", "must not be negative"),
        ("pools__weights_gb", -1.0, "pools[0].weights_gb", "must not be negative"),
        ("pools__kw_per_chip", -1.0, "pools[0].kw_per_chip", "must not be negative"),
        ("pools__offer_share", [0.5, 0.5], "pools[0].offer_share", "must hold 1 offers"),
        ("sites__link_gbit_s", -1.0, "sites[0].link_gbit_s", "must not be negative"),
        (
            "sites__curtailment_hours_per_year",
            9000.0,
            "sites[0].curtailment_hours_per_year",
            "must lie between 0 and 8760",
        ),
        ("equivalent", [["llama"]], "equivalent[0]", "must name at least two models"),
        ("equivalent", [["llama", "llama"]], "equivalent", "names a model twice"),
        (
            "equivalent",
            [["llama", "qwen"]],
            "equivalent[0]",
            "names a model that no pool serves and no workload asks for",
        ),
        ("sites__curtailment_share", 1.5, "sites[0].curtailment_share", "must lie between 0 and 1"),
    ],
)
def test_a_fault_names_its_field(tmp_path: Path, field: str, value: object, row: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_fleet(write_changed(tmp_path / "fleet.json", **{field: value}))
    assert [(fault.row, fault.problem) for fault in caught.value.faults] == [(row, problem)]


def test_a_pool_may_serve_a_model_that_stands_in_for_one_that_is_asked_for(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"pools__model": "qwen", "equivalent": [["llama", "qwen"]]}
    fleet = read_fleet(write_changed(tmp_path / "fleet.json", **changes))
    model = fleet.workloads[0].model
    assert stand_ins(fleet, model) == {model, "qwen"}
    assert allowed_of(fleet).tolist() == [[True]]
    assert allowed_of(msgspec.structs.replace(fleet, equivalent=[])).tolist() == [[False]]


LATE = {"kind": "late_tranche", "target": "memphis-h100-llama", "start_hour": 0.0, "hours": 24.0, "value": 0.5}
KINDS = "late_tranche, reclaim, lost_site, curtailment, surge, slow_replica"
NOWHERE = "names something that is not in the file"


@pytest.mark.parametrize(
    "change, row, problem",
    [
        ({"probability": 0.9}, "scenarios", "the probabilities must sum to 1"),
        ({"demand_factor": []}, "scenarios[0].demand_factor", "must hold 1 factors, none negative"),
        ({"demand_factor": [-1.0]}, "scenarios[0].demand_factor", "must hold 1 factors, none negative"),
        ({"events": [LATE | {"kind": "flood"}]}, "scenarios[0].events[0].kind", f"must be one of {KINDS}"),
        ({"events": [LATE | {"target": "memphis"}]}, "scenarios[0].events[0].target", NOWHERE),
        ({"events": [LATE | {"kind": "lost_site"}]}, "scenarios[0].events[0].target", NOWHERE),
        ({"events": [LATE | {"hours": 0.0}]}, "scenarios[0].events[0].hours", "must be above 0"),
        ({"events": [LATE | {"value": -0.5}]}, "scenarios[0].events[0].value", "must not be negative"),
    ],
)
def test_a_fault_of_a_scenario_names_its_field(tmp_path: Path, change: Any, row: str, problem: str) -> None:
    scenario = {"name": "s1", "probability": 1.0, "demand_factor": [1.0], "events": [LATE]}
    assert read_fleet(write_changed(tmp_path / "good.json", scenarios=[scenario])).scenarios[0].events[0].value == 0.5
    with pytest.raises(InputError) as caught:
        read_fleet(write_changed(tmp_path / "fleet.json", scenarios=[scenario | change]))
    assert [(fault.row, fault.problem) for fault in caught.value.faults] == [(row, problem)]


def test_a_fleet_of_an_older_version_still_loads(tmp_path: Path) -> None:
    path = write_changed(tmp_path / "fleet.json")
    document = json.loads(path.read_text("utf-8"))
    del document["scenarios"]
    for field in ("link_gbit_s", "curtailment_hours_per_year", "curtailment_share"):
        del document["sites"][0][field]
    for field in ("offer_share", "weights_gb", "kw_per_chip"):
        del document["pools"][0][field]
    path.write_text(json.dumps(document), "utf-8")
    assert read_fleet(path) == small_fleet()


def test_two_pools_may_not_share_a_name() -> None:
    fleet = small_fleet()
    doubled = check_fleet(Fleet(**{**vars_of(fleet), "pools": fleet.pools * 2}), "fleet.json")
    assert [(fault.row, fault.problem) for fault in doubled] == [("pools", "two pools share a name")]


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    path = write_changed(tmp_path / "fleet.json", format="x", pools__kind="spoons", pools__replicas=-1)
    with pytest.raises(InputError) as caught:
        read_fleet(path)
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "offtake-fleet-1"}'])
def test_a_file_that_is_not_a_fleet_is_one_fault(tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.json").write_text(text)
    with pytest.raises(InputError, match="the file is not a fleet"):
        read_fleet(tmp_path / "fleet.json")


def test_a_field_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown field `colour`"):
        read_fleet(write_changed(tmp_path / "fleet.json", colour="red"))


def test_a_missing_file_says_which_verb_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Make it with `offtake plan`"):
        read_fleet(tmp_path / "fleet.json")


def vars_of(fleet: Fleet) -> dict[str, Any]:
    return {name: getattr(fleet, name) for name in fleet.__struct_fields__}
