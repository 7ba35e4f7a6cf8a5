"""Hold what a plan is judged with: the plan, how much to work out, and workers that share the work out.

Comes in: an assembled problem and its solution. Goes out: answers to many small questions, in order. Each question is
a plan or a path that can be worked out by itself, so the answers do not depend on the number of processes. It must
never read a clock or print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

from joblib import Parallel, delayed

from offtake.errors import InfeasibleError
from offtake.plan.assemble import Assembled, Progress, silent
from offtake.plan.problem import Problem
from offtake.plan.solution import Solution
from offtake.plan.solve import Options, solve
from offtake.schema.settings import Settings

Level = Literal["none", "quick", "full"]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class TrustOptions:
    """Choose what is worked out: ``level``; ``replan`` paths that are planned anew; ``workers`` processes."""

    level: Level = "quick"
    replan: int = 0
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """Hold the plan that is judged, how hard to solve, and who hears of progress."""

    assembled: Assembled
    solution: Solution
    options: TrustOptions = field(default_factory=TrustOptions)
    solver: Options = field(default_factory=Options)
    progress: Progress = silent

    @property
    def problem(self) -> Problem:
        """Give the plan's problem."""
        return self.assembled.problem

    @property
    def settings(self) -> Settings:
        """Give the settings of the portfolio."""
        return self.assembled.inputs.portfolio.tables.settings

    def each(self, stage: str, work: Callable[[Item, Options], Answer], items: Sequence[Item]) -> list[Answer]:
        """Do one kind of work on each item, and give the answers in the order of the items."""
        alone = partial(work_on, work, replace(self.solver, progress=None))
        answers: list[Answer] = []
        self.progress(f"trust: {stage}", 0.0)
        for done, answer in enumerate(spread(alone, items, self.options.workers), start=1):
            answers.append(answer)
            self.progress(f"trust: {stage}", done / len(items))
        return answers


def work_on(work: Callable[[Item, Options], Answer], solver: Options, item: Item) -> Answer:
    """Do a piece of work on one item."""
    return work(item, solver)


def spread(work: Callable[[Item], Answer], items: Sequence[Item], workers: int) -> Iterator[Answer]:
    """Yield the answers in the order of the items, worked out here or in other processes."""
    if workers <= 1 or len(items) <= 1:
        return (work(item) for item in items)
    found: Iterator[Answer] = Parallel(n_jobs=workers, return_as="generator")(delayed(work)(item) for item in items)
    return found


def attempt(problem: Problem, options: Options) -> Solution | list[str]:
    """Solve a problem; where no plan meets its limits, give the sentences that say which."""
    try:
        return solve(problem, options)
    except InfeasibleError as error:
        return error.sentences
