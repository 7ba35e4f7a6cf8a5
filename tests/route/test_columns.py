from __future__ import annotations

from pathlib import Path

import pytest

from offtake.errors import InputError
from offtake.route import columns
from offtake.route.columns import Host


def numbers(host: Host) -> dict[tuple[str, ...], float]:
    host.look()
    found: dict[tuple[str, ...], float] = {}
    for key, row, _ in host.rows():
        found[key] = found.get(key, 0.0) + row[0]
    return found


def test_every_worker_reads_what_all_have_written(tmp_path: Path) -> None:
    one, two = Host(tmp_path), Host(tmp_path)
    one.row(("requests", "acme"), 2)[0] = 3.0
    two.row(("requests", "acme"), 2)[0] = 4.0
    two.row(("requests", "späte Übung \n"), 2)[0] = 1.0
    seen = {("requests", "acme"): 7.0, ("requests", "späte Übung \n"): 1.0}
    assert numbers(one) == numbers(two) == seen


def test_a_row_is_the_same_one_each_time(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.row(("a",), 3)[2] += 1.5
    host.row(("a",), 3)[2] += 1.5
    assert host.row(("a",), 3).tolist() == [0.0, 0.0, 3.0]


def test_the_next_worker_goes_on_from_where_the_last_one_ended(tmp_path: Path) -> None:
    one = Host(tmp_path)
    one.row(("served",), 1)[0] = 41.0
    one.close()
    again = Host(tmp_path)
    again.row(("served",), 1)[0] += 1.0
    assert again.name == "000.columns"
    assert numbers(again) == {("served",): 42.0}


def test_two_living_workers_never_write_one_file(tmp_path: Path) -> None:
    names = {host.name for host in [Host(tmp_path) for _ in range(4)]}
    assert names == {"000.columns", "001.columns", "002.columns", "003.columns"}


def test_a_worker_that_ended_is_known_to_have_ended(tmp_path: Path) -> None:
    one, two = Host(tmp_path), Host(tmp_path)
    one.row(("level",), 1)[0] = 5.0
    assert [row.alive for row in two.rows()] == []
    two.look()
    assert [row.alive for row in two.rows()] == [True]
    one.close()
    assert [row.alive for row in two.rows()] == [False]


def test_without_room_a_row_is_kept_to_oneself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "FILE_BYTES", 4096)
    host = Host(tmp_path)
    for number in range(100):
        host.row((f"row {number}",), 10)[0] = 1.0
    other = Host(tmp_path)
    read = numbers(other)
    assert 30 < len(read) < 50
    assert host.lost == 100 - len(read)


def test_a_folder_that_cannot_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="nothing can be counted there"):
        Host(tmp_path / "file" / "state")
