"""Measure a function in a new process: seconds by the clock, CPU seconds of all its threads, and most memory.

Comes in: the name of a module of this folder and of a function in it that returns what can be written as JSON. Goes
out: a ``Spent`` with what it returned. ``python -m benchmarks.process MODULE FUNCTION WORD...`` is the new process.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BYTECODE = Path(tempfile.gettempdir()) / "offtake-bytecode"  # so that a second process finds it, as a user's does
BYTES_PER_RSS = 1 if sys.platform == "darwin" else 1_024


class Spent(NamedTuple):
    """Hold what a process returned, and what it took from its start to its end."""

    returned: Any
    wall_s: float
    cpu_s: float
    memory_mb: float


def in_new_process(module: str, function: str, *words: str) -> Spent:
    """Run a function of a benchmark in a new process, with words that it is given."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": str(BYTECODE)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "benchmarks.process", module, function, *words]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    wall_s = time.perf_counter() - start
    returned, cpu_s, memory_mb = json.loads(done.stdout.splitlines()[-1])
    return Spent(returned, wall_s, cpu_s, memory_mb)


def peak_mb() -> float:
    """Return the most memory this program has held (that of its starter too, where only ``getrusage`` tells)."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1_024 / 1e6
    import resource  # noqa: PLC0415  # not on Windows, where only this measure is missing

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_RSS / 1e6


def main(module: str, function: str, *words: str) -> None:
    """Run a function and write down what it returned and took."""
    returned = getattr(importlib.import_module(f"benchmarks.{module}"), function)(*words)
    print(json.dumps([returned, time.process_time(), peak_mb()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
