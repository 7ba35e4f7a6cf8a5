"""Tell how much power a site gives on each day, and which correlated-loss groups it brings.

Comes in: rows of `sites` and `power`. Goes out: kW by day. It must never know a plan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from offtake.schema.tables import PowerRow, SiteRow
from offtake.units import HOURS_PER_YEAR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def power_kw_by_day(site: SiteRow, steps: Sequence[PowerRow], days: Ints) -> Floats:
    """Return the power cap in kW on each day [D] (ordinals of dates).

    Each step of `power` holds from its date; before the first one the cap of `sites` holds.
    """
    mine = sorted((step for step in steps if step.site == site.site), key=lambda step: step.date)
    dates = np.array([step.date.toordinal() for step in mine], dtype=np.int64)
    caps = np.array([site.power_kw_max, *(step.power_kw for step in mine)], dtype=np.float64)
    return caps[np.searchsorted(dates, days, side="right")]


def curtailed_share(site: SiteRow, hours_per_year: float, block_share: Floats, busiest_first: Sequence[int]) -> Floats:
    """Return the share of power lost in each block of the week [B] when the grid cuts for so many hours a year.

    The grid cuts when it is short, so the hours are put into the busiest blocks first (an assumption).
    """
    left = hours_per_year
    lost = np.zeros(len(block_share))
    for block in busiest_first:
        hours = HOURS_PER_YEAR * float(block_share[block])
        cut = min(left, hours)
        lost[block] = cut / hours * site.curtailment_share if hours > 0 else 0.0
        left -= cut
    return lost


def groups_of_site(site: SiteRow) -> list[str]:
    """Return the groups of a site: itself, its grid, and those of its row."""
    grid = [f"grid:{site.grid}"] if site.grid else []
    return [f"site:{site.site}", *grid, *site.groups]
