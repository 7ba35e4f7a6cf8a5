"""Drive the engine through a load, batch by batch, in slices that can be watched and interrupted.

Comes in: an engine, a tally, batches of requests, and the actions of the timeline. Goes out: the engine and the tally
as they stand at the end, or where they were interrupted. Several engines can be driven through one load side by side.
How the load is cut into batches changes nothing in the outcome. This module must never read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from offtake.demand.request import Requests, count_of, no_requests, part
from offtake.performance.replica import NEVER_NS
from offtake.rehearse.actions import apply
from offtake.rehearse.arrivals import Thinning
from offtake.rehearse.engine import Stop, advance
from offtake.rehearse.sessions import with_room
from offtake.rehearse.state import Engine, Feed, with_more_slots, with_room_to_end
from offtake.rehearse.tally import Tally, add
from offtake.rehearse.timeline import Action

TIE_STREAM = 1  #: stream of random numbers that break ties
HALF_STREAM = 4  #: stream of random numbers that thin a load further
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


class Course:
    """Drive one engine through batches of a load: take each in order, then finish.

    ``actions`` are in order of time; ``seed`` is that of the numbers that break ties. With ``keep_one_in`` above 1 only
    so many of the requests are taken, those of a session all or none.
    """

    def __init__(self, drive: Drive, actions: list[Action], seed: int, keep_one_in: int = 1) -> None:
        self.drive = drive
        self._actions = list(reversed(actions))
        self._thinning = Thinning(keep_one_in, [seed, HALF_STREAM])
        self._ties = np.random.default_rng([seed, TIE_STREAM])

    def take(self, batch: Requests) -> None:
        """Let a batch arrive, with the actions before its last request."""
        kept = self._thinning.kept(batch)
        if not count_of(kept):
            return
        feed = feed_of(kept, self._ties)
        while self._actions and self._actions[-1].at_ns < feed.arrival_ns[-1]:
            action = self._actions.pop()
            last = int(np.searchsorted(feed.arrival_ns, action.at_ns, side="right"))
            self.drive.advance(feed, last, action.at_ns + 1)
            self.drive.act(action)
        self.drive.advance(feed, len(feed.arrival_ns), 0)

    def finish(self) -> None:
        """Go on until nothing happens any more, and count every end."""
        nothing = feed_of(no_requests(), self._ties)
        while self._actions:
            action = self._actions.pop()
            self.drive.advance(nothing, 0, action.at_ns + 1)
            self.drive.act(action)
        self.drive.advance(nothing, 0, NEVER_NS)
        self.drive.count()


def run(drive: Drive, load: Iterable[Requests], actions: list[Action], seed: int, progress: Progress) -> bool:
    """Serve every request of one drive; see ``run_all``."""
    return run_all([Course(drive, actions, seed)], load, progress)


def run_all(courses: list[Course], load: Iterable[Requests], progress: Progress) -> bool:
    """Let every course serve the same load, batch by batch; return False if the user interrupted.

    ``load`` yields batches in order of arrival, as ``checked`` does; ``progress`` is called with the time of the last
    arrival, after every batch.
    """
    try:
        for batch in load:
            for course in courses:
                course.take(batch)
            progress(int(batch.arrival_ns[-1]))
        for course in courses:
            course.finish()
    except KeyboardInterrupt:
        for course in courses:
            course.drive.count()
        return False
    return True


def feed_of(batch: Requests, rng: np.random.Generator) -> Feed:
    """Return a batch as the engine reads it: columns of one type each, and numbers that break ties."""
    columns: list[Any] = [np.require(column, kind, ["C", "W"]) for column, kind in zip(batch, TYPES, strict=True)]
    return Feed._make([*columns, rng.random(len(columns[0])), np.zeros(1, np.int64)])


def cut(load: Iterable[Requests], rows: int) -> Iterator[Requests]:
    """Yield the same requests in batches of at most ``rows``."""
    for batch in load:
        for start in range(0, len(batch.arrival_ns), rows):
            yield part(batch, start, start + rows)
