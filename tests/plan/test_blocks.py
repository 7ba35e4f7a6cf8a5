from __future__ import annotations

import numpy as np
import pytest

from offtake.plan.blocks import Blocks, Program, Span
from offtake.plan.highs import Effort, ProgramInfeasibleError, Warm, solve_linear

YIELD_TONS_PER_ACRE = np.array([2.5, 3.0, 20.0])
COST_USD_PER_ACRE = np.array([150.0, 230.0, 260.0])
WEATHER = {"good": 1.2, "mean": 1.0, "bad": 0.8}


def farmer(weather: dict[str, float], acres: tuple[float, float, float] | None = None) -> Program:
    """Birge and Louveaux, Introduction to Stochastic Programming, section 1.1: 500 acres of wheat, corn and beets."""
    b = Blocks({"weather": list(weather), "crop": ["wheat", "corn", "beets"], "fed": ["wheat", "corn"]})
    p = 1 / len(weather)
    fixed = Span() if acres is None else Span(np.array(acres), np.array(acres))
    planted = b.var("planted", ("crop",), fixed)
    sold = b.var("sold", ("weather", "crop"), Span(upper=np.array([np.inf, np.inf, 6000.0])))
    cheap = b.var("sold beyond the quota", ("weather",))
    bought = b.var("bought", ("weather", "fed"))
    b.price(planted, COST_USD_PER_ACRE)
    b.price(sold, -p * np.array([170.0, 150.0, 36.0]))
    b.price(cheap, -p * 10.0)
    b.price(bought, p * np.array([238.0, 210.0]))
    land = b.rows("land", (), Span(-np.inf, 500.0))
    b.put(land.ids, planted.ids, 1.0)
    feed = b.rows("feed", ("weather", "crop"), Span(np.array([200.0, 240.0, 0.0])))
    grown = np.outer(list(weather.values()), YIELD_TONS_PER_ACRE)
    b.put(feed.ids, planted.ids, grown)
    b.put(feed.ids, sold.ids, -1.0)
    b.put(feed.ids[:, 2], cheap.ids, -1.0)
    b.put(feed.ids[:, :2], bought.ids, 1.0)
    return b.build()


def test_the_farmer_of_birge_and_louveaux_gets_the_published_answer() -> None:
    recourse = solve_linear(farmer(WEATHER), Effort())
    assert recourse.objective == pytest.approx(-108390, abs=0.5)
    assert recourse.values[:3] == pytest.approx([170, 80, 250])


def test_the_farmers_perfect_information_and_stochastic_solution_are_worth_what_is_published() -> None:
    recourse = solve_linear(farmer(WEATHER), Effort()).objective
    known = [solve_linear(farmer({name: factor}), Effort()).objective for name, factor in WEATHER.items()]
    mean_plan = solve_linear(farmer({"mean": 1.0}), Effort()).values[:3]
    mean_value = solve_linear(farmer(WEATHER, tuple(mean_plan)), Effort()).objective
    assert recourse - sum(known) / 3 == pytest.approx(7015.56, abs=0.01)
    assert mean_value - recourse == pytest.approx(1150, abs=0.01)


def test_a_number_leads_back_to_its_block_and_the_users_words() -> None:
    b = Blocks({"site": ["ohio", "texas"], "period": ["jan", "feb", "mar"]})
    b.var("first", ("site",))
    b.var("power", ("site", "period"), Span(where=np.array([[True, False, True], [False, True, True]])))
    name, index = b.name_column(4)
    assert (name, index) == ("power", (1, 1))
    assert b.words(("site", "period"), index) == ["texas", "feb"]


def test_a_number_of_no_block_is_refused() -> None:
    with pytest.raises(IndexError, match="no block"):
        Blocks({"site": ["ohio"]}).name_row(0)


def test_coefficients_of_what_does_not_exist_are_left_out_and_doubled_ones_add_up() -> None:
    b = Blocks({"site": ["ohio", "texas"]})
    x = b.var("x", ("site",), Span(where=np.array([False, True])))
    row = b.rows("row", ("site",), Span())
    b.put(row.ids, x.ids, 2.0)
    b.put(row.ids, x.ids, 3.0)
    assert b.build().matrix.toarray().tolist() == [[0.0], [5.0]]


def test_a_block_cannot_be_declared_twice() -> None:
    b = Blocks({"site": ["ohio"]})
    b.var("x", ("site",))
    with pytest.raises(ValueError, match="exists already"):
        b.var("x", ("site",))


def test_units_of_the_solver_change_no_answer_in_the_users_units() -> None:
    def program(unit: float) -> Program:
        b = Blocks({"site": ["ohio", "texas"]})
        x = b.var("x", ("site",), Span(upper=np.array([30.0, 50.0]), unit=unit))
        b.price(x, np.array([-2.0, -3.0]))
        row = b.rows("row", (), Span(-np.inf, 60.0, unit=10 * unit))
        b.put(row.ids, x.ids, np.array([1.0, 2.0]))
        return b.build(objective_unit=7 * unit)

    for unit in (1.0, 1000.0):
        scaled = program(unit)
        answer = solve_linear(scaled, Effort())
        assert answer.values * scaled.column_unit == pytest.approx([30, 15])
        assert answer.objective * scaled.objective_unit == pytest.approx(-105)


def test_a_warm_solver_gives_the_published_answers_as_bounds_move_and_as_programs_change() -> None:
    warm = Warm()
    assert warm.solve(farmer(WEATHER), Effort()).objective == pytest.approx(-108390, abs=0.5)
    mean_plan = warm.solve(farmer(WEATHER, (120.0, 80.0, 300.0)), Effort())
    assert mean_plan.objective == pytest.approx(-107240, abs=0.5)
    assert mean_plan.values[:3] == pytest.approx([120, 80, 300])
    assert warm.solve(farmer({"good": 1.2}), Effort()).objective == pytest.approx(-167666.67, abs=0.5)
    assert warm.solve(farmer(WEATHER), Effort()).objective == pytest.approx(-108390, abs=0.5)


def test_a_warm_solver_whose_bounds_cannot_be_met_says_so_and_answers_again() -> None:
    warm = Warm()
    with pytest.raises(ProgramInfeasibleError):
        warm.solve(farmer(WEATHER, (600.0, 0.0, 0.0)), Effort())
    assert warm.solve(farmer(WEATHER), Effort()).objective == pytest.approx(-108390, abs=0.5)
