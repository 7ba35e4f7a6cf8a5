"""Ask a second upstream beside a first that is late, and learn which of the two begins to answer.

Comes in: a case whose answer is late. Goes out: the second attempt, once its answer has begun. Nothing of it reaches
the client before; and the desk is told once what became of it, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from offtake.route.answers import MalformedError, OversizedError
from offtake.route.exchange import Exchange
from offtake.route.seams import Case, Failure, Sending
from offtake.route.upstream import Link
from offtake.route.works import OPENING, SENT, Works


class Hedge:
    """Hold a second attempt; ``won`` is called if its answer begins before it is given up."""

    __slots__ = ("_case", "_over", "_won", "_works", "link", "part", "sending")

    def __init__(self, works: Works, case: Case, sending: Sending, won: Callable[[Hedge], None]) -> None:
        self._works, self._case, self._won = works, case, won
        self._over = False
        self.sending = sending
        self.link: Link | None = None
        self.part = b""  #: of the answer's body, with its framing, that came so far

    def begin(self) -> None:
        """Take a link, now or later."""
        link = self._works.pools.of(self.sending.upstream).take(self)
        if link is not None:
            self.opened(link)

    def opened(self, link: Link) -> None:
        """Send the request."""
        self.link = link
        link.send(self.sending.head, self.sending.body)

    def unopened(self, failure: Failure) -> None:
        """Come to nothing: there is no link."""
        del failure
        self._tell(won=False)

    def lost(self, link: Link, *, clean: bool) -> None:
        """Come to nothing: the link is gone."""
        del link, clean
        self.link = None
        self._tell(won=False)

    def received(self, data: bytes) -> None:
        """Read until the body begins; an answer that is no success comes to nothing."""
        if self.link is None:
            return
        answer = self.link.answer
        try:
            self.part += answer.feed(data)
        except (MalformedError, OversizedError):
            self.give_up()
            return
        if answer.status >= HTTPStatus.BAD_REQUEST:
            self.give_up()
        elif answer.status and (answer.pieces or answer.done):
            self._tell(won=True)
            self._won(self)

    def give_up(self) -> None:
        """End it: it is not needed any more, or worth nothing."""
        link, self.link = self.link, None
        if self._over:
            return
        if link is None:
            self._works.pools.of(self.sending.upstream).leave(self)
        else:
            link.abort()
        self._tell(won=False)

    def _tell(self, *, won: bool) -> None:
        """Tell the desk how it ended."""
        self._over = True
        self._works.desk.hedged(self._case, self._works.clock.now_ns(), won=won)


class HedgedExchange(Exchange):
    """Hold the life of one request, with a second attempt where the first is late."""

    __slots__ = ()

    def _late(self, now_ns: int) -> None:
        """Ask for a second attempt, once."""
        super()._late(now_ns)
        case = self._the_case()
        sending = None if self._head or self._left else self._works.desk.hedge(case, now_ns)
        if sending is not None:
            hedge = Hedge(self._works, case, sending, self._take_over)
            self._hedge = hedge
            hedge.begin()

    def _take_over(self, hedge: Hedge) -> None:
        """Give the first attempt up, and go on with the second, whose answer has begun."""
        old, link = self._link, hedge.link
        if link is None:
            return
        if old is not None:
            old.abort()
        elif self._phase == OPENING:
            self._works.pools.of(self._sending.upstream).leave(self)
        self._hedge, self._phase = None, SENT
        self._sending, self._link, self._head, self._early = hedge.sending, link, b"", b""
        link.user = self
        self._fed(link, hedge.part)
