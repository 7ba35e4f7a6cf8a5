from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offtake.errors import InputError, VerificationError
from offtake.performance.deployment import Deployment, resolve_all
from offtake.performance.goodput import Case, Lengths, Slo, evaluate, find_goodput
from offtake.performance.library import load_shipped
from offtake.performance.steps import ReplicaLimits, StepTable, scaled
from tests.performance.portfolio import H100, deployment_row, portfolio

STORED = load_shipped("llama-3.1-70b-h100-tp4")
SLO = Slo(2000.0, 50.0)


def chats(seed: int = 7) -> Lengths:
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(6.5, 1.0, 4000), 1, 20_000).astype(np.int32)
    answers = np.clip(rng.lognormal(5.0, 0.8, 4000), 1, 4000).astype(np.int32)
    return Lengths(prompts, answers)


def one_server(service_ms: float) -> tuple[StepTable, ReplicaLimits]:
    """Return a replica that serves one prompt at a time, each in one step of the same length."""
    flat, grid, cells = np.full(2, service_ms * 1e6), np.array([1.0, 200.0]), np.full((2, 2), 1e6)
    table = StepTable(grid, flat, grid - 1.0, np.zeros(2), grid, grid, 0 * cells, cells, 0.0)
    return table, ReplicaLimits(
        kv_blocks=100, block_tokens=16, batch_max=1, step_tokens_max=100, context_tokens_max=200
    )


def one_token(slo: Slo) -> Case:
    return Case(Lengths(np.array([100], np.int32), np.array([1], np.int32)), slo)


@pytest.mark.parametrize("rho, wait_p95", [(0.5, 2.0506), (0.8, 6.6203), (0.9, 14.1287)])
def test_the_rate_at_which_an_m_d_1_queue_breaks_its_time_is_the_exact_one(rho: float, wait_p95: float) -> None:
    # P95 of the wait of M/D/1, in service times (Erlang 1909); service 10 ms, so rho = rate / 100
    found = find_goodput(*one_server(10.0), one_token(Slo(10.0 * (1 + wait_p95), math.inf)))
    assert found.requests_per_s == pytest.approx(100 * rho, rel=0.03)
    assert found.stopped_by == "ttft"
    assert found.rho == pytest.approx(rho, rel=0.03)


def test_without_limits_the_rate_is_held_below_saturation() -> None:
    found = find_goodput(*one_server(10.0), one_token(Slo(math.inf, math.inf)))
    assert found.requests_per_s == pytest.approx(98.0)
    assert found.rho == pytest.approx(0.98)
    assert found.stopped_by == "saturated"


def test_an_impossible_time_gives_zero_and_says_which() -> None:
    found = find_goodput(*one_server(10.0), one_token(Slo(9.9, math.inf)))
    assert (found.requests_per_s, found.rho, found.stopped_by) == (0.0, 0.0, "ttft")
    slow = find_goodput(STORED.table, STORED.limits, Case(chats(), Slo(2000.0, 5.0)))
    assert (slow.requests_per_s, slow.stopped_by) == (0.0, "tpot")


def test_the_limits_are_met_at_the_rate_found() -> None:
    found = find_goodput(STORED.table, STORED.limits, Case(chats(), SLO))
    assert found.ttft_ms_p95 <= 2000
    assert found.tpot_ms_p95 <= 50
    assert found.rho < 1


