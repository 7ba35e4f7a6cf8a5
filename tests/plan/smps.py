"""Read stochastic programs in SMPS files (Birge and others 1987; Gassmann and Schweitzer 2001) and unfold them.

A program is read from its core, time and stoch files: INDEP, BLOCKS and SCENARIOS sections, with discrete
realisations of right-hand sides, costs and coefficients, in two or more periods. It is unfolded over its scenario tree
into one program, each of whose columns and rows belongs to a node; nodes of the first period are the master's.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import sparse

from offtake.plan.blocks import Program
from offtake.plan.twolevel import TwoLevel, two_level

Place = tuple[str, str]  # (column, row) as the files write it; a right-hand side is (RHS, row)
Values = dict[Place, float]
RHS = "right-hand side"


@dataclass
class Core:
    """Hold the core: rows with their senses, columns in order, coefficients, right-hand sides, bounds."""

    senses: dict[str, str] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    entries: Values = field(default_factory=dict)
    rhs: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    objective: str = ""


@dataclass(frozen=True)
class Stochastic:
    """Hold a core, the period of each column and row, and scenarios: a probability and the values by period."""

    core: Core
    column_period: dict[str, int]
    row_period: dict[str, int]
    probability: list[float]
    scenarios: list[list[Values]]  # [scenario][period] → what is different there


@dataclass(frozen=True)
class Unfolded:
    """Hold the whole program over the tree; the part of each column and row, −1 for the first period's."""

    program: Program
    part_of_column: np.ndarray
    part_of_row: np.ndarray

    def two_level(self) -> TwoLevel:
        return two_level(self.program, self.part_of_column, self.part_of_row)


def lines_of(path: Path) -> list[tuple[bool, list[str]]]:
    """Split a file into lines: whether it begins a section, and its words."""
    text = path.read_text(encoding="latin-1").splitlines()
    return [(not line[0].isspace(), line.split()) for line in text if line.strip() and not line.startswith("*")]


def read(core: Path, time: Path, stoch: Path) -> Stochastic:
    """Read the three files."""
    program = read_core(core)
    column_period, row_period, periods = read_time(program, time)
    values = read_stoch(program, (column_period, row_period, periods), stoch)
    return Stochastic(program, column_period, row_period, *values)


def read_core(path: Path) -> Core:
    """Read a core file in free or fixed format without blanks in names."""
    core, section, integer = Core(), "", False
    for heading, words in lines_of(path):
        if heading:
            section = words[0]
        elif section == "ROWS":
            if words[0] == "N" and not core.objective:
                core.objective = words[1]
            elif words[0] != "N":
                core.senses[words[1]] = words[0]
        elif "'MARKER'" in words:
            integer = "'INTORG'" in words
        elif section == "COLUMNS":
            core.columns.setdefault(words[0], len(core.columns))
            if integer:
                core.whole.add(words[0])
            for row, value in pairs(words[1:]):
                core.entries[words[0], row] = value
        elif section == "RHS":
            core.rhs |= dict(pairs(words[1:] if len(words) % 2 else words))
        elif section == "BOUNDS":
            read_bound(core, words)
    return core


def pairs(words: list[str]) -> list[tuple[str, float]]:
    """Give (name, number) pairs."""
    return [(name, float(value)) for name, value in zip(words[::2], words[1::2], strict=True)]


def read_bound(core: Core, words: list[str]) -> None:
    """Read one bound."""
    kind, name = words[0], words[2]
    bound = core.bounds.setdefault(name, [0.0, np.inf])
    if kind == "BV":
        core.whole.add(name)
        bound[:] = [0.0, 1.0]
    elif kind in {"UP", "FX", "LO"}:
        value = float(words[3])
        if kind in {"LO", "FX"}:
            bound[0] = value
        if kind in {"UP", "FX"}:
            bound[1] = value
    elif kind in {"FR", "MI"}:
        bound[0] = -np.inf
    else:
        raise ValueError(f"bound {kind} is not known")


def read_time(core: Core, path: Path) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Give the period of each column and row: each period begins at a column and a row of the core's order."""
    starts = [words for heading, words in lines_of(path) if not heading]
    rows = {name: place for place, name in enumerate(core.senses)}
    columns = [core.columns[words[0]] for words in starts]
    first_rows = [0, *(rows[words[1]] for words in starts[1:])]
    of_column = {name: int(np.searchsorted(columns, place, "right")) - 1 for name, place in core.columns.items()}
    of_row = {name: int(np.searchsorted(first_rows, place, "right")) - 1 for name, place in rows.items()}
    return of_column, of_row, [words[2] for words in starts]


