from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offtake.plan import highs
from offtake.plan.blocks import Program
from offtake.plan.decompose import Search, solve_two_level
from offtake.plan.highs import Effort
from tests.demand.real import real_trace
from tests.plan import smps_texts
from tests.plan.smps import Unfolded, read, unfold

EXACT = Effort(gap=1e-9)
PUBLISHED = [
    # core, time, stoch, optimum, and the digits its source gives; sources are listed beside the data
    ("lands/lands", "lands/lands", "lands/lands", 381.853333),
    ("lands/lands", "lands/lands", "lands/lands-blocks", 381.853333),
    ("lands3/lands", "lands3/lands", "lands3/lands-indep", 719.2066666667),
    ("chem/chem", "chem/chem", "chem/chem", -13009.166667),
    ("pltexpa/pltexpa-2", "pltexpa/pltexpa-2", "pltexpa/pltexpa-2-6", -9.479354),
    ("pltexpa/pltexpa-2", "pltexpa/pltexpa-2", "pltexpa/pltexpa-2-16", -9.663308),
    ("pltexpa/pltexpa-3", "pltexpa/pltexpa-3", "pltexpa/pltexpa-3-6", -13.969368),
    ("4node/4node", "4node/4node", "4node/4node-16", 423.0125),
]
LONG = [
    ("pltexpa/pltexpa-3", "pltexpa/pltexpa-3", "pltexpa/pltexpa-3-16", -14.267458),
    ("4node/4node", "4node/4node", "4node/4node-256", 425.375),
]
WHOLE_SECOND_STAGE = [
    ("sizes/sizes", "sizes/sizes", "sizes/sizes-3", 224433.73),
    ("sslp/sslp_15_45-5",) * 3 + (-262.4,),
    ("sslp/sslp_5_25-50",) * 3 + (-121.6,),
]


def published(core: str, time: str, stoch: str) -> Unfolded:
    folder = real_trace("smps")
    return unfold(read(folder / f"{core}.cor", folder / f"{time}.tim", folder / f"{stoch}.sto"))


def solved_both_ways(problem: Unfolded) -> tuple[float, float]:
    whole = highs.solve_whole(problem.program, EXACT)
    cut = solve_two_level(problem.two_level(), EXACT)
    assert cut is not None
    assert cut.bound <= whole.objective + 1e-8 * abs(whole.objective)
    activity = problem.program.matrix @ cut.values
    assert np.all(activity >= problem.program.row_lower - 1e-6)
    assert np.all(activity <= problem.program.row_upper + 1e-6)
    return whole.objective, cut.objective


@pytest.mark.parametrize("core, time, stoch, optimum", PUBLISHED)
def test_a_published_instance_has_its_published_optimum_by_both_methods(
    core: str, time: str, stoch: str, optimum: float
) -> None:
    assert solved_both_ways(published(core, time, stoch)) == pytest.approx((optimum, optimum), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("core, time, stoch, optimum", LONG)
def test_a_large_published_instance_has_its_published_optimum_by_both_methods(
    core: str, time: str, stoch: str, optimum: float
) -> None:
    assert solved_both_ways(published(core, time, stoch)) == pytest.approx((optimum, optimum), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("core, time, stoch, optimum", WHOLE_SECOND_STAGE)
def test_whole_numbers_in_the_second_stage_are_solved_whole_and_only_bounded_by_cuts(
    core: str, time: str, stoch: str, optimum: float
) -> None:
    problem = published(core, time, stoch)
    two = problem.two_level()
    bound = Search(two, Effort(gap=1e-5)).run().bound
    assert bound <= optimum + 1e-6 * abs(optimum)
    assert solve_two_level(two, Effort(gap=1e-5)) is None
    whole = highs.solve_whole(problem.program, Effort(gap=1e-4, time_limit_s=300.0))
    assert whole.objective == pytest.approx(optimum, rel=1e-6)
    assert bound <= whole.objective + 1e-6 * abs(optimum)


@pytest.mark.parametrize("section", ["SCENARIOS", "BLOCKS"])
def test_the_farmer_has_the_published_optimum_by_both_methods(section: str, tmp_path: Path) -> None:
    problem = unfold(read(*smps_texts.farmer(tmp_path, section)))
    assert solved_both_ways(problem) == pytest.approx((-108390, -108390), rel=1e-9)


def test_the_farmers_information_and_stochastic_solution_are_worth_what_is_published_by_cutting_planes(
    tmp_path: Path,
) -> None:
    stated = read(*smps_texts.farmer(tmp_path))
    recourse = optimum(unfold(stated))
    known = [optimum(unfold(replace(stated, probability=[1.0], scenarios=[s]))) for s in stated.scenarios]
    mean_plan = solve_two_level(unfold(replace(stated, probability=[1.0], scenarios=[[{}, {}]])).two_level(), EXACT)
    assert mean_plan is not None
    held = unfold(stated)
    program = held.program
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[:3] = upper[:3] = mean_plan.values[:3]
    expected = optimum(replace(held, program=replace(program, lower=lower, upper=upper)))
    assert recourse - sum(known) / 3 == pytest.approx(7015.56, abs=0.005)
    assert expected - recourse == pytest.approx(1150, abs=1e-6)


def optimum(problem: Unfolded) -> float:
    answer = solve_two_level(problem.two_level(), EXACT)
    assert answer is not None
    return answer.objective


def test_the_power_plants_of_louveaux_and_smeers_have_the_published_optimum_by_both_methods(tmp_path: Path) -> None:
    problem = unfold(read(*smps_texts.power_plants(tmp_path)))
    assert solved_both_ways(problem) == pytest.approx((381.853333, 381.853333), abs=5e-7)


def test_a_second_stage_that_the_first_can_ruin_is_kept_possible_by_cuts(tmp_path: Path) -> None:
    # Without the row that asks for enough plants, the cheapest first answer is to build nothing: no mode is served.
    core, time, stoch = smps_texts.power_plants(tmp_path)
    core.write_text(core.read_text().replace("enough 12", "enough 0"))
    problem = unfold(read(core, time, stoch))
    search = Search(problem.two_level(), EXACT)
    found = search.run()
    assert found.point is not None
    assert any(cuts.limits for cuts in search.cuts)
    assert found.point.objective == pytest.approx(highs.solve_whole(problem.program, EXACT).objective, rel=1e-9)


def test_a_second_stage_that_no_first_stage_makes_possible_is_infeasible(tmp_path: Path) -> None:
    core, time, stoch = smps_texts.power_plants(tmp_path)
    core.write_text(core.read_text().replace("money 120", "money 30").replace("enough 12", "enough 0"))
    problem = unfold(read(core, time, stoch))
    with pytest.raises(highs.ProgramInfeasibleError):
        solve_two_level(problem.two_level(), EXACT)
    with pytest.raises(highs.ProgramInfeasibleError):
        highs.solve_whole(problem.program, EXACT)


def test_columns_of_two_parts_in_one_row_are_refused(tmp_path: Path) -> None:
    problem = unfold(read(*smps_texts.farmer(tmp_path)))
    mixed = problem.part_of_column.copy()
    mixed[-1] = 0
    with pytest.raises(AssertionError, match="joins two parts"):
        replace(problem, part_of_column=mixed).two_level()


def test_a_program_of_one_part_and_no_master_is_solved(tmp_path: Path) -> None:
    program: Program = unfold(read(*smps_texts.farmer(tmp_path))).program
    alone = Unfolded(program, np.zeros(program.cost.size, dtype=int), np.zeros(program.row_lower.size, dtype=int))
    assert optimum(alone) == pytest.approx(-108390)
