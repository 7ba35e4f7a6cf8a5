"""Give Vidur an environment of its own, so that it is never a dependency of Offtake.

Comes in: nothing, or ``OFFTAKE_VIDUR_PYTHON``, the Python of an environment that has it. Goes out: the path of that
Python. The environment is made once, in the folder for temporary files, from the package registry that pip is set to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Skipped

VERSION = "0.0.26"
HOME = Path(tempfile.gettempdir()) / f"offtake-vidur-{VERSION}"
SECONDS_MAX = 900


def vidurs_python() -> Path:
    """Return the Python that can import Vidur, installing it if need be; raise Skipped if it cannot be had."""
    if given := os.environ.get("OFFTAKE_VIDUR_PYTHON"):
        return Path(given)
    programs = "Scripts" if os.name == "nt" else "bin"
    python = HOME / programs / "python"
    if not (HOME / "complete").exists():
        install(python)
        (HOME / "complete").touch()
    return python


def install(python: Path) -> None:
    """Make the environment, with uv if there is one."""
    shutil.rmtree(HOME, ignore_errors=True)
    uv = shutil.which("uv")
    make = [uv, "venv", "--quiet"] if uv else [sys.executable, "-m", "venv"]
    fill = [uv, "pip", "install", "--quiet", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    for command in ([*make, str(HOME)], [*fill, f"vidur=={VERSION}"]):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
        )  # our own words
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
            message = f"Vidur {VERSION} could not be installed: {last[0]}"
            raise Skipped(message)


def call(script: Path, folder: Path) -> None:
    """Run a script on a folder in Vidur's environment; raise Skipped with the last line it wrote if it fails."""
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    command = [str(vidurs_python()), str(script), str(folder)]
    environment = {**os.environ, **offline, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # our own words
    if done.returncode != 0:
        message = f"Vidur failed: {(done.stderr.strip().splitlines() or ['it wrote nothing'])[-1]}"
        raise Skipped(message)


def spoken(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it writes."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX, env=environment)
