"""Split a program into a master (what is signed and kept) and one small program per scenario and period (operation).

Comes in: a model and its program. Goes out: :class:`Split`: the master in which the column ``operating[s,t]`` stands
for operating cost less value served, and the parts, each a program whose row bounds move with the master's columns:
row bounds − link·x. Limits that an operation may be unable to meet (a research floor, idle load) get a slack in
the part at a price above any worth, so that every part always has an answer; a plan that uses one is not a plan.
The year's budget is only kept for committed money here; ``decompose`` checks it whole. It must never know a solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from offtake.plan.blocks import Floats, Program
from offtake.plan.problem import Ints
from offtake.plan.variables import Model
from offtake.units import S_PER_HOUR

WORK = ("served", "refused", "deferred", "training", "research")
MONEY = ("operating", "worth")
ACCOUNTS = ("money_spent_on_work_in_a_period", "value_served_in_a_period")
BUDGET = "a_years_spend_is_within_its_budget"
ABOVE_ANY_WORTH = 10.0  #: times the most a request can earn: so high that only the impossible pays it


@dataclass(frozen=True)
class Part:
    """Hold the operation of one scenario and period: its rows and columns in the whole program, and its own program.

    The last columns of ``program`` are slacks of the rows ``relaxed`` (counted among its own): they have no column in
    the whole.
    """

    rows: Ints
    columns: Ints
    program: Program
    relaxed: Ints


@dataclass(frozen=True)
class Split:
    """Hold the master, the parts, and how they hang together.

    ``columns`` are the master's columns in the whole program, ``rows`` its rows there; ``theta [P]`` is the master
    column that stands for each part's cost. ``link`` is CSR [rows of all parts, master columns]; part p owns rows
    ``first_row[p]:first_row[p + 1]``.
    """

    columns: Ints
    rows: Ints
    master: Program
    theta: Ints
    parts: list[Part]
    link: sparse.csr_matrix
    first_row: Ints


def split(model: Model, program: Program, *, only_slack: bool = False) -> Split:
    """Split a program by scenario and period; with ``only_slack`` nothing costs anything but the slacks, 1 each."""
    part_of_column, part_of_row = _assign(model, program)
    n_parts = model.owned.shape[0] * model.owned.shape[1]
    by_row = np.argsort(part_of_row, kind="stable")[np.count_nonzero(part_of_row < 0) :]
    by_column = np.argsort(part_of_column, kind="stable")[np.count_nonzero(part_of_column < 0) :]
    first_row = np.searchsorted(part_of_row[by_row], np.arange(n_parts + 1))
    first_column = np.searchsorted(part_of_column[by_column], np.arange(n_parts + 1))
    matrix = program.matrix.tocsr()
    lower = matrix[by_row]
    own = lower[:, by_column].tocsr()
    price = _slack_prices(model, program)
    cost = np.zeros(program.cost.size)
    if only_slack:
        price = np.where(price > 0, 1.0, 0.0)
    else:
        cost[model["operating"].ids], cost[model["worth"].ids] = 1.0, -1.0
    parts = []
    for p in range(n_parts):
        rows = by_row[first_row[p] : first_row[p + 1]]
        columns = by_column[first_column[p] : first_column[p + 1]]
        block = own[first_row[p] : first_row[p + 1], first_column[p] : first_column[p + 1]]
        parts.append(_part(program, (rows, columns), block, (cost[columns], price[rows])))
    columns, master = _master(model, program, part_of_column, part_of_row)
    links = sparse.diags_array((part_of_column[columns] < 0).astype(np.float64))
    place = np.full(program.cost.size, -1)
    place[columns] = np.arange(columns.size)
    theta = place[model["operating"].ids.ravel()]
    if only_slack:
        master = _counting_slack(master, theta)
    return Split(
        columns=columns,
        rows=np.flatnonzero(part_of_row < 0),
        master=master,
        theta=theta,
        parts=parts,
        link=sparse.csr_matrix(lower[:, columns] @ links),
        first_row=first_row,
    )


def _assign(model: Model, program: Program) -> tuple[Ints, Ints]:
    """Give the part of each column and of each row, −1 for the master's."""
    n_scenarios, n_periods = model.owned.shape[:2]
    number = np.arange(n_scenarios * n_periods).reshape(n_scenarios, n_periods)
    columns = np.full(program.cost.size, -1)
    for name in WORK:
        ids = model[name].ids
        of = np.broadcast_to(number.reshape(n_scenarios, n_periods, *[1] * (ids.ndim - 2)), ids.shape)
        columns[ids[ids >= 0]] = of[ids >= 0]
    used, deliveries = model["used"].ids, model.problem.deliveries
    of = np.broadcast_to(number[deliveries.scenario, deliveries.period][:, None], used.shape)
    columns[used[used >= 0]] = of[used >= 0]
    rows = np.full(program.row_lower.size, -1)
    entries = program.matrix.tocoo()
    worked = columns[entries.col] >= 0
    rows[entries.row[worked]] = columns[entries.col[worked]]
    if np.any(rows[entries.row[worked]] != columns[entries.col[worked]]):
        raise AssertionError("a constraint joins the operation of two periods: it belongs in the master")
    for name in ACCOUNTS:
        rows[model.blocks.row_blocks[name].ids] = number
    for name in MONEY:
        columns[model[name].ids] = number
    return columns, rows


