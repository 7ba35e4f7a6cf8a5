from __future__ import annotations

import numpy as np
import pytest

from offtake.performance.closed_loop import Door
from offtake.performance.dense import prepare
from offtake.performance.overhead import (
    Costs,
    Host,
    Layers,
    engine_on,
    front_from,
    host_from,
    host_of,
    with_host,
)
from offtake.performance.silicon_ranks import folded
from offtake.performance.steps import ReplicaLimits, StepTable, decode_step_ns, mixed_step_ns

PAIR = np.array([1.0, 101.0])
SQUARE = np.array([[100.0, 200.0], [300.0, 400.0]])
CHIP = StepTable(PAIR, np.array([50.0, 1050.0]), PAIR - 1, np.array([0.0, 10.0]), PAIR, PAIR, SQUARE / 10, SQUARE, 0.0)
LIMITS = ReplicaLimits(1000, 16, 100, 100, 1000)
HOST = Host(7.0, 3.0, 500.0, 11.0)


def test_a_decode_step_pays_per_step_and_per_sequence() -> None:
    assert decode_step_ns(with_host(CHIP, HOST), 1.0, 1.0) == 100.0 + 7.0 + 3.0
    assert decode_step_ns(with_host(CHIP, HOST), 101.0, 1.0) == 300.0 + 7.0 + 303.0


def test_launching_is_hidden_where_the_chip_is_slower() -> None:
    table = with_host(CHIP, HOST)
    assert mixed_step_ns(table, 1.0, 0.0, 0.0, 0.0) == 500.0 + 7.0 + 11.0
    assert mixed_step_ns(table, 101.0, 0.0, 0.0, 0.0) == 1050.0 + 7.0 + 11.0


def test_dense_tables_hold_what_the_plain_functions_say() -> None:
    table = with_host(CHIP, HOST)
    tables = prepare([(table, LIMITS)])
    for tokens in (1, 30, 100):
        assert tables.token_ns[0, tokens] == pytest.approx(mixed_step_ns(table, float(tokens), 0.0, 0.0, 0.0))
    for batch in (1, 40, 100):
        assert tables.cells[0, batch, 0, 0] == pytest.approx(decode_step_ns(table, float(batch), 1.0))
        beside = mixed_step_ns(table, 10.0, 0.0, float(batch), 1.0) - mixed_step_ns(table, 10.0 + batch, 0.0, 0.0, 0.0)
        assert tables.cells[0, batch, 0, 2] == pytest.approx(beside)


def test_constants_turn_into_nanoseconds_by_layers_and_doublings_of_chips() -> None:
    costs = Costs(1.0, 0.5, 0.25, 0.1, 0.2, 0.4, 0.3, 2.0, 4.0, 5.0)
    assert host_from(costs, Layers(10), 4) == pytest.approx(Host(1.5e6, 0.5e6, 1e6, 3e6, 7e6))
    assert host_from(costs, Layers(10, sparse=True), 1) == pytest.approx(Host(1e6, 0.5e6, 3e6, 3e6, 7e6))
    assert host_from(costs, Layers(10, sparse=True, latent=True), 1).launch_ns == pytest.approx(7e6)
    assert front_from(costs) == Door(2_000_000, 4_000, 5_000_000)


def test_an_engine_without_constants_of_its_own_costs_as_much_as_vllm() -> None:
    assert host_of("another", Layers(32), 2) == host_of("vllm", Layers(32), 2)


def test_experts_in_one_kernel_are_launched_as_fast_as_a_plain_layer() -> None:
    sparse = Layers(36, sparse=True)
    assert host_of(engine_on("trtllm", "b200_sxm"), sparse, 8) == host_of("trtllm", Layers(36), 8)
    assert (
        host_of(engine_on("trtllm", "h200_sxm"), sparse, 8).launch_ns > 2 * host_of("trtllm", Layers(36), 8).launch_ns
    )
    assert engine_on("vllm", "b200_sxm") == "vllm"


def test_ranks_step_together_as_long_as_the_slowest() -> None:
    table, limits = folded(CHIP, LIMITS, 4, 50)
    assert limits.kv_blocks == 4000
    assert limits.batch_max == 400
    assert decode_step_ns(table, 4.0, 1.0) == decode_step_ns(CHIP, 1.0, 1.0)
    assert decode_step_ns(table, 2.0, 1.0) == decode_step_ns(CHIP, 1.0, 1.0)
    assert decode_step_ns(table, 404.0, 1.0) == decode_step_ns(CHIP, 101.0, 1.0)
    one_prompt = mixed_step_ns(CHIP, 50.0, 0.0, 0.0, 0.0)
    assert mixed_step_ns(table, 50.0, 0.0, 0.0, 0.0) == pytest.approx(one_prompt)
    assert mixed_step_ns(table, 200.0, 0.0, 0.0, 0.0) == pytest.approx(one_prompt)
    assert mixed_step_ns(table, 400.0, 0.0, 0.0, 0.0) > one_prompt


def test_one_rank_is_left_as_it_is() -> None:
    assert folded(CHIP, LIMITS, 1, 50) == (CHIP, LIMITS)
