from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from offtake.errors import InfeasibleError, InputError
from offtake.plan.problem import Problem
from offtake.plan.solve import solve
from offtake.schema.settings import Limits, RegionRow
from tests.plan.fakes import Goodputs, assembled
from tests.supply.small import (
    chip,
    concentration,
    deployment,
    job,
    link,
    offer,
    power,
    provider,
    settings,
    site,
    tables,
    tranche,
    way_out,
    workload,
)

HORIZON = settings(end=date(2026, 8, 31))


def reasons(some: Any) -> list[str]:
    return [one.sentence for one in some.placement.excluded]


def test_a_portfolio_becomes_arrays_in_hours_chips_and_dollars() -> None:
    problem = assembled(
        tables(
            settings=HORIZON, offers=(offer(fee_usd_per_chip_hour=2.0),), deployments=(deployment(chips_per_replica=4),)
        )
    ).problem
    assert problem.axes.periods == ["2026-05-01", "2026-06-01", "2026-07-01", "2026-08-01"]
    assert problem.axes.cells == ["east/h100"]
    assert problem.axes.vintages == ["lease signed 2026-05-01", "lease signed 2026-08-01"]
    assert problem.period_hours.tolist() == [744, 720, 744, 744]
    assert problem.lanes.goodput_rps_per_chip.tolist() == [[0.25]]
    assert problem.lanes.bytes_per_request.tolist() == [1600]  # 400 tokens of four bytes
    assert problem.vintages.paid_usd[0, 0].tolist() == pytest.approx([148_800, 144_000, 148_800, 148_800])
    assert problem.vintages.firm_kw[0].tolist() == pytest.approx([140] * 4)
    assert problem.demand_rps[0, :, 0, 0].tolist() == [100] * 4


def test_deliveries_list_chips_by_scenario_vintage_period_and_cell() -> None:
    problem = assembled(tables(settings=HORIZON, tranches=(tranche(available=date(2026, 6, 16)),))).problem
    found = problem.deliveries
    first = found.vintage == 0
    assert found.period[first].tolist() == [1, 2, 3]
    assert found.chips[first].tolist() == pytest.approx([50, 100, 100])
    assert not found.elastic.any()


def test_tranches_of_one_cell_add_up() -> None:
    problem = assembled(tables(settings=HORIZON, tranches=(tranche(), tranche(name="t2", chips_per_unit=50.0)))).problem
    assert problem.axes.cells == ["east/h100"]
    assert problem.deliveries.chips[:4].tolist() == [150] * 4


def test_an_elastic_contract_pays_for_use_beyond_its_take_or_pay_share() -> None:
    on_demand = offer(fee_usd_per_chip_hour=4.0, take_or_pay_share=0.25)
    problem = assembled(tables(settings=HORIZON, offers=(on_demand,))).problem
    assert problem.deliveries.elastic.all()
    assert problem.deliveries.used_usd_per_chip_hour == pytest.approx(3.0)
    assert problem.vintages.paid_usd[0, 0, 0] == pytest.approx(74_400)


def test_an_api_is_a_cell_of_its_own_counted_in_requests_per_second() -> None:
    api = offer(
        "overflow",
        tokens_per_minute_max=240_000.0,
        fee_usd_per_million_input_tokens=10.0,
        fee_usd_per_million_output_tokens=50.0,
        units_max=3.0,
    )
    door = tranche("overflow", chip="", chips_per_unit=0.0)
    problem = assembled(tables(settings=HORIZON, offers=(offer(), api), tranches=(tranche(), door))).problem
    assert problem.axes.cells == ["east/h100", "east/overflow"]
    assert problem.cells.is_api.tolist() == [False, True]
    at = problem.deliveries.cell == 1
    assert set(problem.deliveries.chips[at].tolist()) == {10.0}  # 4,000 tokens a second, 400 a request
    lane = problem.lanes.cell == 1
    assert problem.lanes.goodput_rps_per_chip[lane].tolist() == [[1.0]]
    assert problem.lanes.usd_per_request[lane] == pytest.approx([0.008])  # 300 × 10 + 100 × 50 per million


