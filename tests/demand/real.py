"""The public traces that stand beside the repository; tests that need one are skipped without it."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


def real_trace(name: str) -> Path:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"the public trace {name} is not beside this checkout")
    return path
