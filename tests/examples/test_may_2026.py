"""Try the figures of the May 2026 example against the arithmetic of their sources."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from offtake.demand.profile import load_profile
from offtake.performance.deployment import resolve_all
from offtake.performance.goodput import Case, Lengths, Slo, evaluate
from offtake.schema.columns import Confidence
from offtake.schema.settings import WorkloadRow
from tests.examples.folders import offer, read

NAME = "may-2026"
HOURS_A_MONTH = 730
SECONDS_A_YEAR = 31_536_000
BASE = {"aws-live", "google-live", "azure-live", "coreweave-live"}
BASE_MW = 1_300


def chips_of(name: str) -> dict[str, float]:
    """Return the chips that one unit of an offer brings, by tranche."""
    return {row.tranche: row.chips_per_unit for row in read(NAME).tranches if row.offer == name}


def megawatts_of(name: str) -> float:
    """Return the facility power that the tranches of an offer draw when busy, MW."""
    kw = {row.chip: row.facility_kw for row in read(NAME).chips}
    return sum(row.chips_per_unit * kw[row.chip] for row in read(NAME).tranches if row.offer == name) / 1_000


def test_the_lease_is_325_000_gpus_in_two_tranches() -> None:
    assert chips_of("spacex-colossus") == {
        "c1-h100": 150_000,
        "c1-h200": 50_000,
        "c1-gb200": 20_000,
        "c2-gb200": 105_000,
    }


def test_the_lease_costs_5_27_a_gpu_hour_and_its_first_site_2_31_at_googles_rate_for_the_second() -> None:
    fee = offer(NAME, "spacex-colossus").fee_usd_per_month
    google = 920e6 / (110_000 * HOURS_A_MONTH)
    first = (fee - 105_000 * HOURS_A_MONTH * google) / (220_000 * HOURS_A_MONTH)
    assert round(fee / (325_000 * HOURS_A_MONTH), 2) == 5.27
    assert round(google, 2) == 11.46
    assert first == pytest.approx(2.31, abs=0.01)


def test_the_lease_can_end_at_three_dates_whose_weights_sum_to_one() -> None:
    rows = read(NAME).exits
    assert [(row.exit_from, row.weight, row.who, row.notice_days) for row in rows] == [
        (date(2026, 8, 1), 0.2, "either", 90),
        (date(2026, 11, 1), 0.5, "either", 90),
        (date(2027, 1, 28), 0.3, "either", 90),
    ]
    assert {row.marks["weight"] for row in rows} == {Confidence.ASSUMPTION}


def test_what_is_not_public_about_the_lease_is_an_assumption() -> None:
    marks = offer(NAME, "spacex-colossus").marks
    unknown = {"ramp_discount_share", "late_remedy_share", "reclaim_per_year", "sign_by"}
    assert {column: marks[column] for column in unknown} == dict.fromkeys(unknown, Confidence.ASSUMPTION)
    turbines = next(row for row in read(NAME).sites if row.site == "colossus-2")
    assert turbines.marks["loss_per_year"] == Confidence.ASSUMPTION
    assert round(1 - np.exp(-turbines.loss_per_year), 3) == 0.15


@pytest.mark.parametrize(
    ("name", "megawatts"),
    [
        ("aws-live", 600),
        ("google-live", 500),
        ("azure-live", 150),
        ("coreweave-live", 50),
        ("aws-2026", 400),
        ("google-2026", 500),
        ("nexus-2026", 500),
        ("lake-mariner-2026", 360),
        ("river-bend-2027", 245),
        ("google-2027", 3_500),
    ],
)
def test_a_signed_contract_brings_its_megawatts(name: str, megawatts: float) -> None:
    assert offer(NAME, name).signed
    assert megawatts_of(name) == pytest.approx(megawatts, rel=1e-3)


def test_the_letters_are_no_contract_and_come_at_even_odds() -> None:
    letters = offer(NAME, "landlord-letters")
    assert (letters.signed, letters.firmness, letters.probability) == (False, "letter", 0.5)
    assert megawatts_of("landlord-letters") == 1_000


def test_no_site_has_less_power_than_its_contracts_bring_except_where_the_public_figure_is_lower() -> None:
    kw = {row.chip: row.facility_kw for row in read(NAME).chips}
    units = {row.offer: row.units_max for row in read(NAME).offers}
    need = {row.site: 0.0 for row in read(NAME).sites}
    for row in read(NAME).tranches:
        need[row.site] += row.chips_per_unit * kw[row.chip] * units[row.offer]
    short = {row.site: need[row.site] for row in read(NAME).sites if row.power_kw_max < need[row.site]}
    assert short == {"colossus-1": 325_000.0}


def test_base_fees_follow_from_the_public_rates_per_kilowatt_month() -> None:
    fees = {name: offer(NAME, name).fee_usd_per_chip_hour for name in BASE}
    assert fees == {
        "aws-live": round(833 * 1.0 / HOURS_A_MONTH, 2),
        "google-live": round(667 * 1.0 / HOURS_A_MONTH, 2),
        "azure-live": round(808 * 2.0 / HOURS_A_MONTH, 2),
        "coreweave-live": 2.35,
    }


def test_a_fifth_of_coding_and_of_chat_must_stay_in_the_united_states() -> None:
    rates = {row.workload: row.rate_rps for row in read(NAME).workloads}
    assert rates["coding-us"] / (rates["coding-us"] + rates["coding-global"]) == 0.2
    assert rates["chat-us"] / (rates["chat-us"] + rates["chat-global"] + rates["chat-free"]) == 0.2
    home = {row.workload for row in read(NAME).workloads if row.residency == "US"}
    assert home == {"coding-us", "chat-us"}


def test_revenue_per_megawatt_year_of_the_base_fleet_is_within_the_public_range() -> None:
    usd_per_s = sum(row.rate_rps * row.value_usd_per_request for row in read(NAME).workloads)
    usd_per_year = usd_per_s * SECONDS_A_YEAR
    assert 30e9 < usd_per_year < 47e9  # run-rates of April and May 2026
    assert 23e6 < usd_per_year / BASE_MW < 31e6  # USD 47 bn over 1.5 to 2 GW
    assert usd_per_year / BASE_MW == pytest.approx(47e9 / (BASE_MW + 480), rel=5e-3)


def sample(workload: WorkloadRow) -> Lengths:
    """Draw request lengths of a workload's profile, correlation left out."""
    profile = load_profile(workload.profile)
    random = np.random.default_rng([20260501, 0])
    lengths = (profile.input_tokens.lookup(), profile.output_tokens.lookup())
    at = [np.clip((random.standard_normal(8_000) + 4) * 1_024, 0, 8_191).astype(int) for _ in lengths]
    return Lengths(lengths[0][at[0]], lengths[1][at[1]])


@pytest.mark.slow
def test_the_busiest_hour_of_the_first_day_takes_nine_tenths_of_the_base_fleet() -> None:
    tables = read(NAME)
    live = [row for row in tables.tranches if row.offer in BASE]
    served = [row for row in tables.workloads if row.kind != "batch"]
    cases = {row.workload: Case(sample(row), Slo(row.ttft_ms_p95, row.tpot_ms_p95)) for row in served}
    most_rps = dict.fromkeys(cases, 0.0)
    deployments = resolve_all(tables)
    for tranche in live:
        deployment, found = evaluate(deployments["frontier", tranche.chip], cases)
        for name, goodput in found.items():
            most_rps[name] += tranche.chips_per_unit / deployment.chips_per_replica * goodput.requests_per_s
    load = sum(row.rate_rps / most_rps[row.workload] * load_profile(row.profile).shape() for row in served)
    assert float(np.max(load)) == pytest.approx(0.90, abs=0.02)
    assert float(np.mean(load)) == pytest.approx(0.37, abs=0.02)
