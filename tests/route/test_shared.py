"""Workers count what each has sent where the others read it; what a dead one held is gone, no count is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offtake.route.shared import (
    ANSWERS,
    IN_FLIGHT,
    TAKEN,
    TOTALS,
    UNREAD,
    WAITING,
    Change,
    Others,
    Size,
    Totals,
    make_block,
    open_block,
)

SIZE = Size(3, 4, 2)


def test_a_worker_reads_what_the_others_have_and_not_its_own(tmp_path: Path) -> None:
    mine = make_block(tmp_path / "block", SIZE)
    theirs = open_block(tmp_path / "block", SIZE)
    others, own, other = Others(mine, 0), mine.column(0), theirs.column(2)
    own.levels[own.at(1, 1) + IN_FLIGHT] += 9
    other.levels[other.at(3, 1) + IN_FLIGHT] += 2
    other.levels[other.at(3, 1) + WAITING] += 1
    other.levels[other.at(3, 1) + UNREAD] += 700
    other.totals[2 * TOTALS + TAKEN] += 50
    assert list(others.changes()) == [Change(3, 1, 2, 1, 700), Totals(2, 50, 0, 0, 0)]
    assert list(others.changes()) == []
    other.levels[other.at(3, 1) + WAITING] -= 1
    assert list(others.changes()) == [Change(3, 1, 0, -1, 0)]


def test_what_a_dead_worker_had_in_flight_is_gone_and_what_it_finished_stays(tmp_path: Path) -> None:
    block = make_block(tmp_path / "block", SIZE)
    others, dead = Others(block, 0), block.column(1)
    dead.levels[dead.at(0, 0) + IN_FLIGHT] += 5
    dead.totals[ANSWERS] += 7
    assert list(others.changes()) == [Change(0, 0, 5, 0, 0), Totals(0, 0, 7, 0, 0)]
    block.clear(1)
    assert list(others.changes()) == [Change(0, 0, -5, 0, 0)]
    heir = block.column(1)
    heir.totals[ANSWERS] += 1
    assert list(others.changes()) == [Totals(0, 0, 1, 0, 0)]


def test_a_new_worker_sees_what_is_in_flight_and_no_history(tmp_path: Path) -> None:
    block = make_block(tmp_path / "block", SIZE)
    first = block.column(0)
    first.levels[first.at(2, 0) + IN_FLIGHT] += 3
    first.totals[TAKEN] += 10_000
    assert list(Others(block, 1).changes()) == [Change(2, 0, 3, 0, 0)]


@pytest.mark.parametrize("seed", range(4))
def test_changes_add_up_to_what_the_others_have_whatever_dies_on_the_way(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng([seed, 41])
    block = make_block(tmp_path / "block", SIZE)
    others, columns, known = Others(block, 0), [block.column(worker) for worker in range(3)], np.zeros((4, 2), int)
    held = np.zeros((3, 4, 2), int)
    for _ in range(400):
        worker, pool, load = (int(rng.integers(0, most)) for most in (3, 4, 2))
        change = int(rng.integers(-held[worker, pool, load], 3))
        columns[worker].levels[columns[worker].at(pool, load) + IN_FLIGHT] += change
        held[worker, pool, load] += change
        if rng.random() < 0.05:
            block.clear(worker)
            held[worker] = 0
        if rng.random() < 0.3:
            for each in others.changes():
                assert isinstance(each, Change)
                known[each.pool, each.workload] += each.in_flight
            assert known.tolist() == held[1:].sum(axis=0).tolist()
