"""Try the reader of portfolio folders on good and on faulty input."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from offtake.errors import Fault, InputError
from offtake.schema.read import read_folder
from tests.schema.folders import GOOD, write


def faults_of(folder: Path) -> list[Fault]:
    """Return the faults that reading a folder raises."""
    with pytest.raises(InputError) as caught:
        read_folder(folder)
    return caught.value.faults


def test_a_good_folder_is_read_with_its_units(tmp_path: Path) -> None:
    tables = read_folder(write(tmp_path))
    assert tables.sites[0].power_kw_max == 300_000.0
    assert tables.offers[0].fee_usd_per_month == 1.25e9
    assert tables.offers[0].sign_by == date(2026, 5, 31)
    assert tables.workloads[0].regions == {"us": 1.0}
    assert [row.at for row in tables.exits] == [2, 3]
    assert sorted(tables.hashes) == sorted(GOOD)


def test_a_missing_folder_is_one_clear_fault(tmp_path: Path) -> None:
    faults = faults_of(tmp_path / "nowhere")
    assert [fault.problem for fault in faults] == ["there is no such folder"]
    assert "offtake init" in faults[0].mend


def test_a_misspelt_column_names_the_nearest(tmp_path: Path) -> None:
    folder = write(tmp_path, sites_csv="site,name,residency,power_kw_maxx\nmemphis,Memphis,US,300 MW\n")
    by_column = {fault.column: fault for fault in faults_of(folder)}
    assert by_column["power_kw_maxx"].mend == "Did you mean 'power_kw_max'?"
    assert by_column["power_kw_max"].problem == "the column is missing"


def test_a_misspelt_setting_names_the_nearest(tmp_path: Path) -> None:
    text = GOOD["portfolio.toml"].replace('name = "small"', 'name = "small"\nscenaros = 3')
    (fault,) = faults_of(write(tmp_path, portfolio_toml=text))
    assert (fault.row, fault.column, fault.mend) == ("[portfolio]", "scenaros", "Did you mean 'scenarios'?")


def test_all_faults_come_at_once_with_file_row_and_column(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        chips_csv=GOOD["chips.csv"].replace("h100,H100,1.4,80", "# note\nh100,H100,-1,x"),
        providers_csv="provider,name,kind\nacme,Acme,neoclod\n",
        links_csv=None,
    )
    found = {(fault.file, fault.row, fault.column) for fault in faults_of(folder)}
    assert found == {
        ("chips.csv", 3, "facility_kw"),
        ("chips.csv", 3, "memory_gb"),
        ("providers.csv", 2, "kind"),
        ("links.csv", None, None),
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        ("tranches.csv", ",memphis,", ",menphis,", ("tranches.csv", 2, "site")),
        ("offers.csv", "lease,acme", "lease,acne", ("offers.csv", 2, "provider")),
        ("links.csv", ",us,", ",eu,", ("links.csv", 2, "region")),
        ("deployments.csv", "m,h100", "m,h200", ("deployments.csv", 2, "chip")),
        ("portfolio.toml", 'question = "lease"', 'question = "leash"', ("portfolio.toml", "[portfolio]", "question")),
    ],
)
def test_an_unknown_name_is_a_fault_where_it_stands(
    tmp_path: Path, file: str, old: str, new: str, place: tuple[str, int | str, str]
) -> None:
    text = GOOD[file].replace(old, new)
    assert text != GOOD[file]
    faults = faults_of(write(tmp_path, **{file.replace(".", "_"): text}))
    assert place in {(fault.file, fault.row, fault.column) for fault in faults}


def test_weights_of_readings_must_sum_to_one(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, exits_csv=GOOD["exits.csv"].replace("0.6", "0.5")))
    assert fault.problem == "the shares of offer 'lease' sum to 0.9, not to 1"


def test_region_shares_must_sum_to_one(tmp_path: Path) -> None:
    text = GOOD["portfolio.toml"].replace("us = 1.0", "us = 0.7")
    (fault,) = faults_of(write(tmp_path, portfolio_toml=text))
    assert fault.column == "regions"


def test_a_row_that_claims_more_than_an_assumption_must_name_its_source(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, offers_csv=GOOD["offers.csv"].replace("https://example.org/a", "")))
    assert (fault.column, fault.row) == ("source", 2)


def test_a_signed_day_before_the_horizon_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, offers_csv=GOOD["offers.csv"].replace("2026-05-31", "2025-05-31")))
    assert fault.column == "sign_by"


def test_notice_longer_than_the_term_is_a_fault(tmp_path: Path) -> None:
    text = GOOD["offers.csv"].replace("sign_by", "term_days,sign_by").replace("2026-05-31", "60,2026-05-31")
    faults = faults_of(write(tmp_path, offers_csv=text))
    assert [fault.row for fault in faults if fault.column == "notice_days"] == [2, 3]
    assert {fault.column for fault in faults} == {"notice_days", "exit_from"}  # by then the term is over too


def test_an_offer_that_delivers_nothing_is_a_fault(tmp_path: Path) -> None:
    text = GOOD["offers.csv"] + "empty,acme,1,2026-05-31,,,\n"
    (fault,) = faults_of(write(tmp_path, offers_csv=text))
    assert fault.problem == "offer 'empty' delivers nothing"


def test_a_key_that_stands_twice_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, sites_csv=GOOD["sites.csv"] + "memphis,Again,US,1 MW\n"))
    assert (fault.row, fault.problem) == (3, "memphis stands twice")


def test_nan_and_infinity_are_faults(tmp_path: Path) -> None:
    folder = write(tmp_path, links_csv=GOOD["links.csv"].replace("100,30,45", "inf,nan,45"))
    assert {fault.column for fault in faults_of(folder)} == {"bandwidth_gbit_s", "rtt_ms_median"}


def test_a_stray_table_is_a_fault_but_user_files_are_not(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "user-speeds.csv").write_text("a\n", encoding="utf-8")
    read_folder(folder)
    (folder / "offer.csv").write_text("a\n", encoding="utf-8")
    (fault,) = faults_of(folder)
    assert "Did you mean 'offers.csv'?" in fault.mend


@pytest.mark.parametrize("text", ["", "[portfolio\n", "\xff\xfe"])
def test_a_broken_toml_file_is_a_fault_and_never_a_traceback(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path, portfolio_toml=text)
    if text.startswith("\xff"):
        (folder / "portfolio.toml").write_bytes(b"\xff\xfe\x00")
    assert {fault.file for fault in faults_of(folder)} == {"portfolio.toml"}


def test_an_unclosed_quote_is_a_fault(tmp_path: Path) -> None:
    faults = faults_of(write(tmp_path, sites_csv='site,name,residency,power_kw_max\nmemphis,"Mem,US,1\n'))
    assert ("sites.csv", "the file is not CSV: unexpected end of data") in {(f.file, f.problem) for f in faults}


def test_a_file_with_semicolons_between_cells_is_one_fault(tmp_path: Path) -> None:
    folder = write(tmp_path, sites_csv="site;name;residency;power_kw_max\nmemphis;Memphis;US;300 MW\n")
    faults = [fault for fault in faults_of(folder) if fault.file == "sites.csv"]
    assert [fault.problem for fault in faults] == ["the cells are parted by semicolons"]


def test_a_prepayment_on_a_token_priced_offer_is_a_fault(tmp_path: Path) -> None:
    offers = "offer,provider,tokens_per_minute_max,prepay_share\nlease,acme,60000,0.2\n"
    tranches = "offer,tranche,site,available\nlease,one,memphis,2026-06-01\n"
    (fault,) = faults_of(write(tmp_path, offers_csv=offers, tranches_csv=tranches, exits_csv=None))
    assert (fault.column, fault.row) == ("prepay_share", 2)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("end = 2026-12-31", "end = 9999-12-31", "such a horizon"),
        ("start = 2026-01-01", "start = 0001-01-01", "such a horizon"),
        ("end = 2026-12-31", "end = 2025-12-31", "ends before it begins"),
        ("rate_rps = 10", "rate_rps = 1e18", "less than or equal to"),
        ("rate_rps = 10", "rate_rps = true", "true or false"),
    ],
)
def test_what_nobody_can_plan_for_is_a_fault(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD["portfolio.toml"]
    faults = faults_of(write(tmp_path, portfolio_toml=GOOD["portfolio.toml"].replace(old, new)))
    assert words in faults[0].problem


def test_a_percentile_below_the_median_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, links_csv=GOOD["links.csv"].replace("100,30,45", "100,50,45")))
    assert (fault.row, fault.column) == (2, "rtt_ms_p99")
