"""Put files and folders in place whole or not at all: write beside the target, then rename.

Comes in: bytes, or a folder that was filled. Goes out: the target, complete. It must never know what it writes.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file; whoever looks sees the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    return temporary.replace(path)


def fresh_folder(path: Path) -> Path:
    """Make an empty folder; what a broken run left there is taken away."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def put_in_place(part: Path, target: Path) -> Path:
    """Put a finished folder in the place of an older one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.replace(old)
    part.replace(target)
    shutil.rmtree(old, ignore_errors=True)
    return target
