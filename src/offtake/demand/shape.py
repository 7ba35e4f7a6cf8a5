"""Group the 168 hours of the week into a few blocks that planning can afford.

Comes in: the hour-of-week shapes of all workloads. Goes out: a block for each hour, each block's share of the
week, and each workload's level in it. Weekly means are kept exactly, and the first block holds the peak.
It must never know a date.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from offtake.units import HOURS_PER_WEEK

PEAK_SHARE = 0.95  #: assumption: the busiest block may be this far below the busiest hour

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class WeekBlocks(NamedTuple):
    """Hold blocks of the week, busiest first.

    ``block_of_hour[hour]`` runs from Monday 00:00 UTC; ``share[block]`` sums to 1; ``level[workload, block]`` is the
    rate over its weekly mean: Σ share · level equals the mean of the workload's shape.
    """

    block_of_hour: Ints
    share: Floats
    level: Floats


def blocks_of_week(shapes: Floats, n_blocks: int, weight: Floats | None = None) -> WeekBlocks:
    """Group hours that are alike for all workloads at once.

    The first block holds the hours in which the weighted sum of all workloads is at least 95 % of its peak hour,
    so its level is too. The others are grouped by Ward's method on the joint shapes and numbered from busy to quiet.
    One block is the plain week. Where the hours differ less than that, fewer blocks come back: take
    their number from ``share``.

    Parameters
    ----------
    shapes
        ``shapes[workload, hour]``: rate over its weekly mean, 168 hours from Monday 00:00 UTC.
    n_blocks
        Blocks wanted, 1 to 168.
    weight
        ``weight[workload]``: what each workload counts for, such as its mean rate times its cost; equal when None.
    """
    shapes = np.asarray(shapes, dtype=np.float64).reshape(-1, HOURS_PER_WEEK)
    if not 1 <= n_blocks <= HOURS_PER_WEEK:
        raise ValueError(f"n_blocks must lie between 1 and {HOURS_PER_WEEK}, not {n_blocks}")
    weight = np.ones(shapes.shape[0]) if weight is None else np.asarray(weight, dtype=np.float64)
    weight = weight / weight.sum() if weight.sum() > 0 else np.full(weight.size, 1 / weight.size)
    total = weight @ shapes
    label = np.zeros(HOURS_PER_WEEK, dtype=np.int64)
    rest = np.flatnonzero(total < PEAK_SHARE * total.max())
    if n_blocks > 1 and rest.size:
        label[rest] = _alike(shapes[:, rest] * np.sqrt(weight)[:, None], n_blocks - 1)
    return _numbered(shapes, total, label)


def _alike(features: Floats, groups: int) -> Ints:
    """Return group numbers from 1 for hours whose ``features[workload, hour]`` are alike."""
    hours = features.shape[1]
    if groups >= hours:
        return np.arange(1, hours + 1)
    if hours == 1 or groups == 1:
        return np.ones(hours, dtype=np.int64)
    return np.asarray(fcluster(linkage(features.T, method="ward"), groups, criterion="maxclust"), dtype=np.int64)


def _numbered(shapes: Floats, total: Floats, label: Ints) -> WeekBlocks:
    """Return blocks in order of the total, busiest first; equal ones by their first hour."""
    names, first, hours = np.unique(label, return_index=True, return_counts=True)
    mean_total = np.bincount(label, weights=total)[names] / hours
    order = np.lexsort((first, -mean_total, names != 0))
    place = np.empty(names.size, dtype=np.int64)
    place[order] = np.arange(names.size)
    block_of_hour = place[np.searchsorted(names, label)]
    member = (block_of_hour == np.arange(names.size)[:, None]).astype(np.float64)
    level = shapes @ member.T / member.sum(axis=1)
    return WeekBlocks(block_of_hour, member.mean(axis=1), level)
