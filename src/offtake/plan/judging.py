"""Hold what a plan is judged with: the plan, how much to work out, and workers that share the work out.

Comes in: an assembled problem, its solution and its pool of cuts. Goes out: answers to many questions. Questions about
the plan's own problem are asked of the pool, one after another; the others can be worked out by themselves, so that
no answer depends on the number of processes. It must never read a clock or print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

from joblib import Parallel, delayed

from offtake.errors import InfeasibleError
from offtake.plan.assemble import Assembled, Progress, silent
from offtake.plan.pool import Pool
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
    """Hold the plan that is judged, the pool that answers about its problem, how hard to solve, who hears of it."""

    assembled: Assembled
    solution: Solution
    pool: Pool
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
        """Do one kind of work on each item, here or in other processes; the answers are in the order of the items."""
        alone = partial(work_on, work, replace(self.solver, progress=None, stop=bool))
        return self.told(stage, spread(alone, items, self.options.workers), len(items))

    def in_turn(self, stage: str, work: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """Do one kind of work on each item, one after another."""
        return self.told(stage, (work(item) for item in items), len(items))

    def told(self, stage: str, work: Iterator[Answer], count: int) -> list[Answer]:
        """Gather answers, and report how many there are."""
        answers: list[Answer] = []
        self.progress(f"trust: {stage}", 0.0)
        for answer in work:
            answers.append(answer)
            self.progress(f"trust: {stage}", len(answers) / count)
        return answers

    def ask(self, problem: Problem) -> Solution | list[str]:
        """Solve a problem near the plan's; where no plan meets its limits, give the sentences that say which."""
        return answered(lambda: self.pool.solve(problem))


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
    return answered(lambda: solve(problem, options))


def answered(find: Callable[[], Solution]) -> Solution | list[str]:
    """Give a solution, or the sentences that say why there is none."""
    try:
        return find()
    except InfeasibleError as error:
        return error.sentences
