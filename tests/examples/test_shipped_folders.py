"""Try what every shipped folder promises: it reads clean, and each figure says how sure it is."""

from __future__ import annotations

import re

import pytest

from offtake.demand.profile import profile_names
from offtake.performance.deployment import resolve_all
from offtake.schema.marks import figures
from offtake.schema.tables import TABLES
from tests.examples.folders import FOLDERS, ROOT, marks_of, read

ASSUMPTION = "assumption"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_shipped_folder_reads_without_a_fault(name: str) -> None:
    assert read(name).settings.question in {row.offer for row in read(name).offers}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_figure_that_is_not_an_assumption_names_a_source(name: str) -> None:
    unsourced = [f for f in figures(read(name)) if f.confidence != ASSUMPTION and not f.source]
    assert unsourced == []


@pytest.mark.parametrize("name", FOLDERS)
def test_every_deployment_has_step_times_that_ship(name: str) -> None:
    tables = read(name)
    assert set(resolve_all(tables)) == {(row.model, row.chip) for row in tables.deployments}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_profile_is_embedded(name: str) -> None:
    assert {row.profile for row in read(name).workloads} <= set(profile_names())


@pytest.mark.parametrize("name", FOLDERS)
def test_every_site_of_a_tranche_reaches_the_users_of_some_workload(name: str) -> None:
    tables = read(name)
    linked = {(row.site, row.region) for row in tables.links}
    unreached = [
        tranche.site
        for tranche in tables.tranches
        if not any(all((tranche.site, region) in linked for region in one.regions) for one in tables.workloads)
    ]
    assert unreached == []


@pytest.mark.parametrize("name", ["may-2026", "three-contracts"])
def test_the_page_states_how_much_rests_on_assumptions(name: str) -> None:
    page = (ROOT / "docs" / "examples" / f"{name}.md").read_text("utf-8")
    stated = {mark: int(count) for mark, count in re.findall(r"^\| (\w+) \| (\d+) \|$", page, re.MULTILINE)}
    assert stated == marks_of(name)


def test_the_starter_is_all_assumptions_and_shows_every_table() -> None:
    assert set(marks_of("starter")) == {ASSUMPTION}
    shown = {path.stem for path in FOLDERS["starter"].glob("*.csv")}
    assert shown == set(TABLES) - {"power"}


def test_every_table_of_the_starter_begins_with_a_comment_that_explains_it() -> None:
    silent = [path.name for path in FOLDERS["starter"].iterdir() if not path.read_text("utf-8").startswith("# ")]
    assert silent == []
