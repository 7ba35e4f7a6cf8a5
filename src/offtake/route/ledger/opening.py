"""Open the ledger's database by its address.

Comes in: an address, and the folder from which a file is taken. Goes out: a ``Store``. PostgreSQL's driver is imported
only where an address asks for it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from offtake.errors import Fault, InputError
from offtake.route.ledger.sqlite import SqliteStore
from offtake.route.ledger.store import Store

SQLITE = "sqlite:"
POSTGRES = ("postgresql://", "postgres://")


def check_url(url: str) -> list[Fault]:
    """Return what is wrong with an address, without opening it or telling it: it may hold a password."""
    mend = "Write sqlite:FILE or postgresql://USER@HOST/DATABASE."
    if url.startswith(POSTGRES):
        needed = "PostgreSQL needs a driver that is not installed"
        return [] if find_spec("psycopg") else [Fault("ledger.url", needed, "pip install 'offtake[postgres]'")]
    if url.removeprefix(SQLITE) in {"", url}:
        return [Fault("ledger.url", "is no address of a ledger", mend)]
    return []


def open_store(url: str, folder: Path) -> Store:
    """Open the database at ``url``; a file that is not absolute is taken from ``folder``.

    Raises
    ------
    InputError
        Where the address is none, or there is no ledger of ours; ``AwayError`` where it cannot be reached for now.
    """
    faults = check_url(url)
    if faults:
        raise InputError(faults)
    if url.startswith(POSTGRES):
        from offtake.route.ledger.postgres import PostgresStore

        return PostgresStore(url)
    return SqliteStore(folder / url.removeprefix(SQLITE))
