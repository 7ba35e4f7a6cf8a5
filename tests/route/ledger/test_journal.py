from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offtake.errors import InputError
from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.frames import HEAD
from offtake.route.ledger.journal import Journal, Rules
from offtake.route.ledger.sqlite import SqliteStore
from tests.route.ledger.records import closed, opened, rows_of, segments_in

TINY = Rules(segment_bytes=2_000, room_bytes=512)
NEVER_NS = 10**18


def drained(folder: Path) -> dict[str, dict[str, object]]:
    drainer = Drainer(folder / "journal", lambda: SqliteStore(folder / "ledger.db"))
    drainer.drain()
    drainer.close()
    store = SqliteStore(folder / "ledger.db")
    rows = rows_of(store)
    store.close()
    return rows  # type: ignore[return-value]  # a value is an object


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=False)
    if made.returncode != 0:
        pytest.skip("a small disk cannot be made here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_request_comes_back_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w")
    assert journal.opened(opened("a", tenant="acmé", session=7))
    assert journal.closed(closed("a", reason="", cost_usd=0.25))
    row = drained(tmp_path)["a"]
    journal.close()
    assert (row["tenant"], row["session"], row["cost_usd"], row["outcome"]) == ("acmé", 7, 0.25, "served")
    assert (row["input_tokens_estimate"], row["input_tokens"], row["worker"]) == (100, 110, "w")
    assert row["day"] == 20_605  # 2026-06-01


def test_a_journal_is_cut_by_size_and_by_age(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w", TINY._replace(segment_ns=NEVER_NS))
    for number in range(60):
        assert journal.opened(opened(f"r{number}"))
        assert journal.closed(closed(f"r{number}"))
    journal.close()
    assert len(segments_in(tmp_path / "journal")) >= 4
    aged = Journal(tmp_path / "aged", "w", Rules(segment_ns=60 * 10**9))
    for at_s in (0.0, 59.0, 61.0):
        assert aged.opened(opened(f"at-{at_s}", at_s))
    aged.close()
    assert segments_in(tmp_path / "aged") == ["w-000001.log", "w-000002.log"]


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0 * 365])
def test_a_jump_of_the_clock_loses_nothing(tmp_path: Path, jump_s: float) -> None:
    journal = Journal(tmp_path / "journal", "w", TINY)
    for number in range(20):
        at_s = number + (jump_s if number >= 10 else 0.0)
        assert journal.opened(opened(f"r{number}", at_s))
        assert journal.closed(closed(f"r{number}", at_s + 1))
    journal.close()
    assert {row["outcome"] for row in drained(tmp_path).values()} == {"served"}
    assert len(drained(tmp_path)) == 20


def test_a_full_disk_refuses_what_is_new_closes_what_is_open_and_forgives(full_disk: Path) -> None:
    (full_disk / "journal").mkdir()
    ballast = full_disk / "ballast"
    ballast.write_bytes(b"x" * 24_000)
    journal = Journal(full_disk / "journal", "w", Rules(segment_bytes=8_192, room_bytes=4_096))
    number = 0
    while journal.opened(opened(f"r{number}")):
        number += 1
    assert number > 10
    assert "space" in journal.error
    assert not journal.opened(opened("refused"))
    assert "space" in journal.trouble()
    assert all(journal.closed(closed(f"r{each}")) for each in range(number))
    assert journal.trouble() == ""  # what was kept for the ends is room again
    assert journal.opened(opened("again"))
    assert journal.closed(closed("again"))
    ballast.unlink()
    assert journal.opened(opened("after"))
    assert journal.closed(closed("after"))
    journal.close()
    drainer = Drainer(full_disk / "journal", lambda: SqliteStore(full_disk.parent / "ledger.db"))
    drainer.drain()
    drainer.close()
    store = SqliteStore(full_disk.parent / "ledger.db")
    rows = rows_of(store)
    store.close()
    assert set(rows) == {"again", "after", *(f"r{each}" for each in range(number))}
    assert {row["outcome"] for row in rows.values()} == {"served"}


