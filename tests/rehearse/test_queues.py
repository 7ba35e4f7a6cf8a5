"""The trees of what happens next agree with a plain list, whatever was set before."""

from __future__ import annotations

import numpy as np
import pytest

from offtake.performance.compiled import Rows, entry
from offtake.performance.lines import LINE_BYTES, zeros_in_lines
from offtake.performance.replica import NEVER_NS
from offtake.rehearse.queues import ROOT, least_leaf, leaves_for, nodes_for, raise_all, second_leaf, set_key

AT = 8  # where the tree begins in its array


@entry
def put(tree: Rows, at: int, first: int, leaf: int, key: int) -> None:
    """Set a key."""
    set_key(tree, at, first, leaf, key)


@entry
def least_of(tree: Rows, at: int, first: int) -> int:
    """Return the least leaf."""
    return least_leaf(tree, at, first)


@entry
def second_of(tree: Rows, at: int, first: int, least: int) -> int:
    """Return the second least leaf."""
    return second_leaf(tree, at, first, least)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 64, 65, 513])
def test_a_tree_knows_its_least_and_second_least_leaf_the_lowest_of_equals(count: int) -> None:
    rng = np.random.default_rng(count)
    first, keys = leaves_for(count), np.full(count, NEVER_NS)
    tree = zeros_in_lines((AT + nodes_for(count),), np.dtype(np.int64))
    tree[:] = NEVER_NS
    for _ in range(600):
        leaf = int(rng.integers(count))
        keys[leaf] = rng.integers(20) if rng.random() < 0.9 else NEVER_NS
        put(tree, AT, first, leaf, int(keys[leaf]))
        least = least_of(tree, AT, first)
        assert (int(tree[AT + ROOT]), least) == (int(keys.min()), int(keys.argmin()))
        others = np.delete(keys, least)
        if others.size and others.min() < NEVER_NS:
            assert keys[second_of(tree, AT, first, least)] == others.min()
            assert second_of(tree, AT, first, least) != least


def test_a_tree_that_is_raised_at_once_is_the_one_that_is_set_leaf_by_leaf() -> None:
    first, size = leaves_for(70), nodes_for(70)
    tree = np.full(size, NEVER_NS)
    for leaf in range(70):
        put(tree, 0, first, leaf, (leaf * 31) % 70)
    raised = tree.copy()
    raised[:first] = NEVER_NS
    raise_all(raised, first)
    assert raised.tolist() == tree.tolist()


@pytest.mark.parametrize("rows", [3, 2**19])
def test_arrays_begin_on_a_cache_line_and_are_empty(rows: int) -> None:
    held = zeros_in_lines((rows, 2), np.dtype(np.int64))
    assert held.ctypes.data % LINE_BYTES == 0
    assert held.shape == (rows, 2)
    assert not held.any()
