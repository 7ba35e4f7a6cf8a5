"""Build a linear program from labelled blocks of NumPy arrays, and keep the names of the blocks.

Comes in: blocks of columns (``var``), blocks of rows (``rows``) and coefficients between them (``put``),
all in the user's units. Goes out: one :class:`Program` of plain arrays, scaled, ready for a solver, and
the way back: any column or row number → (block, multi-index) → the user's words. Only blocks are named,
not each row, so a million variables cost what their numbers cost. It must never know what a block means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

Numbers = float | npt.NDArray[np.float64]
Index = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


class Names(Protocol):
    """Name the elements of an axis: a list of strings, or anything that can make the name of element i when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Span:
    """State the range of a block: bounds, where its elements exist, the unit it is solved in, and if it is whole.

    Each field is a number or an array that broadcasts to the block's shape. ``unit`` is how much of the
    user's unit makes one of the solver's (1,000 chips, a million USD); it is applied in :meth:`Blocks.build`
    and nowhere else, so that the solver's tolerances mean the same in every family. ``whole`` columns take whole
    numbers of that unit.
    """

    lower: Numbers = 0.0
    upper: Numbers = np.inf
    where: Bools | None = None
    unit: Numbers = 1.0
    whole: bool | Bools = False


@dataclass(frozen=True, slots=True)
class Block:
    """Name a run of columns or rows; ``ids [shape]`` are their numbers, −1 where an element does not exist."""

    name: str
    axes: tuple[str, ...]
    ids: Index
    start: int
    size: int
    span: Span

    def pick(self, values: Numbers) -> Floats:
        """Lay ``values`` (a number, or broadcastable to the block's shape) along the elements that exist [size]."""
        if np.ndim(values) == 0:
            return np.full(self.size, values, dtype=np.float64)
        whole = np.broadcast_to(np.asarray(values, dtype=np.float64), self.ids.shape)
        return whole.ravel() if self.size == self.ids.size else whole[self.ids >= 0]

    def spread(self, values: Floats, absent: float = 0.0) -> Floats:
        """Lay the block's part of a whole vector out in the block's shape, ``absent`` where nothing exists."""
        part = values[self.start : self.start + self.size]
        if self.size == self.ids.size:
            return part.reshape(self.ids.shape)
        whole = np.full(self.ids.shape, absent)
        whole[self.ids >= 0] = part
        return whole


@dataclass(frozen=True, slots=True)
class Program:
    """Hold a mixed-integer linear program, minimise cost·x with row_lower ≤ matrix·x ≤ row_upper, in solver units.

    ``matrix`` is CSC [rows, columns]. A column in the user's unit is ``x · column_unit``; a row's activity
    is ``matrix·x · row_unit``; the objective in the user's unit is ``cost·x · objective_unit``.
    """

    cost: Floats
    lower: Floats
    upper: Floats
    integer: Bools
    matrix: sparse.csc_matrix
    row_lower: Floats
    row_upper: Floats
    column_unit: Floats
    row_unit: Floats
    objective_unit: float


