from __future__ import annotations

from pathlib import Path

import pytest

from offtake.files import fresh_folder, put_in_place, write_whole


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    write_whole(target, b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = write_whole(tmp_path / "plan.json", b"old")
    (tmp_path / ".plan.json.part").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"


def test_a_folder_takes_the_place_of_an_older_one_with_all_it_held(tmp_path: Path) -> None:
    target = tmp_path / "run" / "plan"
    for name in ("first", "second"):
        part = fresh_folder(tmp_path / ".part")
        (part / name).write_text(name)
        put_in_place(part, target)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in target.parent.iterdir()] == ["plan"]


def test_a_fresh_folder_holds_nothing_of_a_broken_run(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "half").write_text("x")
    assert list(fresh_folder(tmp_path / "part").iterdir()) == []