def test_a_lane_needs_residency_security_a_deployment_a_link_and_time() -> None:
    sites = (site(), site("eu", residency="EU"), site("open", security=0), site("far"), site("tpus"), site("dark"))
    links = (link(), link("eu"), link("open"), link("tpus"), link("far", rtt_ms_median=2100.0))
    offers = tuple(offer(one.site) for one in sites)
    chips = {"tpus": "tpu"}
    brought = tuple(tranche(one.site, site=one.site, chip=chips.get(one.site, "h100")) for one in sites)
    some = assembled(
        tables(
            settings=HORIZON,
            sites=sites,
            links=links,
            chips=(chip(), chip("tpu")),
            offers=offers,
            tranches=brought,
            workloads=(workload(residency="US", security=1),),
        )
    )
    assert [some.cells[lane.cell].name for lane in some.placement.lanes] == ["east/h100"]
    assert reasons(some) == [
        "chat cannot run on eu/h100: its data must stay in US and eu is in EU.",
        "chat cannot run on open/h100: it needs security class 1 and open has 0.",
        "chat cannot run on far/h100: the round trip of 2100 ms alone takes its 2000 ms to the first token.",
        "chat cannot run on tpus/tpu: deployments.csv has no row for small on tpu.",
        "chat cannot run on dark/h100: the site has no link to its users.",
    ]


def test_round_trips_come_off_the_time_to_first_token_in_steps_of_50_ms() -> None:
    goodputs = Goodputs(rtt_ms_max=100)
    regions = {"us": 0.5, "eu": 0.5}
    some = assembled(
        tables(
            settings=HORIZON,
            regions=(RegionRow(region="us"), RegionRow(region="eu")),
            workloads=(workload(regions=regions),),
            sites=(site(), site("west")),
            offers=(offer(), offer("other")),
            tranches=(tranche(), tranche("other", site="west")),
            links=(
                link(rtt_ms_median=20.0),
                link(region="eu", rtt_ms_median=100.0),
                link("west", rtt_ms_median=60.0),
                link("west", region="eu", rtt_ms_median=180.0),
            ),
        ),
        goodputs,
    )
    assert goodputs.asked == [("chat", "h100", 100), ("chat", "h100", 150)]
    (reason,) = reasons(some)
    assert reason.endswith("even an idle replica misses its time to first token after a round trip of 120 ms.")


def test_a_workload_that_no_site_may_serve_is_a_fault_with_its_reasons() -> None:
    with pytest.raises(InputError) as raised:
        assembled(tables(settings=HORIZON, workloads=(workload(residency="EU"), workload("ok"))))
    (fault,) = raised.value.faults
    assert fault.value == "chat"
    assert "its data must stay in EU and east is in US" in fault.mend


def test_without_offers_it_is_said_that_nothing_brings_capacity() -> None:
    with pytest.raises(InputError, match="No offer brings capacity"):
        assembled(tables(settings=HORIZON, offers=(), tranches=()))


def test_offers_that_deliver_after_the_horizon_are_no_vintages() -> None:
    late = offer("late")
    some = assembled(
        tables(
            settings=HORIZON, offers=(offer(), late), tranches=(tranche(), tranche("late", available=date(2027, 1, 1)))
        )
    )
    assert some.contracts.too_late == ["late"]
    assert some.problem.axes.offers == ["lease", "late"]
    assert 1 not in some.problem.vintages.offer


def test_a_lock_ends_with_the_first_period_that_begins_after_the_notice() -> None:
    rows = (way_out("only", "buyer", date(2026, 6, 10)),)
    vintages = assembled(tables(settings=HORIZON, exits=rows, offers=(offer(term_days=61),))).problem.vintages
    assert vintages.lock_until.tolist()[0] == 3  # 90 days' notice from 1 May end on 30 July
    assert vintages.term_until.tolist()[0] == 2
    endless = assembled(tables(settings=HORIZON)).problem.vintages
    assert (endless.lock_until[0], endless.term_until[0]) == (4, 4)


