"""Read what the kernel has booked for a process and all it began: seconds on a processor, and memory.

Comes in: a process number. Goes out: CPU seconds, to the nanosecond, of every thread that lives; megabytes. It needs
Linux (``/proc/PID/task/TID/schedstat``, ``smaps_rollup``).
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
BYTES_PER_KB = 1_024


def tree(pid: int) -> list[int]:
    """Return a process and all that it began and that live."""
    found = [pid]
    for one in found:
        for task in threads(one):
            found += [int(word) for word in read(task / "children").split()]
    return found


def threads(pid: int) -> list[Path]:
    """Return the threads of a process; none if it has ended."""
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def read(path: Path) -> str:
    """Return what a file says, nothing if its process has ended."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def cpu_s(pid: int) -> float:
    """Return the seconds that a process tree was on a processor."""
    booked = [read(task / "schedstat").split() for one in tree(pid) for task in threads(one)]
    return sum(int(words[0]) for words in booked if words) / 1e9


def memory_mb(pid: int) -> float:
    """Return the memory of a process tree, what processes share counted once (their proportional sets)."""
    lines = [line.split() for one in tree(pid) for line in read(PROC / str(one) / "smaps_rollup").splitlines()]
    return sum(int(words[1]) for words in lines if words[0] == "Pss:") * BYTES_PER_KB / 1e6
