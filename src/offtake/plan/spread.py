"""Say how sure a mean or a tail is that comes from a few independent paths.

Comes in: values of independent draws of equal weight. Goes out: an estimate with a 95% interval: Student's for a mean,
the bootstrap's percentiles (Efron 1979) for what is no mean. It must never know what is measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

from offtake.plan.problem import Floats
from offtake.plan.result import Range

SURE = 0.95
RESAMPLES = 2_000
STREAM = 0x7370
SEVERAL = 2  #: one value says nothing about how far values spread


def mean_range(values: Floats) -> Range:
    """Return a mean with its interval: mean ± t(n − 1)·s/√n; a single value has no interval but all numbers.

    >>> found = mean_range(np.array([1.0, 2.0, 3.0]))  # 2 ± 4.303 · 1 / √3
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    mean = float(values.mean())
    if values.size < SEVERAL:
        return Range(estimate=mean, low=None, high=None)
    half = float(stdtrit(values.size - 1, (1.0 + SURE) / 2) * values.std(ddof=1) / np.sqrt(values.size))
    return Range(estimate=mean, low=mean - half, high=mean + half)


def bootstrap_range(values: Floats, statistic: Callable[[Floats], Floats], seed: int) -> Range:
    """Return a statistic of draws with the percentiles of 2,000 resamples of them.

    ``values [..., N]`` are drawn together along their last axis; ``statistic`` takes ``[R, ..., N]`` to ``[R]``.
    """
    count = values.shape[-1]
    estimate = float(statistic(values[np.newaxis])[0])
    if count < SEVERAL:
        return Range(estimate=estimate, low=None, high=None)
    places = np.random.default_rng([seed, STREAM]).integers(0, count, size=(RESAMPLES, count))
    found = statistic(np.moveaxis(values[..., places], -2, 0))
    low, high = np.quantile(found, [(1.0 - SURE) / 2, (1.0 + SURE) / 2])
    return Range(estimate=estimate, low=float(low), high=float(high))


def tail_loss(net: Floats, alpha: float) -> Floats:
    """Return the mean loss of the worst 1 − α of equally likely nets ``[..., N]``, the one at the edge in part.

    >>> tail_loss(np.array([3.0, -1.0, 2.0, 0.0]), 0.5)
    array(0.5)
    """
    count = net.shape[-1]
    share = np.diff(np.minimum(np.arange(1, count + 1) / count, 1.0 - alpha), prepend=0.0) / (1.0 - alpha)
    loss: Floats = -np.sort(net, axis=-1) @ share
    return np.asarray(loss)
