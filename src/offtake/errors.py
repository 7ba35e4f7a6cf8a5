"""Name everything that can go wrong, once, with typed fields.

::

    OfftakeError                 exit 1   anything Offtake raises on purpose
    ├── InputError               exit 2   the user's input is at fault; carries every Fault found
    ├── InfeasibleError          exit 3   no plan can meet the stated limits; names the families in conflict
    ├── NotStationaryError       exit 3   the system is overloaded: no percentile exists to report
    ├── VerificationError        exit 1   a run broke one of its own checks (conservation, Little's law, roofline)
    └── SolverError              exit 1   the solver stopped without an answer it can stand behind

Comes in: what was wrong and how to mend it. Goes out: one clear line per fault. A check gathers
all its faults and raises once; only the command line turns an error into text and an exit code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Describe one fault of the input: where it is, what is wrong, how to mend it.

    ``row`` counts as a spreadsheet does (the header is row 1); for TOML it is the key path.
    """

    file: str
    problem: str
    mend: str
    row: int | str | None = None
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        where = [self.file]
        if self.row is not None:
            where.append(f"row {self.row}" if isinstance(self.row, int) else str(self.row))
        if self.column is not None:
            where.append(f"column {self.column}")
        value = "" if self.value is None else f" (found {self.value!r})"
        return f"{', '.join(where)}: {self.problem}{value}. {self.mend}"


class OfftakeError(Exception):
    """Be the parent of every error that Offtake raises on purpose."""

    exit_code = 1


class InputError(OfftakeError):
    """Report every fault found in the user's input at once."""

    exit_code = 2

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class InfeasibleError(OfftakeError):
    """Report that no plan meets the limits: ``families`` in conflict, and ``sentences`` that explain."""

    exit_code = 3

    def __init__(self, families: list[str], sentences: list[str]) -> None:
        self.families = list(families)
        self.sentences = list(sentences)
        super().__init__("\n".join(self.sentences))


class NotStationaryError(OfftakeError):
    """Report an overloaded system: its waits grow without end, so a percentile would be a lie."""

    exit_code = 3


class VerificationError(OfftakeError):
    """Report that a run broke one of its own checks; its results must not be used."""


class SolverError(OfftakeError):
    """Report that the solver stopped without an answer it can stand behind."""
