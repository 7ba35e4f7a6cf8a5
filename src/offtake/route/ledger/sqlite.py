"""Keep the ledger in one file: SQLite, with its log written ahead, each batch one transaction that reached the disk.

Comes in: rows. Goes out: rows. One process writes at a time; others wait for it, and readers wait for nobody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from offtake.errors import Fault, InputError
from offtake.route.ledger.rows import COLUMNS, INDEXES, KINDS, LOSE, ON_CONFLICT, VERSION, Row, Value
from offtake.route.ledger.store import AwayError, other_version

WAIT_S = 10.0  #: for another writer
TYPES = {str: "TEXT NOT NULL", int: "INTEGER NOT NULL", bool: "INTEGER NOT NULL", float: "REAL NOT NULL"}
FIELDS = ", ".join(f"{name} {TYPES[KINDS[name]]}" for name in COLUMNS)
CREATE = f"CREATE TABLE requests ({FIELDS}, PRIMARY KEY (request_id))"
WRITE = " ".join(("INSERT INTO requests VALUES (", ", ".join("?" * len(COLUMNS)), ")", ON_CONFLICT))


class SqliteStore:
    """Be a ``Store`` in a file.

    Raises
    ------
    AwayError
        Where the file cannot be reached or written for now.
    InputError
        Where it is not a ledger, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            self.base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        try:
            self._begin()
        except BaseException:
            self.base.close()
            raise

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction; when it returns, the disk has them."""
        with self._told(), self._whole():
            self.base.executemany(WRITE, rows)

    def lose(self, worker: str) -> int:
        """Close what a dead worker left open, and return how much that was."""
        with self._told(), self._whole():
            return self.base.execute(LOSE, (worker,)).rowcount

    def sweep(self, before_day: int) -> int:
        """Drop the requests of the days before, counted from 1970, and return how many."""
        with self._told(), self._whole():
            return self.base.execute("DELETE FROM requests WHERE day < ?", (before_day,)).rowcount

    def read(self, sql: str, values: Sequence[Value] = ()) -> Iterator[Row]:
        """Yield what a query finds; ``?`` stands for each value."""
        with self._told():
            yield from self.base.execute(sql, tuple(values))

    def close(self) -> None:
        """Let go of the file."""
        self.base.close()

    def _begin(self) -> None:
        """Make the table where there is none, and refuse any other than our own."""
        with self._told():
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self.base.execute(f"PRAGMA {pragma}")
            with self._whole():
                version = int(self.base.execute("PRAGMA user_version").fetchone()[0])
                tables = int(self.base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
                if version == 0 and tables == 0:
                    self._create()
                elif version != VERSION:
                    raise other_version(str(self.path), version)

    def _create(self) -> None:
        """Make the table and its indexes."""
        self.base.execute(CREATE)
        for name, columns in INDEXES.items():
            self.base.execute(f"CREATE INDEX {name} ON requests {columns}")
        self.base.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Do all of it, or nothing."""
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.base.execute("COMMIT")
        except BaseException:
            if self.base.in_transaction:
                self.base.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our words what SQLite says."""
        try:
            yield
        except sqlite3.OperationalError as error:
            mend = "Check the file, its rights and the room on the disk."
            raise AwayError([Fault(str(self.path), f"the ledger cannot be reached: {error}", mend)]) from None
        except sqlite3.DatabaseError as error:
            mend = "Name another file as `ledger.url`, or put back a copy."
            raise InputError([Fault(str(self.path), f"the file is not a ledger: {error}", mend)]) from None
