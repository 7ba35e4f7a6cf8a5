from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from offtake.errors import InputError
from offtake.performance.measurements import read_measured


def written(folder: Path, text: str) -> Path:
    path = folder / "bench.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_benchmark_is_read_under_the_names_that_vllm_and_inferencex_use(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "name,isl,osl,max_concurrency,random_range_ratio,mean_ttft_ms,mean_tpot_ms,version\n"
        "a,1024,512,64,0.8,250.5,20.25,0.24.0\n"
        "b,8192,1024,4,0.8,900,11,\n",
    )
    first, second = read_measured(path)
    assert (first.deployment, second.deployment) == ("a", "b")
    (point,) = first.points
    assert point.load == (1024.0, 512.0, 64.0, 0.0, 0.8)
    assert (point.ttft_ms, point.tpot_ms, point.row, point.backend_version) == (250.5, 20.25, 2, "0.24.0")
    assert (point.ttft_statistic, point.tpot_statistic) == ("mean", "mean")
    assert second.points[0].row == 3


def test_a_percentile_is_kept_as_what_it_is_where_there_is_no_mean(tmp_path: Path) -> None:
    path = written(tmp_path, "isl,osl,rate,p95_ttft_ms,median_tpot_ms\n1000,100,2,800,20\n")
    (point,) = read_measured(path)[0].points
    assert (point.ttft_statistic, point.tpot_statistic) == ("p95", "p50")
    assert point.in_flight == pytest.approx(2 * (800 + 20 * 99) / 1000)


def test_time_per_token_follows_from_throughput_at_a_given_concurrency(tmp_path: Path) -> None:
    path = written(tmp_path, "isl,osl,conc,ttft_ms,output_throughput,replicas\n1000,101,20,500,2020,2\n")
    (point,) = read_measured(path)[0].points
    assert point.load.concurrency == 10
    assert point.tpot_ms == pytest.approx(5.0)  # 10 × 101 tokens / 1010 tokens/s = 1 s = 500 ms + 100 × 5 ms


def test_every_fault_of_a_benchmark_is_told_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "isl,osl,concurrency,ttft_ms,tpot_ms\n1024,512,none,100,20\n1024,,4,100,20\n1024,512,4,,20\n1024,512,4,100,-3\n",
    )
    with pytest.raises(InputError) as caught:
        read_measured(path)
    told = [(fault.row, fault.column) for fault in caught.value.faults]
    assert told == [(2, "concurrency"), (3, "output_tokens"), (4, "ttft_ms_mean"), (5, "tpot_ms_mean")]


def test_missing_columns_are_named_with_the_nearest_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_measured(written(tmp_path, "input_tokenz,osl,conc,ttft_ms\n1,2,3,4\n"))
    problems = [str(fault) for fault in caught.value.faults]
    assert len(problems) == 2
    assert "'input_tokenz'" in problems[0]
    assert "output_tokens_per_s" in problems[1]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_measured(tmp_path / "nowhere.csv")
    assert len(caught.value.faults) == 1


def test_a_ledger_becomes_windows_of_equal_count_with_the_load_by_littles_law(tmp_path: Path) -> None:
    count = 800
    frame = pl.DataFrame(
        {
            "arrival_ns": [index * 100_000_000 for index in range(count)],  # ten a second
            "input_tokens": [1000] * count,
            "output_tokens": [11] * count,
            "ttft_ms": [300.0] * count,
            "e2e_ms": [500.0] * count,
            "status": ["served"] * count,
        }
    )
    path = tmp_path / "ledger.parquet"
    frame.write_parquet(path)
    (measured,) = read_measured(path)
    assert measured.ledger is not None
    assert len(measured.points) == 4
    for point in measured.points:
        assert point.ttft_ms == 300.0
        assert point.tpot_ms == pytest.approx(20.0)
        assert point.load.concurrency == pytest.approx(5.0, rel=0.01)  # ten a second, half a second each


def test_a_ledger_counts_only_what_was_served_and_every_second_request_of_two_replicas(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    lines = [f"{index},1000,10,100,200,{'served' if index % 5 else 'refused'}" for index in range(10)]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens,ttft_ms,e2e_ms,status", *lines]), encoding="utf-8")
    (measured,) = read_measured(path, replicas=2)
    assert measured.ledger is not None
    assert (measured.ledger.arrival_ns / 1e9).tolist() == [0.0, 2.0, 5.0, 7.0]  # of 1 2 3 4 6 7 8 9, from the first


def test_a_ledger_with_impossible_times_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(
        "arrival_s,input_tokens,output_tokens,ttft_ms,e2e_ms\n0,10,0,1,2\n1,10,5,x,2\n2,10,5,9,8\n", encoding="utf-8"
    )
    with pytest.raises(InputError) as caught:
        read_measured(path)
    assert [(fault.row, fault.column) for fault in caught.value.faults] == [(2, "output_tokens"), (3, "ttft_ms")]


def test_a_ledger_of_several_pools_must_say_which(tmp_path: Path) -> None:
    path = tmp_path / "outcome.csv"
    rows = ["0,10,5,1,2,a", "1,10,5,1,2,b", "2,10,5,1,2,a"]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens,ttft_ms,e2e_ms,pool", *rows]), encoding="utf-8")
    with pytest.raises(InputError, match="Give --pool: a, b"):
        read_measured(path)
    with pytest.raises(InputError, match="no such pool"):
        read_measured(path, pool="c")
    (measured,) = read_measured(path, pool="a")
    assert measured.ledger is not None
    assert measured.ledger.arrival_ns.tolist() == [0, 2_000_000_000]
