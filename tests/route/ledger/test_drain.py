from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Event, Thread

import pytest

from offtake.errors import InputError
from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.journal import Journal, Rules
from offtake.route.ledger.opening import open_store
from offtake.route.ledger.sqlite import SqliteStore
from offtake.route.ledger.store import AwayError
from tests.route.ledger.records import closed, opened, rows_of, segments_in


@pytest.mark.parametrize(
    "url, message",
    [
        ("mysql://host/base", "is no address of a ledger"),
        ("sqlite:", "is no address of a ledger"),
        ("", "is no address of a ledger"),
        ("sqlite:no/such/folder/ledger.db", "cannot be reached"),
        ("sqlite:text.db", "is not a ledger"),
        ("sqlite:other.db", "holds tables, but no ledger"),
        ("sqlite:newer.db", "holds a ledger of version 99, and this is version 1"),
        ("postgresql://user:hush@127.0.0.1:1/base", "cannot be reached"),
        ("postgresql://user:hush@127.0.0.1:port/base", "cannot be used|cannot be reached"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_fault(tmp_path: Path, url: str, message: str) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 50)
    for name, statement in (("other", "CREATE TABLE t (x)"), ("newer", "PRAGMA user_version = 99")):
        base = sqlite3.connect(tmp_path / f"{name}.db")
        base.execute(statement)
        base.close()
    with pytest.raises(InputError, match=message) as caught:
        open_store(url, tmp_path)
    assert "hush" not in str(caught.value)


def test_while_the_database_is_away_nothing_is_lost(tmp_path: Path) -> None:
    there: list[bool] = []

    def opener() -> SqliteStore:
        if not there:
            raise AwayError([])
        return SqliteStore(tmp_path / "ledger.db")

    journal = Journal(tmp_path / "journal", "w", Rules(segment_bytes=2_000, room_bytes=512))
    drainer = Drainer(tmp_path / "journal", opener)
    for number in range(60):
        assert journal.opened(opened(f"r{number}"))
        assert journal.closed(closed(f"r{number}"))
        with pytest.raises(AwayError):
            drainer.drain()
    assert len(segments_in(tmp_path / "journal")) > 4
    there.append(True)
    assert drainer.drain() == 60
    assert len(segments_in(tmp_path / "journal")) == 1
    drainer.close()
    journal.close()


def test_the_drainer_runs_until_told_and_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w")
    drainer = Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db"))
    stop = Event()
    thread = Thread(target=drainer.run, args=(stop,))
    thread.start()
    assert journal.opened(opened("a"))
    assert journal.closed(closed("a"))
    journal.close()
    stop.set()
    thread.join()
    store = SqliteStore(tmp_path / "ledger.db")
    assert rows_of(store)["a"]["outcome"] == "served"
    store.close()
    assert segments_in(tmp_path / "journal") == []


def test_two_drainers_of_one_folder_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w", Rules(segment_bytes=2_000, room_bytes=512))
    stop = Event()
    drainers = [Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db")) for _ in range(3)]
    threads = [Thread(target=drainer.run, args=(stop,)) for drainer in drainers]
    for thread in threads:
        thread.start()
    for number in range(300):
        assert journal.opened(opened(f"r{number}"))
        assert journal.closed(closed(f"r{number}", output_tokens=number))
    journal.close()
    stop.set()
    for thread in threads:
        thread.join()
    last = Drainer(tmp_path / "journal", lambda: SqliteStore(tmp_path / "ledger.db"))
    last.drain()
    last.close()
    store = SqliteStore(tmp_path / "ledger.db")
    rows = rows_of(store)
    store.close()
    assert {name: row["output_tokens"] for name, row in rows.items()} == {f"r{number}": number for number in range(300)}
    assert {row["outcome"] for row in rows.values()} == {"served"}
