from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

import pytest

from offtake.errors import InputError
from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.journal import Journal, Rules
from offtake.route.ledger.opening import open_store
from offtake.route.ledger.rows import Entry, row_of
from offtake.route.ledger.store import Store
from tests.route.ledger.cluster import Cluster
from tests.route.ledger.records import closed, opened, rows_of, segments_in


def test_a_closed_row_is_never_opened_again_nor_closed_twice(store: Store) -> None:
    store.write([row_of(Entry("w", opened("a"), closed("a", cost_usd=1.0)))])
    store.write([row_of(Entry("w", opened("a"), None))])
    store.write([row_of(Entry("w", None, closed("a", cost_usd=2.0)))])
    assert store.lose("w") == 0
    row = rows_of(store)["a"]
    assert (row["outcome"], row["cost_usd"], row["tenant"]) == ("served", 1.0, "acme")


def test_the_end_of_a_request_finds_its_beginning_in_the_database(store: Store) -> None:
    store.write([row_of(Entry("w", opened("a", 5.0), None)), row_of(Entry("w", opened("b"), None))])
    store.write([row_of(Entry("w", None, closed("a", 9.0)))])
    assert store.lose("other") == 0
    assert store.lose("w") == 1
    store.write([row_of(Entry("w", None, closed("b", outcome="left")))])  # found after all
    rows = rows_of(store)
    assert (rows["a"]["tenant"], rows["a"]["outcome"]) == ("acme", "served")
    assert rows["b"]["outcome"] == "left"


def test_old_days_are_swept(store: Store) -> None:
    store.write([row_of(Entry("w", opened(f"d{day}", 86_400.0 * day), closed(f"d{day}"))) for day in range(5)])
    assert store.sweep(20_605 + 3) == 3
    assert sorted(rows_of(store)) == ["d3", "d4"]


def test_a_ledger_of_another_version_is_not_touched(server: Cluster, tmp_path: Path) -> None:
    import psycopg

    open_store(server.url, tmp_path).close()
    with psycopg.connect(server.url) as base:
        base.execute("UPDATE offtake_ledger SET version = 99")
    try:
        with pytest.raises(InputError, match="holds a ledger of version 99, and this is version 1"):
            open_store(server.url, tmp_path)
    finally:
        with psycopg.connect(server.url) as base:
            base.execute("UPDATE offtake_ledger SET version = 1")


def test_words_that_a_database_cannot_hold_do_not_stop_the_ledger(store: Store) -> None:
    store.write([row_of(Entry("w", opened("a", model_asked="b\0g"), closed("a")))])
    assert rows_of(store)["a"]["model_asked"] in {"b\0g", "b\ufffdg"}


@pytest.mark.slow
def test_two_routers_on_one_server_that_is_killed_and_comes_back_have_an_exact_ledger(
    server: Cluster, tmp_path: Path
) -> None:
    names = ("one", "two")
    rules = Rules(segment_bytes=4_000, room_bytes=512)
    journals = [Journal(tmp_path / name, f"worker-{name}", rules) for name in names]
    drainers = [Drainer(tmp_path / name, lambda: open_store(server.url, tmp_path)) for name in names]
    stop = Event()
    threads = [Thread(target=drainer.run, args=(stop,)) for drainer in drainers]
    for thread in threads:
        thread.start()
    for number in range(4_000):
        for name, journal in zip(names, journals, strict=True):
            assert journal.opened(opened(f"{name}-{number}"))
            assert number % 100 == 0 or journal.closed(closed(f"{name}-{number}", output_tokens=number))
        if number == 1_500:
            server.kill()
        if number == 3_000:
            server.stop()  # what is left of it
            server.start()
    for journal in journals:
        journal.close()
    stop.set()
    for thread in threads:
        thread.join()
    for name in names:  # a drainer that was still waiting for the server when it was told to stop
        last = Drainer(tmp_path / name, lambda: open_store(server.url, tmp_path))
        last.drain()
        last.close()
        assert segments_in(tmp_path / name) == []
    store = open_store(server.url, tmp_path)
    rows = {name: row for name, row in rows_of(store).items() if str(row["worker"]).startswith("worker-")}
    store.close()
    assert set(rows) == {f"{name}-{number}" for name in names for number in range(4_000)}
    assert {name for name, row in rows.items() if row["outcome"] == "lost"} == {
        f"{name}-{number}" for name in names for number in range(0, 4_000, 100)
    }
    served = {name: row["output_tokens"] for name, row in rows.items() if row["outcome"] == "served"}
    assert served == {name: int(name.split("-")[1]) for name in served}
