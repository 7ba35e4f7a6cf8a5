"""Keep the ledger in PostgreSQL, for several routers: each batch copied, then merged, in one transaction.

Comes in: rows. Goes out: rows. Nothing waits for ever for a server that is silent. The address may hold a password,
so it is never told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from offtake.errors import Fault, InputError
from offtake.route.ledger.rows import COLUMNS, INDEXES, KINDS, LOSE, ON_CONFLICT, VERSION, Row, Value
from offtake.route.ledger.store import AwayError, other_version
from offtake.units import MS_PER_S

CONNECT_S, ANSWER_S = 5, 60  #: longest waits for a server (assumption)
FETCH_ROWS = 10_000
GATE = 5_170_001  #: number of the lock under which the table is made; any number that nobody else takes
TYPES = {str: "text", int: "bigint", bool: "boolean", float: "double precision"}
CREATE = ", ".join(f"{name} {TYPES[KINDS[name]]} NOT NULL" for name in COLUMNS)
STAGE = "CREATE TEMPORARY TABLE staged (LIKE requests) ON COMMIT DELETE ROWS"
COPY = "COPY staged FROM STDIN"
MERGE = "INSERT INTO requests SELECT * FROM staged"
WRITE = f"{MERGE} {ON_CONFLICT}"


class PostgresStore:
    """Be a ``Store`` on a server.

    Raises
    ------
    AwayError
        Where the server cannot be reached for now.
    InputError
        Where it has no ledger of ours, or one of another version.
    """

    def __init__(self, url: str) -> None:
        with self._told():
            self.base = psycopg.connect(
                url,
                connect_timeout=CONNECT_S,
                options=f"-c statement_timeout={ANSWER_S * MS_PER_S}",
                tcp_user_timeout=ANSWER_S * MS_PER_S,
                application_name="offtake",
            )
        try:
            self._begin()
        except BaseException:
            self.base.close()
            raise

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction; when it returns, the server has them on its disk."""
        try:
            self._copy(rows)
        except psycopg.DataError:  # a text holds a zero, which this server cannot keep
            self._copy([tuple(map(without_zeros, row)) for row in rows])

    def _copy(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction."""
        with self._told(), self.base.transaction(), self.base.cursor() as cursor:
            with cursor.copy(COPY) as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(WRITE)

    def lose(self, worker: str) -> int:
        """Close what a dead worker left open, and return how much that was."""
        return self._do(LOSE.replace("?", "%s"), (worker,))

    def sweep(self, before_day: int) -> int:
        """Drop the requests of the days before, counted from 1970, and return how many."""
        return self._do("DELETE FROM requests WHERE day < %s", (before_day,))

    def read(self, sql: str, values: Sequence[Value] = ()) -> Iterator[Row]:
        """Yield what a query finds; ``?`` stands for each value."""
        with self._told(), self.base.transaction(), self.base.cursor("offtake") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(sql.replace("?", "%s"), tuple(values))
            yield from cursor

    def close(self) -> None:
        """Let go of the server."""
        self.base.close()

    def _do(self, sql: str, values: Sequence[Any]) -> int:
        """Carry out one statement as one transaction, and return how many rows it changed."""
        with self._told(), self.base.transaction():
            return self.base.execute(sql, values).rowcount

    def _begin(self) -> None:
        """Make the table where there is none, and refuse any other than our own."""
        with self._told(), self.base.transaction():
            self.base.execute(f"SELECT pg_advisory_xact_lock({GATE})")
            if self._there("offtake_ledger"):
                row = self.base.execute("SELECT version FROM offtake_ledger").fetchone()
                version = int(row[0]) if row else 0
            else:
                version = 0 if self._there("requests") else self._create()
            if version != VERSION:
                raise other_version("the ledger's database", version)
            self.base.execute(STAGE)

    def _there(self, table: str) -> bool:
        """Tell whether a table exists."""
        row = self.base.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
        return row is not None and bool(row[0])

    def _create(self) -> int:
        """Make the tables and indexes, and return their version."""
        self.base.execute(f"CREATE TABLE requests ({CREATE}, PRIMARY KEY (request_id))")
        for name, columns in INDEXES.items():
            self.base.execute(f"CREATE INDEX {name} ON requests {columns}")
        self.base.execute("CREATE TABLE offtake_ledger (version integer NOT NULL)")
        self.base.execute("INSERT INTO offtake_ledger VALUES (%s)", (VERSION,))
        return VERSION

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our words what the server or its driver says."""
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            mend = "Check that the server runs and lets this user in; the router waits for it meanwhile."
            raise AwayError([Fault("the ledger's database", f"cannot be reached: {first_line(error)}", mend)]) from None
        except psycopg.ProgrammingError as error:
            mend = "Write it as postgresql://USER@HOST/DATABASE, and let the user make tables there."
            raise InputError([Fault("ledger.url", f"cannot be used: {first_line(error)}", mend)]) from None


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def without_zeros(value: Value) -> Value:
    """Return a value as the server can keep it."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
