"""Know what a database of the ledger can do, and how its absence is told.

Comes in: nothing. Goes out: the seam between what drains, what reports, and the two databases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from offtake.errors import Fault, InputError
from offtake.route.ledger.rows import VERSION, Row, Value


class AwayError(InputError):
    """Report that the ledger's database cannot be reached or written for now; it is worth trying again."""


class Store(Protocol):
    """Keep rows, each request once."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows in one transaction; when it returns, they are on the disk."""

    def lose(self, worker: str) -> int:
        """Close what a dead worker left open, and return how much that was."""

    def sweep(self, before_day: int) -> int:
        """Drop the requests of the days before, counted from 1970, and return how many."""

    def read(self, sql: str, values: Sequence[Value] = ()) -> Iterator[Row]:
        """Yield what a query finds; ``?`` stands for each value."""

    def close(self) -> None:
        """Let go of the database."""


def other_version(place: str, version: int) -> InputError:
    """Return the fault of a database that holds something else."""
    if version == 0:
        problem, mend = "holds tables, but no ledger", "Name another as `ledger.url`."
    else:
        problem = f"holds a ledger of version {version}, and this is version {VERSION}"
        mend = "Use the Offtake that wrote it, or name another as `ledger.url`."
    return InputError([Fault(place, problem, mend)])