def test_goodput_never_falls_when_the_service_level_is_relaxed() -> None:
    rates = [
        find_goodput(STORED.table, STORED.limits, Case(chats(), Slo(ttft, tpot))).requests_per_s
        for ttft, tpot in [(200.0, 25.0), (500.0, 25.0), (500.0, 50.0), (2000.0, 100.0), (math.inf, math.inf)]
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_goodput_never_falls_when_the_chip_is_quicker() -> None:
    rates = [
        find_goodput(scaled(STORED.table, slower), STORED.limits, Case(chats(), SLO)).requests_per_s
        for slower in (2.0, 1.5, 1.0, 0.7, 0.5)
    ]
    assert rates == sorted(rates)
    assert rates[-1] > 3 * rates[0]


def test_a_small_kv_cache_costs_goodput() -> None:
    small = STORED.limits._replace(kv_blocks=2_000)
    free = Case(chats(), Slo(math.inf, math.inf))
    full = find_goodput(STORED.table, STORED.limits, free).requests_per_s
    assert find_goodput(STORED.table, small, free).requests_per_s < 0.7 * full


def test_tokens_per_second_follow_from_the_rate() -> None:
    found = find_goodput(*one_server(10.0), one_token(Slo(math.inf, math.inf)))
    assert found.input_tokens_per_s == pytest.approx(9800.0)
    assert found.output_tokens_per_s == pytest.approx(98.0)


def test_requests_too_long_for_the_replica_count_as_missed() -> None:
    few = Lengths(np.array([100] * 99 + [500], np.int32), np.ones(100, np.int32))
    many = Lengths(np.array([100] * 90 + [500] * 10, np.int32), np.ones(100, np.int32))
    slo = Slo(10.0 * (1 + 6.6203), math.inf)
    strict = find_goodput(*one_server(10.0), Case(few, slo))
    assert strict.too_long_share == pytest.approx(0.01)
    clean = find_goodput(*one_server(10.0), one_token(slo))
    assert 0.9 * clean.requests_per_s < strict.requests_per_s < clean.requests_per_s  # 4 of 99 may miss, not 5 of 100
    none = find_goodput(*one_server(10.0), Case(many, slo))
    assert (none.requests_per_s, none.stopped_by) == (0.0, "length")


def test_the_same_seed_gives_the_same_answer_and_another_seed_nearly() -> None:
    case = Case(chats(), SLO, seed=1)
    found = find_goodput(STORED.table, STORED.limits, case)
    assert find_goodput(STORED.table, STORED.limits, case) == found
    other = find_goodput(STORED.table, STORED.limits, case._replace(seed=2))
    assert other != found
    assert other.requests_per_s == pytest.approx(found.requests_per_s, rel=0.08)


def test_an_empty_sample_is_a_fault() -> None:
    empty = np.zeros(0, np.int32)
    with pytest.raises(InputError, match="sample of request lengths is empty"):
        find_goodput(*one_server(10.0), Case(Lengths(empty, empty), SLO))


def test_a_kept_answer_is_used_again_only_for_the_same_question(tmp_path: Path) -> None:
    table, limits = one_server(10.0)
    case = one_token(Slo(math.inf, math.inf))
    found = find_goodput(table, limits, case, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert find_goodput(table, limits, case, tmp_path) == found
    kept.write_text(kept.read_text().replace(repr(found.requests_per_s), "1.5"))
    assert find_goodput(table, limits, case, tmp_path).requests_per_s == 1.5
    assert find_goodput(table, limits._replace(kv_blocks=99), case, tmp_path).requests_per_s > 90
    assert len(list(tmp_path.iterdir())) == 2


def resolved(performance: str = "table:llama-3.1-70b-h100-tp4", folder: str = ".") -> Deployment:
    row = deployment_row("h100", 4, performance)
    return resolve_all(portfolio(row, folder=folder))["assistant", "h100"]


def test_a_result_above_the_roofline_stops_the_run() -> None:
    weak = H100.model_copy(update={"peak_tflops": 100.0})
    deployment = resolved()
    deployment = replace(deployment, hardware=deployment.hardware._replace(chip=weak))
    with pytest.raises(VerificationError, match="memory and arithmetic allow at most"):
        evaluate(deployment, {"chat": Case(chats(), SLO)})


def test_measured_goodputs_are_kept_and_the_step_times_scaled_to_them(tmp_path: Path) -> None:
    case = Case(chats(), SLO)
    plain = find_goodput(STORED.table, STORED.limits, case).requests_per_s
    (tmp_path / "m.csv").write_text(f"workload,goodput_rps,like\nchat,{0.6 * plain},llama-3.1-70b-h100-tp4\n")
    fitted, found = evaluate(resolved("user:m.csv", str(tmp_path)), {"chat": case, "other": case})
    assert fitted.fitted
    assert found["chat"].requests_per_s == pytest.approx(0.6 * plain)
    assert found["chat"].stopped_by == "measured"
    assert found["other"].requests_per_s == pytest.approx(0.6 * plain, rel=0.02)
    assert fitted.stored.table.decode_step_ns[0, 0] > STORED.table.decode_step_ns[0, 0]


def test_a_measured_goodput_of_a_whole_node_is_refused(tmp_path: Path) -> None:
    case = Case(chats(), SLO)
    plain = find_goodput(STORED.table, STORED.limits, case).requests_per_s
    (tmp_path / "m.csv").write_text(f"workload,goodput_rps,like\nchat,{8 * plain},llama-3.1-70b-h100-tp4\n")
    with pytest.raises(InputError, match=r"memory and arithmetic allow at most"):
        evaluate(resolved("user:m.csv", str(tmp_path)), {"chat": case})


def test_a_sparse_model_on_a_whole_node_is_refused_by_its_data_sheet(tmp_path: Path) -> None:
    stored = load_shipped("qwen3-235b-h100-tp8")
    case = Case(chats(), SLO)
    plain = find_goodput(stored.table, stored.limits, case).requests_per_s
    (tmp_path / "m.csv").write_text(f"workload,goodput_rps,like\nchat,{48 * plain},qwen3-235b-h100-tp8\n")
    row = deployment_row("h100", 8, "user:m.csv")
    rows = portfolio(row, stand_in="qwen3-235b", folder=str(tmp_path))
    with pytest.raises(InputError, match=r"times as fast as h100_sxm|allow at most"):
        evaluate(resolve_all(rows)["assistant", "h100"], {"chat": case})


def test_a_front_end_delays_the_first_token_and_takes_no_step() -> None:
    table, limits = one_server(10.0)
    plain = find_goodput(table, limits, one_token(Slo(math.inf, math.inf)))
    found = find_goodput(table._replace(request_ns=7e6), limits, one_token(Slo(math.inf, math.inf)))
    assert found.requests_per_s == plain.requests_per_s
    assert found.ttft_ms_p95 == pytest.approx(plain.ttft_ms_p95 + 7.0)
    strict = find_goodput(table, limits, one_token(Slo(53.0, math.inf)))
    found = find_goodput(table._replace(request_ns=7e6), limits, one_token(Slo(60.0, math.inf)))
    assert found.requests_per_s == strict.requests_per_s
