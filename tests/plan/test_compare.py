from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offtake.errors import InputError
from offtake.plan.compare import Planned, arrivals, changes, compare, differs, fees, read_plan, read_planned, steps
from offtake.plan.plan import PlanOptions, make_plan, write_plan
from offtake.schema.begin import write_starter
from offtake.schema.portfolio import Tables
from offtake.schema.read import read_folder
from offtake.schema.settings import Limits
from tests.supply import small

CAUSES = {
    "workloads": "demand",
    "tranches": "deliveries",
    "training": "training",
    "limits": "limits",
    "deployments": "models, chips and their speed",
    "sites": "places: sites, power and links",
    "exits": "terms of offers",
    "settings": "horizon, scenarios and seed",
}


def lease(**given: Any) -> Tables:
    known: dict[str, Any] = {
        "settings": small.settings(end=date(2026, 7, 31), question="lease"),
        "workloads": (small.workload(rate_rps=1.0, value_usd_per_request=1.0),),
        "offers": (small.offer(fee_usd_per_chip_hour=2.0, whole_units=True),),
        "tranches": (small.tranche(chips_per_unit=1.0),),
    }
    return small.tables(**(known | given))


def planned(tables: Tables, folder: str = "run") -> Planned:
    return Planned(folder=folder, result=make_plan(tables).result, tables=tables)


@pytest.fixture(scope="module")
def before() -> Planned:
    return planned(lease(), "runs/before")


def test_replanning_an_unchanged_portfolio_changes_nothing(before: Planned) -> None:
    found = compare(before, planned(lease(), "runs/again"), PlanOptions())
    assert found.answer == "Nothing changed."
    assert (found.inputs, found.waterfall, found.same_inputs) == ([], [], True)
    assert found.objective_usd[0] == found.objective_usd[1] == found.decisions_kept_usd
    assert not any(move.changed for move in found.decisions)
    assert set(found.money_usd.values()) == {0.0}


def test_one_changed_fee_is_the_whole_waterfall_and_is_found_at_its_row(before: Planned) -> None:
    after = planned(lease(offers=(small.offer(fee_usd_per_chip_hour=1.5, whole_units=True),)))
    found = compare(before, after, PlanOptions())
    (change,) = found.inputs
    assert (change.file, change.row, change.column) == ("offers.csv", "lease", "fee_usd_per_chip_hour")
    assert (change.before, change.after) == ("2.0", "1.5")
    (cause,) = found.waterfall
    assert cause.cause == "fees"
    assert cause.change_usd == pytest.approx(92 * 24 * 0.5)  # one chip, half a dollar an hour less
    assert found.money_usd["fees_usd"] == pytest.approx(-92 * 24 * 0.5)


def test_a_change_within_the_solvers_gap_is_marked(before: Planned) -> None:
    after = planned(lease(offers=(small.offer(fee_usd_per_chip_hour=1.5, whole_units=True),)))
    loose = msgspec.structs.replace(after.result, bound_usd=after.result.objective_usd + 92 * 24 * 0.5 + 1.0)
    (clear,), (unclear,) = (
        compare(before, Planned(folder="run", result=one, tables=after.tables), PlanOptions()).waterfall
        for one in (after.result, loose)
    )
    assert not clear.unclear
    assert unclear.doubt_usd == pytest.approx(92 * 24 * 0.5 + 1.0)
    assert unclear.unclear


def test_two_causes_add_up_to_the_difference_in_their_order(before: Planned) -> None:
    offers = (small.offer(fee_usd_per_chip_hour=1.5, whole_units=True),)
    workloads = (small.workload(rate_rps=1.0, value_usd_per_request=2.0),)
    after = planned(lease(offers=offers, workloads=workloads))
    found = compare(before, after, PlanOptions())
    assert [one.cause for one in found.waterfall] == ["demand", "fees"]
    assert found.waterfall[0].change_usd == pytest.approx(92 * 86400.0, rel=1e-6)  # a request a second, a dollar more
    assert sum(one.change_usd for one in found.waterfall) == pytest.approx(
        after.result.objective_usd - before.result.objective_usd
    )


