"""A disaggregated replica: two stages equal to the plain twin, with the transfer between them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.performance.dense import prepare
from offtake.performance.disaggregated import Disaggregation, simulate_disaggregated, transfer_ns_per_token
from offtake.performance.goodput import Case, Lengths, Pair, Slo, Workers, find_goodput_disaggregated
from offtake.performance.steps import ReplicaLimits, StepTable
from tests.performance.replica_twin import Request, walk
from tests.performance.test_replica import constant_table, requests_of, table_of

PREFILL = ReplicaLimits(40, 16, 8, 64, 10**6)
DECODE = ReplicaLimits(20, 16, 8, 64, 10**6)  # short of memory, so that requests are pushed back


def of(table: StepTable, prefill: int, decode: int, **times: Any) -> Disaggregation:
    return Disaggregation(prepare([(table, PREFILL)]), prepare([(table, DECODE)]), prefill, decode, **times)


@pytest.mark.plain
def test_the_first_token_is_out_when_the_cache_has_travelled() -> None:
    replica = of(constant_table(1_000.0), 1, 1, transfer_ns_per_token=10.0, transfer_ns=5)
    rows = [np.array(column) for column in ([0, 0, 0], [20, 30, 10], [3, 1, 2])]
    outcome = simulate_disaggregated(replica, *rows)
    # all three prompts are done at 1,000; 20 tokens take 205 ns, then 10 tokens 105 ns; one token needs no transfer
    assert outcome.first_token_ns.tolist() == [1_205, 1_000, 1_310]
    assert outcome.finish_ns.tolist() == [3_205, 1_000, 3_205]  # the third joins the step that begins at 2,205
    assert int(outcome.decode_rows.prefill_tokens.sum()) == 0
    assert int(outcome.prefill_rows.decode_tokens.sum()) == 0


def twin_stages(table: StepTable, requests: list[Any], ns_per_token: float) -> list[tuple[int, int]]:
    """Walk the two stages one step at a time, a worker each; return first tokens and finishes."""
    prefill = [Request(t, i, 1, label=k) for k, (t, i, _) in enumerate(requests)]
    walk(table, PREFILL, prefill)
    free_ns, sent = 0, []
    for k in sorted(range(len(requests)), key=lambda k: (prefill[k].finish_ns, k)):
        if requests[k][2] > 1:
            free_ns = max(free_ns, prefill[k].finish_ns) + round(requests[k][1] * ns_per_token)
            sent.append((free_ns, k))
    decode = {
        k: Request(at, requests[k][1], requests[k][2], label=n, cached=requests[k][1], first_token_ns=at)
        for n, (at, k) in enumerate(sorted(sent))
    }
    walk(table, DECODE, list(decode.values()))
    ends = [decode.get(k, prefill[k]) for k in range(len(requests))]
    return [(end.first_token_ns, end.finish_ns) for end in ends]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing_ns", [2_000.0, 20_000.0])
def test_two_workers_equal_two_twins_one_after_the_other(seed: int, spacing_ns: float) -> None:
    table, columns = table_of(seed), requests_of(seed, 80, spacing_ns)
    outcome = simulate_disaggregated(of(table, 1, 1, transfer_ns_per_token=37.0), *columns)
    requests = [tuple(map(int, row)) for row in zip(*columns, strict=True)]
    found = list(zip(outcome.first_token_ns.tolist(), outcome.finish_ns.tolist(), strict=True))
    assert found == twin_stages(table, requests, 37.0)


def test_every_worker_shares_the_work_and_every_token_is_given_once() -> None:
    arrival, inputs, outputs = requests_of(3, 600, 500.0)
    outcome = simulate_disaggregated(of(table_of(3), 3, 4, transfer_ns_per_token=1.0), arrival, inputs, outputs)
    prefill, decode = outcome.prefill_rows, outcome.decode_rows
    assert (prefill.finished > 150).all()
    assert (decode.finished > 110).all()
    assert prefill.prefill_tokens.sum() == inputs.sum()
    assert decode.decode_tokens.sum() == outputs.sum() - 600
    assert (decode.kv_free == DECODE.kv_blocks).all()
    assert (outcome.first_token_ns <= outcome.finish_ns).all()


def test_a_request_that_no_decode_worker_can_hold_is_refused() -> None:
    rows = [np.array([value]) for value in (0, 300, 21)]
    with pytest.raises(InputError, match="longer than the 320 tokens"):
        simulate_disaggregated(of(table_of(0), 1, 1, transfer_ns_per_token=1.0), *rows)


def test_the_transfer_time_of_a_token_follows_from_bytes_and_bandwidth() -> None:
    assert transfer_ns_per_token(163_840.0, 50.0) == pytest.approx(3_276.8)  # Llama 70B, 8-bit KV, over 400 Gb/s


def pair(prefill: int, decode: int, ns_per_token: float = 0.0) -> Pair:
    """Return workers that take 10 ms for any prompt, one at a time, and 1 ms for a step of up to 20 answers."""
    flat, grid, cells = np.full(2, 10e6), np.array([1.0, 200.0]), np.full((2, 2), 1e6)
    table = StepTable(grid, flat, grid - 1.0, np.zeros(2), grid, grid, 0 * cells, cells, 0.0)
    return Pair(
        Workers(table, ReplicaLimits(100, 16, 1, 100, 200), prefill),
        Workers(table, ReplicaLimits(1_000, 16, 20, 100, 200), decode),
        ns_per_token,
    )


def answers(tokens: int, slo: Slo) -> Case:
    return Case(Lengths(np.array([100], np.int32), np.array([tokens], np.int32)), slo)


def test_the_goodput_of_a_pair_is_that_of_its_narrower_side(tmp_path: Path) -> None:
    free = Slo(math.inf, math.inf)
    narrow = find_goodput_disaggregated(pair(1, 1), answers(11, free), tmp_path)
    assert narrow.requests_per_s == pytest.approx(98.0, rel=0.01)  # one prompt in 10 ms
    assert find_goodput_disaggregated(pair(3, 1), answers(11, free)).requests_per_s == pytest.approx(294.0, rel=0.01)
    assert find_goodput_disaggregated(pair(9, 1), answers(100, free)).requests_per_s == pytest.approx(198.0, rel=0.03)
    assert find_goodput_disaggregated(pair(1, 1), answers(11, free), tmp_path) == narrow
    assert len(list(tmp_path.iterdir())) == 1


def test_a_slow_link_costs_time_to_the_first_token() -> None:
    slo = Slo(60.0, math.inf)
    quick = find_goodput_disaggregated(pair(1, 1), answers(11, slo)).requests_per_s
    slow = find_goodput_disaggregated(pair(1, 1, 200_000.0), answers(11, slo)).requests_per_s  # 20 ms a request
    assert slow < 50.0 < quick
