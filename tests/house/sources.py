"""Read the project once for every test that looks through it.

Comes in: what git tracks. Goes out: its files, and each Python file with its tree. It knows no rule.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.house import rules

ROOT = Path(__file__).resolve().parents[2]


@cache
def project_files() -> list[Path]:
    """Every file that git tracks or would track."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in sorted(set(names)) if name and (ROOT / name).is_file()]


@cache
def python_sources(under: str = "") -> list[rules.Source]:
    """Every Python file under a folder, parsed."""
    files = [path for path in project_files() if path.suffix == ".py" and path.is_relative_to(ROOT / under)]
    return [rules.parse(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in files]