def test_a_new_offer_moves_the_decision_and_what_keeping_the_old_one_costs_is_told(before: Planned) -> None:
    offers = (
        small.offer(fee_usd_per_chip_hour=2.0, whole_units=True),
        small.offer("cheap", fee_usd_per_chip_hour=1.0, whole_units=True),
    )
    tranches = (small.tranche(chips_per_unit=1.0), small.tranche("cheap", chips_per_unit=1.0))
    after = planned(lease(offers=offers, tranches=tranches))
    found = compare(before, after, PlanOptions())
    assert {move.offer: move.action for move in found.decisions} == {
        "lease": ("sign", "leave"),
        "cheap": ("none", "sign"),
    }
    assert [one.cause for one in found.waterfall] == ["offers and places that came"]
    assert found.decisions_kept_usd is not None
    assert found.objective_usd[1] - found.decisions_kept_usd == pytest.approx(92 * 24.0)


def test_a_step_that_cannot_be_planned_is_told_with_the_next(before: Planned) -> None:
    # the terms are taken over first: a signed contract, which the old budget does not bear
    first = planned(lease(limits=Limits(budget_usd_per_year=10.0)))
    after = planned(lease(offers=(small.offer(fee_usd_per_chip_hour=2.0, whole_units=True, signed=True),)))
    found = compare(first, after, PlanOptions())
    (cause,) = found.waterfall
    assert cause.cause == "terms of offers with limits"
    assert cause.change_usd == pytest.approx(before.result.objective_usd - first.result.objective_usd)


@pytest.mark.parametrize("table", sorted(CAUSES))
def test_every_table_has_its_cause(table: str) -> None:
    changed = {
        "workloads": (small.workload(rate_rps=2.0),),
        "tranches": (small.tranche(slip_days_max=30),),
        "training": (small.job(),),
        "limits": Limits(budget_usd_per_year=1e6),
        "deployments": (small.deployment(throughput_sd=0.1),),
        "sites": (small.site(power_kw_max=5.0),),
        "exits": (small.way_out("only", "buyer", date(2026, 7, 1)),),
        "settings": small.settings(scenarios=3),
    }
    now, then = small.tables(), small.tables(**{table: changed[table]})
    found = []
    for name, step in steps():
        after = step(now, then)
        found += [name] if differs(now, after) else []
        now = after
    assert found == [CAUSES[table]]
    assert not differs(now, then)


def test_what_came_is_added_whole_and_what_is_common_stays() -> None:
    now = small.tables()
    then = replace(
        now,
        offers=(small.offer(fee_usd_per_chip_hour=9.0), small.offer("b")),
        tranches=(small.tranche(slip_days_max=9), small.tranche("b", site="west")),
        sites=(small.site(power_kw_max=1.0), small.site("west")),
        links=(small.link(), small.link("west")),
    )
    after = arrivals(now, then)
    assert [row.offer for row in after.offers] == ["lease", "b"]
    assert after.offers[0] == now.offers[0]
    assert [row.site for row in after.tranches] == ["east", "west"]
    assert after.tranches[0] == now.tranches[0]
    assert fees(after, then).offers[0].fee_usd_per_chip_hour == 9.0


def test_a_mark_or_a_source_is_no_change() -> None:
    marked = small.tables(offers=(small.offer(confidence="reported", source="list", note="seen", at=7),))
    assert changes(small.tables(), marked) == []


def test_a_folder_without_a_plan_and_a_file_that_is_none_are_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no plan"):
        read_plan(tmp_path)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text('{"format": "offtake-plan-0"}')
    with pytest.raises(InputError, match="no plan of this version"):
        read_plan(tmp_path)


def test_a_plan_whose_inputs_are_gone_or_changed_is_not_compared(tmp_path: Path) -> None:
    write_starter(tmp_path / "mine")
    write_plan(make_plan(read_folder(tmp_path / "mine")), tmp_path / "run")
    inputs = tmp_path / "run" / "plan" / "inputs"
    assert read_planned(tmp_path / "run").tables.settings.name == "mine"
    sites = (inputs / "sites.csv").read_text()
    (inputs / "sites.csv").write_text(f"{sites}# another\n")
    with pytest.raises(InputError, match=r"run/plan/inputs/sites\.csv: the plan was made from another file"):
        read_planned(tmp_path / "run")
    (inputs / "sites.csv").write_text("site\n")
    with pytest.raises(InputError, match=r"run/plan/inputs/sites\.csv"):
        read_planned(tmp_path / "run")
    shutil.rmtree(inputs)
    with pytest.raises(InputError, match="the inputs of the plan are gone"):
        read_planned(tmp_path / "run")
