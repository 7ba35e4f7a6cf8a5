from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    source = {"PYTHONPATH": str(project / "src"), "PATH": "", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=project, env=source, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, to be spoiled."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "data"))
    return tmp_path


def test_the_contracts_are_exhaustive_and_forbid_circles() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    assert layers["exhaustive"] is True
    assert layers["containers"] == ["offtake"]
    assert any(
        contract["type"] == "acyclic_siblings" and contract["ancestors"] == ["offtake"] for contract in contracts
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, line, contract",
    [
        ("units.py", "import offtake.fleet", "Rooms import only rooms below them"),
        ("supply/spoiled.py", "import offtake.demand", "Rooms import only rooms below them"),
        ("unplaced.py", "", "Rooms import only rooms below them"),
        ("rehearse/spoiled.py", "import offtake.plan", "Plan, rehearsal and router meet in the fleet file"),
        ("policy/spoiled.py", "import polars", "Heavy libraries stay out of the router's path"),
        ("report/spoiled.py", "import highspy", "Only the plan knows the solver"),
        ("plan/spoiled.py", "import altair", "Only the report draws"),
        ("plan/spoiled.py", "import rich", "Only the command line, and the tables made for it, talk to"),
        ("rehearse/spoiled.py", "import polars", "The rehearsal handles data frames only"),
    ],
)
def test_a_broken_wall_is_refused_by_its_contract(copy: Path, module: str, line: str, contract: str) -> None:
    spoiled = copy / "src" / "offtake" / module
    before = spoiled.read_text("utf-8") if spoiled.is_file() else ""
    spoiled.write_text(f"{before}\n{line}\n")
    answer = lint_imports(copy)
    assert answer.returncode != 0
    assert any(row.startswith(contract) and "BROKEN" in row for row in answer.stdout.splitlines()), answer.stdout


@pytest.mark.slow
def test_the_walls_stand(copy: Path) -> None:
    answer = lint_imports(copy)
    assert answer.returncode == 0, answer.stdout
