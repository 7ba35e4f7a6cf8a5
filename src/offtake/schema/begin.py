"""Write the starter: a small commented portfolio, to be edited into one's own.

Comes in: a folder to make. Goes out: the folder, whole or not at all, its portfolio named after it. It holds no
figure itself; they stand in ``starter/``, all of them assumptions.
"""

from __future__ import annotations

import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from offtake.errors import Fault, InputError
from offtake.files import folder_in_place
from offtake.schema.columns import NAME_PATTERN


def write_starter(folder: Path) -> None:
    """Write the starter into a folder that is empty or not there yet.

    Raises
    ------
    InputError
        If the folder holds anything: nothing is overwritten.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError([Fault(str(folder), "the folder is not empty", "Give a new folder; nothing is overwritten.")])
    with folder_in_place(folder) as part, as_file(files("offtake.schema") / "starter") as starter:
        shutil.copytree(starter, part, dirs_exist_ok=True)
        name_portfolio(part / "portfolio.toml", folder.resolve().name)


def name_portfolio(path: Path, name: str) -> None:
    """Name a starter after its folder, where a portfolio may be called that."""
    if re.match(NAME_PATTERN, name):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('name = "starter"', f'name = "{name}"', 1), encoding="utf-8")
