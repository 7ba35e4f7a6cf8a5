"""Remember the sessions that are under way: who is last in each, and when the last of them ended.

A session is a chain of requests; where a request has a think time, it arrives that long after the one before it ended,
however that ended. Comes in: a session's number. Goes out: its place in an open hash table. A session whose last
request ended more than the longest think time ago is forgotten when the table is made again, because nothing could wait
for it. Cost: O(1), no allocation. This module must never know what a request asks for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.performance.compiled import entry, kernel

Ints = npt.NDArray[np.int64]

PLACES = 1_024  #: of the table to begin with, a power of two as always
NOBODY = -1  #: no session, and no request
NEVER_ENDED_NS = -1
SPREAD = 2_654_435_761  #: a prime near 2^32 over the golden ratio: neighbours go far apart (Knuth, vol. 3, 6.4)
SPREAD_BITS = 16


class Sessions(NamedTuple):
    """Hold an open hash table [place]: ``session``, the slot of its ``last`` request, and ``ended_ns`` of the last end.

    ``used [1]`` places are taken; ``think_ns_most [1]`` is the longest think time so far.
    """

    session: Ints
    last: Ints
    ended_ns: Ints
    used: Ints
    think_ns_most: Ints


def new_sessions(places: int = PLACES) -> Sessions:
    """Return a table without sessions; ``places`` is a power of two."""
    session, last, ended_ns = (np.full(places, NOBODY, np.int64) for _ in range(3))
    return Sessions(session, last, ended_ns, np.zeros(1, np.int64), np.zeros(1, np.int64))


def with_room(sessions: Sessions, now_ns: int) -> Sessions:
    """Return the table without the sessions that are over at ``now_ns``, and at most a quarter full."""
    over = (sessions.last == NOBODY) & (sessions.ended_ns + sessions.think_ns_most[0] < now_ns)
    kept = np.flatnonzero((sessions.session != NOBODY) & ~over)
    places = len(sessions.session)
    while 4 * len(kept) > places:
        places *= 2
    table = new_sessions(places)
    table.think_ns_most[0] = sessions.think_ns_most[0]
    _carry(sessions, kept, table)
    return table


@entry
def _carry(sessions: Sessions, kept: Ints, table: Sessions) -> None:
    """Put the sessions at the places ``kept`` into another table."""
    for old in kept:
        place = place_of(table, sessions.session[old])
        table.last[place] = sessions.last[old]
        table.ended_ns[place] = sessions.ended_ns[old]


@kernel
def is_full(sessions: Sessions) -> bool:
    """Tell whether the table must be made again before another session is put into it."""
    return 2 * sessions.used[0] >= sessions.session.shape[0]


@kernel
def place_of(sessions: Sessions, session: int) -> int:
    """Return the place of ``session``, which is taken for it if it is new."""
    mask = sessions.session.shape[0] - 1
    place = ((session * SPREAD) >> SPREAD_BITS) & mask
    while sessions.session[place] != session and sessions.session[place] != NOBODY:
        place = (place + 1) & mask
    if sessions.session[place] == NOBODY:
        sessions.session[place] = session
        sessions.last[place] = NOBODY
        sessions.ended_ns[place] = NEVER_ENDED_NS
        sessions.used[0] += 1
    return place
