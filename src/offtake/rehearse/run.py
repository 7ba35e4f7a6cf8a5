"""Drive the engine through a load, batch by batch, in slices that can be watched and interrupted.

Comes in: an engine, a tally, batches of requests, and the actions of the timeline. Goes out: the engine and the tally
as they stand at the end, or where they were interrupted. How the load is cut into batches changes nothing in the
outcome. This module must never read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from offtake.demand.request import Requests, no_requests, part
from offtake.performance.replica import NEVER_NS
from offtake.rehearse.actions import apply
from offtake.rehearse.engine import Stop, advance
from offtake.rehearse.sessions import with_room
from offtake.rehearse.state import Engine, Feed, with_more_slots, with_room_to_end
from offtake.rehearse.tally import Tally, add
from offtake.rehearse.timeline import Action

TIE_STREAM = 1  #: stream of random numbers that break ties
TYPES = (np.int64, np.int32, np.int32, np.int16, np.int16, np.int16, np.int32, np.int32, np.int64)

Progress = Callable[[int], None]
Keep = Callable[[Any], None]


@dataclass
class Drive:
    """Hold a rehearsal under way; ``keep`` is shown every row of ``ENDED`` once, and must copy what it wants."""

    engine: Engine
    tally: Tally
    keep: Keep | None = None

    def advance(self, feed: Feed, stop: int, until_ns: int) -> None:
        """Go on until the feed's row ``stop`` has arrived and ``until_ns`` is reached."""
        while (why := advance(self.engine, feed, stop, until_ns)) != Stop.DONE:
            if why == Stop.SLOTS:
                self.engine = with_more_slots(self.engine)
            elif why == Stop.SESSIONS:
                sessions = with_room(self.engine.sessions, int(self.engine.book["last_ns"][0]))
                self.engine = self.engine._replace(sessions=sessions)
            else:
                self.count()

    def act(self, action: Action) -> None:
        """Let an action happen, which may end every request there is."""
        self.count()
        self.engine = with_room_to_end(self.engine)
        apply(self.engine, action)

    def count(self) -> None:
        """Count the ends there are, and forget them."""
        book, ended = self.engine.book[0], self.engine.ended
        rows, book.ended = int(book.ended), 0
        add(self.tally, ended, rows)
        if self.keep is not None:
            self.keep(ended[:rows])


def run(drive: Drive, load: Iterable[Requests], actions: list[Action], seed: int, progress: Progress) -> bool:
    """Serve every request; return False if the user interrupted.

    Parameters
    ----------
    drive
        The engine and the tally; they are changed in place.
    load
        Batches in order of arrival, as ``checked`` yields them.
    actions
        In order of time.
    seed
        Of the numbers that break ties.
    progress
        Called with the time of the last arrival, after every batch.
    """
    try:
        for feed, stop, until_ns, action in _slices(load, actions, seed):
            drive.advance(feed, stop, until_ns)
            if action is not None:
                drive.act(action)
            elif stop > 0:
                progress(int(feed.arrival_ns[stop - 1]))
    except KeyboardInterrupt:
        drive.count()
        return False
    drive.count()
    return True


def _slices(
    load: Iterable[Requests], actions: list[Action], seed: int
) -> Iterator[tuple[Feed, int, int, Action | None]]:
    """Yield a feed, the row to stop before, the time to advance to, and the action to apply then."""
    rng = np.random.default_rng([seed, TIE_STREAM])
    waiting = list(reversed(actions))
    for batch in load:
        feed = feed_of(batch, rng)
        while waiting and waiting[-1].at_ns < feed.arrival_ns[-1]:
            action = waiting.pop()
            yield feed, int(np.searchsorted(feed.arrival_ns, action.at_ns, side="right")), action.at_ns + 1, action
        yield feed, len(feed.arrival_ns), 0, None
    nothing = feed_of(no_requests(), rng)
    for action in reversed(waiting):
        yield nothing, 0, action.at_ns + 1, action
    yield nothing, 0, NEVER_NS, None


def feed_of(batch: Requests, rng: np.random.Generator) -> Feed:
    """Return a batch as the engine reads it: columns of one type each, and numbers that break ties."""
    columns: list[Any] = [np.require(column, kind, ["C", "W"]) for column, kind in zip(batch, TYPES, strict=True)]
    return Feed._make([*columns, rng.random(len(columns[0])), np.zeros(1, np.int64)])


def cut(load: Iterable[Requests], rows: int) -> Iterator[Requests]:
    """Yield the same requests in batches of at most ``rows``."""
    for batch in load:
        for start in range(0, len(batch.arrival_ns), rows):
            yield part(batch, start, start + rows)
