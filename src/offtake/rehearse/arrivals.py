"""Take a load in: check its batches as they come, and thin it with its fleet.

Comes in: batches of requests, and a fleet. Goes out: the same batches, and the fleet that serves them. Thinning
keeps each request with chance 1/n, which leaves a Poisson stream Poisson (every n-th request would be more regular than
the real load), and the replicas and rate limits divided by n. A pool keeps at least one replica; how far that is from
its share is returned, because it must be stated. This module must never know a policy or an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from offtake.demand.chance import chance_of
from offtake.demand.request import Requests, chosen, count_of
from offtake.errors import Fault, InputError
from offtake.fleet import Fleet, Pool

THIN_STREAM = 2  #: stream of random numbers that thin the load


class Thinning:
    """Keep each request with chance 1 in ``keep_one_in``; those of a session stay or go together."""

    def __init__(self, keep_one_in: int, seed: list[int]) -> None:
        self.keep_one_in = keep_one_in
        self.seed = seed
        self._rng = np.random.default_rng(seed)

    def kept(self, batch: Requests) -> Requests:
        """Return what is kept of a batch; the next batch goes on from there."""
        if self.keep_one_in == 1:
            return batch
        chance = self._rng.random(count_of(batch))
        in_session = batch.session >= 0
        if in_session.any():
            chance = np.where(in_session, chance_of(batch.session, self.seed), chance)
        return chosen(batch, chance * self.keep_one_in < 1.0)


def checked(requests: Requests | Iterable[Requests], fleet: Fleet, thin: int = 1, seed: int = 0) -> Iterator[Requests]:
    """Yield the batches of a load as they come, 1 in ``thin`` of their requests, none of them empty.

    Raises
    ------
    InputError
        At the first batch with a fault, with all its faults: unsorted or negative times, empty requests, unknown
        indices, a request that no pool could ever take; at the end, if there was no request at all.
    """
    batches: Iterable[Requests] = [requests] if isinstance(requests, Requests) else requests
    thinning = Thinning(thin, [seed, THIN_STREAM])
    seen, last_ns, left = 0, 0, 0
    for batch in batches:
        if not count_of(batch):
            continue
        faults = _faults(batch, fleet, last_ns, seen)
        if faults:
            raise InputError(faults)
        seen, last_ns = seen + count_of(batch), int(batch.arrival_ns[-1])
        kept = thinning.kept(batch)
        left += count_of(kept)
        if count_of(kept):
            yield kept
    if not left:
        raise InputError([Fault("requests", "there are none", "Give a trace or a longer window, or thin less.")])


def ahead(batches: Iterator[Requests]) -> Iterator[Requests]:
    """Yield the same batches, each next one made in a thread while the last is worked on."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = maker.submit(next, batches, None)
            yield batch


def _faults(load: Requests, fleet: Fleet, last_ns: int, seen: int) -> list[Fault]:
    """Return everything that makes a batch impossible to rehearse, after ``seen`` requests up to ``last_ns``."""
    unsorted = np.diff(load.arrival_ns, prepend=last_ns) < 0
    checks = [
        (unsorted, "arrivals are negative or not sorted by time", "Sort the requests; time begins at 0."),
        ((load.input_tokens < 1) | (load.output_tokens < 1), "a request has no tokens", "Leave out empty requests."),
        (_outside(load.workload, len(fleet.workloads)), "a workload is not in the fleet", "Use the fleet's indices."),
        (_outside(load.region, len(fleet.regions)), "a user region is not in the fleet", "Use the fleet's indices."),
        (load.tenant < 0, "a tenant is negative", "Number tenants from 0 on."),
    ]
    return [
        Fault("requests", problem, mend, row=seen + int(np.argmax(bad)), value=f"{int(bad.sum())} of {len(bad)}")
        for bad, problem, mend in checks
        if bad.any()
    ]


def _outside(
    index: np.ndarray[tuple[int], np.dtype[np.int16]], count: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Tell which indices do not lie in [0, ``count``)."""
    return (index < 0) | (index >= count)


def thin_fleet(fleet: Fleet, thin: int) -> tuple[Fleet, dict[str, float]]:
    """Return the fleet with 1 in ``thin`` replicas, and each pool's relative error of capacity (0 is exact)."""
    if thin == 1:
        return fleet, {}
    pools = [_thin_pool(pool, thin) for pool in fleet.pools]
    errors = {
        pool.name: small.replicas * thin / pool.replicas - 1.0
        for pool, small in zip(fleet.pools, pools, strict=True)
        if pool.kind == "chips" and pool.replicas > 0
    }
    return msgspec.structs.replace(fleet, pools=pools), errors


def _thin_pool(pool: Pool, thin: int) -> Pool:
    """Divide the replicas or the rate limit of a pool, keeping at least one replica of what there is."""
    replicas = max(round(pool.replicas / thin), 1) if pool.replicas > 0 else 0
    return msgspec.structs.replace(pool, replicas=replicas, tokens_per_minute_max=pool.tokens_per_minute_max / thin)
