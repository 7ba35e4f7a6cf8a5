"""Put files and folders in place whole or not at all: write beside the target, then rename.

Comes in: bytes, a record, or a folder that was filled. Goes out: the target, complete. It must never know what it
writes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec


def cache_folder() -> Path:
    """Return the folder in which the user's machine keeps what can be made again (``XDG_CACHE_HOME/offtake``)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "offtake"


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file; whoever looks sees the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        return temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def json_bytes(record: object) -> bytes:
    """Return a record as the JSON that every file and every verb of Offtake writes: indented, with a last newline."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def write_json(path: Path, record: object) -> Path:
    """Write a record as JSON; whoever looks sees the old file or the whole new one."""
    return write_whole(path, json_bytes(record))


@contextmanager
def folder_to_fill(part: Path) -> Iterator[Path]:
    """Give an empty folder to fill; what is not put in place by the end is gone."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def folder_in_place(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; once filled it takes the place of ``target``, and after a failure it is gone."""
    with folder_to_fill(target.with_name(f".{target.name}.part")) as part:
        yield part
        put_in_place(part, target)


def put_in_place(part: Path, target: Path) -> None:
    """Put a finished folder in the place of an older one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    part.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def keep_folders(target: Path, part: Path, wanted: Callable[[Path], bool]) -> list[str]:
    """Carry the ``wanted`` sub-folders of ``target`` over into ``part`` and return their names.

    They are linked, not moved, so that ``target`` stays whole until ``part`` takes its place.
    """
    kept = [folder for folder in sorted(target.glob("*/")) if wanted(folder)]
    for folder in kept:
        shutil.copytree(folder, part / folder.name, copy_function=link_or_copy)
    return [folder.name for folder in kept]


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second place: by a link, or by a copy where links cannot be made."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
