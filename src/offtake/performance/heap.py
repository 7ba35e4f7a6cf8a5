"""Keep whole numbers in order: one binary heap per row of a matrix.

Comes in: ``heap [row, place]``, a row, how many of its places are in use, an entry. Goes out: the matrix changed in
place, with the least entry of the row at place 0. Cost: O(log size), no allocation. This module must never know what
an entry means.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.performance.compiled import kernel

Ints = npt.NDArray[np.int64]


@kernel
def push(heap: Ints, row: int, size: int, entry: int) -> None:
    """Put ``entry`` on a binary heap of ``size`` entries."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[row, parent] <= entry:
            break
        heap[row, at] = heap[row, parent]
        at = parent
    heap[row, at] = entry


@kernel
def pop(heap: Ints, row: int, size: int) -> None:
    """Take the least entry off a binary heap of ``size`` entries."""
    last = size - 1
    entry = heap[row, last]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and heap[row, child + 1] < heap[row, child]:
            child += 1
        if heap[row, child] >= entry:
            break
        heap[row, at] = heap[row, child]
        at = child
    heap[row, at] = entry
