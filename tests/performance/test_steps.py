from __future__ import annotations

import numpy as np
import pytest

from offtake.performance.steps import (
    StepTable,
    decode_step_ns,
    grid_cell,
    mixed_step_ns,
    prefill_attention_ns,
    scaled,
    step_ns,
)

TABLE = StepTable(
    token_grid=np.array([1.0, 11.0, 111.0]),
    token_ns=np.array([100.0, 200.0, 700.0]),
    prefill_grid=np.array([0.0, 100.0, 200.0]),
    prefill_ns=np.array([0.0, 50.0, 250.0]),
    batch_grid=np.array([1.0, 3.0]),
    context_grid=np.array([10.0, 30.0]),
    decode_attention_ns=np.array([[1.0, 2.0], [3.0, 8.0]]),
    decode_step_ns=np.array([[40.0, 60.0], [80.0, 140.0]]),
    overhead_ns=0.0,
)


CHUNKED = TABLE._replace(
    end_grid=np.array([32.0, 64.0]), chunk_grid=np.array([16.0, 32.0]), chunk_ns=np.array([[1.0, 2.0], [3.0, 5.0]])
)


def test_a_table_of_chunks_is_a_staircase_that_takes_the_place_of_the_curve() -> None:
    assert prefill_attention_ns(CHUNKED, 0.0, 16.0) == 1.0
    assert prefill_attention_ns(CHUNKED, 0.0, 17.0) == 2.0
    assert prefill_attention_ns(CHUNKED, 16.0, 16.0) == 1.0
    assert prefill_attention_ns(CHUNKED, 17.0, 16.0) == 3.0
    assert prefill_attention_ns(CHUNKED, 500.0, 400.0) == 5.0
    assert prefill_attention_ns(scaled(CHUNKED, 2.0), 500.0, 400.0) == 10.0


def test_a_pure_decode_step_is_bilinear_in_batch_and_mean_context() -> None:
    assert decode_step_ns(TABLE, 2.0, 20.0) == 80.0  # between 50 (batch 1) and 110 (batch 3)


def test_decode_goes_on_with_the_last_slope_beyond_the_grid() -> None:
    assert decode_step_ns(TABLE, 5.0, 10.0) == 120.0
    assert decode_step_ns(TABLE, 1.0, 50.0) == 80.0


def test_a_mixed_step_adds_tokens_prefill_attention_and_decode_attention() -> None:
    # 9 prompt tokens beside 2 decodes: 11 tokens (200), attention given as 7, decode attention 3.5 at context 20
    assert mixed_step_ns(TABLE, 9.0, 7.0, 2.0, 20.0) == 210.5


def test_a_prefill_alone_pays_no_decode_attention() -> None:
    assert mixed_step_ns(TABLE, 61.0, 0.0, 0.0, 0.0) == 450.0


def test_a_later_chunk_pays_for_the_context_before_it() -> None:
    assert prefill_attention_ns(TABLE, 0.0, 50.0) == 25.0
    assert prefill_attention_ns(TABLE, 100.0, 50.0) == 100.0
    assert prefill_attention_ns(TABLE, 150.0, 100.0) == 200.0


def test_chunks_of_a_prompt_add_up_to_the_whole_prompt() -> None:
    parts = [prefill_attention_ns(TABLE, done, 30.0) for done in (0.0, 30.0, 60.0, 90.0, 120.0)]
    assert sum(parts) == pytest.approx(prefill_attention_ns(TABLE, 0.0, 150.0))


def test_a_step_without_prefill_is_a_decode_step() -> None:
    assert step_ns(TABLE, 0.0, 0.0, 1.0, 10.0) == 40.0
    assert step_ns(TABLE, 10.0, 0.0, 1.0, 10.0) == 201.0


def test_overhead_is_paid_once_in_every_step() -> None:
    slow = TABLE._replace(overhead_ns=5.0)
    assert step_ns(slow, 0.0, 0.0, 1.0, 10.0) == 45.0
    assert step_ns(slow, 10.0, 0.0, 1.0, 10.0) == 206.0


@pytest.mark.parametrize("x, cell", [(0.0, 0), (1.0, 0), (10.9, 0), (11.0, 1), (111.0, 1), (500.0, 1)])
def test_a_grid_point_belongs_to_the_cell_that_it_begins(x: float, cell: int) -> None:
    assert grid_cell(TABLE.token_grid, x) == cell


def test_scaling_multiplies_every_time_exactly() -> None:
    slow = scaled(TABLE._replace(overhead_ns=3.0), 2.0)
    assert step_ns(slow, 0.0, 0.0, 2.0, 20.0) == 166.0
    assert step_ns(slow, 9.0, 14.0, 2.0, 20.0) == 427.0
    assert slow.token_grid is TABLE.token_grid
