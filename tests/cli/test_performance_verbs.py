from __future__ import annotations

import json
from pathlib import Path

import pytest

from offtake.cli.main import main
from offtake.performance.named import load_named

HEADER = "name,isl,osl,max_concurrency,random_range_ratio,mean_ttft_ms,mean_tpot_ms\n"
ROWS = "east,1024,128,4,0.8,120,9.5\neast,1024,128,32,0.8,400,13\neast,4096,128,8,0.8,700,14\n"
TABLE = "llama-3.1-8b-h100-tp1"


def bench(folder: Path, text: str = HEADER + ROWS) -> Path:
    path = folder / "bench.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_fit_leaves_a_table_that_can_be_named_and_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = ["--claim", "tpot_ms=500", "--claim", "output_tokens_per_s=1e7"]
    arguments = ["performance", "fit", str(bench(tmp_path)), "--table", TABLE, "--out", str(tmp_path), *claim, "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    (report,) = told["reports"]
    assert report["table"] == f"{TABLE}-east"
    assert [one["verdict"] for one in report["verdicts"]] == ["delivered", "below"]
    assert {one["name"] for one in report["levers"]} == {"prefill", "decode", "step_ms", "request_ms", "kv"}
    assert all(one["low"] < one["value"] < one["high"] for one in report["levers"])
    assert [error["points"] for error in report["errors"]] == [3, 3, 3]
    stored = load_named(f"{TABLE}-east", tmp_path)
    assert stored.provenance["calibrated_from"] == TABLE
    assert json.loads(Path(told["paths"][0]).read_text(encoding="utf-8")) == report


def test_the_same_measurements_give_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert main(["performance", "fit", str(bench(tmp_path)), "--table", TABLE, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    for suffix in (".fit.json", ".npz", ".json"):
        first, second = ((tmp_path / name / f"{TABLE}-east{suffix}").read_bytes() for name in ("one", "two"))
        assert first == second


def test_faults_of_the_file_the_claims_and_the_table_are_told_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench(tmp_path, HEADER + "east,1024,128,4,0.8,120,9.5\n")
    assert main(["performance", "fit", str(path), "--table", "llama-3-8b", "--claim", "speed=3"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert told[0].startswith("--claim")
    assert "llama-3.1-8b" in told[1]


def test_a_deployment_without_a_table_to_start_from_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["performance", "fit", str(bench(tmp_path))]) == 2
    assert "no step table to start from" in capsys.readouterr().err


def test_the_list_names_what_ships_and_what_a_folder_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["performance", "fit", str(bench(tmp_path)), "--table", TABLE, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["performance", "list", "--tables", str(tmp_path), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    kept = {row["name"]: row["kept"] for row in tables}
    assert kept[TABLE] == "package"
    assert kept[f"{TABLE}-east"] == str(tmp_path)


def test_a_table_is_extrapolated_from_a_data_sheet_only_when_asked_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "mine")]) == 0
    capsys.readouterr()
    asked = ["performance", "build", "llama-3.1-8b", "h100", "--roofline", "--portfolio", str(tmp_path / "mine")]
    built = []
    for _ in range(2):
        assert main([*asked, "--out", str(tmp_path), "--json"]) == 0
        built.append(json.loads(capsys.readouterr().out))
    assert [one["built"] for one in built] == [True, False]
    name = built[0]["table"]["name"]
    assert name == "llama-3.1-8b-h100-tp1-roofline"
    assert built[0]["table"]["provenance"]["extrapolated"] is True
    assert load_named(name, tmp_path).provenance["confidence"] == "assumption"
    assert main([*asked, "--out", str(tmp_path), "--chips", "2", "--name", name]) == 2
    assert "another table has this name" in capsys.readouterr().err


def test_an_unknown_chip_or_engine_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "mine")]) == 0
    capsys.readouterr()
    asked = ["performance", "build", "llama-3.1-8b", "abacus", "--out", str(tmp_path)]
    assert main([*asked, "--roofline", "--portfolio", str(tmp_path / "mine")]) == 2
    assert main([*asked, "--backend", "llamafile"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len([line for line in told if line.startswith(("chips.csv", "--backend"))]) == 2
