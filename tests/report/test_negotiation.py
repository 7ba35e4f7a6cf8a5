"""What an appraisal knows to negotiate with stands on the page and the terminal; what it does not know is left out."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from offtake.plan.result import (
    OFFERS_FORMAT,
    Appraisal,
    BranchRegret,
    ClauseWorth,
    OffersAppraisal,
    OfferWorth,
    OutOfSample,
    Pair,
    PointOfCurve,
    RightToLeave,
    Side,
    Swing,
)
from offtake.report import negotiation, offers, sums
from offtake.report.parts import Figure, Grid
from offtake.report.sections import page, with_and_without
from offtake.report.tables import read_run
from offtake.report.terminal import (
    appraisal_table,
    more_lines,
    offers_table,
    regret_table,
    sheet_table,
    tornado_table,
)
from tests.report.run_folder import Wish, build_run


def plain(tmp_path: Path) -> Appraisal:
    build_run(tmp_path, Wish())
    return read_run(tmp_path).appraisals[0]


def clause(name: str, step: str, usd: float, *, asked: bool) -> ClauseWorth:
    return ClauseWorth(clause=name, step=step, asked=asked, worth_usd=usd, value_usd=usd - 2.1e9, flips=False)


def rich(known: Appraisal) -> Appraisal:
    def swing(name: str, low: float, high: float, *, flips: bool = False) -> Swing:
        return Swing(
            name=name,
            low=Side(setting="half", value_usd=low, flips=flips),
            high=Side(setting="twice", value_usd=high, flips=False),
            swing_usd=abs(high - low),
            confidence="assumption",
        )

    return msgspec.structs.replace(
        known,
        clauses=[
            clause("fee", "5% off", 3e8, asked=True),
            clause("prepay", "20% at signing", -1e7, asked=False),
        ],
        flip="fee: 81% of the one asked",
        sizes=[
            PointOfCurve(
                units=units, sign_date="2026-05-01", delivery_date="2026-05-29", value_usd=-units * 1e9,
                break_even_fee_ratio=ratio,
            )
            for units, ratio in ((0.5, 0.9), (1.0, 0.81))
        ],
        starts=[
            PointOfCurve(
                units=1.0, sign_date="2026-05-01", delivery_date=delivered, value_usd=-1e9, break_even_fee_ratio=ratio
            )
            for delivered, ratio in (("2026-05-29", 0.81), ("2026-08-27", 0.85))
        ],
        signings=[
            PointOfCurve(
                units=1.0, sign_date="2026-05-01", delivery_date="2026-05-29", value_usd=-1e9,
                break_even_fee_ratio=0.81,
            )
        ],
        no_choice={"part": "all or nothing", "wait": "it can be signed on the first day alone"},
        period_names=["2026-05-01", "2026-05-08", "2026-06-01"],
        difference_by_period_usd=[-1e8, -2e8, 5e7],
        branches=[
            BranchRegret(branch="3x", probability=0.75, regret_usd={"sign": 2e9, "ration": 0.0}),
            BranchRegret(branch="10x", probability=0.25, regret_usd={"sign": 0.0, "ration": 4e9}),
        ],
        right=RightToLeave(
            notice_days=90, none_usd=-3e9, notice_usd=-2e9, foresight_usd=-1e9, right_usd=1e9,
            right_in_foresight_usd=2e9,
        ),
        swings=[swing("demand", -6e9, 2e9, flips=True), swing("surges of demand", -2.2e9, -2.1e9)],
        fresh=OutOfSample(
            trials=4, broken=0, scenarios=12, seed=9, value_usd=-2e9, low_usd=-3e9, high_usd=-1e9,
            own_value_usd=-2.1e9, proves_right_share=0.25,
        ),
    )  # fmt: skip


def printed(renderable: object) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as caught:
        console.print(renderable)
    return caught.get()


def test_an_appraisal_in_brief_shows_nothing_to_negotiate(tmp_path: Path) -> None:
    assert negotiation.parts(plain(tmp_path)) == []


def test_everything_that_is_known_is_charted_and_tabled(tmp_path: Path) -> None:
    known = rich(plain(tmp_path))
    found = negotiation.parts(known)
    figures = [one.key.removesuffix(f"-{known.offer}") for one in found if isinstance(one, Figure)]
    assert figures == ["tornado", "sheet", "size", "start", "months", "regret"]  # one day of signing makes no curve
    for one in found:
        if isinstance(one, Figure):
            assert one.question.endswith("?")
            assert one.csv.count("\n") >= 2
    start = next(one for one in found if isinstance(one, Figure) and one.key.startswith("start"))
    assert start.question == "How dear may it be, delivered later?"
    assert start.says == "The highest fee that pays is 85% of the one asked: delivered from 27 Aug 2026."
    assert "2026-08-27" in start.csv
    assert "holds its plan" in start.note
    grids = {one.caption: one.rows for one in found if isinstance(one, Grid)}
    sheet = grids["The sheet to negotiate from, the most valuable clause first"]
    assert sheet[0] == ["fee", "5% off", "they give", "+$300 m", "−$1.8 bn", "holds"]
    assert sheet[1][2] == "we give"
    assert grids["What our right to leave is worth"][3] == ["The right to leave is worth", "+$1 bn"]


def test_months_add_up_the_periods_that_begin_in_them(tmp_path: Path) -> None:
    figure = negotiation.months(rich(plain(tmp_path)))
    assert figure.csv.splitlines() == ["month,usd", "2026-05-01,-300000000.0", "2026-06-01,50000000.0"]


def test_the_least_regret_is_weighed_over_branches(tmp_path: Path) -> None:
    known = rich(plain(tmp_path))
    assert sums.mean_regrets(known) == {"sign": 1.5e9, "ration": 1e9}
    assert "leave and ration ($1 bn)" in negotiation.regret(known).says


def test_what_flips_the_answer_is_named(tmp_path: Path) -> None:
    known = rich(plain(tmp_path))
    assert sums.say_swings(known).endswith("It flips with demand (half).")
    assert "(flips)" in printed(tornado_table(known))


def test_fresh_draws_stand_beside_the_plans_own(tmp_path: Path) -> None:
    known = rich(plain(tmp_path))
    rows = {row[0]: row[1] for row in with_and_without(known).rows}
    assert rows["What signing adds on 4 fresh draws of 12 scenarios"] == "−$2 bn (−$3 bn to −$1 bn)"
    assert "−$2 bn (−$3 bn to −$1 bn)" in printed(appraisal_table(known))


def test_open_offers_are_shown_where_they_were_appraised(tmp_path: Path) -> None:
    known = plain(tmp_path)
    assert offers.section(None).parts == []
    record = OffersAppraisal(
        format=OFFERS_FORMAT,
        portfolio_hash=known.portfolio_hash,
        best_usd=1e9,
        doubt_usd=1.0,
        offers=[
            OfferWorth(offer=name, name=name.title(), units=1.0, units_max=2.0, worth_usd=usd)
            for name, usd in (("a", 2e8), ("b", 1e8))
        ],
        pairs=[Pair(one="a", other="b", together_usd=5e7, kind="substitutes")],
    )
    folder = tmp_path / "appraise" / "all-offers"
    folder.mkdir(parents=True)
    (folder / "offers.json").write_bytes(msgspec.json.encode(record))
    run = read_run(tmp_path)
    assert run.offers == record
    section = next(one for one in page(run).sections if one.key == "open-offers")
    grid, matrix = section.parts
    assert isinstance(grid, Grid)
    assert isinstance(matrix, Figure)
    assert grid.rows[0] == ["A", "1 of 2", "+$200 m"]
    assert matrix.says == "a and b stand in for each other: losing both costs +$50 m more than apart."


def test_a_worth_within_the_solvers_gap_is_marked_and_one_beyond_it_is_not(tmp_path: Path) -> None:
    known = plain(tmp_path)
    fee, prepay = clause("fee", "5% off", 3e8, asked=True), clause("prepay", "20% at signing", -1e7, asked=False)
    some = [msgspec.structs.replace(one, doubt_usd=2e7) for one in (fee, prepay)]
    told = printed(sheet_table(msgspec.structs.replace(known, clauses=some)))
    assert "~−$10 m" in told
    assert "~+" not in told
    assert sums.UNCLEAR in told
    assert sums.UNCLEAR not in printed(sheet_table(msgspec.structs.replace(known, clauses=[fee, prepay])))


def test_the_terminal_tells_curves_months_and_what_is_displaced_in_lines(tmp_path: Path) -> None:
    known = msgspec.structs.replace(rich(plain(tmp_path)), displaces=["pool: $5 less paid for its use."])
    assert [line.rstrip() for line in printed(more_lines(known)).splitlines()] == [
        "Break-even fee, of the one asked, if it is signed so:",
        "· by size: 0.5 90%, 1 81%",
        "· by delivery: 29 May 2026 81%, 27 Aug 2026 85%",
        *[line.rstrip() for line in printed(Text(sums.HELD)).splitlines()],
        "Of the months, best is June 2026 (+$50 m), worst May 2026 (−$300 m).",
        "With it, other things change:",
        "· pool: $5 less paid for its use.",
    ]


def test_the_terminal_tells_the_worst_branch_of_each_choice_and_why_others_are_missing(tmp_path: Path) -> None:
    lines = [line.split() for line in printed(regret_table(rich(plain(tmp_path)))).splitlines()]
    assert lines[1] == ["leave", "and", "ration", "$1", "bn", "$4", "bn", "10x"]
    assert lines[2] == ["sign", "$1.5", "bn", "$2", "bn", "3x"]
    told = "Not to be chosen: take part (all or nothing); wait (it can be signed on the first day alone)."
    assert " ".join(lines[3]) == told


def test_what_an_offer_is_worth_within_the_solvers_gap_is_marked() -> None:
    def one(name: str, usd: float) -> OfferWorth:
        return OfferWorth(offer=name, name=name, units=1.0, units_max=1.0, worth_usd=usd)

    found = OffersAppraisal(
        format=OFFERS_FORMAT, portfolio_hash="", best_usd=1e9, doubt_usd=2e6, pairs=[],
        offers=[one("clear", 3e6), one("unclear", 1e6), one("idle", 0.0)],
    )  # fmt: skip
    lines = printed(offers_table(found)).splitlines()
    assert [line.split()[4:6] for line in lines if " of 1" in line] == [["+$3", "m"], ["~+$1", "m"], ["$0", "–"]]
    assert lines[-1].startswith("~")
