"""Remember the prompts of sessions: one prefix cache per replica, all in the same few arrays.

When a request of a session finishes, its whole blocks stay until memory is needed; the least recently used go first,
from their ends. The next request of the session at the same replica takes them over. So a session's blocks are with
one request at a time, and what it does not share with the request before is dropped (assumptions: real engines keep
it until it is evicted, which nobody would notice, and let several requests of a session share). Comes in: replica,
session, blocks. Goes out: blocks found. Cost: O(1), no allocation, a table of chained hashes. When the table is full
the replica's own least recently used prompt makes room, if it has one. This module must never know a request.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.compiled import aside, kernel

Ints = npt.NDArray[np.int64]

NOTHING = -1  #: no entry
REPLICA_STEP = 40_503  #: of the hash: sessions are counted up, replicas lie far apart

#: One row per remembered prompt.
ENTRY = np.dtype(
    [
        ("session", "i8"),
        ("replica", "i4"),
        ("blocks", "i4"),
        ("chain", "i4"),  # the next in its bucket, or of the unused
        ("older", "i4"),
        ("newer", "i4"),
    ],
    align=True,
)


class Cache(NamedTuple):
    """Hold ``entries [entry]`` of ``ENTRY``, ``buckets [power of two]``, and the first unused entry ``unused [1]``."""

    entries: Any
    buckets: Ints
    unused: Ints


def new_cache(entries: int) -> Cache:
    """Return an empty cache for ``entries`` prompts in all; 0 remembers nothing."""
    rows = np.zeros(entries, ENTRY).view(np.recarray)
    rows["chain"] = np.arange(1, entries + 1)
    if entries:
        rows["chain"][-1] = NOTHING
    buckets = np.full(1 << max(entries - 1, 0).bit_length(), NOTHING, np.int64)
    return Cache(rows, buckets, np.array([0 if entries else NOTHING], np.int64))


@kernel
def _bucket(cache: Cache, replica: int, session: int) -> int:
    """Return where the chain of (``replica``, ``session``) begins."""
    return int((session + replica * REPLICA_STEP) & (cache.buckets.shape[0] - 1))


@aside
def find(cache: Cache, replica: int, session: int) -> int:
    """Return the entry of (``replica``, ``session``), or ``NOTHING``."""
    entry = cache.buckets[_bucket(cache, replica, session)]
    while entry != NOTHING:
        if cache.entries[entry].session == session and cache.entries[entry].replica == replica:
            break
        entry = cache.entries[entry].chain
    return entry


@aside
def forget(cache: Cache, row: np.record, entry: int) -> None:
    """Take ``entry`` out of the cache of the replica whose row is ``row``; its blocks are free."""
    entries = cache.entries
    bucket = _bucket(cache, entries[entry].replica, entries[entry].session)
    after = entries[entry].chain
    before = cache.buckets[bucket]
    if before == entry:
        cache.buckets[bucket] = after
    else:
        while entries[before].chain != entry:
            before = entries[before].chain
        entries[before].chain = after
    older, newer = entries[entry].older, entries[entry].newer
    if older == NOTHING:
        row.cache_oldest = newer
    else:
        entries[older].newer = newer
    if newer == NOTHING:
        row.cache_newest = older
    else:
        entries[newer].older = older
    row.kv_cached -= entries[entry].blocks
    entries[entry].chain = cache.unused[0]
    cache.unused[0] = entry


@aside
def remember(cache: Cache, row: np.record, replica: int, session: int, blocks: int) -> None:
    """Keep the ``blocks`` of a prompt that the replica has just let go, in the place of what ``session`` had there."""
    known = find(cache, replica, session)
    if known != NOTHING:
        forget(cache, row, known)
    if cache.unused[0] == NOTHING and row.cache_oldest != NOTHING:
        row.evicted_blocks += cache.entries[row.cache_oldest].blocks
        forget(cache, row, row.cache_oldest)
    entry = cache.unused[0]
    if entry == NOTHING or blocks == 0:
        return
    entries = cache.entries
    cache.unused[0] = entries[entry].chain
    bucket = _bucket(cache, replica, session)
    entries[entry].session = session
    entries[entry].replica = replica
    entries[entry].blocks = blocks
    entries[entry].chain = cache.buckets[bucket]
    cache.buckets[bucket] = entry
    entries[entry].older = row.cache_newest
    entries[entry].newer = NOTHING
    if row.cache_newest == NOTHING:
        row.cache_oldest = entry
    else:
        entries[row.cache_newest].newer = entry
    row.cache_newest = entry
    row.kv_cached += blocks


@aside
def evict(cache: Cache, row: np.record) -> None:
    """Let go of the least recently used blocks until the cache holds no more than is free."""
    while row.kv_cached > row.kv_free:
        entry = row.cache_oldest
        surplus = row.kv_cached - row.kv_free
        if cache.entries[entry].blocks > surplus:
            cache.entries[entry].blocks -= surplus
            row.kv_cached -= surplus
            row.evicted_blocks += surplus
        else:
            row.evicted_blocks += cache.entries[entry].blocks
            forget(cache, row, entry)


@aside
def forget_all(cache: Cache, row: np.record) -> None:
    """Empty the cache of one replica."""
    while row.cache_oldest != NOTHING:
        forget(cache, row, row.cache_oldest)
