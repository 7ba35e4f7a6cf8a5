"""Multiply a load for some hours, of one workload or region where that is said.

A surge by k adds k - 1 copies of each request that it meets (a fraction by chance), each up to a minute earlier or
later than the original and never outside of the surge; below 1 it leaves requests out by chance. The copies come from
the load itself, made or replayed, so they have its lengths and follow its rate. They stand for more users who do the
same at about the same time: counts in windows much longer than a minute have k times the dispersion, the cautious
reading of a surge, while within a second they are nearly independent. A session is copied with its turns in order.

Comes in: sorted batches and surges. Goes out: sorted batches; a minute of the load is held. The random numbers follow
the order of requests, not of batches. It must never know a fleet or a policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from offtake.demand.chance import chance_of
from offtake.demand.request import Bools, Requests, chosen, count_of, merge, no_requests, reordered, until
from offtake.demand.reshape import renamed
from offtake.demand.turns import Firsts
from offtake.rehearse.timeline import Surge
from offtake.units import NS_PER_S, S_PER_MINUTE

SURGE_STREAM = 7  #: stream of random numbers that copies requests
Floats = NDArray[np.float64]

JITTER_NS = S_PER_MINUTE * NS_PER_S  #: (assumption) a copy comes at most this much before or after its original


def with_surges(batches: Iterable[Requests], surges: Sequence[Surge], seed: int) -> Iterator[Requests]:
    """Yield a sorted load with its surges, one after the other: where two overlap, their factors multiply."""
    load = iter(batches)
    for place, surge in enumerate(surges):
        load = _surged(load, surge, [seed, SURGE_STREAM, place])
    return load


def _surged(batches: Iterator[Requests], surge: Surge, seed: list[int]) -> Iterator[Requests]:
    """Yield a load with one surge; what may still be overtaken by a copy waits, originals and copies in lanes."""
    random = np.random.default_rng(seed)
    lanes = [no_requests()] * max(ceil(surge.factor), 1)
    firsts = [Firsts() for _ in lanes[1:]]
    for batch in filter(count_of, batches):
        last_ns = int(batch.arrival_ns[-1])
        calm = last_ns < surge.start_ns or int(batch.arrival_ns[0]) >= surge.end_ns
        if calm and not any(map(count_of, lanes)):
            yield renamed(batch, len(lanes), 0)
            continue
        made = _made(batch, surge, len(lanes), random, seed)
        made = [renamed(lane, len(lanes), place) for place, lane in enumerate(made)]
        made[1:] = [first.mended(lane) for first, lane in zip(firsts, made[1:], strict=True)]
        cuts = [until(merge([rest, lane]), last_ns - JITTER_NS) for rest, lane in zip(lanes, made, strict=True)]
        lanes = [rest for _, rest in cuts]
        ready = merge([lane for lane, _ in cuts])
        if count_of(ready):
            yield ready
    if any(map(count_of, lanes)):
        yield merge(lanes)


def _made(batch: Requests, surge: Surge, lanes: int, random: np.random.Generator, seed: list[int]) -> list[Requests]:
    """Return the originals that stay, and each lane of copies."""
    met = _met(batch, surge)
    chance = np.zeros((count_of(batch), lanes))
    chance[met] = random.random((int(met.sum()), lanes))
    member = np.flatnonzero(batch.session >= 0)
    for lane in range(lanes if member.size else 0):
        chance[member, lane] = chance_of(batch.session[member], [*seed, lane])
    kept = batch if surge.factor >= 1 else chosen(batch, ~met | (chance[:, 0] < surge.factor))
    copied = [met & (chance[:, 0] < surge.factor - lane) for lane in range(1, lanes)]
    return [kept, *(_copied(batch, which, chance[:, lane], surge) for lane, which in enumerate(copied, start=1))]


def _met(batch: Requests, surge: Surge) -> Bools:
    """Return which requests a surge meets."""
    met = (batch.arrival_ns >= surge.start_ns) & (batch.arrival_ns < surge.end_ns)
    if surge.workload is not None:
        met &= batch.workload == surge.workload
    if surge.region is not None:
        met &= batch.region == surge.region
    return np.asarray(met)


def _copied(batch: Requests, which: Bools, chance: Floats, surge: Surge) -> Requests:
    """Return copies of some requests, sorted, each moved within the surge.

    At the surge's edges a single request is reflected; the turns of a session stop there, which keeps their order.
    """
    copies = chosen(batch, which)
    last_ns = surge.end_ns - 1
    moved = copies.arrival_ns + np.rint((2 * chance[which] - 1) * JITTER_NS).astype(np.int64)
    single = copies.session < 0
    moved = np.where(single & (moved < surge.start_ns), 2 * surge.start_ns - moved, moved)
    moved = np.where(single & (moved > last_ns), 2 * last_ns - moved, moved)
    copies = copies._replace(arrival_ns=np.clip(moved, surge.start_ns, last_ns))
    return reordered(copies, np.argsort(copies.arrival_ns, kind="stable"))
