from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from offtake.cli.main import main
from offtake.fleet import write_fleet
from tests.rehearse.fleets import small_fleet
from tools import reference, reference_words

STAGES = ["appraise", "plan", "rehearse", "report.html"]


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portfolio") / "mine"
    assert main(["init", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def run(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    assert main(["demo", str(starter), "--out", str(folder)]) == 0
    return folder


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    code = main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert isinstance(told, dict)
    assert told.get("exit_code", 0) == code
    return told


def test_the_starter_passes_the_check_and_counts_its_assumptions(
    starter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, "check", str(starter))
    assert told["ok"] is True
    assert told["name"] == "mine"  # the folder's
    assert "offers.csv" in str(told["files"])


def test_init_tells_programs_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "init", str(tmp_path / "new"))["folder"] == str(tmp_path / "new")


def test_an_error_tells_programs_the_keys_that_its_reference_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(document(capsys, "check", "nowhere")) == list(reference_words.ERROR_KEYS)


@pytest.mark.parametrize("wrong", [["--gap", "2"], ["--nonsense"], ["--trust", "much"]])
def test_a_wrong_option_is_told_people_in_a_line_and_programs_as_one_object(
    starter: Path, capsys: pytest.CaptureFixture[str], wrong: list[str]
) -> None:
    assert main(["plan", str(starter), *wrong]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert told.err.count("\n") == 1
    assert wrong[0] in told.err
    error = document(capsys, "plan", str(starter), *wrong)
    assert (error["ok"], error["error"]) == (False, "InputError")


@pytest.mark.parametrize(
    "arguments, idle",
    [
        (["plan", "--churn", "1%"], ["--churn"]),
        (["plan", "--trust", "none", "--replan", "3"], ["--replan"]),
        (["appraise", "--all", "--brief", "--vary"], ["--brief", "--vary"]),
        (["appraise", "reserved", "--all"], ["OFFER"]),
        (["appraise", "--brief", "--vary"], ["--vary"]),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    starter: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], idle: list[str]
) -> None:
    assert main([arguments[0], str(starter), *arguments[1:]]) == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()][: len(idle)] == idle


def test_init_never_overwrites(starter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (starter / "portfolio.toml").read_bytes()
    assert main(["init", str(starter)]) == 2
    assert "the folder is not empty" in capsys.readouterr().err
    assert (starter / "portfolio.toml").read_bytes() == before


@pytest.mark.slow
def test_demo_leaves_every_stage_and_nothing_half_written(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == STAGES
    assert not [path for path in run.rglob("*") if ".part" in path.name]
    assert (run / "plan" / "inputs" / "portfolio.toml").is_file()
    assert (run / "rehearse" / "least_loaded" / "rehearse.json").is_file()


@pytest.mark.slow
def test_the_same_plan_comes_out_as_the_same_bytes(
    starter: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(starter), "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    for name in ("capacity.parquet", "demand.parquet", "prices.parquet", "fleet.json", "inputs/offers.csv"):
        assert (tmp_path / "plan" / name).read_bytes() == (run / "plan" / name).read_bytes()


@pytest.mark.slow
def test_every_verb_tells_programs_one_json_object(
    starter: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert document(capsys, "plan", str(starter), "--out", str(run))["verb"] == "plan"
    told = document(capsys, "appraise", str(starter), "--out", str(run))
    assert told["verb"] == "appraise"
    rehearsed = document(capsys, "rehearse", str(run), "--hours", "0.05", "--name", "short")
    assert rehearsed["verb"] == "rehearse"
    assert (run / "rehearse" / "short" / "asked.json").is_file()
    assert document(capsys, "report", str(run))["verb"] == "report"


@pytest.mark.slow
def test_a_rehearsal_that_is_refused_is_still_told_as_one_object(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flood = ["--surge", "40", "--hours", "0.05", "--policy", "round_robin", "--name", "flood"]
    assert main(["rehearse", str(run), *flood, "--strict", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["rehearsals"][0]["status"]) == (False, "not stationary")
    assert told["folder"] == str(run / "rehearse" / "flood")


@pytest.mark.slow
@pytest.mark.parametrize("stage, name", [(stage, name) for _, stage, names in reference.TABLES for name in names])
def test_a_table_has_the_columns_that_its_reference_names(run: Path, stage: str, name: str) -> None:
    assert list(pl.read_parquet_schema(run / stage / f"{name}.parquet")) == reference.columns_of(name)


@pytest.mark.slow
def test_a_trace_can_be_replayed_through_the_fleet(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:15:{second:02d}.0000000,{400 + second},{20 + second}" for second in range(60)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    told = document(capsys, "rehearse", str(run), "--trace", str(trace), "--workload", "chat", "--name", "replay")
    rehearsals = told["rehearsals"]
    assert isinstance(rehearsals, list)
    assert [each["requests_simulated"] for each in rehearsals] == [60]
    assert main(["rehearse", str(run), "--trace", str(trace), "--workload", "cat", "--name", "replay"]) == 2
    assert "Did you mean 'chat'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "nowhere"], "there is no such folder"),
        (["rehearse", "nowhere"], "cannot be read"),
        (["report", "nowhere"], "holds no plan"),
        (["pln"], "Did you mean 'plan'?"),
        (["plan"], "Missing argument"),
        (["plan", "x", "--gap", "2"], "--gap"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_an_unknown_offer_names_the_nearest(starter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["appraise", str(starter), "reserved-h10"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_all_faults_of_a_rehearsal_come_at_once(run_free_fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(
        capsys, "rehearse", str(run_free_fleet), "--policy", "bidprice", "--lose", "nowhere@1+1", "--hours", "0"
    )
    assert told["exit_code"] == 2
    assert {fault["file"].split(",")[0] for fault in told["faults"]} == {"--policy", "--lose", "--hours"}  # type: ignore[attr-defined]  # a list of objects


@pytest.fixture
def run_free_fleet(tmp_path: Path) -> Path:
    (tmp_path / "plan").mkdir()
    write_fleet(small_fleet(), tmp_path / "plan" / "fleet.json")
    return tmp_path


def test_infeasible_limits_exit_3_and_write_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tight"
    assert main(["init", str(folder)]) == 0
    text = (folder / "portfolio.toml").read_text()
    assert "\n[limits]\n" in text
    tight = text.replace("\n[limits]\n", "\n[limits]\nresearch_floor_chips = 1000000\n")
    (folder / "portfolio.toml").write_text(tight)
    capsys.readouterr()
    assert main(["plan", str(folder), "--out", str(tmp_path / "run")]) == 3
    assert "research" in capsys.readouterr().err
    assert not (tmp_path / "run" / "plan").exists()


def test_help_loads_no_solver_no_charts_and_no_kernels() -> None:
    heavy = ("highspy", "altair", "numba", "polars", "scipy")
    code = f"import sys, offtake.cli.main; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_check_asks_every_room_that_reads_the_portfolio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    assert main(["init", str(folder)]) == 0
    text = (folder / "portfolio.toml").read_text()
    assert 'profile = "chat"' in text
    (folder / "portfolio.toml").write_text(text.replace('profile = "chat"', 'profile = "chap"', 1))
    table = (folder / "deployments.csv").read_text()
    assert "table:llama-3.1-70b-h100-tp4" in table
    (folder / "deployments.csv").write_text(
        table.replace("table:llama-3.1-70b-h100-tp4", "table:llama-3.1-70b-h101-tp4")
    )
    capsys.readouterr()
    told = document(capsys, "check", str(folder))
    assert told["exit_code"] == 2
    assert {(fault["file"], fault["column"]) for fault in told["faults"]} == {  # type: ignore[attr-defined]  # a JSON list
        ("portfolio.toml", "profile"),
        ("deployments.csv", "performance"),
    }


@pytest.mark.parametrize("verb", ["plan", "appraise", "demo"])
def test_an_output_that_is_a_file_is_one_line_before_any_work(
    starter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "afile").write_text("kept")
    assert main([verb, str(starter), "--out", str(tmp_path / "afile")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path / 'afile'}: cannot be written: ")
    assert told.count("\n") == 1
    assert (tmp_path / "afile").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="only a POSIX shell closes a stream so")
def test_a_closed_standard_error_or_output_shows_no_traceback(tmp_path: Path) -> None:
    def told(verb: str, closed: str) -> tuple[int, str]:
        line = ["sh", "-c", f'"$0" -m offtake.cli {verb} "$1" {closed}', sys.executable, str(tmp_path / "new")]
        ended = subprocess.run(line, check=False, capture_output=True, text=True)
        return ended.returncode, ended.stderr

    assert told("check", "2>&-") == (2, "")
    assert told("init", ">&-") == (1, "")
    assert told("check", "| true") == (0, "")


class Killer(io.StringIO):
    """Be a standard output that gets the process a signal as soon as it is written to."""

    signal = signal.SIGINT

    def write(self, _text: str) -> int:
        os.kill(os.getpid(), self.signal)
        return 0


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signals to send")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_verb_as_an_interrupt(
    sent: signal.Signals, monkeypatch: pytest.MonkeyPatch, starter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killer = Killer()
    killer.signal = sent
    monkeypatch.setattr(sys, "stdout", killer)
    assert main(["check", str(starter)]) == 130
    assert capsys.readouterr().err == "Interrupted; what was finished is kept.\n"


class KillerOnce(Killer):
    """Send the signal at the first text alone, and keep what is written."""

    sent = False

    def write(self, text: str) -> int:
        io.StringIO.write(self, text)
        if not self.sent:
            self.sent = True
            super().write(text)
        return len(text)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signals to send")
def test_an_interrupted_verb_answers_in_json_too_and_claims_no_more_than_it_finished(
    monkeypatch: pytest.MonkeyPatch, starter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killer = KillerOnce()  # the first text on standard error is the first stage of the work
    monkeypatch.setattr(sys, "stderr", killer)
    assert main(["plan", str(starter), "--out", str(tmp_path / "run"), "--json"]) == 130
    assert killer.getvalue().endswith("Interrupted; nothing was finished.\n")
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "exit_code": 130,
        "error": "Interrupted",
        "message": ["Interrupted; nothing was finished."],
    }


@pytest.mark.parametrize("beside", ["--brief", "--all"])
def test_fresh_draws_are_refused_where_none_would_be_tried(
    beside: str, starter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, "appraise", str(starter), beside, "--fresh", "8")
    assert told["exit_code"] == 2
    assert "--fresh" in str(told["message"])


def test_the_module_that_holds_the_verbs_runs_them_too() -> None:
    line = [sys.executable, "-m", "offtake.cli.main", "--help"]
    assert "appraise" in subprocess.run(line, check=True, capture_output=True, text=True).stdout


def test_a_plan_that_cannot_be_made_leaves_nothing_behind(
    starter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tight"
    shutil.copytree(starter, folder)
    offers, settings = folder / "offers.csv", folder / "portfolio.toml"
    offers.write_text(offers.read_text().replace("cloud,false,firm,2026-09-30", "cloud,true,firm,"))
    settings.write_text(settings.read_text().replace("[limits]", "[limits]\nbudget_usd_per_year = 50000"))
    told = document(capsys, "plan", str(folder), "--out", str(tmp_path / "runs" / "tight"))
    assert told["exit_code"] == 3
    assert told["families"] == ["budget of a year"]
    message = told["message"]
    assert isinstance(message, list)
    assert 1 <= len(message) <= 5
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_plan_compared_with_itself_has_not_changed_and_one_made_from_it_keeps_its_decisions(
    starter: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, "plan", str(starter), "--out", str(tmp_path), "--from", str(run))
    assert "Every first-day decision of the earlier plan stands." in str(told["plan"])
    told = document(capsys, "compare", str(run), str(tmp_path))
    comparison = told["comparison"]
    assert isinstance(comparison, dict)
    assert comparison["answer"] == "Nothing changed."
    assert told["file"] == str(tmp_path / "compare.json")
    assert json.loads((tmp_path / "compare.json").read_text()) == comparison