def _part(program: Program, ids: tuple[Ints, Ints], block: sparse.csr_matrix, costs: tuple[Floats, Floats]) -> Part:
    """Make the program of one part, slacks last."""
    (rows, columns), (cost, price) = ids, costs
    relaxed = np.flatnonzero(price > 0)
    sign = np.where(np.isfinite(program.row_lower[rows[relaxed]]), 1.0, -1.0)
    slacks = sparse.csr_matrix((sign, (relaxed, np.arange(relaxed.size))), shape=(rows.size, relaxed.size))
    n_columns = columns.size + relaxed.size
    return Part(
        rows,
        columns,
        Program(
            cost=np.concatenate([cost, price[relaxed]]),
            lower=np.concatenate([program.lower[columns], np.zeros(relaxed.size)]),
            upper=np.concatenate([program.upper[columns], np.full(relaxed.size, np.inf)]),
            integer=np.zeros(n_columns, dtype=np.bool_),
            matrix=sparse.hstack([block, slacks], format="csc"),
            row_lower=program.row_lower[rows],
            row_upper=program.row_upper[rows],
            column_unit=np.ones(n_columns),
            row_unit=np.ones(rows.size),
            objective_unit=1.0,
        ),
        relaxed,
    )


def _master(model: Model, program: Program, part_of_column: Ints, part_of_row: Ints) -> tuple[Ints, Program]:
    """Make the master's program: its own rows, with ``operating`` in the place of each part's cost."""
    theta = model["operating"].ids.ravel()
    mine = part_of_column < 0
    mine[theta] = True
    columns, rows = np.flatnonzero(mine), np.flatnonzero(part_of_row < 0)
    matrix = program.matrix.copy()
    budget = model.blocks.row_blocks[BUDGET]
    for column in theta:
        entries = slice(matrix.indptr[column], matrix.indptr[column + 1])
        of_budget = (matrix.indices[entries] >= budget.start) & (matrix.indices[entries] < budget.start + budget.size)
        matrix.data[entries][of_budget] = 0.0
    lower = program.lower.copy()
    lower[theta] = -_most_worth(model) / program.objective_unit
    return columns, Program(
        cost=program.cost[columns],
        lower=lower[columns],
        upper=program.upper[columns],
        integer=program.integer[columns],
        matrix=matrix[rows][:, columns].tocsc(),
        row_lower=program.row_lower[rows],
        row_upper=program.row_upper[rows],
        column_unit=program.column_unit[columns],
        row_unit=program.row_unit[rows],
        objective_unit=program.objective_unit,
    )


def _counting_slack(master: Program, theta: Ints) -> Program:
    """Make a master whose objective is the sum of the parts' slacks."""
    cost, lower = np.zeros(master.cost.size), master.lower.copy()
    cost[theta], lower[theta] = 1.0, 0.0
    return replace(master, cost=cost, lower=lower)


def _most_worth(model: Model) -> Floats:
    """Give the worth of serving all demand, by part [P], in USD: no operation can gain more."""
    problem = model.problem
    seconds = problem.period_hours[:, None] * problem.block_share * S_PER_HOUR
    worth: Floats = np.einsum("stbk,k,tb->st", problem.demand_rps, problem.value_usd, seconds).ravel()
    return worth


def _slack_prices(model: Model, program: Program) -> Floats:
    """Give what breaking a row costs, in solver units; 0 for rows that an operation can always meet."""
    problem, rows = model.problem, model.blocks.row_blocks
    lanes = problem.lanes
    worth = (problem.value_usd + problem.refusal_usd)[lanes.workload] * lanes.goodput_rps_per_chip.max(axis=1)
    usd_per_chip_hour = float(worth.max(initial=0.0)) * S_PER_HOUR
    speed = float(problem.jobs.speed.max(initial=1.0))
    usd_per_chip_hour = ABOVE_ANY_WORTH * max(
        usd_per_chip_hour, float(problem.jobs.missed_usd.max(initial=0.0)) * speed
    )
    hours = float(problem.period_hours.max(initial=1.0))
    kw = problem.cells.kw_per_chip[problem.cells.kw_per_chip > 0]
    in_user_units = {
        "training_done_is_what_its_chips_do": usd_per_chip_hour,
        "research_keeps_its_floor": usd_per_chip_hour * hours,
        "power_of_a_site_carries_busy_and_idle_chips": usd_per_chip_hour * hours / float(kw.min(initial=1.0)),
    }
    price = np.zeros(program.row_lower.size)
    for family, usd in in_user_units.items():
        block = rows[family]
        price[block.start : block.start + block.size] = usd
    scaled: Floats = price * program.row_unit / program.objective_unit
    return scaled