def test_a_file_that_must_not_grow_is_followed_by_another(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(tmp_path / "journal", "w", Rules(segment_bytes=1_000_000, room_bytes=4_096))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        for number in range(60):
            assert journal.opened(opened(f"r{number}"))
            assert journal.closed(closed(f"r{number}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        journal.close()
    assert len(drained(tmp_path)) == 60


def test_a_torn_last_record_is_ignored_and_its_request_is_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w")
    assert journal.opened(opened("whole"))
    assert journal.closed(closed("whole"))
    assert journal.opened(opened("torn"))
    end = journal._at
    assert journal.closed(closed("torn"))
    journal.close()
    path = tmp_path / "journal" / "w-000001.log"
    whole = path.read_bytes()
    path.write_bytes(whole[: end + 20])
    rows = drained(tmp_path)
    assert {name: row["outcome"] for name, row in rows.items()} == {"whole": "served", "torn": "lost"}


@pytest.mark.parametrize("seed", range(5))
def test_damage_in_the_middle_costs_no_more_than_what_it_hit_and_the_file_is_kept(tmp_path: Path, seed: int) -> None:
    journal = Journal(tmp_path / "journal", "w")
    ends = []
    for number in range(20):
        assert journal.opened(opened(f"r{number}"))
        assert journal.closed(closed(f"r{number}"))
        ends.append(journal._at)
    journal.close()
    path = tmp_path / "journal" / "w-000001.log"
    data = bytearray(path.read_bytes())
    hit = ends[seed] + HEAD.size + 3 * seed  # in the open record of the next request
    data[hit] ^= 0xFF
    path.write_bytes(data)
    rows = drained(tmp_path)
    assert len(rows) == 20
    assert {row["outcome"] for row in rows.values()} == {"served"}
    assert rows[f"r{seed + 1}"]["tenant"] == ""  # what its open record knew is gone
    assert rows[f"r{seed + 2}"]["tenant"] == "acme"
    assert [each.name for each in (tmp_path / "journal").glob("*.damaged")] == ["w-000001.damaged"]


def test_a_client_cannot_forge_a_record_with_its_words(tmp_path: Path) -> None:
    other = Journal(tmp_path / "other", "x")
    assert other.closed(closed("forged", cost_usd=1e9))
    other.close()
    frame = (tmp_path / "other" / "x-000001.log").read_bytes().rstrip(b"\0")
    path = tmp_path / "journal" / "w-000001.log"
    journal = Journal(tmp_path / "journal", "w")
    assert journal.opened(opened("a"))
    journal.close()
    path.write_bytes(path.read_bytes().rstrip(b"\0") + b"?" + frame)
    assert set(drained(tmp_path)) == {"a"}


def test_a_living_worker_is_never_taken_for_dead(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w", TINY)
    for number in range(30):
        assert journal.opened(opened(f"r{number}"))
    assert {row["outcome"] for row in drained(tmp_path).values()} == {"open"}
    assert len(segments_in(tmp_path / "journal")) == 1  # those before it are gone
    assert journal.closed(closed("r3"))
    journal.close()
    outcomes = {name: row["outcome"] for name, row in drained(tmp_path).items()}
    assert outcomes.pop("r3") == "served"
    assert set(outcomes.values()) == {"lost"}


def test_a_record_that_is_half_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w")
    drainer = Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db"))
    for number in range(3):
        assert journal.opened(opened(f"r{number}"))
        os.pwrite(journal._file, HEAD.pack(b"OtL1", 9, 9) + b"half", journal._at)
        assert drainer.drain() == 1
    journal.close()
    assert drainer.drain() == 0
    drainer.close()
    assert len(drained(tmp_path)) == 3


def test_a_record_that_is_written_over_a_torn_one_leaves_no_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w")
    assert journal.opened(opened("a"))
    os.pwrite(journal._file, HEAD.pack(b"OtL1", 9, 9) + b"half", journal._at)
    drainer = Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db"))
    assert drainer.drain() == 1
    assert journal.closed(closed("a"))
    journal.close()
    assert drainer.drain() == 1
    drainer.close()
    assert not list((tmp_path / "journal").glob("*.damaged"))


def test_with_power_a_record_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w", TINY._replace(power=True))
    for number in range(20):
        assert journal.opened(opened(f"r{number}"))
        assert journal.closed(closed(f"r{number}"))
    os.close(journal._file)  # a disk that answers no more
    assert not journal.opened(opened("late"))
    assert not journal.closed(closed("late"))
    assert journal.error
    journal._file = -1
    journal.close()
    assert len(drained(tmp_path)) == 20


def test_a_folder_that_cannot_be_written_is_a_fault_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(InputError, match=r"journal cannot be written.*ledger\.journal"):
        Journal(tmp_path / "journal", "w")


def test_two_workers_of_one_name_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w")
    with pytest.raises(InputError, match="exists"):
        Journal(tmp_path / "journal", "w")
    journal.close()
