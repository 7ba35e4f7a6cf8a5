"""Keep whole numbers in order: one heap of four children per row of a matrix.

Comes in: ``heap [row, place]``, a row, how many of its places are in use, an entry. Goes out: the matrix changed in
place, with the least entry of the row at place 0. Four children halve the levels of a binary heap, and lie in one or
two cache lines. Cost: O(log size), no allocation. This module must never know what
an entry means.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.performance.compiled import kernel

Ints = npt.NDArray[np.int64]


@kernel
def push(heap: Ints, row: int, size: int, entry: int) -> None:
    """Put ``entry`` on a heap of ``size`` entries."""
    at = size
    while at > 0:
        parent = (at - 1) >> 2
        if heap[row, parent] <= entry:
            break
        heap[row, at] = heap[row, parent]
        at = parent
    heap[row, at] = entry


@kernel
def least_child(heap: Ints, row: int, first: int, last: int) -> int:
    """Return the place of the least of the children that begin at ``first``, of which those from ``last`` on are none.

    Four are compared without a branch: which is the least cannot be foretold.
    """
    if first + 4 <= last:
        left = first + (heap[row, first + 1] < heap[row, first])
        right = first + 2 + (heap[row, first + 3] < heap[row, first + 2])
        best: int = right if heap[row, right] < heap[row, left] else left
        return best
    child = first
    for other in range(first + 1, last):
        if heap[row, other] < heap[row, child]:
            child = other
    return child


@kernel
def pop(heap: Ints, row: int, size: int) -> None:
    """Take the least entry off a heap of ``size`` entries."""
    last = size - 1
    entry = heap[row, last]
    at = 0
    while True:
        first = 4 * at + 1
        if first >= last:
            break
        child = least_child(heap, row, first, last)
        if heap[row, child] >= entry:
            break
        heap[row, at] = heap[row, child]
        at = child
    heap[row, at] = entry


@kernel
def remove(heap: Ints, row: int, size: int, place: int) -> None:
    """Take the entry at ``place`` off a heap of ``size`` entries: raise it to the top, then take the top off."""
    at = place
    while at > 0:
        parent = (at - 1) >> 2
        heap[row, at] = heap[row, parent]
        at = parent
    pop(heap, row, size)
