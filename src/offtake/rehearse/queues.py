"""Find the next thing that happens: a tournament of eights over replicas, and a heap of timers.

Comes in: arrays and keys. Goes out: the least key and who holds it. Ties go to the lowest index or serial number, so
that the order never depends on the history of the structure. Cost: O(log n), no allocation. This module must never know
what a key means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.compiled import aside, kernel
from offtake.performance.replica_state import NEVER_NS

Ints = npt.NDArray[np.int64]


CHILD_BITS = 3
CHILDREN = 1 << CHILD_BITS  #: keys of one cache line
ROOT = CHILDREN - 1  #: so that the children of a node, from ``8 (node - ROOT) + 8`` on, fill one line


class Timers(NamedTuple):
    """Hold a binary heap of (``at_ns``, ``serial``, ``slot``) [capacity]; ``size [1]`` of them are in use."""

    at_ns: Ints
    serial: Ints
    slot: Ints
    size: Ints


def leaves_for(count: int) -> int:
    """Return where the leaves of a tree of ``count`` begin: the root lies at ``ROOT``, eight children in a line."""
    width, first = CHILDREN, CHILDREN
    while width < count:
        width, first = width * CHILDREN, (first - ROOT) * CHILDREN + CHILDREN
    return first


def nodes_for(count: int) -> int:
    """Return the numbers that a tree of ``count`` leaves takes: whole lines."""
    return leaves_for(count) - (-count // CHILDREN) * CHILDREN


def raise_all(tree: Ints, first: int) -> None:
    """Set every node above the leaves, which begin at ``first``, to the least of its children."""
    for node in range(first - 1, ROOT - 1, -1):
        begin = (node - ROOT) * CHILDREN + CHILDREN
        if begin < len(tree):
            tree[node] = tree[begin : begin + CHILDREN].min()


@aside
def set_key(tree: Ints, at: int, first: int, leaf: int, key: int) -> None:
    """Set the key of ``leaf`` in the tree that begins at ``tree[at]``; its leaves begin at ``first``."""
    node = first + leaf
    before = tree[at + node]
    if before == key:
        return
    tree[at + node] = key
    while node > ROOT:
        line = at + (node & -CHILDREN)
        node = (node >> CHILD_BITS) + ROOT - 1
        held = tree[at + node]
        least = key
        if key < before:
            if key >= held:
                break
        else:
            if before > held:
                break
            least = tree[line]
            for child in range(1, CHILDREN):
                least = min(least, tree[line + child])
            if least == held:
                break
        tree[at + node] = least
        before, key = held, least


@kernel
def least_leaf(tree: Ints, at: int, first: int) -> int:
    """Return the leaf with the least key, the lowest of equals; ``tree[at + ROOT]`` is that key."""
    key = tree[at + ROOT]
    node = ROOT
    while node < first:
        line = (node - ROOT) * CHILDREN + CHILDREN
        node = line + CHILDREN - 1
        for child in range(CHILDREN - 2, -1, -1):
            node = line + child if tree[at + line + child] == key else node
    return node - first


@aside
def second_leaf(tree: Ints, at: int, first: int, least: int) -> int:
    """Return the leaf with the least key but that of ``least``, which holds the least of all."""
    node = found = first + least
    best = NEVER_NS
    while node > ROOT:
        line = node & -CHILDREN
        for child in range(CHILDREN):
            key = tree[at + line + child]
            if key < best and line + child != node:
                best, found = key, line + child
        node = (node >> CHILD_BITS) + ROOT - 1
    while found < first:
        line = (found - ROOT) * CHILDREN + CHILDREN
        found = line + CHILDREN - 1
        for child in range(CHILDREN - 2, -1, -1):
            found = line + child if tree[at + line + child] == best else found
    return found - first


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
