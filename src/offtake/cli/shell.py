"""Hold what every verb of the command line shares: the app, its common options, progress, and how answers are told.

Standard output carries the answer: a short table, or one JSON object with ``--json``. Progress and errors go to
standard error. This module must never import a room before a verb needs it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
HELP = """Plan which AI compute to sign, rehearse the plan on real traffic, and see why.

Exit codes: 0 answered; 1 failed; 2 bad input; 3 infeasible or not stationary; 130 interrupted or ended."""
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Argument(help="Portfolio folder: portfolio.toml and its tables.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder, such as runs/may-2026.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/NAME of the portfolio by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output.")]
Gap = Annotated[float, typer.Option(help="Stop when the plan is proven this close to the best.", min=0.0, max=1.0)]
Limit = Annotated[float, typer.Option(help="Stop the solver after this long, with the best plan so far.", min=1.0)]
Progress = Callable[[str, float], None]
KEPT_FROM = ("solve", "check", "done", "tables")  #: stages in which there is, or soon will be, a plan to keep


class Done:
    """Know what the verb that runs has done: whether anything it made is kept, and whether its answer was written."""

    def __init__(self) -> None:
        self.kept = self.answered = False


DONE: ContextVar[Done] = ContextVar("what the verb that runs has done")


def made() -> None:
    """Remember that the verb that runs has made what an interrupt leaves."""
    done = DONE.get(None)
    if done is not None:
        done.kept = True


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show stages, their progress and the time left on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:

        def report(stage: str, done: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
                if not console.is_terminal:
                    console.print(f"{stage} …", highlight=False)
            bars.update(tasks[stage], completed=min(done, 1.0))

        yield report


class Search:
    """Know what stage the work is in, and whether its search was asked to stop."""

    def __init__(self, progress: Progress) -> None:
        self.tell, self.stage, self.asked = progress, "", False

    def progress(self, stage: str, done: float) -> None:
        """Report progress, and remember the stage."""
        self.stage = stage
        self.tell(stage, done)

    def stopped(self) -> bool:
        """Tell whether the search was asked to stop."""
        return self.asked

    def interrupt(self, number: int, frame: object) -> None:
        """Ask a search to stop with what it has; end any other work, and a search asked twice, at once."""
        del number, frame
        again, self.asked = self.asked, True
        if again or self.stage not in KEPT_FROM:
            raise KeyboardInterrupt
        sys.stderr.write("Stopping with the best plan so far; interrupt again to end at once.\n")


@contextmanager
def first_interrupt_stops_the_search(progress: Progress) -> Iterator[Search]:
    """Let the first Ctrl-C during a search end it with the best plan so far."""
    search = Search(progress)
    if threading.current_thread() is not threading.main_thread():
        yield search
        return
    before = signal.signal(signal.SIGINT, search.interrupt)
    try:
        yield search
    finally:
        signal.signal(signal.SIGINT, before)


def within(stage: str, progress: Progress) -> Progress:
    """Report the stages of a part of the work under its own name."""
    return lambda part, done: progress(f"{stage}: {part}", done)


def show(*renderables: Any) -> None:  # noqa: ANN401  # whatever Rich can print
    """Print answers for a person on standard output."""
    from rich.console import Console

    made()
    console = Console(highlight=False)
    for renderable in renderables:
        console.print(renderable, soft_wrap=isinstance(renderable, str), markup=False)


def emit(verb: str, **document: Any) -> None:  # noqa: ANN401  # whatever msgspec can encode
    """Write the one JSON object of a verb to standard output."""
    from offtake.files import json_bytes

    made()
    done = DONE.get(None)
    if done is not None:
        done.answered = True
    sys.stdout.write(json_bytes({"verb": verb, "ok": True, **document}).decode())
