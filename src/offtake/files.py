"""Put files and folders in place whole or not at all: write beside the target, then rename.

Comes in: bytes, or a folder that was filled. Goes out: the target, complete. It must never know what it writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file; whoever looks sees the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    return temporary.replace(path)


@contextmanager
def folder_in_place(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; once filled it takes the place of ``target``, and after a failure it is gone."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        put_in_place(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def put_in_place(part: Path, target: Path) -> None:
    """Put a finished folder in the place of an older one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    part.replace(target)
    shutil.rmtree(old, ignore_errors=True)
