"""Read who follows whom: the sessions of a trace, their shared prompts and think times.

Comes in: cells of the columns ``session``, ``turn``, ``shared_tokens`` and ``think_s``, or ``hash_ids`` in the place
of the first. Goes out: the same requests with these columns. The first request of a session has none before it, so
its think time and shared prompt are dropped. Memory grows by a byte for each session, and with the block hashes. It
must never know a file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offtake.demand.cells import INT32_MAX, NOT_WHOLE, Bools, Cells
from offtake.demand.keys import SessionKeys
from offtake.demand.prefix import SessionFinder
from offtake.demand.request import ALONE, OPEN, Requests
from offtake.units import NS_PER_S

THINK_S_MAX = 2**53 / NS_PER_S  #: about 104 days: beyond it seconds no longer tell nanoseconds apart

BAD_THINK = ("this is not a time in range", "Write seconds of 0 or more, or nothing.")
LONG_SHARE = ("more of the prompt is shared than there is", "Share at most input_tokens.")
LONE_SHARE = ("a prompt is shared without a session", "Name the session in which it is, or share 0.")
OLD_TURN = ("the turn does not come after the one before it in its session", "Sort each session by turn.")


class Firsts:
    """Tell the first request of each session from those that follow, batch after batch."""

    def __init__(self) -> None:
        self.seen = np.zeros(1024, dtype=np.bool_)

    def of(self, session: NDArray[np.int32]) -> Bools:
        """Return which requests are the first of their session, and remember them."""
        first = np.zeros(session.size, dtype=np.bool_)
        member = np.flatnonzero(session >= 0)
        if not member.size:
            return first
        kinds, place = np.unique(session[member], return_index=True)
        if kinds[-1] >= self.seen.size:
            self.seen = np.concatenate([self.seen, np.zeros(int(kinds[-1]) + 1, dtype=np.bool_)])
        first[member[place]] = ~self.seen[kinds]
        self.seen[kinds] = True
        return first

    def mended(self, batch: Requests) -> Requests:
        """Return a batch whose first turns wait for none and share nothing."""
        first = self.of(batch.session)
        if not first.any():
            return batch
        think_ns = np.where(first, OPEN, batch.think_ns)
        return batch._replace(think_ns=think_ns, shared_tokens=np.where(first, 0, batch.shared_tokens).astype(np.int32))


class TurnReader:
    """Read the turns of one trace, batch after batch."""

    def __init__(self) -> None:
        self.sessions = SessionKeys()
        self.finder = SessionFinder()
        self.firsts = Firsts()
        self.last_turn: dict[int, float] = {}

    def read(self, cells: Cells, batch: Requests) -> Requests:
        """Return the requests with session, shared prompt and think time; what cannot be is remembered."""
        session = np.full(cells.rows.size, ALONE, dtype=np.int64)
        shared = np.zeros(cells.rows.size)
        if cells.has("session"):
            session = self.sessions.read(cells.frame["session"])
            cells.refuse("session", (session < ALONE) | (session > INT32_MAX), NOT_WHOLE)
        elif cells.has("hash_ids"):
            session, blocks = self.finder.read(cells.frame["hash_ids"].to_list())
            shared = np.minimum(blocks, batch.input_tokens)
        if cells.has("shared_tokens"):
            shared = self._shared(cells.filled("shared_tokens"), session, batch)
        if cells.has("turn"):
            self._check_turns(cells.filled("turn"), session)
        if not (cells.has("session") or cells.has("hash_ids")):
            return batch
        member = np.clip(session, ALONE, INT32_MAX).astype(np.int32)
        think_ns = np.where(member >= 0, _think_ns(cells), OPEN)
        batch = batch._replace(session=member, shared_tokens=shared.astype(np.int32), think_ns=think_ns)
        return self.firsts.mended(batch)

    def _shared(self, cells: Cells, session: NDArray[np.int64], batch: Requests) -> NDArray[np.float64]:
        """Return the shared tokens; nothing is none."""
        shared, fine = cells.whole("shared_tokens", 0)
        cells.refuse("shared_tokens", fine & (shared > batch.input_tokens), LONG_SHARE)
        cells.refuse("shared_tokens", fine & (shared > 0) & (session < 0), LONE_SHARE)
        return np.clip(shared, 0, batch.input_tokens)

    def _check_turns(self, cells: Cells, session: NDArray[np.int64]) -> None:
        """Refuse a turn that comes before one that it follows."""
        turn, fine = cells.whole("turn", 0)
        old = np.zeros(turn.size, dtype=np.bool_)
        for place in np.flatnonzero(fine & (session >= 0)).tolist():
            last = self.last_turn.get(int(session[place]), -1.0)
            old[place] = turn[place] <= last
            self.last_turn[int(session[place])] = max(last, float(turn[place]))
        cells.refuse("turn", old, OLD_TURN)


def _think_ns(cells: Cells) -> NDArray[np.int64]:
    """Return the think times; a request without one comes at its own time."""
    if not cells.has("think_s"):
        return np.full(cells.rows.size, OPEN, dtype=np.int64)
    think_s = cells.number("think_s")
    given = cells.frame["think_s"].is_not_null().to_numpy()
    fine = np.isfinite(think_s) & (think_s >= 0) & (think_s <= THINK_S_MAX)
    cells.refuse("think_s", given & ~fine, BAD_THINK)
    think_ns = np.rint(np.where(fine, think_s, 0.0) * NS_PER_S).astype(np.int64)
    return np.where(given & fine, think_ns, OPEN)
