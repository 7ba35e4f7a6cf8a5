from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.schema.settings import Limits, RegionRow
from offtake.supply.link import bandwidth_bytes_per_s, rtt_ms
from offtake.supply.portfolio import oddities, portfolio_of
from offtake.supply.site import curtailed_share, power_kw_by_day
from tests.supply.small import (
    concentration,
    job,
    link,
    offer,
    power,
    provider,
    settings,
    site,
    tables,
    tranche,
    workload,
)


def test_power_follows_its_steps_from_their_days() -> None:
    steps = (power("east", date(2026, 7, 1), 300.0), power("east", date(2026, 6, 1), 200.0))
    days = np.array([date(2026, 5, 31).toordinal(), date(2026, 6, 1).toordinal(), date(2026, 8, 1).toordinal()])
    assert power_kw_by_day(site(power_kw_max=100.0), steps, days).tolist() == [100, 200, 300]


def test_curtailment_fills_the_busiest_blocks_first() -> None:
    row = site(curtailment_share=0.5)
    lost = curtailed_share(row, 1314.0, np.array([0.75, 0.125, 0.125]), [1, 2, 0])
    assert lost == pytest.approx([0, 0.5, 0.1])  # 1,095 hours fill the first block; 219 of 1,095 the second


def test_round_trips_are_weighted_by_the_share_of_requests() -> None:
    links = {("east", "us"): link(rtt_ms_median=20.0), ("east", "eu"): link(region="eu", rtt_ms_median=100.0)}
    assert rtt_ms(links, "east", {"us": 0.75, "eu": 0.25}) == pytest.approx(40)
    assert rtt_ms(links, "east", {"us": 0.75, "asia": 0.25}) is None
    assert rtt_ms(links, "east", {"us": 1.0, "asia": 0.0}) == pytest.approx(20)


def test_bandwidth_adds_up_links_at_their_expected_availability() -> None:
    links = {("east", "us"): link(bandwidth_gbit_s=80.0, availability=0.5), ("west", "us"): link("west")}
    assert bandwidth_bytes_per_s(links, "east") == pytest.approx(5e9)
    assert bandwidth_bytes_per_s(links, "north") == 0


def test_an_offer_belongs_to_the_groups_of_its_partner_its_guarantor_its_sites_and_its_chips() -> None:
    portfolio = portfolio_of(
        tables(
            providers=(provider(guarantor="google", groups=("landlord:x",)),),
            sites=(site(grid="TVA", groups=("permit:turbines",)),),
        )
    )
    assert portfolio.groups_of("lease") == {
        "provider:acme",
        "guarantor:google",
        "landlord:x",
        "site:east",
        "grid:TVA",
        "permit:turbines",
        "chip:h100",
    }


def test_the_buyers_own_sites_are_no_partner() -> None:
    portfolio = portfolio_of(
        tables(
            providers=(provider("mine", kind="own"), provider("acme"), provider("unused")),
            offers=(offer("a", provider="mine"), offer("b")),
            tranches=(tranche("a"), tranche("b")),
        )
    )
    assert portfolio.partners() == ["provider:acme"]


def test_every_fault_between_tables_is_reported_at_once() -> None:
    with pytest.raises(InputError) as raised:
        portfolio_of(
            tables(
                regions=(RegionRow(region="us"), RegionRow(region="eu")),
                workloads=(workload(regions={"us": 0.5, "eu": 0.5}),),
                providers=(provider(groups=("memphis",)),),
                concentration=(concentration("provider:acne", 0.5), concentration("*", 0.5)),
            )
        )
    text = str(raised.value)
    assert len(raised.value.faults) == 3
    assert "no link to region 'eu'" in text
    assert "Write it as kind:name" in text
    assert "'provider:acme'" in text


def test_an_unknown_offer_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'lease'"):
        portfolio_of(tables()).offer("leese")


def test_terms_that_do_nothing_are_pointed_out() -> None:
    portfolio = portfolio_of(
        tables(
            settings=settings(),
            sites=(site(), site("west")),
            offers=(offer(reclaim_per_year=0.15),),
            tranches=(tranche(), tranche(name="t2", site="west")),
        )
    )
    first, second = oddities(portfolio)
    assert "no way out" in first
    assert second.startswith("west has no links")


def test_groups_to_survive_are_the_partners_and_those_named_by_name_or_kind() -> None:
    given = {
        "sites": (site(grid="ercot"), site("west", grid="pjm")),
        "links": (link(), link("west")),
        "tranches": (tranche(), tranche(name="t2", site="west")),
    }
    one = portfolio_of(tables(**given, limits=Limits(survive_share=0.5, survive_groups="grid:*; site:west")))
    assert one.groups_to_survive() == ["provider:acme", "grid:ercot", "grid:pjm", "site:west"]
    none = portfolio_of(tables(**given, limits=Limits(survive_share=0.5)))
    assert none.groups_to_survive() == ["provider:acme"]


def test_a_group_to_survive_that_nobody_belongs_to_is_a_fault() -> None:
    with pytest.raises(InputError, match=r"survive_groups.*Did you mean 'site:east'"):
        portfolio_of(tables(limits=Limits(survive_share=0.5, survive_groups="site:eats")))


def test_what_begins_after_the_last_day_is_mentioned() -> None:
    late = date(2027, 1, 1)
    jobs = (job(earliest=late, deadline=date(2027, 2, 1)),)
    one = portfolio_of(tables(training=jobs, concentration=(concentration("site:east", 0.5, start=late),)))
    assert oddities(one) == [
        "Training job run begins on 2027-01-01, after the last day: nothing of it is planned.",
        "The limit on site:east begins on 2027-01-01, after the last day: it never holds.",
    ]
