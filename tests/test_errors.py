from __future__ import annotations

import pytest

from offtake import errors
from offtake.errors import Fault, InfeasibleError, InputError, OfftakeError


def test_a_fault_reads_as_place_problem_value_and_mend() -> None:
    fault = Fault("offers.csv", "unknown provider", "Did you mean spacex?", row=4, column="provider", value="spacx")
    assert str(fault) == "offers.csv, row 4, column provider: unknown provider (found 'spacx'). Did you mean spacex?"


def test_a_fault_of_a_settings_file_names_the_key_instead_of_a_row() -> None:
    fault = Fault("portfolio.toml", "is missing", "Write start = 2026-05-01.", row="portfolio.start")
    assert str(fault) == "portfolio.toml, portfolio.start: is missing. Write start = 2026-05-01."


def test_an_input_error_shows_every_fault_on_a_line_of_its_own() -> None:
    error = InputError([Fault("a.csv", "is empty", "Add a row."), Fault("b.csv", "is empty", "Add a row.")])
    assert str(error) == "a.csv: is empty. Add a row.\nb.csv: is empty. Add a row."
    assert len(error.faults) == 2


def test_an_infeasible_problem_names_the_families_in_conflict() -> None:
    error = InfeasibleError(["power", "demand"], ["The power of memphis is too small.", "Demand must be served."])
    assert error.families == ["power", "demand"]
    assert str(error) == "The power of memphis is too small.\nDemand must be served."


@pytest.mark.parametrize(
    "name, code",
    [
        ("InputError", 2),
        ("InfeasibleError", 3),
        ("NotStationaryError", 3),
        ("VerificationError", 1),
        ("SolverError", 1),
    ],
)
def test_each_error_has_the_exit_code_that_its_tree_promises(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, OfftakeError)
    assert kind.exit_code == code
    assert any(name in line and f"exit {code}" in line for line in (errors.__doc__ or "").splitlines())