def read_stoch(
    core: Core, times: tuple[dict[str, int], dict[str, int], list[str]], path: Path
) -> tuple[list[float], list[list[Values]]]:
    """Read the random values: every combination of independent elements and blocks, or the listed scenarios."""
    lines = lines_of(path)
    section = next(words[0] for heading, words in lines if heading and words[0] in {"INDEP", "BLOCKS", "SCENARIOS"})
    body = [words for heading, words in lines if not heading]
    if section == "SCENARIOS":
        return listed(core, times, body)
    elements = independent(body) if section == "INDEP" else blocks(body, section)
    return combined(core, times, elements)


def place_of(core: Core, column: str, row: str) -> Place:
    """Tell a coefficient from a right-hand side."""
    return (column, row) if column in core.columns else (RHS, row)


def independent(body: list[list[str]]) -> list[list[tuple[float, list[list[str]]]]]:
    """Give each independent element's realisations: probability, lines."""
    elements: dict[tuple[str, str], list[tuple[float, list[list[str]]]]] = {}
    for words in body:
        probability = float(words[-1])
        elements.setdefault((words[0], words[1]), []).append((probability, [words[:3]]))
    return list(elements.values())


def blocks(body: list[list[str]], section: str) -> list[list[tuple[float, list[list[str]]]]]:
    """Give each block's realisations: probability, lines; a later one keeps what it does not repeat from the first."""
    assert section == "BLOCKS"
    elements: dict[str, list[tuple[float, list[list[str]]]]] = {}
    for words in body:
        if words[0] == "BL":
            elements.setdefault(words[1], []).append((float(words[3]), []))
            name = words[1]
        else:
            elements[name][-1][1].append(words)
    for realisations in elements.values():
        first = realisations[0][1]
        for number, (probability, given) in enumerate(realisations[1:], start=1):
            realisations[number] = (probability, [*first, *given])
    return list(elements.values())


def values_of(core: Core, lines: list[list[str]]) -> Values:
    """Give the values that lines state; the last one of a place holds."""
    return {place_of(core, words[0], row): value for words in lines for row, value in pairs(words[1:])}


def by_period(core: Core, times: tuple[dict[str, int], dict[str, int], list[str]], values: Values) -> list[Values]:
    """Sort values into the periods in which they become known: of the row, or of the column for a cost."""
    of_column, of_row, periods = times
    sorted_values: list[Values] = [{} for _ in periods]
    for (column, row), value in values.items():
        period = of_column[column] if row == core.objective else of_row[row]
        sorted_values[period][column, row] = value
    return sorted_values


def combined(
    core: Core,
    times: tuple[dict[str, int], dict[str, int], list[str]],
    elements: list[list[tuple[float, list[list[str]]]]],
) -> tuple[list[float], list[list[Values]]]:
    """Give all combinations of independent elements, those of earlier periods outermost."""

    def period(element: list[tuple[float, list[list[str]]]]) -> int:
        parted = by_period(core, times, values_of(core, element[0][1]))
        return next(t for t, values in enumerate(parted) if values)

    probability, scenarios = [], []
    for chosen in itertools.product(*sorted(elements, key=period)):
        probability.append(float(np.prod([p for p, _ in chosen])))
        lines = [line for _, given in chosen for line in given]
        scenarios.append(by_period(core, times, values_of(core, lines)))
    return probability, scenarios


def listed(
    core: Core, times: tuple[dict[str, int], dict[str, int], list[str]], body: list[list[str]]
) -> tuple[list[float], list[list[Values]]]:
    """Read listed scenarios, each of which begins as its parent until its own period."""
    known: dict[str, Values] = {}
    probability: list[float] = []
    for words in body:
        if words[0] == "SC":
            name, parent = words[1], words[2].strip("'")
            known[name] = dict(known.get(parent, {}))
            probability.append(float(words[3]))
        else:
            known[name] |= values_of(core, [words])
    return probability, [by_period(core, times, values) for values in known.values()]


