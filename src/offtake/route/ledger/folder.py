"""Know the folder of the journals: whose files lie in it, and whether their writer lives.

Comes in: a folder. Goes out: the segments of each writer in order, and a hold on its lock. A writer holds the lock of
its ``<worker>.lock`` as long as it lives, in whatever way it ends; its segments are ``<worker>-<n>.log``. Names of
workers are never used again, so that who is dead stays dead.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK, SEGMENT, DAMAGED = ".lock", ".log", ".damaged"
DRAINER = "drainer"  #: what holds this lock is the one that empties the folder


def segment_name(worker: str, number: int) -> str:
    """Return the name of a worker's segment."""
    return f"{worker}-{number:06d}{SEGMENT}"


def worker_of(segment: str) -> str:
    """Return whose segment it is."""
    return segment.rsplit("-", 1)[0]


def segments(folder: Path) -> dict[str, list[Path]]:
    """Return the segments of every writer that has a segment or a lock, each in order."""
    found: dict[str, list[Path]] = {path.stem: [] for path in sorted(folder.glob(f"*{LOCK}")) if path.stem != DRAINER}
    for path in sorted(folder.glob(f"*-*{SEGMENT}")):
        found.setdefault(worker_of(path.name), []).append(path)
    return found


def new_lock(folder: Path, name: str) -> int:
    """Make a lock that is held from its first moment, and return what holds it, to be closed.

    Raises
    ------
    OSError
        Where the folder cannot be written, or the name was taken before.
    """
    part, path = folder / f"{name}.part", folder / f"{name}{LOCK}"
    held = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.hardlink_to(part)
    except BaseException:
        os.close(held)
        raise
    finally:
        part.unlink()
    return held


@contextmanager
def lock_if_free(folder: Path, name: str) -> Iterator[bool]:
    """Hold a lock if no living process does, and tell whether it was free.

    Raises
    ------
    OSError
        Where the folder cannot be written.
    """
    held = os.open(folder / f"{name}{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield is_ours(held)
    finally:
        os.close(held)


def is_ours(held: int) -> bool:
    """Lock an open file if it is free, and tell whether it was."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
