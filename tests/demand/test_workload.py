from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offtake.demand.generate import mix
from offtake.demand.request import concat
from offtake.demand.workload import Demand, Week, demand_of, rehearsal_specs, traffic_of
from offtake.errors import InputError
from offtake.schema.portfolio import Tables
from offtake.schema.read import read_folder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read_folder(EXAMPLES / "three-contracts")


@pytest.fixture(scope="module")
def demand(tables: Tables) -> Demand:
    return demand_of(tables)


@pytest.mark.parametrize("example", ["may-2026", "three-contracts"])
def test_the_shipped_examples_have_a_demand_side(example: str) -> None:
    demand = demand_of(read_folder(EXAMPLES / example))
    assert demand.region_share.sum(axis=1) == pytest.approx(np.ones(len(demand.workloads)))
    assert demand.shapes().shape == (len(demand.workloads), 168)
    assert sum(branch.weight for branch in demand.branches) == pytest.approx(1.0)


def test_an_unknown_profile_is_a_fault_of_its_workload(tables: Tables) -> None:
    first = tables.workloads[0].model_copy(update={"profile": "codding"})
    with pytest.raises(InputError) as found:
        demand_of(replace(tables, workloads=(first, *tables.workloads[1:])))
    (fault,) = found.value.faults
    assert (fault.file, fault.row, fault.column) == ("portfolio.toml", "[[workload]] 1", "profile")
    assert fault.mend == "Did you mean 'coding'?"


def test_a_week_of_traffic_shares_each_rate_out_over_the_regions(demand: Demand) -> None:
    specs = rehearsal_specs(demand, np.array([1.0, 2.0]), Week(seed=3))
    by_place = {(one.workload, one.region): one.rate_rps_mean for one in specs}
    coding, chat = demand.workloads
    for region, name in enumerate(demand.regions):
        assert by_place[0, region] == pytest.approx(coding.rate_rps * coding.regions[name])
        assert by_place[1, region] == pytest.approx(2 * chat.rate_rps * chat.regions[name])


def test_a_region_without_users_has_no_stream() -> None:
    specs = traffic_of(["chat", "coding"], [5.0, 0.0], [[1.0, 0.0], [0.5, 0.5]], Week(seed=1))
    assert [(one.workload, one.region) for one in specs] == [(0, 0)]


def test_a_changed_rate_changes_no_other_stream() -> None:
    week = Week(seed=5, duration_s=900.0, start_hour_of_week=40.0)
    shares = [[0.5, 0.5], [1.0, 0.0]]
    one = concat(list(mix(traffic_of(["chat", "coding"], [20.0, 9.0], shares, week))))
    other = concat(list(mix(traffic_of(["chat", "coding"], [20.0, 30.0], shares, week))))
    assert np.array_equal(one.arrival_ns[one.workload == 0], other.arrival_ns[other.workload == 0])
    assert (one.workload == 1).sum() < (other.workload == 1).sum()
