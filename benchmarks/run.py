"""Run the benchmarks that are named, or all of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(names: list[str]) -> int:
    """Print each measure as it comes; exit 2 for a name that does not exist."""
    sys.path.insert(0, str(HERE.parent))
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if unknown := sorted(set(names) - set(known)):
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    skipped = importlib.import_module("benchmarks.harness").Skipped
    for name in names or known:
        try:
            for measure in importlib.import_module(f"benchmarks.bench_{name}").run():
                print(measure, flush=True)
        except skipped as reason:
            print(f"{name}: skipped: {reason}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