def test_power_steps_and_curtailment_reach_the_problem() -> None:
    east = site(power_kw_max=100.0, curtailment_hours_per_year=876.0, curtailment_event_hours=0.0, pue=1.2)
    problem = assembled(
        tables(settings=HORIZON, sites=(east,), power=(power("east", date(2026, 6, 16), 200.0),))
    ).problem
    assert problem.power_kw[0, :, 0, 0] == pytest.approx([90, 135, 180, 180])
    assert problem.cells.kw_per_chip == pytest.approx([1.68])


def test_a_cap_on_each_partner_leaves_own_sites_out_and_starts_on_its_day() -> None:
    problem = assembled(
        tables(
            settings=HORIZON,
            providers=(provider(), provider("mine", kind="own")),
            offers=(offer(), offer("own", provider="mine")),
            tranches=(tranche(), tranche("own")),
            concentration=(concentration("*", 0.4, start=date(2026, 7, 1)), concentration("site:east", 0.9)),
            limits=Limits(survive_share=0.5, budget_usd_per_year="2 m"),
        )
    ).problem
    assert problem.axes.groups == ["provider:acme", "site:east", "provider:acme"]
    assert problem.limits.group_cap.tolist() == [0.4, 0.9, 1.0]
    assert problem.limits.group_cap_from.tolist() == [2, 0, 0]
    assert problem.limits.survive_group.tolist() == [False, False, True]
    assert problem.vintages.group_kw[0, 0].tolist() == pytest.approx([140, 140, 140])
    assert problem.vintages.group_kw[-1, -1].tolist() == pytest.approx([0, 140, 0])
    assert problem.deliveries.group_member[0].tolist() == [True, True, True]
    assert problem.deliveries.group_member[-1].tolist() == [False, True, False]
    assert problem.limits.budget_usd == pytest.approx([2_000_000 * 123 / 365])  # May to August


def at_two_sites(**given: Any) -> Problem:
    """Sign one offer of the buyer's own: 50 chips at a site on grid a, and 50 of another kind at a site on grid b."""
    known: dict[str, Any] = {
        "settings": HORIZON,
        "providers": (provider("mine", kind="own", groups=("landlord:one",)), provider()),
        "links": (link(), link("west")),
        "sites": (site(grid="a"), site("west", grid="b")),
        "chips": (chip(), chip("h200", facility_kw=1.4)),
        "deployments": (deployment(), deployment(chip_name="h200")),
        "offers": (offer("own", provider="mine", signed=True),),
        "tranches": (
            tranche("own", chips_per_unit=50.0),
            tranche("own", "t2", site="west", chip="h200", chips_per_unit=50.0),
        ),
        "workloads": (workload(rate_rps=60.0, critical=True),),
    }
    return assembled(tables(**(known | given))).problem


def test_a_group_holds_only_the_firm_power_that_an_offer_has_in_it() -> None:
    names = ("grid:a", "site:west", "chip:h200", "landlord:one")
    problem = at_two_sites(concentration=tuple(concentration(name, 0.9) for name in names))
    assert problem.vintages.firm_kw[0].tolist() == pytest.approx([140] * 4)
    assert problem.vintages.group_kw[0].tolist() == [pytest.approx([70, 70, 70, 140])] * 4


@pytest.mark.parametrize("group", ["grid:a", "grid:b", "chip:h200"])
def test_an_offer_half_on_each_of_two_grids_meets_a_cap_of_three_fifths(group: str) -> None:
    assert solve(at_two_sites(concentration=(concentration(group, 0.6),))).kept[:, 0].tolist() == [
        pytest.approx([1] * 4)
    ]


@pytest.mark.parametrize(("group", "cap"), [("grid:a", 0.4), ("landlord:one", 0.9)])
def test_a_signed_offer_that_has_more_in_a_group_than_its_cap_leaves_no_plan(group: str, cap: float) -> None:
    with pytest.raises(InfeasibleError):
        solve(at_two_sites(concentration=(concentration(group, cap),)))


