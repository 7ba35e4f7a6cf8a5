from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.journal import Journal
from offtake.route.ledger.sqlite import SqliteStore
from tests.route.ledger.nursery import SMALL
from tests.route.ledger.records import closed, opened, rows_of, segments_in

ROOT = Path(__file__).parents[3]


def nursery(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.route.ledger.nursery", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11])
def test_200_kills_of_the_writer_lose_no_acknowledged_record(tmp_path: Path, seed: int) -> None:
    (tmp_path / "journal").mkdir()
    drainer = Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db"))
    acknowledged: dict[str, str] = {}
    with nursery("write", str(tmp_path), str(seed), "200") as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout):
            name, state = line.split()
            acknowledged[name] = state
            if count % 1_000 == 0:
                drainer.drain()
    assert process.returncode == 0
    drainer.drain()
    drainer.close()
    store = SqliteStore(tmp_path / "ledger.db")
    rows = rows_of(store)
    store.close()
    assert len(acknowledged) > 2_000
    shut = [name for name, state in acknowledged.items() if state == "shut"]
    assert all(rows[name]["outcome"] == "served" for name in shut)
    assert all(rows[name]["output_tokens"] == int(name.split("-")[1]) for name in shut)
    left = {str(rows[name]["outcome"]) for name, state in acknowledged.items() if state == "open"}
    assert "lost" in left
    assert left <= {"lost", "served"}  # its end may have been written, and the writer killed before it could say so
    lost = [row for row in rows.values() if row["outcome"] == "lost"]
    assert all((row["input_tokens"], row["output_tokens"], row["counted"]) == (100, 0, 1) for row in lost)
    assert len(rows) - len(acknowledged) <= 200  # at most one record of each was not acknowledged any more
    assert {row["outcome"] for row in rows.values()} == {"served", "lost"}
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["drainer.lock"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [12])
def test_50_kills_of_the_drainer_leave_exact_rows(tmp_path: Path, seed: int) -> None:
    journal = Journal(tmp_path / "journal", "before", SMALL)
    for number in range(3_000):
        assert journal.opened(opened(f"before-{number}", number))
        assert journal.closed(closed(f"before-{number}", output_tokens=number))
    assert journal.opened(opened("before-lost"))
    journal.close()
    with nursery("drain", str(tmp_path), str(seed), "50") as process:
        pass
    assert process.returncode == 0
    drainer = Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db"))
    drainer.drain()
    drainer.close()
    store = SqliteStore(tmp_path / "ledger.db")
    rows = rows_of(store)
    store.close()
    expected = {f"before-{number}": number for number in range(3_000)} | {
        f"live-{number}": number for number in range(500)
    }
    assert {name: row["output_tokens"] for name, row in rows.items() if row["outcome"] == "served"} == expected
    assert [name for name, row in rows.items() if row["outcome"] != "served"] == ["before-lost"]
    assert segments_in(tmp_path / "journal") == []
