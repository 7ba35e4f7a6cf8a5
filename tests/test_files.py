from __future__ import annotations

from pathlib import Path

import pytest

from offtake.files import folder_in_place, write_whole


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
        with folder_in_place(target) as part:
            (part / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in target.parent.iterdir()] == ["plan"]


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "plan"
    with folder_in_place(target) as part:
        (part / "good").write_text("x")
    with pytest.raises(FileNotFoundError), folder_in_place(target) as part:
        (part / "half" / "way").write_text("x")
    assert [path.name for path in target.iterdir()] == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_what_a_broken_run_left_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".plan.part").mkdir()
    (tmp_path / ".plan.part" / "half").write_text("x")
    with folder_in_place(tmp_path / "plan") as part:
        assert list(part.iterdir()) == []


def test_a_file_that_cannot_take_its_place_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "kept").touch()
    with pytest.raises(OSError, match="page"):
        write_whole(tmp_path / "page", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
