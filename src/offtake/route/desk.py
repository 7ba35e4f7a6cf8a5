"""Decide about requests: who asks, whether it may be, where it goes, what happens when that fails, and what is kept.

Comes in: whole requests, heads of answers, failures and ends, each with the time. Goes out: what the bytes shall do.
The policy decides among pools, health among the upstreams of one; a request is written into the ledger before it is
sent and before its last bytes are passed on. This module knows no socket, and waits for nothing.
"""

from __future__ import annotations

from math import ceil
from typing import cast

from offtake.policy.view import NO_POOL, Choice, Reason
from offtake.policy.view import Request as Wish
from offtake.route.asking import MODELS, NOT_KNOWN, Workloads, caller_of, models_for
from offtake.route.clock import RequestNames
from offtake.route.decider import Sent, Used, session_of
from offtake.route.dialects.asked import CALLS, Refusal, dialect_of, read
from offtake.route.dialects.faults import NO_RETRY, Error, reply_of
from offtake.route.dialects.fields import UNSAID
from offtake.route.dialects.sending import sending_of
from offtake.route.dialects.tokens import estimate_of
from offtake.route.dialects.usage import is_whole, usage_of
from offtake.route.entries import Asker, End, bill_of, closed_of, opened_of
from offtake.route.heads import answer_head, header, retry_after_ns
from offtake.route.health import RetryBudget
from offtake.route.hold import Queues
from offtake.route.lengths import Lengths
from offtake.route.office import Parts, Rival, Work
from offtake.route.seams import (
    NOTHING,
    Call,
    Case,
    Dialect,
    Failure,
    Feed,
    Head,
    Headers,
    Hold,
    Outcome,
    Pass,
    Reply,
    Sending,
    Step,
    Upstream,
)
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S

OK, FAULT, BUSY, BROKEN = 200, 400, 429, 500
UNTRUSTED = frozenset({401, 402, 407})  #: the router's own credential is at fault: no client's ever goes to an upstream
OVERLOADED = frozenset({429, 503, 529})  #: Anthropic says 529
HEDGE_AT = 0.5  #: of the limit on the time to first token, after which an answer is late (assumption)
LEAST_WAIT_NS = 5_000_000  #: a request that waits is not asked about again before (assumption)


