"""Read the cells of a batch of rows as numbers, and remember each one that cannot be.

Comes in: a frame of raw rows with their numbers in the file. Goes out: arrays, and faults with file, row, column and
value: the first twenty in full, the rest as a count. It must never know what a column means.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offtake.errors import Fault, InputError

FAULTS_LISTED_MAX = 20
INT32_MAX, INT16_MAX = 2**31 - 1, 2**15 - 1

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MISSING = ("the value is missing", "Give it, or leave the request out.")
NO_TOKEN = ("a request needs at least one token", "Leave out requests that failed or made nothing.")
NOT_WHOLE = ("this is not a whole number in range", "Write a count such as 1024.")
NEGATIVE = ("a count cannot be negative", "Write a count such as 1024.")


@dataclass
class FaultList:
    """Gather the faults of one file: the first twenty in full, the rest as a count."""

    file: str
    listed: list[Fault] = field(default_factory=list)
    total: int = 0

    def add(self, rows: Iterable[int], column: str, values: pl.Series, say: tuple[str, str]) -> None:
        """Add a fault (problem, mend) for each row."""
        for place, row in enumerate(rows):
            self.total += 1
            if len(self.listed) < FAULTS_LISTED_MAX:
                value = None if values[place] is None else str(values[place])
                self.listed.append(Fault(self.file, say[0], say[1], row, column, value))

    def raise_if_any(self) -> None:
        """Raise the faults gathered, if there are any."""
        if not self.total:
            return
        listed = sorted(self.listed, key=lambda fault: int(fault.row or 0))
        rest = self.total - len(listed)
        more = [Fault(self.file, f"{rest} more faults are not listed", "Mend these first.")] if rest else []
        raise InputError(listed + more)


class Cells(NamedTuple):
    """Hold one batch of raw rows, the number of each row in its file, and where to tell what is wrong."""

    frame: pl.DataFrame
    rows: NDArray[np.int64]
    faults: FaultList

    def has(self, name: str) -> bool:
        """Tell whether there is such a column."""
        return name in self.frame.columns

    def kept(self, rows: Bools) -> Cells:
        """Return some of the rows."""
        return Cells(self.frame.filter(pl.Series(rows)), self.rows[rows], self.faults)

    def filled(self, name: str) -> Cells:
        """Return the same with 0 where a column has nothing."""
        return self._replace(frame=self.frame.with_columns(pl.col(name).fill_null(0)))

    def number(self, name: str) -> Floats:
        """Return a column as numbers; not a number where there is none."""
        return np.asarray(self.frame[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy())

    def whole(self, name: str, least: int) -> tuple[Floats, Bools]:
        """Return a column of whole numbers and which of them are fine; the others count as 0."""
        number = self.number(name)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(number) & (np.floor(number) == number) & (np.abs(number) <= INT32_MAX)
        negative = whole & (number < min(least, 0))
        self.refuse(name, ~whole, NOT_WHOLE)
        self.refuse(name, negative, NEGATIVE)
        self.refuse(name, whole & ~negative & (number < least), NO_TOKEN)
        return np.where(whole, number, 0.0), whole & ~negative

    def refuse(self, name: str, broken: Bools, say: tuple[str, str]) -> None:
        """Remember a fault for each broken row; a value that is not there is called missing."""
        if not broken.any():
            return
        missing = self.frame[name].is_null().to_numpy()
        for wrong, words in ((broken & missing, MISSING), (broken & ~missing, say)):
            if wrong.any():
                self.faults.add(self.rows[wrong].tolist(), name, self.frame[name].filter(pl.Series(wrong)), words)
