from __future__ import annotations

import numpy as np
import pytest

from offtake.demand.profile import load_profile
from offtake.demand.shape import blocks_of_week

CODING_AND_CHAT = np.array([load_profile("coding").hour_of_week, load_profile("chat").hour_of_week])


@pytest.mark.parametrize("n_blocks", [1, 2, 4, 8, 24, 100])
def test_blocks_keep_every_weekly_mean_exactly(n_blocks: int) -> None:
    blocks = blocks_of_week(CODING_AND_CHAT, n_blocks)
    assert blocks.level @ blocks.share == pytest.approx(CODING_AND_CHAT.mean(axis=1), abs=1e-12)
    assert blocks.share.sum() == pytest.approx(1.0)
    assert blocks.share.size == n_blocks
    assert set(blocks.block_of_hour.tolist()) == set(range(n_blocks))


@pytest.mark.parametrize("weight", [(1.0, 1.0), (1.0, 0.0), (0.1, 50.0)])
def test_the_first_block_holds_the_peak_and_is_at_least_95_percent_of_it(weight: tuple[float, float]) -> None:
    share = np.array(weight) / sum(weight)
    total = share @ CODING_AND_CHAT
    blocks = blocks_of_week(CODING_AND_CHAT, 4, np.array(weight))
    assert blocks.block_of_hour[total.argmax()] == 0
    assert share @ blocks.level[:, 0] >= 0.95 * total.max()


def test_blocks_run_from_busy_to_quiet() -> None:
    blocks = blocks_of_week(CODING_AND_CHAT, 6)
    assert np.all(np.diff(blocks.level.sum(axis=0)) <= 0)


def test_a_workload_busy_at_other_hours_gets_blocks_of_its_own() -> None:
    day = np.tile(np.repeat([2.0, 0.0], 12), 7)
    night = np.tile(np.repeat([0.2, 1.8], 12), 7)
    blocks = blocks_of_week(np.array([day, night]), 2)
    assert blocks.level.tolist() == [[2.0, 0.0], [pytest.approx(0.2), pytest.approx(1.8)]]


def test_a_flat_week_is_one_block_whatever_is_asked() -> None:
    blocks = blocks_of_week(np.ones((2, 168)), 4)
    assert blocks.share.tolist() == [1.0]
    assert blocks.level.tolist() == [[1.0], [1.0]]


def test_one_block_is_the_plain_week() -> None:
    assert blocks_of_week(CODING_AND_CHAT, 1).level[:, 0] == pytest.approx(CODING_AND_CHAT.mean(axis=1))


def test_the_same_shapes_give_the_same_blocks() -> None:
    one, other = (blocks_of_week(CODING_AND_CHAT.copy(), 5) for _ in range(2))
    assert one.block_of_hour.tolist() == other.block_of_hour.tolist()


def test_a_number_of_blocks_that_no_week_has_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 168, not 0"):
        blocks_of_week(CODING_AND_CHAT, 0)
