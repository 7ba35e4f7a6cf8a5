"""Read how a rate went: a curve of requests per minute, such as the week that Azure published.

Comes in: a CSV file with the columns ``hours_from_start`` and ``requests_per_minute``, and perhaps ``workload``. Goes
out: a :class:`RateCurve` for each workload. It must never know a profile or a random number.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from offtake.demand.cells import Cells, FaultList
from offtake.errors import Fault, InputError
from offtake.units import S_PER_HOUR, S_PER_MINUTE

HOURS, PER_MINUTE, WORKLOAD = "hours_from_start", "requests_per_minute", "workload"
NOT_LATER = ("the time is not after the one above it", "Sort the rows of each workload by time, each time once.")
NOT_A_RATE = ("this is not a rate", "Write requests per minute, 0 or more.")
NOT_A_TIME = ("this is not a time", "Write hours from the start, such as 0.12.")

Floats = NDArray[np.float64]


class RateCurve(NamedTuple):
    """Hold a rate over time: straight lines of ``level`` (mean 1) at ``time_s``, the ends going on; and the mean."""

    time_s: Floats
    level: Floats
    rate_rps_mean: float

    def at(self, time_s: Floats) -> Floats:
        """Return the rate over its mean at some times (s from the start)."""
        return np.interp(time_s, self.time_s, self.level)


def read_rates(path: Path) -> dict[str, RateCurve]:
    """Read the curves of a file by workload, in the order they appear; one without a workload is named "".

    Rows are taken as means of equal stretches of time around ``hours_from_start``.

    Raises
    ------
    InputError
        With a fault for each column that is missing and each row that cannot be.
    """
    try:
        path.open("rb").close()
        table = pl.read_csv(path, infer_schema=False, glob=False)
    except OSError as error:
        problem, mend = f"the file cannot be read: {error.strerror}", "Give a CSV file of requests per minute."
        raise InputError([Fault(str(path), problem, mend)]) from None
    except pl.exceptions.PolarsError as error:
        problem = f"the file cannot be read as CSV: {str(error).splitlines()[0]}"
        raise InputError([Fault(path.name, problem, "Give a CSV file with a header.")]) from None
    missing = [name for name in (HOURS, PER_MINUTE) if name not in table.columns]
    if missing or not table.height:
        what = "the column is missing" if missing else "the file holds no rate"
        mend = f"Give the columns {HOURS} and {PER_MINUTE}, and at least one row."
        raise InputError([Fault(path.name, what, mend, column=name) for name in missing or [PER_MINUTE]])
    faults = FaultList(path.name)
    cells = Cells(table, np.arange(table.height) + 2, faults)
    names = table[WORKLOAD].fill_null("") if WORKLOAD in table.columns else pl.Series([""] * table.height)
    curves = {name: _curve_of(cells.kept((names == name).to_numpy())) for name in names.unique(maintain_order=True)}
    faults.raise_if_any()
    return curves


def _curve_of(cells: Cells) -> RateCurve:
    """Return the curve of one workload; what cannot be is remembered."""
    hours, per_minute = cells.number(HOURS), cells.number(PER_MINUTE)
    cells.refuse(HOURS, ~np.isfinite(hours), NOT_A_TIME)
    cells.refuse(PER_MINUTE, ~(np.isfinite(per_minute) & (per_minute >= 0)), NOT_A_RATE)
    with np.errstate(invalid="ignore"):
        cells.refuse(HOURS, np.diff(hours, prepend=-np.inf) <= 0, NOT_LATER)
    mean = float(per_minute.mean())
    level = per_minute / mean if mean > 0 else np.zeros(per_minute.size)
    return RateCurve(hours * S_PER_HOUR, level, mean / S_PER_MINUTE)
