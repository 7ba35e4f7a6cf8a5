from __future__ import annotations

import pytest

from offtake.errors import Fault, InputError
from offtake.plan.admission import check_places
from offtake.schema.portfolio import Tables
from tests.supply import small


def faults_of(tables: Tables) -> list[Fault]:
    with pytest.raises(InputError) as caught:
        check_places(tables)
    return caught.value.faults


def test_a_portfolio_that_may_serve_its_work_passes() -> None:
    check_places(small.tables(training=(small.job(),)))


def test_every_workload_that_no_site_may_serve_is_a_fault_with_the_reason() -> None:
    workloads = (
        small.workload(residency="EU"),
        small.workload("quick", ttft_ms_p95=10.0),
        small.workload("fine"),
        small.workload("secret", security=3),
        small.workload("other", model="large"),
    )
    reasons = [fault.mend for fault in faults_of(small.tables(workloads=workloads))]
    assert [reason.split(":")[0] for reason in reasons] == [
        f"{name} cannot run on east/h100" for name in ("chat", "quick", "secret", "other")
    ]
    assert "its data must stay in EU and east is in US" in reasons[0]
    assert "the round trip of 20 ms alone takes its 10 ms" in reasons[1]
    assert "it needs security class 3 and east has 1" in reasons[2]
    assert "deployments.csv has no row for large on h100" in reasons[3]


def test_a_portfolio_without_offers_is_one_fault_that_says_so() -> None:
    (fault,) = faults_of(small.tables(offers=(), tranches=(), training=(small.job(),)))
    assert fault.problem == "there are no offers, so there is nothing to plan with"


def test_a_job_that_no_site_may_run_and_a_gang_that_none_can_hold_are_faults() -> None:
    jobs = (
        small.job(at=2, residency="EU"),
        small.job("b", at=3, chips={"gb200": 1.0}),
        small.job("c", at=4, gang_chips=101.0),
        small.job("d", at=5, gang_chips=100.0),
    )
    chips = (small.chip(), small.chip("gb200"))
    assert [(one.row, one.column) for one in faults_of(small.tables(training=jobs, chips=chips))] == [
        (2, "job"),
        (3, "job"),
        (4, "gang_chips"),
    ]
