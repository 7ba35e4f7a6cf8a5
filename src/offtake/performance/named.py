"""Load the step table that a deployment's name means: ``TABLE``, ``TABLE*SPEED`` or ``TABLE*SPEED@BLOCKS``.

Comes in: such a name, as a fleet file holds it, perhaps a folder with tables of one's own. Goes out: the table, as
many times faster and with as many KV blocks as the name says. The router reads it too, so this module must never know
a portfolio.
"""

from __future__ import annotations

import re
from pathlib import Path

from offtake.errors import Fault, InputError
from offtake.performance.library import StoredTable, load_shipped, load_table
from offtake.performance.steps import scaled

NAME = re.compile(r"^(?P<table>[^*@]+)(?:\*(?P<speed>[0-9.e+-]+))?(?:@(?P<blocks>[0-9]+))?$")
ASSUMED = "assumption"  #: how far a table at another speed can be trusted


def load_named(name: str, folder: Path | None = None) -> StoredTable:
    """Load the table that a deployment's name means: ``TABLE``, ``TABLE*SPEED`` or ``TABLE*SPEED@BLOCKS``.

    ``folder``: where tables that do not ship with the package are kept.

    Raises
    ------
    InputError
        If the name has another form, or there is no such table.
    """
    found = NAME.match(name)
    if found is None:
        raise InputError([Fault("deployment", "no such form of name", "Write TABLE*SPEED@BLOCKS.", value=name)])
    stored = load_base(found["table"], folder)
    if found["speed"] is None and found["blocks"] is None:
        return stored
    return sped_up(stored, float(found["speed"] or 1.0), int(found["blocks"]) if found["blocks"] else None)


def sped_up(stored: StoredTable, speed: float, kv_blocks: int | None = None) -> StoredTable:
    """Return a table ``speed`` times as fast, with other KV blocks if given; its name becomes TABLE*SPEED@BLOCKS."""
    parts = NAME.match(stored.name)
    base = parts["table"] if parts else stored.name
    total = speed * float(parts["speed"] or 1.0) if parts else speed
    blocks = stored.limits.kv_blocks if kv_blocks is None else kv_blocks
    name = f"{base}*{total!r}@{blocks}"
    limits = stored.limits._replace(kv_blocks=blocks)
    notes = stored.provenance | {"speed": total, "confidence": ASSUMED}
    return StoredTable(name, scaled(stored.table, 1.0 / speed), limits, notes)


def load_base(name: str, folder: Path | None) -> StoredTable:
    """Load a table from the user's folder when it is there, else from the package."""
    if folder is not None and (folder / f"{name}.npz").exists():
        return load_table(folder, name)
    return load_shipped(name)