def west_of_acme(survive_share: float) -> Problem:
    """Put west into acme's building: 50 chips are left without it. Acme's own offer is too dear, and none at east."""
    return at_two_sites(
        sites=(site(), site("west", groups=("provider:acme",))),
        offers=(offer("own", provider="mine", signed=True), offer("dear", fee_usd_per_chip_hour=1e6)),
        tranches=(
            tranche("own", chips_per_unit=50.0),
            tranche("own", "t2", site="west", chip="h200", chips_per_unit=50.0),
            tranche("dear", site="west", chips_per_unit=1.0),
        ),
        limits=Limits(survive_share=survive_share),
    )


def test_chips_elsewhere_carry_critical_work_when_one_site_is_lost_with_its_group() -> None:
    assert solve(west_of_acme(0.8)).signed[:, 0].tolist() == pytest.approx([1, 0, 0])


def test_chips_at_the_site_of_a_lost_group_carry_no_critical_work() -> None:
    with pytest.raises(InfeasibleError):
        solve(west_of_acme(0.9))


def test_only_offers_with_the_same_word_shut_each_other_out() -> None:
    offers = (
        offer("a", exclusive_group="x"),
        offer("b"),
        offer("c", exclusive_group="x"),
        offer("d", exclusive_group="y"),
    )
    some = assembled(tables(settings=HORIZON, offers=offers, tranches=tuple(tranche(one.offer) for one in offers)))
    assert some.problem.exclusive == [[0, 2]]


def test_letters_and_talks_are_not_firm() -> None:
    letter = offer(firmness="letter", probability=0.5)
    assert assembled(tables(settings=HORIZON, offers=(letter,))).problem.vintages.firm_kw.tolist() == [[0.0] * 4] * 2


def test_training_is_planned_in_periods_that_lie_mostly_between_its_days() -> None:
    rows = (
        job(earliest=date(2026, 5, 10), deadline=date(2026, 8, 10), chips={"h100": 2.0}),
        job("beyond", earliest=date(2026, 8, 1), deadline=date(2026, 9, 30), chip_hours=6100.0),
        job("guarded", security=3),
    )
    jobs = assembled(tables(settings=HORIZON, training=rows)).problem.jobs
    assert jobs.first_period.tolist() == [0, 3, 1]
    assert jobs.last_period.tolist() == [2, 3, 3]
    assert jobs.chip_hours.tolist() == pytest.approx([1000, 3100, 1000])  # 31 of 61 days are inside
    assert jobs.speed.tolist() == [[2.0], [1.0], [0.0]]
    assert jobs.missed_usd.tolist() == pytest.approx([5.0, 5000 / 6100, 5.0])


def test_a_gang_never_runs_on_two_sites_at_once() -> None:
    some = assembled(
        tables(
            settings=settings(start=date(2026, 6, 1), end=date(2026, 6, 30)),
            workloads=(workload(rate_rps=0.0),),
            sites=(site(), site("west")),
            links=(link(), link("west")),
            offers=(offer(signed=True),),
            tranches=(tranche(chips_per_unit=60.0), tranche(name="t2", site="west", chips_per_unit=60.0)),
            training=(job(gang_chips=100.0, chip_hours=10_000.0, deadline=date(2026, 6, 30)),),
        )
    )
    assert solve(some.problem).missed_chip_hours == pytest.approx(np.array([[10_000.0]]))


def test_work_that_may_wait_a_day_is_deferrable() -> None:
    rows = (workload(), workload("batch", kind="batch", deferral_hours=24.0))
    assert assembled(tables(settings=HORIZON, workloads=rows)).problem.deferrable.tolist() == [False, True]


def test_goodput_varies_with_the_scenarios_throughput_error() -> None:
    some = assembled(tables(settings=settings(scenarios=50), deployments=(deployment(throughput_sd=0.2),)))
    goodput = some.problem.lanes.goodput_rps_per_chip[0]
    assert np.mean(goodput) == pytest.approx(1.0, abs=0.02)
    assert np.std(goodput) == pytest.approx(0.2, abs=0.04)