class RequestDesk:
    """Be the desk of one worker: see ``seams.Desk``."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.names = RequestNames()
        self.stopping = False  #: the router drains: it is not ready any more
        self._begin()

    def _begin(self) -> None:
        """Make what depends on how many workloads and pools there are."""
        fleet, file = self.parts.fleet, self.parts.config.file
        self.lengths = Lengths(len(fleet.workloads))
        self.queues = Queues(len(fleet.workloads), file.queue_max)
        self.retries = RetryBudget(file.retry.budget_share)
        self.hedges = RetryBudget(file.retry.hedge_share)
        self.up_share = [1.0] * len(fleet.pools)
        self.policy = self.parts.config.policy.name.lower()
        self.workloads = Workloads(fleet, self.parts.config)

    def change(self, parts: Parts, now_ns: int) -> None:
        """Go on with another fleet, configuration or keys; no request is dropped, and those that wait look again."""
        old, waiting, lengths = self.parts, self.queues.all(), self.lengths
        parts.decider.take_over(old.decider, now_ns)
        parts.health.take_over(old.health)
        self.parts = parts
        self._begin()
        if [each.name for each in old.fleet.workloads] == [each.name for each in parts.fleet.workloads]:
            self.lengths = lengths
        for pool in range(len(parts.fleet.pools)):
            self._tell_capacity(pool, now_ns)
        for case in waiting:
            if case.wake is not None:
                case.wake()

    def _move(self, case: Case, work: Work) -> bool:
        """Give a request without a pool the numbers of the fleet of now; False if its workload is no longer there."""
        name = work.parts.fleet.workloads[case.workload].name
        names = [each.name for each in self.parts.fleet.workloads]
        work.parts, case.tried = self.parts, ()
        case.workload = names.index(name) if name in names else NOTHING
        return name in names

    # ── a request comes ──────────────────────────────────────────────────────────────────────────────────────────────
    def arrived(self, head: Head, body: bytes, now_ns: int) -> Case | Reply | Feed:
        """Take a whole request: know its caller, what it asks for and of whom; or answer it at once."""
        call = CALLS.get(head.path) if head.method == b"POST" else None
        if call is None:
            return self._page(head)
        name = self.names.next()
        dialect = dialect_of(call)
        caller = caller_of(self.parts.keyring, head.headers)
        if caller is None:
            return reply_of(dialect, NOT_KNOWN, name)
        try:
            asked = read(call, body)
            workload = self.workloads.of(caller, asked, head)
        except Refusal as refusal:
            told = Error(refusal.status, refusal.message, code=refusal.code, param=refusal.param)
            return reply_of(dialect, told, name)
        case = Case(name, head, body, now_ns)
        case.call, case.dialect, case.stream, case.model = call, dialect, asked.stream, asked.model
        case.tenant, case.workload = caller.tenant, workload
        case.session = session_of(caller.tenant, asked.session) if asked.session else NOTHING
        case.input_tokens = self.lengths.prompt_tokens(workload, asked.prompt_bytes)
        case.output_tokens_max = asked.output_tokens_max
        waits_ns = int(self.parts.fleet.workloads[workload].deferral_hours * NS_PER_HOUR)
        case.last_ns = now_ns + waits_ns
        taken = case.input_tokens + asked.answers * self._answer_tokens(case)
        denied = self.parts.allowance.take(caller.tenant, taken, now_ns)
        if denied is not None:
            message = f"This key's limit of {denied.limit.replace('_', ' ')} is used up."
            return reply_of(dialect, Error(429, message, retry_ns=denied.retry_ns, reason=denied.limit), name)
        if self.parts.trace is not None:
            case.head = self.parts.trace(case)
        case.mark = Work(self.parts, caller, asked, taken)
        self.retries.request()
        return case

    def _page(self, head: Head) -> Reply | Feed:
        """Answer what is no call: the router's own pages, or that there is nothing there."""
        page = self.parts.pages.get(head.path)
        dialect = Dialect.ANTHROPIC if header(head.headers, b"anthropic-version") is not None else Dialect.OPENAI
        if head.path.startswith(MODELS) and head.method == b"GET":
            caller = caller_of(self.parts.keyring, head.headers)
            return models_for(self.parts.fleet, self.parts.config, caller, head, self.names.next())
        if page is None or head.method not in {b"GET", b"HEAD"}:
            known = page is not None or head.path in CALLS
            status, message = (405, "That cannot be done here.") if known else (404, "There is nothing here.")
            return reply_of(dialect, Error(status, message), self.names.next())
        return page(head)

    def _answer_tokens(self, case: Case) -> int:
        """Return the answer's tokens to expect, as the tenant's usual ones or the workload's mean."""
        usual = self.lengths.answer_tokens(case.tenant, case.workload, case.output_tokens_max)
        return usual or round(self.parts.fleet.workloads[case.workload].output_tokens_mean)

    # ── it looks for a pool ──────────────────────────────────────────────────────────────────────────────────────────
    def place(self, case: Case, now_ns: int) -> Step:
        """Find a pool for a request that has none, or let it wait, or refuse it. Its open row is in the ledger then."""
        work = cast("Work", case.mark)
        self.queues.take(case)
        if work.parts is not self.parts and not self._move(case, work):
            return self._refuse(case, Error(503, "This workload is no more.", reason="gone"))
        if not work.open:
            wall_ns = self.parts.clock.wall_ns(case.arrival_ns)
            work.open = self.parts.book.opened(
                opened_of(
                    self.parts.fleet, case, Asker(work.caller.who, work.caller.name, self.parts.config.region), wall_ns
                )
            )
            if not work.open:
                return self._refuse(
                    case, Error(503, "The ledger cannot be written.", retry_ns=NS_PER_S, reason="ledger")
                )
        work.wish = self._wish(case)
        choice = self.parts.decider.choose(work.wish, now_ns, case.tried)
        case.margin_usd = choice.margin_usd
        if choice.pool == NO_POOL:
            return self._no_pool(case, choice, now_ns)
        return self._send(case, int(choice.pool), now_ns)

    def _wish(self, case: Case) -> Wish:
        """Return a request as the policy sees it."""
        usual = self.lengths.answer_tokens(case.tenant, case.workload, case.output_tokens_max)
        context = case.input_tokens + case.output_tokens_max
        region = self.parts.config.region
        return Wish(case.workload, region, case.input_tokens, usual, context, case.session, case.last_ns)

    def _send(self, case: Case, pool: int, now_ns: int) -> Step:
        """Send a request to one of the upstreams of ``pool``; without one the pool is tried no more."""
        work = cast("Work", case.mark)
        upstream = self.parts.health.pick(pool, case.session, now_ns)
        if upstream is None:
            case.tried = (*case.tried, pool)
            self._tell_capacity(pool, now_ns)
            return self.place(case, now_ns)
        if case.call is Call.COUNT_TOKENS and upstream.dialect is not case.dialect:
            case.status, work.reason = OK, "estimate"
            return estimate_of(case)
        try:
            sending = sending_of(case, upstream, self.parts.clock.wall_ns(now_ns) // NS_PER_S)
        except Refusal as refusal:
            return self._unsaid(case, upstream, refusal, now_ns)
        case.pool, case.upstream = pool, upstream
        case.attempts += 1
        case.bid_usd = self.parts.decider.price_usd(pool)
        work.trial = self.parts.health.began(upstream, now_ns)
        work.sent = self.parts.decider.routed(cast("Wish", work.wish), pool, now_ns, streamed=case.stream)
        return sending._replace(hedge_ns=self._hedge_ns(case, now_ns)) if self.hedges.share > 0.0 else sending

    def _hedge_ns(self, case: Case, now_ns: int) -> int:
        """Return when the answer to a streamed, interactive request is so late that it may be asked for twice."""
        workload = self.parts.fleet.workloads[case.workload]
        if not case.stream or workload.kind != "interactive":
            return NOTHING
        self.hedges.request()
        return now_ns + round(HEDGE_AT * workload.ttft_ms_p95 * NS_PER_MS)

    def _unsaid(self, case: Case, upstream: Upstream, refusal: Refusal, now_ns: int) -> Step:
        """Look for a pool that speaks the caller's dialect, as the other has no words for a request; else refuse it."""
        view, speakers = self.parts.decider.view, self.parts.health.speakers(upstream.dialect)
        able = {int(pool) for pool in view.allowed[:, case.workload].nonzero()[0]} - speakers
        if refusal.code != UNSAID or not able & self.parts.health.of_pool.keys():
            told = Error(refusal.status, refusal.message, code=refusal.code, param=refusal.param)
            return self._refuse(case, told)
        case.tried = (*case.tried, *sorted(speakers - set(case.tried)))
        return self.place(case, now_ns)

    def _no_pool(self, case: Case, choice: Choice, now_ns: int) -> Step:
        """Let a request wait that may, or say when it is worth asking again."""
        reason = Reason(choice.reason)
        self.parts.decider.declined(case.workload, now_ns)
        wait_ns = int(choice.retry_after_ns)
        until_ns = now_ns + max(wait_ns, LEAST_WAIT_NS)
        patient_ns = min(case.last_ns, case.arrival_ns + int(self.parts.config.file.queue_s * NS_PER_S))
        if wait_ns >= 0 and until_ns <= patient_ns and self.queues.has_room(case):
            self.queues.put(case)
            return Hold(until_ns)
        status, message = REFUSALS[reason]
        retry_ns = NO_RETRY if reason in FOR_GOOD else max(wait_ns, NS_PER_S if wait_ns < 0 else 0)
        return self._refuse(case, Error(status, message, retry_ns=retry_ns, reason=reason.name.lower()))

    def _refuse(self, case: Case, error: Error) -> Reply:
        """Answer a request that is not served; its end is told by ``ended``, as every other."""
        cast("Work", case.mark).reason = error.reason or "faulty"
        case.status = error.status
        return reply_of(case.dialect, error, case.request_id)

    # ── an upstream answers, or does not ─────────────────────────────────────────────────────────────────────────────
    def heard(self, case: Case, status: int, headers: Headers, now_ns: int) -> Pass | Step:
        """Judge the head of an answer before anything of it is passed on."""
        upstream = cast("Upstream", case.upstream)  # only what was sent is answered
        if status < BROKEN and status != BUSY and status not in UNTRUSTED:
            self.parts.health.succeeded(upstream)
            if cast("Work", case.mark).parts is self.parts:
                self._tell_capacity(case.pool, now_ns)
            case.status = status
            return Pass(answer_head(case, status, headers))
        if status in UNTRUSTED:
            self.parts.health.failed(upstream, Failure.STATUS, now_ns)
            return self._again(case, Error(502, "The upstream does not know the router.", reason="credential"), now_ns)
        if status in OVERLOADED:
            wait_ns = retry_after_ns(headers)
            self.parts.health.busy(upstream, wait_ns, now_ns)
            return self._again(
                case, Error(BUSY, "Every pool is busy.", retry_ns=max(wait_ns, NS_PER_S), reason="busy"), now_ns
            )
        self.parts.health.failed(upstream, Failure.STATUS, now_ns)
        return self._again(case, Error(502, f"The upstream failed ({status}).", reason="upstream"), now_ns)

    def first(self, case: Case, now_ns: int) -> None:
        """Learn that the first byte of the body came."""
        case.first_ns = now_ns
        self.parts.decider.first_token(cast("Sent", cast("Work", case.mark).sent), now_ns)

    def failed(self, case: Case, failure: Failure, now_ns: int) -> Step:
        """Learn that an attempt failed before the first byte was passed on; perhaps try another."""
        upstream = cast("Upstream", case.upstream)  # only what was sent can fail
        self.parts.health.failed(upstream, failure, now_ns)
        late = failure in {Failure.FIRST_TIME, Failure.TOTAL_TIME}
        status, message = (504, "The upstream gave no answer in time.") if late else (502, "The upstream failed.")
        return self._again(case, Error(status, message, retry_ns=NS_PER_S, reason=failure.name.lower()), now_ns)

    def _again(self, case: Case, error: Error, now_ns: int) -> Step:
        """Try another pool after a failed attempt, within the budget; else tell ``error``.

        After an overload no second pool that is itself at its limit is asked: a retry there would only move the queue.
        """
        pool, work = case.pool, cast("Work", case.mark)
        self._leave(case, None, now_ns)
        case.pool, case.upstream = NOTHING, None
        if work.parts is not self.parts:
            return self.place(case, now_ns) if self.retries.take(now_ns) else self._refuse(case, error)
        self._tell_capacity(pool, now_ns)
        rules = self.parts.config.file.retry
        spare = self.parts.health.pick(pool, case.session, now_ns) is not None
        if case.attempts >= rules.attempts_max or not self.retries.take(now_ns):
            return self._refuse(case, error)
        if error.status == BUSY or not spare:
            case.tried = (*case.tried, pool)
        choice = self.parts.decider.choose(cast("Wish", work.wish), now_ns, case.tried)
        full = choice.pool != NO_POOL and self.parts.decider.view.pools["pressure"][choice.pool] >= 1.0
        if choice.pool == NO_POOL or (error.status == BUSY and full):
            return self._refuse(case, error)
        case.margin_usd = choice.margin_usd
        return self._send(case, int(choice.pool), now_ns)

    def probed(self, upstream: Upstream, *, well: bool, now_ns: int) -> None:
        """Learn what a look at an upstream's health path told."""
        if self.parts.health.probed(upstream, well=well, now_ns=now_ns):
            self._tell_capacity(upstream.pool, now_ns)

    def hedge(self, case: Case, now_ns: int) -> Sending | None:
        """Find a second pool for a request whose answer is late, within the budget and where there is room for it."""
        work, decider = cast("Work", case.mark), self.parts.decider
        if work.parts is not self.parts or not self.hedges.take(now_ns):
            return None
        choice = decider.choose(cast("Wish", work.wish), now_ns, (*case.tried, case.pool))
        pool = int(choice.pool)
        if pool == NO_POOL or decider.view.pools["pressure"][pool] >= 1.0:
            return None
        upstream = self.parts.health.pick(pool, case.session, now_ns)
        if upstream is None or upstream.dialect is not case.dialect:
            return None
        case.attempts += 1
        trial = self.parts.health.began(upstream, now_ns)
        work.rival = Rival(pool, upstream, trial, decider.routed(cast("Wish", work.wish), pool, now_ns, streamed=True))
        return sending_of(case, upstream, self.parts.clock.wall_ns(now_ns) // NS_PER_S)

    def hedged(self, case: Case, now_ns: int, *, won: bool) -> None:
        """Learn whether the second attempt is the one whose answer goes on; the other is given up."""
        work = cast("Work", case.mark)
        rival, work.rival = work.rival, None
        if rival is None:
            return
        if won:
            self._leave(case, None, now_ns)
            case.pool, case.upstream = rival.pool, rival.upstream
            work.trial, work.sent = rival.trial, rival.sent
        else:
            self.parts.health.left(rival.upstream, trial=rival.trial)
            self.parts.decider.gone(rival.sent, now_ns)

    def _tell_capacity(self, pool: int, now_ns: int) -> None:
        """Let the policy know which share of a pool can be reached."""
        share = self.parts.health.up_share(pool, now_ns)
        if share != self.up_share[pool]:
            self.up_share[pool] = share
            replicas = self.parts.fleet.pools[pool].replicas if self.parts.fleet.pools[pool].kind == "chips" else 1
            self.parts.decider.capacity(pool, ceil(share * replicas), now_ns)

    def _leave(self, case: Case, used: Used | None, now_ns: int) -> None:
        """Take a request from its pool and its upstream; it was served if what it ``used`` is known."""
        work = cast("Work", case.mark)
        if case.upstream is None or work.sent is None:
            return
        self.parts.health.left(case.upstream, trial=work.trial)
        if used is None:
            self.parts.decider.gone(work.sent, now_ns)
        else:
            self.parts.decider.finished(work.sent, used, now_ns)
        work.trial, work.sent = False, None

    # ── it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def ended(self, case: Case, outcome: Outcome, tail: bytes, chunks: int, now_ns: int) -> bool:
        """Close the request before its last bytes are passed on; False if its row could not be kept."""
        work = cast("Work", case.mark)
        self.queues.take(case)
        if outcome is Outcome.LEFT and case.stream and is_whole(tail):
            outcome = Outcome.SERVED  # a client may go as soon as it has heard the last event
        if outcome is Outcome.REFUSED and case.status == OK:
            outcome = Outcome.SERVED  # the router itself had the answer
        served = outcome is Outcome.SERVED
        if served and case.status >= FAULT:
            outcome, served = Outcome.FAULTY, False
        told = usage_of(tail) if case.upstream is not None else None
        bill = bill_of(work.parts.fleet, work.parts.decider.view, case, told, chunks if case.stream else 0)
        usage = bill.usage
        used = Used(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        self._leave(case, used if served else None, now_ns)
        if served and told is not None and work.parts is self.parts:
            self.lengths.learn_prompt(case.workload, work.asked.prompt_bytes, told.input_tokens)
            self.lengths.learn_answer(case.tenant, case.workload, told.output_tokens)
        work.allowance.settle(case.tenant, work.taken, bill, now_ns)
        clock = self.parts.clock
        end = End(
            outcome, work.reason, clock.wall_ns(case.first_ns) if case.first_ns >= 0 else 0, clock.wall_ns(now_ns)
        )
        closed = closed_of(work.parts.fleet, case, end, bill, self.policy)
        kept = not work.open or self.parts.book.closed(closed)
        for watcher in self.parts.watchers:
            watcher.ended(case, closed, now_ns)
        if work.parts is self.parts:
            self.queues.wake(case.workload)
        return kept


REFUSALS = {
    Reason.NO_FIT: (404, "No pool may serve this model for this workload."),
    Reason.TOO_LONG: (400, "The prompt is longer than any pool can hold."),
    Reason.NO_CAPACITY: (503, "No capacity can be reached at the moment."),
    Reason.BELOW_BID: (429, "There is no capacity for this workload at the moment."),
    Reason.SITE_LOST: (503, "The site was lost."),
    Reason.CONTROL_PLANE: (503, "Nothing can be routed at the moment."),
}
FOR_GOOD = frozenset({Reason.NO_FIT, Reason.TOO_LONG})
