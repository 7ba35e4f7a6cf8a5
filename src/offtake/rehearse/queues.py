"""Find the next thing that happens: a tournament tree over replicas, and a heap of timers.

Comes in: arrays and keys. Goes out: the least key and who holds it. Ties go to the lowest index or serial number, so
that the order never depends on the history of the structure. Cost: O(log n), no allocation. This module must never know
what a key means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.compiled import kernel

Ints = npt.NDArray[np.int64]


class Timers(NamedTuple):
    """Hold a binary heap of (``at_ns``, ``serial``, ``slot``) [capacity]; ``size [1]`` of them are in use."""

    at_ns: Ints
    serial: Ints
    slot: Ints
    size: Ints


def leaves_for(count: int) -> int:
    """Return the least power of two that is at least ``count`` and 2."""
    return int(max(2, 1 << max(count - 1, 0).bit_length()))


@kernel
def set_key(tree: Ints, at: int, leaves: int, leaf: int, key: int) -> None:
    """Set the key of ``leaf`` in the tree of ``leaves`` leaves stored in ``tree[at : at + 2·leaves]``."""
    node = leaves + leaf
    tree[at + node] = key
    node >>= 1
    while node > 0:
        least = min(tree[at + 2 * node], tree[at + 2 * node + 1])
        if tree[at + node] == least:
            break
        tree[at + node] = least
        node >>= 1


@kernel
def least_leaf(tree: Ints, at: int, leaves: int) -> int:
    """Return the leaf with the least key, the lowest of equals; ``tree[at + 1]`` is that key."""
    node = 1
    while node < leaves:
        node = 2 * node if tree[at + 2 * node] <= tree[at + 2 * node + 1] else 2 * node + 1
    return node - leaves


@kernel
def _before(timers: Timers, a: int, b: int) -> bool:
    """Tell whether entry ``a`` comes before entry ``b``."""
    if timers.at_ns[a] != timers.at_ns[b]:
        return timers.at_ns[a] < timers.at_ns[b]
    return timers.serial[a] < timers.serial[b]


@kernel
def _swap(timers: Timers, a: int, b: int) -> None:
    """Exchange two entries."""
    timers.at_ns[a], timers.at_ns[b] = timers.at_ns[b], timers.at_ns[a]
    timers.serial[a], timers.serial[b] = timers.serial[b], timers.serial[a]
    timers.slot[a], timers.slot[b] = timers.slot[b], timers.slot[a]


@kernel
def push_timer(timers: Timers, at_ns: int, serial: int, slot: int) -> None:
    """Put a timer on the heap."""
    at = timers.size[0]
    timers.at_ns[at] = at_ns
    timers.serial[at] = serial
    timers.slot[at] = slot
    timers.size[0] = at + 1
    while at > 0 and _before(timers, at, (at - 1) >> 1):
        _swap(timers, at, (at - 1) >> 1)
        at = (at - 1) >> 1


@kernel
def pop_timer(timers: Timers) -> int:
    """Take the first timer off the heap and return its slot."""
    slot = timers.slot[0]
    size = timers.size[0] - 1
    timers.size[0] = size
    _swap(timers, 0, size)
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _before(timers, child + 1, child):
            child += 1
        if _before(timers, at, child):
            break
        _swap(timers, at, child)
        at = child
    return slot