def unfold(problem: Stochastic) -> Unfolded:
    """Unfold over the tree: scenarios that have seen the same values share the columns and rows of a period."""
    core = problem.core
    periods = max(problem.column_period.values()) + 1
    nodes = nodes_of(problem, periods)
    weight = [np.ones(1), *(np.bincount(of, problem.probability) for of in nodes[1:])]  # as stated, sum 1 or not
    column, row = Numbers(), Numbers()
    part_of_column, part_of_row = [], []
    owner = owners(nodes)
    for t in range(periods):
        for node in range(len(weight[t])):
            part = -1 if t == 0 else owner[t][node]
            part_of_column += [part] * sum(column.add((name, node)) for name in core.columns if at(problem, name, t))
            part_of_row += [part] * sum(row.add((name, node)) for name in core.senses if problem.row_period[name] == t)
    fill = Filled(problem, column, row, nodes, weight)
    return Unfolded(fill.program(), np.array(part_of_column), np.array(part_of_row))


def at(problem: Stochastic, column: str, period: int) -> bool:
    return problem.column_period[column] == period


class Numbers(dict[tuple[str, int], int]):
    """Number names at nodes in the order they are added."""

    def add(self, key: tuple[str, int]) -> bool:
        self[key] = len(self)
        return True


def nodes_of(problem: Stochastic, periods: int) -> list[np.ndarray]:
    """Give for each period the node of each scenario: the same values so far are the same node."""
    nodes, before = [], [0] * len(problem.scenarios)
    for t in range(periods):
        seen: dict[tuple[object, ...], int] = {}
        keys = [(b, *sorted(s[t].items())) for b, s in zip(before, problem.scenarios, strict=True)]
        before = [seen.setdefault(key if t else (), len(seen)) for key in keys]
        nodes.append(np.array(before))
    return nodes


def owners(nodes: list[np.ndarray]) -> list[list[int]]:
    """Give the part of each node: that of its ancestor in the second period."""
    second = nodes[min(1, len(nodes) - 1)]
    return [[int(second[np.flatnonzero(of == node)[0]]) for node in range(of.max() + 1)] for of in nodes]


class Filled:
    """Fill the whole program in, node by node."""

    def __init__(
        self, problem: Stochastic, column: Numbers, row: Numbers, nodes: list[np.ndarray], weight: list[np.ndarray]
    ) -> None:
        self.problem, self.column, self.row, self.nodes, self.weight = problem, column, row, nodes, weight

    def program(self) -> Program:
        core, problem = self.problem.core, self.problem
        of_row: dict[str, list[tuple[str, float]]] = {}
        for (name, row), value in core.entries.items():
            of_row.setdefault(row, []).append((name, value))
        cost, lower, upper = (np.zeros(len(self.column)) for _ in range(3))
        integer = np.zeros(len(self.column), dtype=bool)
        entries: list[tuple[int, int, float]] = []
        row_lower, row_upper = np.full(len(self.row), -np.inf), np.full(len(self.row), np.inf)
        for (name, node), number in self.column.items():
            period = problem.column_period[name]
            own = core.entries.get((name, core.objective), 0.0)
            own = self.values(period, node).get((name, core.objective), own)
            cost[number] = own * self.weight[period][node]
            lower[number], upper[number] = core.bounds.get(name, [0.0, np.inf])
            integer[number] = name in core.whole
        for (name, node), number in self.row.items():
            period = problem.row_period[name]
            values = self.values(period, node)
            named = dict(of_row.get(name, [])) | {c: v for (c, r), v in values.items() if r == name and c != RHS}
            for column, value in named.items():
                entries.append((number, self.column[column, self.above(period, node, column)], value))
            right = values.get((RHS, name), core.rhs.get(name, 0.0))
            if core.senses[name] in {"E", "G"}:
                row_lower[number] = right
            if core.senses[name] in {"E", "L"}:
                row_upper[number] = right
        rows, columns, data = (np.array(part) for part in zip(*entries, strict=True))
        matrix = sparse.csc_matrix((data, (rows, columns)), shape=(len(self.row), len(self.column)))
        ones = np.ones(len(self.column)), np.ones(len(self.row))
        return Program(cost, lower, upper, integer, matrix, row_lower, row_upper, *ones, 1.0)

    def values(self, period: int, node: int) -> Values:
        """Give what is different at a node."""
        scenario = int(np.flatnonzero(self.nodes[period] == node)[0])
        return self.problem.scenarios[scenario][period] if period else {}

    def above(self, period: int, node: int, column: str) -> int:
        """Give the node of a column that a row at a node meets: its own, or an earlier one on the path."""
        scenario = int(np.flatnonzero(self.nodes[period] == node)[0])
        return int(self.nodes[self.problem.column_period[column]][scenario])


def relaxed(program: Program) -> Program:
    """Give a program without its whole numbers."""
    return replace(program, integer=np.zeros(program.cost.size, dtype=bool))
