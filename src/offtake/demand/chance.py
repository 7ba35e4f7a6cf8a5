"""Draw one number for each key: the same for the same key, whatever is drawn for others.

Comes in: keys and a seed. Goes out: numbers, uniform from 0 to 1. It must never know what the keys stand for.
Source: the finaliser of SplitMix64, Steele, Lea and Flood (OOPSLA 2014), figure 16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN = 0x9E3779B97F4A7C15
WORD = 2**64


def chance_of(key: NDArray[np.int32], seed: list[int]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each key; other words of ``seed`` give other numbers."""
    start = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    mixed = key.astype(np.uint64) * np.uint64(GOLDEN) + np.uint64((start | 1) % WORD)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)
