"""Tell how long the first rehearsal of a new process takes when its kernels and bytecode were compiled before.

From the start of the process to the end of a rehearsal of ten thousand requests, verified and summed up; and the same
process that only imports what it needs.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Figure
from benchmarks.process import Spent, in_new_process

SECONDS_BAR = 2.0  # the goal
REQUESTS, TURNS = 10_000, 5


def imported() -> str:
    """Import what a rehearsal needs."""
    from benchmarks import scenes  # noqa: PLC0415  # the import is what is measured
    from offtake.rehearse import rehearse  # noqa: PLC0415  # the same

    return scenes.DEPLOYMENT + rehearse.__name__


def first_rehearsal() -> Any:  # noqa: ANN401  # whatever a JSON document holds
    """Rehearse ten thousand requests."""
    from benchmarks.scenes import deployments, fleet_of, requests_at  # noqa: PLC0415  # as above
    from offtake.rehearse.options import Options  # noqa: PLC0415  # as above
    from offtake.rehearse.rehearse import rehearse  # noqa: PLC0415  # as above

    found = rehearse(fleet_of(24, 4, 11.0), deployments(), requests_at(200.0, REQUESTS), Options())
    return found.summary.total.requests


def fastest(function: str) -> Spent:
    """Return the process with the fewest CPU seconds of some."""
    return min((in_new_process("bench_cold", function) for _ in range(TURNS)), key=lambda spent: spent.cpu_s)


def run() -> list[Figure]:
    """Return the seconds of a new process."""
    assert in_new_process("bench_cold", "first_rehearsal").returned == REQUESTS, "every request has an end"
    first, only = fastest("first_rehearsal"), fastest("imported")
    return [
        Figure("first rehearsal in a new process, CPU", first.cpu_s, "s", SECONDS_BAR),
        Figure("first rehearsal in a new process, by the clock", first.wall_s, "s", SECONDS_BAR),
        Figure("of it, start and imports, CPU", only.cpu_s, "s"),
        Figure("most memory", first.memory_mb, "MB"),
    ]
