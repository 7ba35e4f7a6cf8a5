"""Weigh each dependency: what it adds to an import, and to an installation.

Comes in: the packages of this environment. Goes out: one line each, as a table for docs/decisions/0002-dependencies.md.
An import is weighed in processor time, the least of several tries, against a Python that imports NumPy alone
(or nothing, for NumPy), so that a busy machine changes it little.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import subprocess
import sys
from pathlib import Path

IMPORTS = {
    "numpy": "numpy",
    "scipy": "scipy.sparse",
    "highspy": "highspy",
    "numba": "numba",
    "polars": "polars",
    "pydantic": "pydantic",
    "msgspec": "msgspec",
    "typer": "typer",
    "rich": "rich.console, rich.progress, rich.table",
    "altair": "altair",
    "joblib": "joblib",
    "httptools": "httptools",
    "uvloop": "uvloop",
    "vl-convert-python": "vl_convert",
}
PARTS = {
    "numba": ["numba", "llvmlite"],
    "polars": ["polars", "polars-runtime-32"],
    "pydantic": ["pydantic", "pydantic-core"],
}
WITHOUT_NUMPY = {"numpy", "msgspec", "pydantic", "typer", "rich"}
TRIES = 9
BYTES_PER_MB = 1_000_000
MS_PER_S = 1_000


def import_ms(statements: list[str]) -> list[float]:
    """Give the least processor time in ms of a Python that runs each statement, tried in turn."""
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads that wait would be counted as work
    tries: list[list[float]] = [[] for _ in statements]
    for statement, times in list(zip(statements, tries, strict=True)) * TRIES:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], env=alone, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return [min(times) * MS_PER_S for times in tries]


def installed_mb(names: list[str]) -> float:
    """Give the size in MB of all files of some installed packages."""
    files = [Path(str(entry.locate())) for name in names for entry in importlib.metadata.files(name) or []]
    return sum(path.stat().st_size for path in files if path.is_file()) / BYTES_PER_MB


def main() -> None:
    """Print one row for each dependency."""
    print("| package | version | import, ms of processor | installed, MB |\n|---|---|---|---|")
    for name, imports in IMPORTS.items():
        before = "pass" if name in WITHOUT_NUMPY else "import numpy"
        less, more = import_ms([before, f"{before}; import {imports}"])
        size = installed_mb(PARTS.get(name, [name]))
        print(f"| {name} | {importlib.metadata.version(name)} | {more - less:.0f} | {size:.0f} |")


if __name__ == "__main__":
    main()
