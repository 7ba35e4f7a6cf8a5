"""Carry one request from its last byte to the end of its answer: hold, send, send again, pass on, end once.

Comes in: a whole request, and what happens to it: a link, bytes, a loss, a time that is up, a client that leaves. Goes
out: calls of the desk, which decides, and bytes to the client. It knows no policy and parses no body.
What is kept: nothing of an answer is passed on before the desk heard its head and its body began, so that until then
another attempt can be made; its last bytes are passed on only once the desk has closed the request, so that no client
ever sees a clean end of a request that the ledger does not hold; an answer that broke never ends cleanly.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from offtake.route.answers import AnswerReader, MalformedError, OversizedError
from offtake.route.feeding import Feeding
from offtake.route.framing import CLOSE_END, END, Way, chunk, length_line, reset, way_of
from offtake.route.http1 import LAST_CHUNK, Request, whole
from offtake.route.seams import Case, Failure, Hold, Leave, Outcome, Pass, Reply, Sending, Step
from offtake.route.upstream import Link
from offtake.route.wheel import NEVER
from offtake.route.works import FEEDING, HOLDING, OPENING, OVER, PASSING, SENT, Beside, Client, Works, verdict_of


class Exchange:
    """Hold the life of one request."""

    __slots__ = (
        *("_case", "_client", "_early", "_feeding", "_first_ns", "_head", "_headless", "_hedge", "_keep", "_last_ns"),
        *("_left", "_link", "_modern", "_passed", "_phase", "_renewed", "_seen", "_sending", "_total_ns", "_verdict"),
        *("_way", "_works"),
    )

    def __init__(self, works: Works, client: Client) -> None:
        self._works, self._client = works, client
        self._keep = False  #: whether the connection goes on after the answer, as far as the client knows
        self._modern = True  #: whether the client speaks HTTP/1.1
        self._headless = False  #: whether it wants no body
        self._case: Case | None = None
        self._link: Link | None = None
        self._hedge: Beside | None = None  #: a second attempt, while none of the two has begun to answer
        self._sending: Sending  #: of the last attempt
        self._head: bytes  #: of its answer, once it was heard and is passed on
        self._early: bytes  #: framing that came before the body's first byte
        self._way: Way
        self._seen: int  #: pieces of its body that were turned
        self._total_ns: int  #: when it has lasted too long
        self._first_ns: int  #: when its body must have begun
        self._passed = False  #: whether the client saw any of it
        self._renewed = False  #: whether it was sent on a second link
        self._feeding: Feeding | None = None
        self._phase = HOLDING
        self._verdict = Outcome.REFUSED  #: how it ended, if the next thing is an answer of our own
        self._left = False
        self._last_ns = 0  #: when the last bytes of the answer came

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, request: Request, now_ns: int) -> None:
        """Ask the desk what this is, and do what it says."""
        head = request.head
        self._keep, self._modern, self._headless = request.keep, request.modern, head.method == b"HEAD"
        made = self._works.desk.arrived(head, request.body, now_ns)
        if isinstance(made, Case):
            self._case = made
            self._carry_out(self._works.desk.place(made, now_ns), now_ns)
        elif isinstance(made, Reply):
            self._answer(made, now_ns)
        else:
            self._phase = FEEDING
            self._client.due(NEVER)
            self._feeding = Feeding(self._client.transport, request, self._works.limits.lag_bytes)
            self._feeding.begin(made)
            if self._headless:
                self._end_feed()

    def _end_feed(self) -> None:
        """End a feed, and the connection with it."""
        self._phase = OVER
        if self._feeding is not None:
            self._feeding.end()
        self._client.ended(keep=False)

    def _carry_out(self, step: Step, now_ns: int) -> None:
        """Do what the desk says."""
        if isinstance(step, Sending):
            self._attempt(step, now_ns)
        elif isinstance(step, Hold):
            self._hold(step, now_ns)
        else:
            self._close_and_answer(step, now_ns)

    def _hold(self, step: Hold, now_ns: int) -> None:
        """Wait until the desk is to be asked again."""
        self._phase = HOLDING
        self._the_case().wake = self._wake
        self._client.due(max(step.until_ns, now_ns))

    def _wake(self) -> None:
        """Ask again in the loop's next round, whoever wakes it."""
        if self._case is not None:
            self._case.wake = None
            self._works.loop.call_soon(self._ask_again)

    def _ask_again(self) -> None:
        """Ask the desk for a place, if the request still waits."""
        case = self._case
        if case is not None and self._phase == HOLDING:
            case.wake = None
            now_ns = self._works.clock.now_ns()
            self._carry_out(self._works.desk.place(case, now_ns), now_ns)

    def _the_case(self) -> Case:
        """Return the case; whoever asks knows that there is one."""
        if self._case is None:
            raise RuntimeError("an exchange without a case is answered at once")
        return self._case

    # ── answers of our own ───────────────────────────────────────────────────────────────────────────────────────
    def _close_and_answer(self, reply: Reply, now_ns: int) -> None:
        """Close the case, and only then answer for ourselves."""
        if self._close(self._verdict, b"", 0, now_ns) and not self._left:
            self._answer(reply, now_ns)
        else:
            self._cut()

    def _answer(self, reply: Reply, now_ns: int) -> None:
        """Send an answer of our own."""
        self._phase = OVER
        keep = self._keep and not self._client.wants_close()
        self._client.transport.write(whole(reply, self._works.date(now_ns), keep=keep, headless=self._headless))
        self._client.ended(keep=keep)

    def _close(self, outcome: Outcome, tail: bytes, chunks: int, now_ns: int) -> bool:
        """Close the case, once; tell whether its row is kept."""
        case, self._case = self._case, None
        if case is None:
            return True
        case.wake = None
        return self._works.desk.ended(case, outcome, tail, chunks, now_ns)

    def _cut(self) -> None:
        """End the client's connection with no clean end."""
        self._phase = OVER
        reset(self._client.transport)
        self._client.ended(keep=False)

    # ── an attempt ───────────────────────────────────────────────────────────────────────────────────────────────
    def _attempt(self, sending: Sending, now_ns: int) -> None:
        """Begin an attempt."""
        self._sending = sending
        self._phase = OPENING
        self._head = self._early = b""
        self._passed = self._renewed = False
        upstream = sending.upstream
        self._total_ns = now_ns + upstream.times.total_ns
        self._client.due(min(now_ns + upstream.times.connect_ns, self._total_ns))
        link = self._works.pools.of(upstream).take(self)
        if link is not None:
            self._send(link, now_ns)

    def opened(self, link: Link) -> None:
        """Send the request."""
        self._send(link, self._works.clock.now_ns())

    def _send(self, link: Link, now_ns: int) -> None:
        """Send the request on a link."""
        sending = self._sending
        self._link, self._phase = link, SENT
        link.send(sending.head, sending.body)
        self._first_ns = due_ns = min(now_ns + sending.upstream.times.first_ns, self._total_ns)
        self._client.due(min(sending.hedge_ns, due_ns) if sending.hedge_ns > now_ns else due_ns)

    def unopened(self, failure: Failure) -> None:
        """Ask for another attempt."""
        self._fail(failure)

    def lost(self, link: Link, *, clean: bool) -> None:
        """End what the link carried: wholly if its end was the body's, else as a failure."""
        self._link = None
        answer = link.answer
        if clean and answer.ends_by_close():
            answer.done = True
            self._finish(link, b"", self._works.clock.now_ns())
        elif link.used > 1 and answer.is_silent() and not self._renewed:
            self._renew()
        else:
            self._fail(Failure.RESET, link)

    def _renew(self) -> None:
        """Send once more, on a new link: the upstream closed the old one while it was idle, and answered nothing."""
        upstream = self._sending.upstream
        self._renewed, self._phase = True, OPENING
        self._client.due(min(self._works.clock.now_ns() + upstream.times.connect_ns, self._total_ns))
        self._works.pools.of(upstream).open(self)

    def _fail(self, failure: Failure, link: Link | None = None) -> None:
        """End the attempt: try another if nothing was passed on, else cut."""
        now_ns = self._works.clock.now_ns()
        self._unhedge()
        if self._link is not None:
            link, self._link = self._link, None
            link.abort()
        if self._left or self._passed:
            self._break_off(Outcome.LEFT if self._left else Outcome.CUT, link, now_ns)
        else:
            self._verdict = Outcome.FAILED
            self._carry_out(self._works.desk.failed(self._the_case(), failure, now_ns), now_ns)

    def _break_off(self, outcome: Outcome, link: Link | None, now_ns: int) -> None:
        """Close the case of an answer that is not whole, and the client's connection without a clean end."""
        self._unhedge()
        tail, chunks = (b"", 0) if link is None else (link.answer.tail(), link.answer.count())
        self._close(outcome, tail, chunks, now_ns)
        if self._passed and self._way is Way.RAW:
            reset(self._client.transport)
        elif not self._passed:
            self._client.transport.abort()
        self._phase = OVER
        self._client.ended(keep=False)

    def _late(self, now_ns: int) -> None:
        """Wait on, though the answer is late."""
        self._client.due(max(now_ns, self._first_ns))

    def _unhedge(self) -> None:
        """Give a second attempt up: the first has begun to answer, or has ended."""
        if self._hedge is not None:
            self._hedge.give_up()
            self._hedge = None

    # ── its answer ───────────────────────────────────────────────────────────────────────────────────────────────
    def received(self, data: bytes) -> None:
        """Take bytes of the answer and pass on what can be."""
        link = self._link
        if link is None:
            return
        answer = link.answer
        try:
            part = answer.feed(data)
        except MalformedError:
            self._fail(Failure.MALFORMED)
            return
        except OversizedError:
            self._fail(Failure.TOO_LARGE)
            return
        self._fed(link, part)

    def _fed(self, link: Link, part: bytes) -> None:
        """Pass on what can be of an answer that was read so far."""
        answer, now_ns = link.answer, self._works.clock.now_ns()
        if self._phase != PASSING:
            if not self._begun(answer, now_ns):
                if self._link is link:
                    self._early += part
                return
            part = self._early + part
        if answer.done:
            self._finish(link, part, now_ns)
        else:
            self._last_ns = now_ns
            self._pass(answer, part)

    def _begun(self, answer: AnswerReader, now_ns: int) -> bool:
        """Hear the head once it is whole, and tell whether the body has begun."""
        if not answer.status or (not self._head and not self._hear(answer, now_ns)):
            return False
        if not answer.pieces:
            return answer.done
        self._unhedge()
        self._works.desk.first(self._the_case(), now_ns)
        self._phase = PASSING
        if not answer.done:
            self._client.due(min(now_ns + self._sending.upstream.times.between_ns, self._total_ns))
        return True

    def _hear(self, answer: AnswerReader, now_ns: int) -> bool:
        """Let the desk judge the head; tell whether the answer is passed on."""
        if answer.status >= HTTPStatus.BAD_REQUEST:
            self._unhedge()
        step = self._works.desk.heard(self._the_case(), answer.status, answer.headers, now_ns)
        if isinstance(step, Pass):
            self._head, self._seen = step.head, 0
            self._way = way_of(answer, modern=self._modern, turned=self._sending.translator is not None)
            return True
        self._verdict = verdict_of(answer.status)
        link, self._link = self._link, None
        if link is not None:
            link.release()
        if self._left:
            self._break_off(Outcome.LEFT, link, now_ns)
        else:
            self._carry_out(step, now_ns)
        return False

    def _pass(self, answer: AnswerReader, part: bytes) -> None:
        """Pass on the next part of a body that goes on."""
        way = self._way
        if way is not Way.VERBATIM:
            try:
                part = self._turned(answer)
            except (ValueError, msgspec.MsgspecError):
                self._fail(Failure.MALFORMED)
                return
            if part and way is Way.CHUNKED:
                part = chunk(part)
        if not part or self._left:
            return
        if not self._passed:
            part = self._whole_head(answer, -1) + part
            self._passed = True
            self._let_go()
        self._client.transport.write(part)

    def _let_go(self) -> None:
        """Forget the request's body: it is not sent again, and an answer may go on for minutes."""
        self._the_case().body = b""
        self._sending = self._sending._replace(head=b"", body=b"")

    def _turned(self, answer: AnswerReader) -> bytes:
        """Return what came of the body since the last time, without its framing, in the client's dialect."""
        data = answer.since(self._seen)
        self._seen = answer.count()
        translator = self._sending.translator
        return data if translator is None else translator.feed(data)

    def _whole_head(self, answer: AnswerReader, length: int) -> bytes:
        """Write the head, framing included; ``length`` is -1 while it is unknown."""
        line = length_line(answer, self._way, length)
        self._keep &= not self._client.wants_close() and (bool(line) or self._way is not Way.RAW)
        return self._head + line + (END if self._keep else CLOSE_END)

    def _finish(self, link: Link, part: bytes, now_ns: int) -> None:
        """Close the case, and only then pass on the last bytes."""
        self._unhedge()
        answer = link.answer
        if answer.junk and answer.chunked:
            self._fail(Failure.MALFORMED, link)
            return
        try:
            last = self._last(answer, part)
        except (ValueError, msgspec.MsgspecError):
            self._fail(Failure.MALFORMED, link)
            return
        tail, chunks = answer.tail(), answer.count()
        if self._link is not None:
            self._link = None
            link.release()
        outcome = Outcome.LEFT if self._left else verdict_of(answer.status)
        if not self._close(outcome, tail, chunks, now_ns) and not self._left:
            self._cut()
            return
        self._phase = OVER
        if not self._left:
            self._client.transport.write(last)
        self._client.ended(keep=self._keep and not self._client.wants_close())

    def _last(self, answer: AnswerReader, part: bytes) -> bytes:
        """Return the last bytes for the client: all of them, if none were passed on before."""
        way = self._way
        if way is not Way.VERBATIM:
            part = self._turned(answer)
            if self._sending.translator is not None:
                part += self._sending.translator.close()
        if self._passed:
            if way is Way.CHUNKED:
                return chunk(part) + LAST_CHUNK if part else LAST_CHUNK
            return part
        known = answer.length if way is Way.VERBATIM else len(part)
        return self._whole_head(answer, known) + part

    # ── the client ───────────────────────────────────────────────────────────────────────────────────────────────
    def pause(self) -> None:
        """Read no more of the answer while the client lags behind."""
        if self._link is not None and self._phase == PASSING:
            self._link.transport.pause_reading()
            self._client.due(min(self._last_ns + self._works.limits.stall_ns, self._total_ns))

    def resume(self) -> None:
        """Read on."""
        if self._link is not None and self._phase == PASSING:
            self._last_ns = now_ns = self._works.clock.now_ns()
            self._client.due(min(now_ns + self._sending.upstream.times.between_ns, self._total_ns))
            self._link.transport.resume_reading()

    def left(self) -> None:
        """Learn that the client is gone: stop the upstream, or read to the end, as its contract says."""
        self._left = True
        if self._phase == FEEDING:
            self._end_feed()
        elif self._phase == OVER:
            return
        elif self._link is not None and self._sending.upstream.leave is Leave.DRAIN:
            self.resume()
        else:
            self.stop(Outcome.LEFT)

    def stop(self, outcome: Outcome | None = None) -> None:
        """End at once, wherever it is; without an outcome it is the router that ends it."""
        if self._phase == FEEDING:
            return self._end_feed()
        if self._phase == OPENING:
            self._works.pools.of(self._sending.upstream).leave(self)
        link, self._link = self._link, None
        if link is not None:
            link.abort()
        passed = self._phase == PASSING and self._passed
        outcome = outcome or (Outcome.CUT if passed else Outcome.FAILED)
        return self._break_off(outcome, link, self._works.clock.now_ns())

    def wind_up(self) -> None:
        """End what would never end by itself."""
        if self._phase == FEEDING:
            self._end_feed()

    def expired(self, now_ns: int) -> None:
        """Act on a time that is up."""
        if self._phase == HOLDING:
            self._ask_again()
        elif self._phase == OPENING:
            self._works.pools.of(self._sending.upstream).leave(self)
            self._fail(Failure.CONNECT_TIME)
        elif self._phase == SENT and now_ns < self._first_ns:
            self._late(now_ns)
        elif self._phase == SENT:
            self._fail(Failure.TOTAL_TIME if now_ns >= self._total_ns else Failure.FIRST_TIME)
        elif self._phase == PASSING:
            self._check_pace(now_ns)

    def _check_pace(self, now_ns: int) -> None:
        """End an answer, or a client, that stands still."""
        lagging = self._client.paused and not self._left
        still_ns = self._works.limits.stall_ns if lagging else self._sending.upstream.times.between_ns
        due_ns = min(self._last_ns + still_ns, self._total_ns)
        if now_ns < due_ns:
            self._client.due(due_ns)
        elif now_ns >= self._total_ns:
            self._fail(Failure.TOTAL_TIME)
        elif lagging:
            self._client.transport.abort()  # its loss is learnt as any other
        else:
            self._fail(Failure.BETWEEN_TIME)
