"""Make the locks: every package with its version and hashes, for every system, and no address in any of them.

Comes in: the dependencies that ``pyproject.toml`` states, and whatever package index uv is set up with.
Goes out: ``requirements/{base,dev,silicon,uv}.txt``. All are cut from one resolution, so that a version is
the same in each. Run by ``just lock``; why not ``uv.lock``: docs/decisions/0003-locks.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIECES = {
    "base": ["--group", "build"],
    "dev": ["--group", "build", "--group", "dev"],
    "silicon": ["--group", "build", "--extra", "silicon"],
}
WHOLE = ["--group", "build", "--group", "dev", "--extra", "silicon"]
ADDRESS = re.compile(r"https?:|file:|git\+|^-|--(extra-)?index|--find-links", re.MULTILINE)


def compile_lock(arguments: list[str], lock: Path) -> None:
    """Resolve once for all systems and Pythons that the project supports."""
    options = ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes"]
    quiet = ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    subprocess.run(["uv", "pip", "compile", *options, *quiet, *arguments, "-o", str(lock)], cwd=ROOT, check=True)
    if found := ADDRESS.search(lock.read_text()):
        sys.exit(f"{lock.name} holds an address ({found[0]!r}); a lock may name packages and hashes only")


def main() -> None:
    """Write all four locks, or none."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "whole").write_text(
            "".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in ("dev", "silicon"))
        )
        compile_lock(["pyproject.toml", *WHOLE], place / "whole")
        for name, arguments in PIECES.items():
            compile_lock(["pyproject.toml", *arguments, "-c", str(place / "whole")], place / f"{name}.txt")
        compile_lock(["--group", "uv"], place / "uv.txt")
        (ROOT / "requirements").mkdir(exist_ok=True)
        for name in [*PIECES, "uv"]:
            (ROOT / "requirements" / f"{name}.txt").write_text((place / f"{name}.txt").read_text())


if __name__ == "__main__":
    main()
