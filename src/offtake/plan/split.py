"""Put a plan on two levels: a master (what is signed and kept) and a part per scenario and period (operation).

Comes in: a model and its program. Goes out: a :class:`Split`: a :class:`~offtake.plan.twolevel.TwoLevel` in which the
master counts each part's operating cost less value served, of the program without the columns that only count what
others bring and cost, and the way back to the whole program. What happens in the blocks of a week is operation; all
else (contracts, jobs over periods, accounts) is the master's, whatever axes it has. A year's budget is kept for
committed money alone, unless it is linked: then the master allots its operations what they may spend. Few budgets bind
by operation, so that ``decompose`` links those that an answer breaks. It must never know a solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from offtake.plan.blocks import Block, Bools, Floats, Program
from offtake.plan.condense import Condensed, condense
from offtake.plan.problem import Ints
from offtake.plan.twolevel import Stands, Tail, TwoLevel, apart, two_level
from offtake.plan.variables import SCENARIO_PERIOD, Model
from offtake.units import S_PER_HOUR

OPERATED_ALL_WEEK = ("research",)  #: columns of operation that are the same in every block
MONEY = ("operating", "worth")
ACCOUNTS = ("money_spent_on_work_in_a_period", "value_served_in_a_period")
BUDGET = "a_years_spend_is_within_its_budget"
NEAR_BUDGET = 0.9  #: of a budget, from which it is linked when another one is broken
TAIL = "a_scenarios_loss_beyond_the_value_at_risk"
FOLLOWING = ("runs",)  #: whole numbers that follow from the others: a gang runs where it can


COUNTED = {
    "capacity": "capacity_is_what_kept_units_deliver",
    "committed": "money_committed_in_a_period",
}  #: columns that only count, each block with the rows that define it


@dataclass(frozen=True)
class Split:
    """Hold a plan on two levels, and the way back from there to its whole program."""

    levels: TwoLevel
    back: Condensed

    def to_master(self, values: Floats) -> Floats:
        """Give a point of the master from values of the whole program's columns; 0 where these do not say."""
        point, (which, columns) = np.zeros(self.levels.master.cost.size), self._both()
        point[which] = values[columns]
        return point

    def from_master(self, point: Floats) -> Floats:
        """Give values of the whole program's columns from a point of the master; 0 for those of the parts."""
        values, (which, columns) = np.zeros(self.back.whole.cost.size), self._both()
        values[columns] = point[which]
        return values

    def _both(self) -> tuple[Ints, Ints]:
        """Give the columns that the master and the whole program both have: where each is in the two."""
        which = np.flatnonzero(self.levels.columns < self.back.columns.size)
        return which, self.back.columns[self.levels.columns[which]]


def split(model: Model, program: Program, linked: Bools | None = None) -> Split:
    """Put a plan on two levels, by scenario and period; ``linked [scenario, year]`` are budgets that bind operation."""
    taken, by = (
        np.concatenate([block.ids[block.ids >= 0] for block in blocks]).astype(np.int64)
        for blocks in zip(*((model[name], model.blocks.row_blocks[row]) for name, row in COUNTED.items()), strict=True)
    )
    of_column, of_row = _assign(model, program)
    back = condense(program, taken, by)
    of_column, of_row = of_column[back.columns], of_row[back.rows]
    if linked is not None and linked.any():
        back, own = _allot(model, back, linked)
        of_column, of_row = np.concatenate([of_column, np.full(own.size, -1)]), np.concatenate([of_row, own])
    return Split(_levels(model, back, of_column, of_row), back)


def near_budgets(model: Model, program: Program, values: Floats) -> Bools:
    """Tell which budgets [scenario, year] the values of all columns break, or nearly do."""
    ids = model.blocks.row_blocks[BUDGET].ids
    spent = (program.matrix @ values)[ids]
    near: Bools = (ids >= 0) & (spent > NEAR_BUDGET * program.row_upper[ids])
    return near


def _allot(model: Model, back: Condensed, linked: Bools) -> tuple[Condensed, Ints]:
    """Give each operation under a linked budget a column of the master: the most that it may spend.

    In the budget's row it stands for what is spent, and a row of the operation holds that below it. Returns the program
    with these columns and rows behind the others, and whose part each new row is.
    """
    program, year = back.program, model.problem.limits.period_year
    scenario, period = np.nonzero(linked[:, year])
    spent = np.searchsorted(back.columns, model["operating"].ids[scenario, period])
    budget = np.searchsorted(back.rows, model.blocks.row_blocks[BUDGET].ids[scenario, year[period]])
    more, (n_rows, n_columns) = np.arange(spent.size), program.matrix.shape
    entries = program.matrix.tolil()
    weight = np.asarray(entries[budget, spent].todense()).ravel()
    entries[budget, spent] = 0.0
    own = sparse.csc_matrix((np.ones(more.size), (more, spent)), shape=(more.size, n_columns))
    allotted = sparse.csc_matrix((weight, (budget, more)), shape=(n_rows, more.size))
    unit = np.full(more.size, model.units.usd)
    extended = Program(
        cost=np.concatenate([program.cost, np.zeros(more.size)]),
        lower=np.concatenate([program.lower, np.zeros(more.size)]),
        upper=np.concatenate([program.upper, np.full(more.size, np.inf)]),
        integer=np.concatenate([program.integer, np.zeros(more.size, dtype=np.bool_)]),
        matrix=sparse.bmat([[entries.tocsc(), allotted], [own, -sparse.identity(more.size)]], format="csc"),
        row_lower=np.concatenate([program.row_lower, np.full(more.size, -np.inf)]),
        row_upper=np.concatenate([program.row_upper, np.zeros(more.size)]),
        column_unit=np.concatenate([program.column_unit, unit]),
        row_unit=np.concatenate([program.row_unit, unit]),
        objective_unit=program.objective_unit,
    )
    return replace(back, program=extended), scenario * year.size + period


