from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[2]


def call_run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "run.py", *arguments]
    given = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


def test_the_bootstrap_needs_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "run.py").read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_an_old_python_can_read_the_bootstrap_far_enough_to_be_refused() -> None:
    ast.parse((ROOT / "run.py").read_text("utf-8"), feature_version=(3, 7))


def test_an_unknown_verb_exits_2_with_one_line() -> None:
    answer = call_run("dance")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1


def test_help_exits_0() -> None:
    assert call_run("--help").returncode == 0


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_wrong_python_is_refused_in_one_line(version: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    with pytest.raises(
        run.SetupError, match=rf"needs Python 3\.11, 3\.12 or 3\.13, this is 3\.{version[1]}; "
    ) as caught:
        run.refuse_wrong_python()
    assert "\n" not in str(caught.value)


def test_a_changed_lock_undoes_the_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "requirements" / "base.txt").write_text("numpy==1")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    before = run.state("base")
    assert run.state("base") == before
    (tmp_path / "requirements" / "base.txt").write_text("numpy==2")
    assert run.state("base") != before


def test_programs_are_found_where_each_system_keeps_them() -> None:
    folder = "Scripts" if os.name == "nt" else "bin"
    assert Path(run.program("just")).parent == ROOT / ".venv" / folder


def test_no_other_pythons_packages_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    environment = run.environment()
    assert not {"PYTHONPATH", "PYTHONHOME"} & set(environment)
    assert environment["PATH"].startswith(str(ROOT / ".venv"))


def test_bytecode_is_kept_so_that_no_start_compiles_the_libraries_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in run.environment()


def test_no_browser_opens_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert not run.someone_is_watching()


def test_a_failed_step_gives_the_line_that_says_most() -> None:
    script = "import sys; print('first', file=sys.stderr); print('cause: no route', file=sys.stderr); sys.exit(3)"
    assert run.attempt([sys.executable, "-c", script]) == "first; cause: no route"
    assert run.attempt([sys.executable, "-c", "raise SystemExit(7)"]) == "exit 7"
    assert "No such file" in run.attempt([str(ROOT / "no-such-program")])
    assert run.attempt([sys.executable, "-c", ""]) == ""


@pytest.mark.skipif(os.name == "nt", reason="signals end processes differently there")
def test_a_program_killed_by_a_signal_gives_the_shells_exit_code() -> None:
    assert run.call([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]) == 143


def test_the_readme_opens_with_the_two_commands_and_ci_runs_the_second() -> None:
    block = (ROOT / "README.md").read_text("utf-8").split("```")[1].splitlines()[1:]
    commands = [line for line in block if line and not line.startswith(("git clone", "cd "))]
    assert [command.split("  ")[0] for command in commands] == ["python3 run.py demo", "python3 run.py test"]
    ci = ROOT / ".ci" / "run"
    assert "python3 run.py test" in ci.read_text("utf-8")
    assert os.access(ci, os.X_OK)
