"""Give another project an environment of its own, so that it is never a dependency of Offtake.

Comes in: what to install, and the variable that names the Python of an environment that has it already. Goes out: what
a program wrote there. The environment is made once, in the folder for temporary files, from the package registry that
pip is set to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import Skipped

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 900


class Environment(NamedTuple):
    """Say what is installed, and which variable names the Python of an environment that has it."""

    name: str
    packages: tuple[str, ...]
    given_by: str

    @property
    def home(self) -> Path:
        """Return where it is made."""
        return Path(tempfile.gettempdir()) / "-".join(["offtake", *(one.replace("==", "-") for one in self.packages)])

    def python(self) -> Path:
        """Return its Python, installing the packages if need be; raise Skipped if they cannot be had."""
        if given := os.environ.get(self.given_by):
            return Path(given)
        python = self.home / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not (self.home / "complete").exists():
            self.install(python)
            (self.home / "complete").touch()
        return python

    def install(self, python: Path) -> None:
        """Make the environment, with uv if there is one."""
        shutil.rmtree(self.home, ignore_errors=True)
        uv = shutil.which("uv")
        make = [uv, "venv", "--quiet"] if uv else [sys.executable, "-m", "venv"]
        fill = (
            [uv, "pip", "install", "--quiet", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
        )
        for command in ([*make, str(self.home)], [*fill, *self.packages]):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
            )  # our own words
            if done.returncode != 0:
                last = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
                message = f"{', '.join(self.packages)} could not be installed: {last[0]}"
                raise Skipped(message)

    def call(self, *words: str) -> str:
        """Run its Python at the root of the repository; raise Skipped with the last line it wrote if it fails."""
        offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        environment = {**os.environ, **offline, "PYTHONPATH": ""}
        command = [str(self.python()), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        if done.returncode != 0:
            message = f"{self.name} failed: {(done.stderr.strip().splitlines() or ['it wrote nothing'])[-1]}"
            raise Skipped(message)
        return done.stdout