def _levels(model: Model, back: Condensed, of_column: Ints, of_row: Ints) -> TwoLevel:
    """Put the condensed program on two levels."""
    program = back.program
    master_rows = np.flatnonzero(of_row < 0)
    theta = np.searchsorted(back.columns, model["operating"].ids.ravel())
    cost = program.cost.copy()
    cost[theta], cost[np.searchsorted(back.columns, model["worth"].ids.ravel())] = 1.0, -1.0
    budget = model.blocks.row_blocks[BUDGET]
    of_budget = np.zeros(program.row_lower.size, dtype=np.bool_)
    of_budget[: back.rows.size] = (back.rows >= budget.start) & (back.rows < budget.start + budget.size)
    counted = (sparse.diags_array((~of_budget).astype(np.float64)) @ program.matrix[:, theta]).tocsr()[master_rows]
    stands = Stands(
        cost=program.cost[theta],
        lower=-_most_worth(model) / program.objective_unit,
        matrix=counted.tocsc(),
        of_column=cost,
    )
    whole = two_level(apart(program, of_row, of_column), of_column, of_row, stands)
    following = np.zeros(whole.master.cost.size, dtype=np.bool_)
    for name in FOLLOWING:
        following[: whole.columns.size] |= np.isin(_numbers(back)[whole.columns], model[name].ids)
    return replace(whole, program=program, following=following, tail=_tail(model, whole, back))


def _assign(model: Model, program: Program) -> tuple[Ints, Ints]:
    """Give the part of each column and of each row, −1 for the master's."""
    n_scenarios, n_periods = model.owned.shape[:2]
    number = np.arange(n_scenarios * n_periods).reshape(n_scenarios, n_periods)
    columns = np.full(program.cost.size, -1)
    for block in model.blocks.columns.values():
        if "block" in block.axes or block.name in OPERATED_ALL_WEEK:
            of = np.broadcast_to(_part_of(model, block, number), block.ids.shape)
            columns[block.ids[block.ids >= 0]] = of[block.ids >= 0]
    rows = np.full(program.row_lower.size, -1)
    entries = program.matrix.tocoo()
    worked = columns[entries.col] >= 0
    rows[entries.row[worked]] = columns[entries.col[worked]]
    for name in ACCOUNTS:
        rows[model.blocks.row_blocks[name].ids] = number
    for name in MONEY:
        columns[model[name].ids] = number
    return columns, rows


def _part_of(model: Model, block: Block, number: Ints) -> Ints:
    """Give the part of each element of a block of operation, to be broadcast to the block's shape."""
    after = (1,) * (block.ids.ndim - 1)
    if block.axes[0] == "delivery":
        deliveries = model.problem.deliveries
        return number[deliveries.scenario, deliveries.period].reshape(-1, *after)
    if block.axes[:2] != SCENARIO_PERIOD:
        raise AssertionError(f"{block.name} is operated in blocks of a week, but of which scenario and period?")
    return number.reshape(*number.shape, *after[1:])


def _tail(model: Model, whole: TwoLevel, back: Condensed) -> Tail | None:
    """Find the tail's columns and rows in the master; None where the plan does not weigh risk."""
    at_risk = model["value_at_risk"].ids
    if at_risk < 0:
        return None
    columns = _numbers(back)[whole.columns]
    rows = np.searchsorted(back.rows[whole.rows], model.blocks.row_blocks[TAIL].ids)
    column = np.searchsorted(columns, [int(at_risk)])[0]
    shortfall = np.searchsorted(columns, model["shortfall"].ids)
    return Tail(int(column), shortfall, whole.master.matrix.tocsr()[rows])


def _numbers(back: Condensed) -> Ints:
    """Give the number of each column in the whole; one behind them all where it is not there."""
    return np.concatenate([back.columns, back.whole.cost.size + np.arange(back.program.cost.size - back.columns.size)])


def _most_worth(model: Model) -> Floats:
    """Give the worth of serving all demand, by part [P], in USD: no operation can gain more."""
    problem = model.problem
    seconds = problem.period_hours[:, None] * problem.block_share * S_PER_HOUR
    worth: Floats = np.einsum("stbk,k,tb->st", problem.demand_rps, problem.value_usd, seconds).ravel()
    return worth
