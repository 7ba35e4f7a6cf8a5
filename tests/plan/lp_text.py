"""Write blocks out as text, in readable names and the user's units; run this file to write the golden programs anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from offtake.plan import constraints, objective, training
from offtake.plan.blocks import Block, Blocks
from offtake.plan.variables import Model, declare
from tests.plan.problems import tiny

GOLDEN = Path(__file__).parent / "golden"


def functions() -> dict[str, Callable[[Model], None]]:
    """Find every constraint function by looking at the modules, not at their own lists."""
    return {
        name: function
        for module in (constraints, training, objective)
        for name, function in vars(module).items()
        if callable(function)
        and getattr(function, "__module__", "") == module.__name__
        and not name.startswith("_")
        and list(getattr(function, "__annotations__", {})) == ["model", "return"]
        and name != "price"
    }


def text_of(name: str) -> str:
    """Write the rows that one constraint function adds to the tiny problem."""
    model = declare(tiny())
    functions()[name](model)
    return rows_text(model.blocks)


def variables_text() -> str:
    """Write every variable of the tiny problem with its bounds, its cost and whether it is whole."""
    model = declare(tiny())
    objective.price(model)
    program = model.blocks.build()
    cost = program.cost / program.column_unit
    lines = []
    for block in model.blocks.columns.values():
        lower, upper = block.pick(block.span.lower), block.pick(block.span.upper)
        for i, name in enumerate(names(model.blocks, block)):
            column = block.start + i
            whole = f" whole, in {number(program.column_unit[column])}s" if program.integer[column] else ""
            price = f", costs {number(cost[column])}" if cost[column] else ""
            lines.append(f"{number(lower[i])} <= {name} <= {number(upper[i])}{whole}{price}")
    return "\n".join(lines) + "\n"


def rows_text(blocks: Blocks) -> str:
    program = blocks.build()
    matrix = program.matrix.tocsr()
    columns = [name for block in blocks.columns.values() for name in names(blocks, block)]
    lines = []
    for block in blocks.row_blocks.values():
        lower, upper = block.pick(block.span.lower), block.pick(block.span.upper)
        for i, name in enumerate(names(blocks, block)):
            row = block.start + i
            at = slice(matrix.indptr[row], matrix.indptr[row + 1])
            order = np.argsort(matrix.indices[at], kind="stable")
            ids, values = matrix.indices[at][order], matrix.data[at][order]
            values = values * program.row_unit[row] / program.column_unit[ids]
            terms = " ".join(
                f"{'+-'[int(v < 0)]} {number(abs(v))} {columns[c]}" for c, v in zip(ids, values, strict=True)
            )
            lines.append(f"{name}:\n  {between(lower[i], terms, upper[i])}")
    return "\n".join(lines) + "\n"


def between(lower: float, terms: str, upper: float) -> str:
    if lower == upper:
        return f"{terms} = {number(lower)}"
    left = f"{number(lower)} <= " if np.isfinite(lower) else ""
    right = f" <= {number(upper)}" if np.isfinite(upper) else ""
    return f"{left}{terms}{right}"


def names(blocks: Blocks, block: Block) -> list[str]:
    return [
        f"{block.name}[{', '.join(blocks.words(block.axes, tuple(int(i) for i in place)))}]"
        for place in np.argwhere(block.ids >= 0)
    ]


def number(value: float) -> str:
    return f"{value + 0.0:.9g}"


if __name__ == "__main__":
    for each in functions():
        (GOLDEN / f"{each}.lp").write_text(text_of(each), "utf-8")
    (GOLDEN / "variables.lp").write_text(variables_text(), "utf-8")
