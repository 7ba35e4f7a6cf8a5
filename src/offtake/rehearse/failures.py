"""Draw when chips fail: at a rate per chip-hour, from the seed, the same for every policy.

Failures of a pool are a Poisson stream over its replicas; each takes one replica down, or, where a switch is said to
carry several, a measured share of them takes its neighbours too. A replica that is down does not fail again. Comes in:
a pool and a rate. Goes out: spells of failed replicas. This module must never know a request.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import numpy as np

from offtake.fleet import Pool
from offtake.rehearse.measured import SWITCH_SHARE
from offtake.rehearse.timeline import ChipFailures

FAILURE_STREAM = 8  #: stream of random numbers that breaks chips


class Spell(NamedTuple):
    """Hold replicas of one pool, ``first`` (counted within the pool) and how many, that are down for some hours."""

    first: int
    size: int
    start_hour: float
    end_hour: float


def expected_failures(pool: Pool, row: ChipFailures, hours: float) -> float:
    """Return the mean number of failures of a pool within the first ``hours``: rate × chips × time."""
    span = max(0.0, min(row.start_hour + row.hours, hours) - row.start_hour)
    return row.per_chip_hour * pool.chips_per_replica * pool.replicas * span


def draw_failures(pool: Pool, row: ChipFailures, hours: float, seed: tuple[int, int]) -> list[Spell]:
    """Return the failures of ``pool`` within the first ``hours``, by start; ``seed`` is the run's and the event's."""
    rng = np.random.default_rng([seed[0], FAILURE_STREAM, seed[1], crc32(pool.name.encode())])
    count = int(rng.poisson(expected_failures(pool, row, hours)))
    last = min(row.start_hour + row.hours, hours)
    starts = np.sort(rng.uniform(row.start_hour, max(last, row.start_hour), count))
    replicas = rng.integers(0, max(pool.replicas, 1), count)
    switched = rng.random(count) < SWITCH_SHARE
    up_from = np.zeros(max(pool.replicas, 1))
    spells: list[Spell] = []
    for start, replica, switch in zip(starts.tolist(), replicas.tolist(), switched.tolist(), strict=True):
        size = row.replicas_together if switch else 1
        first = replica - replica % size
        hit = np.arange(first, min(first + size, pool.replicas))
        hit = hit[up_from[hit] <= start]
        up_from[hit] = start + row.repair_hours
        spells += [Spell(int(one), 1, start, start + row.repair_hours) for one in hit]
    return spells
