"""Turn the names in a trace into numbers: workloads, regions, tenants and sessions.

Comes in: one column, batch after batch, as text or as whole numbers. Goes out: numbers, and ``UNKNOWN`` where a value
is none that was named beforehand. Where nothing was named, names are numbered in the order in which they appear, so the
numbers do not depend on how the file is cut. It must never know a file or a fleet.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

UNKNOWN = -1
NUMBER_MAX = 2**31 - 1

Integers = NDArray[np.int64]


class Names(NamedTuple):
    """Name what a trace may speak of, in the order of the fleet; an empty tuple leaves it open."""

    workload: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()


class Keys:
    """Number the values of one column; ``known`` names stand first, and alone where there are any."""

    def __init__(self, known: tuple[str, ...], number_max: int) -> None:
        self.closed = bool(known)
        self.number = {name: place for place, name in enumerate(known)}
        self.number_max = len(known) - 1 if known else number_max

    def read(self, raw: pl.Series) -> Integers:
        """Return a number for each value; ``UNKNOWN`` for a missing or unknown one."""
        if raw.dtype.is_integer():
            values = raw.cast(pl.Int64, strict=False).fill_null(UNKNOWN).to_numpy()
        else:
            text = raw.cast(pl.String)
            kinds = text.drop_nulls().unique(maintain_order=True)
            numbers = [self._number_of(kind) for kind in kinds.to_list()]
            values = text.replace_strict(kinds, numbers, default=UNKNOWN, return_dtype=pl.Int64).to_numpy()
        return np.where((values < 0) | (values > self.number_max), UNKNOWN, values)

    def _number_of(self, value: str) -> int:
        """Return the number of a name, or of a number written as text."""
        value = value.strip()
        if value in self.number:
            return self.number[value]
        with suppress(ValueError):
            number = float(value)
            return int(number) if number.is_integer() else UNKNOWN
        if self.closed or not value:
            return UNKNOWN
        self.number[value] = len(self.number)
        return self.number[value]


class SessionKeys:
    """Number sessions: whole numbers of a typed file stay, anything else is numbered in the order it appears.

    Memory grows with the sessions that are named by text.
    """

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def read(self, raw: pl.Series) -> Integers:
        """Return a number for each value; ``UNKNOWN`` where there is none, or -1."""
        if raw.dtype.is_integer():
            return np.asarray(raw.cast(pl.Int64).fill_null(UNKNOWN).to_numpy())
        text = raw.cast(pl.String).str.strip_chars()
        kinds = text.drop_nulls().unique(maintain_order=True)
        numbers = [
            UNKNOWN if kind in {"", str(UNKNOWN)} else self.number.setdefault(kind, len(self.number))
            for kind in kinds.to_list()
        ]
        return np.asarray(text.replace_strict(kinds, numbers, default=UNKNOWN, return_dtype=pl.Int64).to_numpy())
