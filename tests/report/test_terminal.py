from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from rich.console import Console, RenderableType

from offtake.report.tables import Run, read_run
from offtake.report.terminal import appraisal_table, check_table, plan_table, rehearsal_table
from offtake.schema.columns import Confidence
from offtake.schema.read import read_folder
from tests.report.run_folder import Wish, build_run, summary

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "three-contracts"


def printed(renderable: RenderableType, width: int = 110) -> list[str]:
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return read_run(run_folder)


def test_the_answer_comes_first_and_what_is_open_before_what_is_signed(run: Run) -> None:
    assert run.plan is not None
    lines = printed(plan_table(run.plan))
    assert lines[0].startswith("Keep ten contracts, take the Azure option")
    offers = [line.split()[0] for line in lines if " of 1 " in line]
    assert offers[:4] == ["azure-option", "h100-year", "spacex-c1", "aws-base"]
    worst = next(line for line in lines if line.startswith("Worst"))
    assert worst.split() == ["Worst", "10%,", "mean", "$4.1", "bn"]


def test_no_name_and_no_figure_is_cut_on_a_terminal_of_80_columns(run: Run) -> None:
    assert run.plan is not None
    for made in (
        plan_table(run.plan),
        appraisal_table(run.appraisals[0]),
        rehearsal_table([summary("bid_price", Wish())]),
    ):
        lines = printed(made, width=80)
        assert not [line for line in lines if "…" in line or len(line) > 80]
    words = " ".join(printed(plan_table(run.plan), width=80)).split()
    assert {each.offer for each in run.plan.decisions} <= set(words)


def test_who_serves_stands_below_the_answer(run: Run) -> None:
    assert run.plan is not None
    plan = msgspec.structs.replace(run.plan, serving="Of all requests, 90% are served on reserved chips.")
    lines = printed(plan_table(plan))
    assert lines[lines.index("") - 1] == "Of all requests, 90% are served on reserved chips."


def test_an_appraisal_shows_what_signing_is_worth_and_the_fee_that_flips_it(run: Run) -> None:
    text = "\n".join(printed(appraisal_table(run.appraisals[0])))
    assert "What signing all of it on the first day adds        −$2.1 bn" in text
    assert "81% of the fee" in text


def test_names_are_plain_text_and_never_markup(tmp_path: Path) -> None:
    run = read_run(build_run(tmp_path, Wish(rename={"aws-base": "[red]aws[/red]"})))
    assert run.plan is not None
    assert any("[red]aws[/red]" in line for line in printed(plan_table(run.plan)))


def test_a_check_counts_every_figure_by_its_mark() -> None:
    counts = {
        "offers": Counter({Confidence.CONFIRMED: 3, Confidence.ASSUMPTION: 1}),
        "sites": Counter({Confidence.ASSUMPTION: 4}),
    }
    lines = printed(check_table(read_folder(EXAMPLE), counts))
    assert lines[0] == "three-contracts: no fault in 8 figures; 62% are assumptions."
    assert [line.split() for line in lines[2:]] == [
        ["Table", "confirmed", "reported", "estimate", "assumption"],
        ["offers", "3", "–", "–", "1"],
        ["sites", "–", "–", "–", "4"],
        ["all", "3", "0", "0", "5"],
    ]


def test_tables_for_the_terminal_load_no_charts_and_no_engine() -> None:
    code = "import sys, offtake.report.terminal; sys.exit(len({'altair', 'vl_convert', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_rehearsal_that_is_not_stationary_says_so_in_place_of_percentiles() -> None:
    lines = printed(rehearsal_table([summary("bid_price", Wish(overloaded=True))]))
    told = " ".join(lines[: lines.index("")])
    assert told.startswith("Not stationary: the requests under way keep growing in number")
    assert "What share is served in time cannot be told; of 1.76 m requests 1.1% were refused" in told
    rows = {line.split()[0]: " ".join(line.split()) for line in lines[lines.index("") + 2 :]}
    assert rows["coding"] == "coding 520,000 not stationary 1.1% 0% – –"
    assert rows["chat"].endswith("1.24 s 48.5 ms")
    assert rows["all"].endswith("not stationary 1.1% 0% – –")


@pytest.mark.parametrize("status", ["not stationary", "too short", "too few requests", "interrupted"])
def test_no_share_in_time_is_told_of_a_run_that_is_not_known_to_be_stationary(status: str) -> None:
    cut = msgspec.structs.replace(summary("bid_price", Wish()), status=status)
    lines = printed(rehearsal_table([cut, cut]))
    assert "95.5%" not in " ".join(lines[: lines.index("")])
    assert all(status in line and "95" not in line for line in lines if line.split()[:1] in (["all"], ["bid"]))


def test_a_sound_rehearsal_shows_its_percentiles() -> None:
    lines = printed(rehearsal_table([summary("bid_price", Wish())]))
    assert lines[0] == "95.5% of 1.76 m requests were served in time."
    assert lines[-1].split()[-4:] == ["1.24", "s", "48.5", "ms"]


def test_each_policy_that_was_compared_has_its_line() -> None:
    lines = printed(rehearsal_table([summary(policy, Wish()) for policy in ("bid_price", "round_robin")]))
    assert [line.split()[:3] for line in lines[-2:]] == [["bid", "price", "1.76"], ["round", "robin", "1.76"]]


def test_a_rehearsal_that_lost_a_site_is_named_by_it() -> None:
    main = summary("bid_price", Wish())
    lost = msgspec.structs.replace(main, lost_sites=["colossus-1 from 0.1 h to 0.15 h"])
    lines = printed(rehearsal_table([main, lost]))
    assert [line.split()[:2] for line in lines[-2:]] == [["bid", "price"], ["without", "colossus-1"]]


def test_a_rehearsal_is_read_whole_on_a_terminal_of_80_columns() -> None:
    rare = msgspec.structs.replace(summary("least_loaded", Wish(overloaded=True)).total, requests=10**9, refused=1)
    runs = [msgspec.structs.replace(summary("least_loaded", Wish(overloaded=True)), total=rare) for _ in range(2)]
    lines = printed(rehearsal_table(runs), width=80)
    assert [line for line in lines if "…" in line] == []
    assert "<0.1%" in lines[-1]


def test_a_plan_whose_trust_was_not_worked_out_still_tells_its_gap(run: Run) -> None:
    assert run.plan is not None
    plan = msgspec.structs.replace(run.plan, trust=None, warnings=[], objective_usd=100e6, bound_usd=103e6)
    assert printed(plan_table(plan))[-1] == "No plan is worth over $3 m more on these scenarios: the solver's gap."
    proven = msgspec.structs.replace(plan, bound_usd=100e6)
    assert printed(plan_table(proven))[-1] == "On these scenarios the plan is proven best."
