from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offtake.demand.generate import mix
from offtake.demand.rates import read_rates
from offtake.demand.workload import Week, traffic_at_rates
from offtake.errors import Fault, InputError
from tests.demand.real import real_trace

HEAD = "workload,hours_from_start,requests_per_minute\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "rates.csv"
    path.write_text(text)
    return path


def faults_of(path: Path) -> list[Fault]:
    with pytest.raises(InputError) as found:
        read_rates(path)
    return found.value.faults


def test_each_workload_has_its_curve_with_its_mean(tmp_path: Path) -> None:
    curves = read_rates(written(tmp_path, HEAD + "b,0.5,60\na,0.5,10\nb,1.5,180\n"))
    assert list(curves) == ["b", "a"]
    assert curves["b"].rate_rps_mean == 2.0
    assert curves["b"].at(np.array([0.0, 1800.0, 3600.0, 9e9])).tolist() == [0.5, 0.5, 1.0, 1.5]


def test_a_file_without_a_workload_is_one_curve(tmp_path: Path) -> None:
    assert list(read_rates(written(tmp_path, "hours_from_start,requests_per_minute\n0,1\n"))) == [""]


def test_every_faulty_rate_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "a,1,5\na,1,-5\na,x,5\nb,0,\n")
    found = [(fault.row, fault.column, fault.value) for fault in faults_of(path)]
    assert sorted(found, key=str) == [
        (3, "hours_from_start", "1"),
        (3, "requests_per_minute", "-5"),
        (4, "hours_from_start", "x"),
        (5, "requests_per_minute", None),
    ]


@pytest.mark.parametrize(
    "text, column", [("hours,requests_per_minute\n1,1\n", "hours_from_start"), (HEAD, "requests_per_minute")]
)
def test_a_file_without_rates_is_told(tmp_path: Path, text: str, column: str) -> None:
    assert [fault.column for fault in faults_of(written(tmp_path, text))] == [column]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file" in faults_of(tmp_path / "none.csv")[0].problem


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_traffic_follows_the_curve(tmp_path: Path, seed: int) -> None:
    curves = read_rates(written(tmp_path, HEAD + "a,0,600\na,1,3000\na,2,600\nb,0,1200\n"))
    batches = list(
        mix(traffic_at_rates(curves, ["azure-2023-conv", "azure-2023-conv"], Week(seed=seed, duration_s=7200)))
    )
    parts = np.zeros((2, 4))
    for batch in batches:
        np.add.at(parts, (batch.workload, batch.arrival_ns // (1800 * 10**9)), 1)
    assert parts[0] == pytest.approx([36_000, 72_000, 72_000, 36_000], rel=0.2)
    assert parts[1] == pytest.approx([36_000] * 4, rel=0.2)


@pytest.mark.slow
def test_the_published_week_has_44_million_requests() -> None:
    curves = read_rates(real_trace("azure-2024-week-rates.csv"))
    counts = np.zeros(2, np.int64)
    for batch in mix(traffic_at_rates(curves, ["coding", "chat"], Week(seed=1))):
        counts += np.bincount(batch.workload, minlength=2)
    assert counts.tolist() == pytest.approx([16_803_695, 27_303_999], rel=0.01)
