from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from benchmarks import run
from benchmarks.harness import Figure, Measure, Side, Skipped, compare


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
