from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from offtake.cli.main import main
from offtake.demand.trace import read_trace
from offtake.fleet import write_fleet
from offtake.performance.measurements import read_measured
from offtake.route.ledger.journal import Journal
from tests.rehearse.fleets import small_fleet
from tests.route.ledger.records import closed, opened


def run_folder(folder: Path, name: str = "journal", at_s: float = 0.0) -> Path:
    """A run whose router died: everything is still in its journal."""
    fleet = small_fleet()
    pools = [msgspec.structs.replace(pool, offers=[f"offer-{place}"]) for place, pool in enumerate(fleet.pools)]
    (folder / "plan").mkdir()
    write_fleet(msgspec.structs.replace(fleet, pools=pools), folder / "plan" / "fleet.json")
    workload, pool = fleet.workloads[0].name, fleet.pools[0].name
    journal = Journal(folder / name, "w")
    for number in range(10):
        assert journal.opened(
            opened(f"r{number}", at_s + number, workload=workload, tenant="acme" if number else "umbrella")
        )
        assert number == 9 or journal.closed(closed(f"r{number}", at_s + number + 2, pool=pool, cost_usd=0.5))
    journal.close()
    return folder


def test_the_ledger_of_a_router_that_died_is_told_with_what_its_contracts_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path)
    assert main(["ledger", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    outcomes = {each["name"]: each["requests"] for each in found["sums"]["outcome"]}
    assert outcomes == {"served": 9, "lost": 1}
    tenants = {each["name"]: each["cost_usd"] for each in found["sums"]["tenant"]}
    assert tenants == {"acme": 4.0, "umbrella": 0.5}
    first = found["contracts"][0]
    assert (first["contract"], first["tokens"], first["use_usd"]) == ("offer-0", 9 * 150.0, 4.5)
    assert sum(each["tokens"] for each in found["contracts"][1:]) == 0
    assert main(["ledger", str(run)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("10 requests, 9 served, $4.5 paid by use.")
    assert "offer-0" in told
    assert main(["ledger", str(run), "--since", "2026-06-01T00:00:05", "--until", "2026-06-02", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(each["requests"] for each in found["sums"]["outcome"]) == 5


def test_the_ledger_leaves_a_trace_and_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path)
    trace, measured = tmp_path / "trace.parquet", tmp_path / "measured.csv"
    assert main(["ledger", str(run), "--export", str(trace), "--performance", str(measured)]) == 0
    told = capsys.readouterr().out
    assert "10 requests; 1 answer filled in" in told
    assert "It begins at hour 0." in told
    assert sum(batch.arrival_ns.size for batch in read_trace(trace)) == 10
    (found,) = read_measured(measured)
    assert found.ledger is not None
    assert found.ledger.ttft_ms.tolist() == [1_000.0] * 9


def test_what_is_older_than_its_days_is_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path, "kept", -20 * 365 * 86_400.0)
    (run / "route.toml").write_text('[ledger]\nurl = "sqlite:other.db"\njournal = "kept"\nkeep_days = 1\n')
    assert main(["ledger", str(run), "--json"]) == 0
    assert (run / "other.db").is_file()
    capsys.readouterr()
    assert main(["ledger", str(run), "--sweep", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["swept"] == 10


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the folder holds no ledger"),
        (["--url", "mysql://host/x"], "is no address of a ledger"),
        (["--since", "soon", "--until", "later"], "2 faults"),
    ],
)
def test_a_ledger_that_is_not_there_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["ledger", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
