from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import run
from benchmarks.environment import Environment
from benchmarks.harness import Figure, Measure, Side, Skipped, compare
from benchmarks.peers_plan import in_offtake
from benchmarks.peers_plan.part import part_of
from benchmarks.process import in_new_process
from offtake.plan.solve import state
from tests.plan import problems


def ticking(*steps: float) -> Callable[[], float]:
    """A clock that moves on by the next of some steps at each look, over and over."""
    times = itertools.accumulate(itertools.cycle(steps), initial=0.0)
    return lambda: next(times)


def test_the_ratio_is_the_yardsticks_median_time_over_ours() -> None:
    # Looks at the clock: ours starts, ours ends (2 s), yardstick starts, yardstick ends (6 s), ...
    measure = compare(Side("ours", lambda: 12), Side("plain", lambda: 12), turns=3, clock=ticking(2.0, 0.0, 6.0, 0.0))
    assert (measure.ours_s, measure.yardstick_s, measure.ratio, measure.work) == (2.0, 6.0, 3.0, 12)


def test_sides_that_did_different_work_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"did different work: \[11, 12\]"):
        compare(Side("ours", lambda: 11), Side("plain", lambda: 12), turns=1, clock=ticking(1.0))


def test_a_measure_tells_whether_its_bar_is_met() -> None:
    measure = Measure("replica", ours_s=1.0, yardstick_s=4.0, yardstick="plain Python", work=1_000, bar=5.0)
    assert str(measure) == "replica: 4.00 × plain Python   (1,000 per second)   bar 5: NOT met"
    assert str(measure._replace(bar=4.0)).endswith("bar 4: met")


def test_a_figure_tells_whether_its_bar_is_met_from_below_or_from_above() -> None:
    figure = Figure("mean TTFT", 0.05, "% off", bar=0.1)
    assert str(figure) == "mean TTFT: 0.05 % off   bar ≤ 0.1: met"
    assert str(figure._replace(value=0.2)).endswith("NOT met")
    assert str(figure._replace(at_least=True)).endswith("bar ≥ 0.1: NOT met")
    assert str(figure._replace(bar=None)) == "mean TTFT: 0.05 % off"


def test_a_benchmark_that_cannot_run_here_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unable() -> list[Measure]:
        reason = "there is no registry"
        raise Skipped(reason)

    modules = {"benchmarks.harness": importlib.import_module("benchmarks.harness")}
    modules["benchmarks.bench_rehearse"] = SimpleNamespace(run=unable)  # type: ignore[assignment]  # stands for a module
    monkeypatch.setattr(importlib, "import_module", modules.__getitem__)
    assert run.main(["rehearse"]) == 0
    assert capsys.readouterr().out == "rehearse: skipped: there is no registry\n"


def test_an_environment_that_is_given_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Environment("a peer", ("a-package-that-does-not-exist==0",), "OFFTAKE_TEST_PYTHON")
    monkeypatch.setenv("OFFTAKE_TEST_PYTHON", sys.executable)
    assert given.call("-c", "print(1 + 1)") == "2\n"
    assert not given.home.exists()


def test_what_fails_in_an_environment_is_skipped_with_the_last_line_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFTAKE_TEST_PYTHON", sys.executable)
    with pytest.raises(Skipped, match=r"^a peer failed: no such model$"):
        Environment("a peer", (), "OFFTAKE_TEST_PYTHON").call("-c", "raise SystemExit('loading\\nno such model')")


def test_a_new_process_is_given_its_words(tmp_path: Path) -> None:
    file = tmp_path / "problem.npz"
    problem = problems.tiny()
    in_offtake.write(file, problem)
    found = in_new_process("peers_plan.measure", "measure", "in_offtake", str(file), "1").returned
    program = state(problem)[1]
    assert (found["columns"], found["coefficients"]) == (program.cost.size, program.matrix.nnz)
    assert 0.0 < found["before_mb"] <= found["peak_mb"]


def test_a_problem_is_put_away_with_an_axis_for_each_of_its_arrays(tmp_path: Path) -> None:
    problem = problems.tiny()
    in_offtake.write(tmp_path / "problem.npz", problem)
    assert in_offtake.read(tmp_path / "problem.npz").demand_rps.tolist() == problem.demand_rps.tolist()
    with np.load(tmp_path / "problem.npz") as arrays:
        assert arrays["vintages.paid_usd"].shape == (5, 2, 2)
        assert arrays["exclusive"].tolist() == [[False, True, False, True]]
        assert float(arrays["risk_weight"]) == 0.5


def test_the_part_that_pypsa_can_state_has_no_whole_numbers_no_notice_and_no_power() -> None:
    whole = problems.tiny()
    part = part_of(whole)
    assert part.vintages.units_max.tolist() == [1.0, 6.0, 6.0, 40.0, 50.0]
    assert (part.vintages.lock_until == part.vintages.term_until).all()
    assert not state(part)[1].integer.any()
    assert set(np.unique(part.power_kw)) == {np.inf}
