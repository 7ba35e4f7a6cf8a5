"""Count what each worker of this host has sent, where the other workers can read it: one writer for each number.

Comes in: the worker's own counts. Goes out: what the others together have in flight, and how it changed since it was
last read. A block is a file mapped into every worker's memory. *Levels* (requests in flight, those of them that wait,
prompt tokens not yet read) fall to nothing when a worker dies and the supervisor clears them; *totals* (tokens of an
API's limit, answers, late ones, their service) only grow, so that a new worker goes on from its forerunner's. This
module must never know a policy.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

LEVELS = 3  #: of a pool and a workload: in flight, of them waiting, prompt tokens not yet read
IN_FLIGHT, WAITING, UNREAD = range(LEVELS)
TOTALS = 4  #: of a pool: tokens of its limit taken, answers, of them late, Σ of their service in ns
TAKEN, ANSWERS, LATE, SERVICE_NS = range(TOTALS)


class Size(NamedTuple):
    """Say for how many workers, pools and workloads a block counts."""

    workers: int
    pools: int
    workloads: int

    @property
    def levels(self) -> int:
        """Return the levels of one worker."""
        return self.pools * self.workloads * LEVELS

    @property
    def column(self) -> int:
        """Return the numbers of one worker."""
        return self.levels + self.pools * TOTALS


class Column:
    """Hold the numbers of one worker: ``levels`` by pool, workload and kind, ``totals`` by pool and kind."""

    def __init__(self, size: Size, numbers: Ints) -> None:
        self.size = size
        self.levels = numbers[: size.levels].data
        self.totals = numbers[size.levels :].data

    def at(self, pool: int, workload: int) -> int:
        """Return where the levels of a pool and a workload begin."""
        return (pool * self.size.workloads + workload) * LEVELS


class Block:
    """Hold the numbers of all workers; each writes its own column and reads the others'."""

    def __init__(self, size: Size, numbers: Ints) -> None:
        self.size = size
        self._numbers = numbers.reshape(size.workers, size.column)

    def column(self, worker: int) -> Column:
        """Return the numbers that ``worker`` alone writes; its levels begin at nothing."""
        self.clear(worker)
        return self.kept(worker)

    def kept(self, worker: int) -> Column:
        """Return the numbers of ``worker`` as they are: who counts in them goes on with them."""
        return Column(self.size, self._numbers[worker])

    def clear(self, worker: int) -> None:
        """Set the levels of a worker that is no more to nothing: what it had in flight ended with it."""
        self._numbers[worker, : self.size.levels] = 0

    def others(self, worker: int) -> Ints:
        """Return the sums over all workers but one, as a column."""
        return np.asarray(self._numbers.sum(axis=0) - self._numbers[worker])


class Change(NamedTuple):
    """Say how what the others have at a pool changed, by workload."""

    pool: int
    workload: int
    in_flight: int
    waiting: int
    unread_tokens: int


class Totals(NamedTuple):
    """Say what the others took of an API's limit and finished at a pool since it was last read."""

    pool: int
    taken_tokens: int
    answers: int
    late: int
    service_ns: int


class Others:
    """Read what the other workers have, and say what changed; what they did before this one began is left out."""

    def __init__(self, block: Block, worker: int) -> None:
        self._block, self._worker = block, worker
        self._seen = block.others(worker)
        self._seen[: block.size.levels] = 0

    def changes(self) -> Iterator[Change | Totals]:
        """Yield how levels and totals changed since the last call; each change once."""
        size, now = self._block.size, self._block.others(self._worker)
        change, self._seen = now - self._seen, now
        if not change.any():
            return
        levels = change[: size.levels].reshape(size.pools, size.workloads, LEVELS)
        for pool, workload in np.argwhere(levels.any(axis=2)).tolist():
            yield Change(pool, workload, *levels[pool, workload].tolist())
        totals = change[size.levels :].reshape(size.pools, TOTALS)
        for pool in np.flatnonzero(totals.any(axis=1)).tolist():
            yield Totals(pool, *totals[pool].tolist())


def alone(pools: int, workloads: int) -> Column:
    """Return the numbers of a worker that has no others."""
    size = Size(1, pools, workloads)
    return Column(size, np.zeros(size.column, np.int64))


def make_block(path: Path, size: Size) -> Block:
    """Make the file of a block, all nothing, and map it."""
    path.write_bytes(bytes(size.workers * size.column * np.dtype(np.int64).itemsize))
    return open_block(path, size)


def open_block(path: Path, size: Size) -> Block:
    """Map the file of a block that another process made."""
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    return Block(size, np.frombuffer(mapped, np.int64))
