"""Say how sure a mean or a tail is that comes from a few independent paths.

Comes in: values of independent draws, or of batches of draws. Goes out: an estimate with Student's 95% interval. It
must never know what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import stdtrit

from offtake.plan.problem import Floats
from offtake.plan.result import Range

SURE = 0.95
SEVERAL = 2  #: one value says nothing about how far values spread


def mean_range(values: Floats) -> Range:
    """Return a mean with its interval: mean ± t(n − 1)·s/√n; a single value has no interval but all numbers.

    >>> found = mean_range(np.array([1.0, 2.0, 3.0]))  # 2 ± 4.303 · 1 / √3
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    return _around(float(values.mean()), values)


def batch_range(batches: Sequence[tuple[Floats, Floats]], statistic: Callable[[Floats, Floats], float]) -> Range:
    """Return a statistic of weighted draws that come in independent batches, with Student's interval over batches.

    A batch is its values ``[..., N]`` and their weights ``[N]``, which sum to 1. The estimate is that of all batches
    together; the half-width is t(M − 1)·s/√M of the M batches' own (batch means: Law 2015, section 9.5.3).
    """
    count = len(batches)
    values = np.concatenate([value for value, _ in batches], axis=-1)
    weights = np.concatenate([weight for _, weight in batches]) / count
    estimate = statistic(values, weights)
    return _around(estimate, np.array([statistic(value, weight) for value, weight in batches]))


def _around(estimate: float, values: Floats) -> Range:
    """Put Student's interval of independent values around an estimate; a single value gives none."""
    if values.size < SEVERAL:
        return Range(estimate=estimate, low=None, high=None)
    half = float(stdtrit(values.size - 1, (1.0 + SURE) / 2) * values.std(ddof=1) / np.sqrt(values.size))
    return Range(estimate=estimate, low=estimate - half, high=estimate + half)