class Blocks:
    """Gather blocks of columns, blocks of rows and the coefficients between them.

    ``labels`` gives, for each axis, the name of each element: ``{"scenario": ["low", "high"], ...}``.

    Examples
    --------
    >>> b = Blocks({"crop": ["wheat", "corn"]})
    >>> acres = b.var("acres", ("crop",))
    >>> b.price(acres, np.array([150.0, 230.0]))
    >>> land = b.rows("land", (), Span(upper=500.0, lower=-np.inf))
    >>> b.put(land.ids, acres.ids, 1.0)
    >>> b.build().matrix.toarray()
    array([[1., 1.]])
    >>> b.name_column(1)
    ('acres', (1,))
    """

    def __init__(self, labels: Mapping[str, Names]) -> None:
        self.labels = dict(labels)
        self.columns: dict[str, Block] = {}
        self.row_blocks: dict[str, Block] = {}
        self._costs: dict[str, Floats] = {}
        self._entries: list[tuple[Index, Index, Floats]] = []
        self._places: dict[tuple[int, int], npt.NDArray[np.intp]] = {}

    def var(
        self,
        name: str,
        axes: tuple[str, ...],
        span: Span | None = None,
    ) -> Block:
        """Add a block of columns over ``axes``."""
        return self._lay(name, axes, span or Span(), self.columns)

    def price(self, block: Block, cost: Numbers) -> None:
        """Set what a block of columns costs, in the user's money per user's unit; unpriced columns cost nothing."""
        self._costs[block.name] = block.pick(cost)

    def rows(self, name: str, axes: tuple[str, ...], span: Span) -> Block:
        """Add a block of rows over ``axes``: lower ≤ Σ coefficient·column ≤ upper."""
        return self._lay(name, axes, span, self.row_blocks)

    def put(self, rows: Index, columns: Index, values: Numbers) -> None:
        """Add coefficients; the three broadcast together, and what does not exist (−1) or is 0 is left out.

        Coefficients put twice at one place add up.
        """
        value = np.asarray(values, dtype=np.float64)
        keep = (rows >= 0) & (columns >= 0) & (value != 0)
        row, column, value = _over(rows, keep), _over(columns, keep), _over(value, keep)
        if keep.all():
            self._entries.append((row.ravel(), column.ravel(), value.ravel()))
        else:
            self._entries.append((row[keep], column[keep], value[keep]))

    def build(self, objective_unit: float = 1.0) -> Program:
        """Gather everything into one scaled program. Cost: O(entries)."""
        n_rows, n_columns = _length(self.row_blocks), _length(self.columns)
        column_unit = self._gather(self.columns, "unit")
        row_unit = self._gather(self.row_blocks, "unit")
        costs = [self._costs.get(name, np.zeros(block.size)) for name, block in self.columns.items()]
        matrix = sparse.csc_matrix(self._triplets(column_unit, row_unit), shape=(n_rows, n_columns), dtype=np.float64)
        return Program(
            cost=_concat(costs) * column_unit / objective_unit,
            lower=self._gather(self.columns, "lower") / column_unit,
            upper=self._gather(self.columns, "upper") / column_unit,
            integer=self._gather(self.columns, "whole") > 0,
            matrix=matrix,
            row_lower=self._gather(self.row_blocks, "lower") / row_unit,
            row_upper=self._gather(self.row_blocks, "upper") / row_unit,
            column_unit=column_unit,
            row_unit=row_unit,
            objective_unit=objective_unit,
        )

    def name_column(self, column: int) -> tuple[str, tuple[int, ...]]:
        """Find the block of a column and its multi-index."""
        return self._find(self.columns, column)

    def name_row(self, row: int) -> tuple[str, tuple[int, ...]]:
        """Find the block of a row and its multi-index."""
        return self._find(self.row_blocks, row)

    def words(self, axes: tuple[str, ...], index: tuple[int, ...]) -> list[str]:
        """Give the user's names of one element, axis by axis."""
        return [self.labels[axis][i] for axis, i in zip(axes, index, strict=True)]

    def _find(self, family: dict[str, Block], number: int) -> tuple[str, tuple[int, ...]]:
        """Find the block and the place in it of one number of the solver."""
        for block in family.values():
            if block.start <= number < block.start + block.size:
                key = (id(family), block.start)
                if key not in self._places:  # places rise with numbers, see _lay
                    self._places[key] = np.flatnonzero(block.ids.ravel() >= 0)
                place = np.unravel_index(self._places[key][number - block.start], block.ids.shape)
                return block.name, tuple(int(i) for i in place)
        raise IndexError(f"no block holds number {number}")

    def _lay(self, name: str, axes: tuple[str, ...], span: Span, family: dict[str, Block]) -> Block:
        """Lay one more block behind those of its family."""
        if name in family:
            raise ValueError(f"block {name!r} exists already")
        shape = tuple(len(self.labels[axis]) for axis in axes)
        start = _length(family)
        if span.where is None:
            size = int(np.prod(shape, dtype=np.int64))
            ids = np.arange(start, start + size, dtype=np.int32).reshape(shape)
        else:
            where = np.broadcast_to(span.where, shape)
            size = int(np.count_nonzero(where))
            ids = np.full(shape, -1, dtype=np.int32)
            ids[where] = np.arange(start, start + size, dtype=np.int32)
        family[name] = Block(name, axes, ids, start, size, span)
        return family[name]

    def _gather(self, family: dict[str, Block], field: str) -> Floats:
        """Join one field of the spans of all blocks of a family."""
        return _concat([block.pick(getattr(block.span, field)) for block in family.values()])

    def _triplets(self, column_unit: Floats, row_unit: Floats) -> tuple[Floats, tuple[Index, Index]]:
        """Join all entries as values and places, in the units of the solver."""
        rows = np.concatenate([entry[0] for entry in self._entries] or [np.zeros(0, dtype=np.int32)])
        columns = np.concatenate([entry[1] for entry in self._entries] or [np.zeros(0, dtype=np.int32)])
        values = _concat([entry[2] for entry in self._entries])
        if np.any(column_unit != 1.0):
            values *= column_unit[columns]
        if np.any(row_unit != 1.0):
            values /= row_unit[rows]
        return values, (rows, columns)


def _over(part: npt.NDArray[Number], keep: Bools) -> npt.NDArray[Number]:
    """Broadcast a part over the shape of ``keep``, when it has not got it already."""
    return part if part.shape == keep.shape else np.broadcast_to(part, keep.shape)


def _length(family: dict[str, Block]) -> int:
    """Count the members of all blocks of a family."""
    return sum(block.size for block in family.values())


def _concat(parts: list[Floats]) -> Floats:
    """Join arrays; none give an empty one."""
    return np.concatenate(parts).astype(np.float64, copy=False) if parts else np.zeros(0)
