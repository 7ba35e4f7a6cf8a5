"""Decide live: keep the view that the rehearsed policy reads, and ask it for the pool of each request.

Comes in: a fleet, requests, and what happens to them. Goes out: choices, and a log of everything if one is asked for. A
request that was sent is a ``Sent``, which knows how far it came, so that it is counted out exactly once, whatever its
callers report. Times are nanoseconds of the router's clock. This module must never know a socket, a tenant or a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offtake.fleet import Fleet
from offtake.policy.build import live_view
from offtake.policy.machine import machine_of
from offtake.policy.view import NO_POOL, PRIME, Answer, Choice, Event, EventKind, Floats, Ints, Policy, Request
from offtake.route.decisions import FORMAT, Asked, Entry, Header, Learned, framed
from offtake.route.shared import (
    ANSWERS,
    IN_FLIGHT,
    LATE,
    LEVELS,
    SERVICE_NS,
    TAKEN,
    TOTALS,
    UNREAD,
    WAITING,
    Block,
    Change,
    Others,
    alone,
)
from offtake.units import HOURS_PER_WEEK, NS_PER_HOUR

CHANCE_STREAM = 5  #: stream of random numbers that break ties
DRAWN = 1_024  #: of them drawn at once
EPOCH_HOUR = 72  #: of the week, from Monday: 1970 began on a Thursday
LEARNED = ("reach", "service_ns", "free_ns", "replicas_up")  #: of a pool, and true of it under another fleet too

Keep = Callable[[bytes], object]


class Stage(IntEnum):
    """Say how far a request came at its pool."""

    WAITING = 0
    RUNNING = 1
    ANSWERING = 2
    GONE = 3


# Looking into an enumeration costs more than the rest of its line, and these are looked at for every request.
_WAITING, _RUNNING, _ANSWERING, _GONE = Stage
_ROUTED, _ADMITTED, _FIRST, _FINISHED = (
    int(kind) for kind in (EventKind.ROUTED, EventKind.ADMITTED, EventKind.FIRST_TOKEN, EventKind.FINISHED)
)
_LEFT, _TAKEN = int(EventKind.GONE), int(EventKind.TAKEN)


class Sent:
    """Hold one attempt at a pool; only the decider that made it changes it."""

    __slots__ = ("first_ns", "pool", "region", "routed_ns", "stage", "streamed", "taken_tokens", "tokens", "workload")

    def __init__(self, request: Request, pool: int, now_ns: int, *, streamed: bool) -> None:
        self.pool = pool
        self.workload, self.region, self.tokens = request.workload, request.region, request.input_tokens
        self.streamed, self.routed_ns, self.first_ns = streamed, now_ns, now_ns
        self.taken_tokens = 0  #: of an API's limit
        self.stage = _WAITING


class Used(NamedTuple):
    """Hold what an answer was, from its usage: all tokens of the prompt, those of them cached, and of the answer."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int


class Held(NamedTuple):
    """Hold what the engines of a pool say that they have: requests running, and waiting to run."""

    running: int
    waiting: int


class Worker(NamedTuple):
    """Say which of the host's workers decides, and where they count; ``block`` is None for one alone.

    One that is not ``fresh`` takes over from a decider of the same worker, which may count in the same block.
    """

    number: int = 0
    block: Block | None = None
    fresh: bool = True


class Settings(NamedTuple):
    """Say how a decider decides.

    ``begun_wall_ns`` is the time since 1970 at ns 0 of the router's clock; ``shadow`` a second policy that is asked the
    same and not obeyed; ``folder`` where tables lie that do not ship with the package; ``keep`` is given each record.
    """

    begun_wall_ns: int
    policy: Policy = Policy.BID_PRICE
    shadow: Policy | None = None
    worker: Worker = Worker()
    folder: Path | None = None
    keep: Keep | None = None


class Decider:
    """Hold the live view of a fleet and decide on it.

    Raises
    ------
    InputError
        If the fleet names a step table that there is not, or has no pool.
    OfftakeError
        If the policy's machine code cannot be made.
    ValueError
        If the block of the worker is of another size.
    """

    def __init__(self, fleet: Fleet, settings: Settings) -> None:
        self.fleet, self.settings = fleet, settings
        start_hour = week_hour(settings.begun_wall_ns)
        self.view = live_view(fleet, start_hour, settings.folder)
        self.sent: set[Sent] = set()  #: all that are at their pools
        #: Decisions [pool + 1, pool + 1] by what was chosen and what the shadow would have; the last of each: none.
        self.shadowed = np.zeros((len(fleet.pools) + 1, len(fleet.pools) + 1), np.int64)
        self._machine = machine_of(self.view)
        self._policy, self._keep = int(settings.policy), settings.keep
        self._shadow = None if settings.shadow is None else int(settings.shadow)
        self._replicas_up = self.view.pools["replicas_up"]
        self._wait_ns, self._price_usd = self.view.pools["wait_ns"], self.view.pools["price_usd"]
        self._rtt_ns = [[int(rtt) for rtt in row] for row in self.view.rtt_ns]
        self._slo_ttft_ns = [int(allowed) for allowed in self.view.workloads["slo_ttft_ns"]]
        self._is_api = [pool.kind == "api" for pool in fleet.pools]
        reading = (self.view.pools[name].tolist() for name in ("own_ns", "read_ns_per_token", "read_ns_per_token2"))
        self._reading = list(zip(*reading, strict=True))
        self._input_tokens = np.array([workload.input_tokens_mean for workload in fleet.workloads])
        self._output_tokens = [workload.output_tokens_mean for workload in fleet.workloads]
        number, block, fresh = settings.worker
        size = (len(fleet.pools), len(fleet.workloads))
        if block is not None and block.size[1:] != size:
            raise ValueError(f"the block counts for {block.size[1:]} pools and workloads, the fleet has {size}")
        own = None if block is None else block.column(number) if fresh else block.kept(number)
        self._own = own or alone(*size)
        self._others = None if block is None else Others(block, number)
        self._measured = np.zeros((*self.view.running.shape, LEVELS), np.int64)
        self._chance = np.random.default_rng([fleet.seed, CHANCE_STREAM, number])
        self._drawn: list[float] = []
        self._unstreamed: list[tuple[int, int, Sent]] = []
        self._serial = count()
        self._record(Header(FORMAT, fleet.name, fleet.week, fleet.seed, number, start_hour, self._policy, self._shadow))

    # ── deciding ────────────────────────────────────────────────────────────────────────────────────────────────────
    def choose(self, request: Request, now_ns: int, without: tuple[int, ...] = ()) -> Choice:
        """Return the pool for ``request``, or ``NO_POOL`` with a reason; the pools of ``without`` are passed over."""
        if not self._drawn:
            self._drawn = self._chance.random(DRAWN).tolist()
        u = self._drawn.pop()
        if not without and self._shadow is None and self._keep is None:
            return self._machine.decide(self._policy, request, now_ns, u)
        closed = [(pool, int(self._replicas_up[pool])) for pool in without]
        for pool, _ in closed:
            self._replicas_up[pool] = 0
        choice = self._machine.decide(self._policy, request, now_ns, u)
        other = None if self._shadow is None else self._machine.decide(self._shadow, request, now_ns, u)
        for pool, up in reversed(closed):
            self._replicas_up[pool] = up
        if other is not None:
            self.shadowed[choice.pool, other.pool] += 1
        if self._keep is not None:
            self._record(Asked(request, now_ns, u, without, choice, other))
        return choice

    def price_usd(self, pool: int) -> float:
        """Return what a unit of what a request takes costs at ``pool`` now, US dollars."""
        return float(self._price_usd.item(pool))

    def declined(self, workload: int, now_ns: int) -> None:
        """Learn that a request of ``workload`` was turned away or put off."""
        self._tell(Event(EventKind.DECLINED, NO_POOL, workload, 1, 0, 0, now_ns))

    # ── what happens to a request ───────────────────────────────────────────────────────────────────────────────────
    def routed(self, request: Request, pool: int, now_ns: int, *, streamed: bool = True) -> Sent:
        """Learn that ``request`` goes to ``pool``; of one that is not streamed the first token will not be seen."""
        sent = Sent(request, pool, now_ns, streamed=streamed)
        self.sent.add(sent)
        if not streamed and not self._is_api[pool]:
            due_ns = now_ns + self._wait_ns.item(pool) + self._own_ns(pool, sent.tokens)
            heappush(self._unstreamed, (due_ns, next(self._serial), sent))
        self._count(sent, 1, 1, sent.tokens)
        self._tell(Event(_ROUTED, pool, sent.workload, 1, sent.tokens, 0, now_ns))
        if self._is_api[pool]:
            sent.taken_tokens = sent.tokens + self._output(request)
            self._take(pool, sent.taken_tokens, now_ns)
            self.admitted(sent, now_ns)
        return sent

    def admitted(self, sent: Sent, now_ns: int) -> None:
        """Learn that a request began to run; where that is not seen, its first token says so."""
        if sent.stage is _WAITING:
            sent.stage = _RUNNING
            self._count(sent, 0, -1, 0)
            self._tell(Event(_ADMITTED, sent.pool, 0, 1, 0, 0, now_ns))

    def first_token(self, sent: Sent, now_ns: int) -> None:
        """Learn that the first token of an answer came."""
        before = sent.stage
        if before is _WAITING or before is _RUNNING:
            sent.stage, sent.first_ns = _ANSWERING, now_ns
            if before is _WAITING:
                self._count(sent, 0, -1, -sent.tokens)
                self._tell(Event(_ADMITTED, sent.pool, 0, 1, 0, 0, now_ns))
            else:
                self._count(sent, 0, 0, -sent.tokens)
            self._tell(Event(_FIRST, sent.pool, 0, 1, sent.tokens, 0, now_ns))

    def finished(self, sent: Sent, used: Used, now_ns: int) -> None:
        """Learn that an answer is whole; what the pool bears and how long it takes is learned from it."""
        if sent.stage is _GONE:
            return
        self.first_token(sent, now_ns)
        pool, read = sent.pool, max(used.input_tokens - used.cached_tokens, 0)
        late = self._machine.late_by_load(pool, self._answer(sent, read, used.output_tokens, now_ns))
        service_ns = now_ns - max(sent.routed_ns, sent.first_ns - self._own_ns(pool, read))
        self._leave(sent, now_ns)
        if sent.taken_tokens:
            self._take(pool, used.input_tokens + used.output_tokens - sent.taken_tokens, now_ns)
        totals, at = self._own.totals, pool * TOTALS
        totals[at + ANSWERS] += 1
        totals[at + LATE] += late
        totals[at + SERVICE_NS] += service_ns
        self._tell(Event(_FINISHED, pool, 0, 1, late, service_ns, now_ns))

    def gone(self, sent: Sent, now_ns: int) -> None:
        """Learn that a request left its pool unfinished: it failed, was cut, or its client left."""
        if sent.stage is _GONE:
            return
        if sent.taken_tokens and sent.stage is not _ANSWERING:
            self._take(sent.pool, -sent.taken_tokens, now_ns)
        self._leave(sent, now_ns)

    def _leave(self, sent: Sent, now_ns: int) -> None:
        """Count a request out of its pool, with whatever of it is still counted."""
        waits = int(sent.stage is _WAITING)
        unread = 0 if sent.stage is _ANSWERING else sent.tokens
        sent.stage = _GONE
        self.sent.discard(sent)
        self._count(sent, -1, -waits, -unread)
        self._tell(Event(_LEFT, sent.pool, sent.workload, waits, unread, 0, now_ns))

    def _answer(self, sent: Sent, read_tokens: int, output_tokens: int, now_ns: int) -> Answer:
        """Return how fast an answer was; of one that came whole, the first token is taken to be as late as allowed."""
        rtt_ns, whole_ns = self._rtt_ns[sent.pool][sent.region], now_ns - sent.routed_ns
        ttft_ns = sent.first_ns - sent.routed_ns
        if not sent.streamed:
            allowed_ns = self._slo_ttft_ns[sent.workload]
            ttft_ns = min(whole_ns, max(allowed_ns, rtt_ns + self._own_ns(sent.pool, read_tokens)))
        gap_ns = (whole_ns - ttft_ns) / max(output_tokens - 1, 1)
        return Answer(sent.workload, read_tokens, rtt_ns, ttft_ns, gap_ns)

    # ── what happens elsewhere ──────────────────────────────────────────────────────────────────────────────────────
    def capacity(self, pool: int, replicas: int, now_ns: int) -> None:
        """Learn how many replicas of ``pool`` take requests from now on; 0 or 1 for an API."""
        self._tell(Event(EventKind.CAPACITY, pool, 0, replicas, 0, 0, now_ns))

    def tick(self, now_ns: int) -> None:
        """Count what other workers did, and the prompts that must have been read by now; call it every 10 ms."""
        while self._unstreamed and self._unstreamed[0][0] <= now_ns:
            self.first_token(heappop(self._unstreamed)[2], now_ns)
        for change in () if self._others is None else self._others.changes():
            if isinstance(change, Change):
                self._elsewhere(change, now_ns)
                continue
            if change.taken_tokens:
                self._tell(Event(EventKind.TAKEN, change.pool, 0, 1, change.taken_tokens, 0, now_ns))
            if change.answers:
                late, service_ns = change.late, change.service_ns
                self._tell(Event(EventKind.FINISHED, change.pool, 0, change.answers, late, service_ns, now_ns))

    def measured(self, pool: int, held: Held, now_ns: int) -> None:
        """Learn what the engines of ``pool`` hold; what nobody here sent them is load from elsewhere.

        It is spread over workloads as what is known here, else as the plan places them, and stays until the next
        measurement. What is known here but not measured is on its way, and counts.
        """
        before, row = self._measured[pool], self.view.pools[pool]
        known_in, known_waiting = int(row.in_flight - before[:, IN_FLIGHT].sum()), int(row.waiting)
        waiting = max(held.waiting - (known_waiting - int(before[:, WAITING].sum())), 0)
        in_flight = max(held.running + held.waiting - known_in, 0)
        mix = self.view.running[pool] - before[:, IN_FLIGHT]
        shares = mix if mix.any() else self.view.weight[:, pool].sum(axis=0) * self.view.allowed[pool]
        after = np.zeros_like(before)
        after[:, IN_FLIGHT] = shared_out(in_flight, shares)
        after[:, WAITING] = shared_out(min(waiting, in_flight), after[:, IN_FLIGHT])
        after[:, UNREAD] = after[:, WAITING] * self._input_tokens
        for workload, change in enumerate((after - before).tolist()):
            if any(change):
                self._elsewhere(Change(pool, workload, *change), now_ns)
        self._measured[pool] = after

    def take_over(self, old: Decider, now_ns: int) -> None:
        """Go on from the decider of an older fleet: what is in flight, and what was learned, pool by pool of a name.

        A request whose pool is no more in the fleet goes on, and is counted nowhere. A new fleet takes a new block.
        """
        old.retire()
        pools = {pool.name: index for index, pool in enumerate(self.fleet.pools)}
        workloads = {workload.name: index for index, workload in enumerate(self.fleet.workloads)}
        for index, pool in enumerate(old.fleet.pools):
            if pool.name in pools:
                self._learn(pools[pool.name], {name: old.view.pools[name][index].item() for name in LEARNED})
        for sent in list(old.sent):
            pool_now = pools.get(old.fleet.pools[sent.pool].name, NO_POOL)
            workload_now = workloads.get(old.fleet.workloads[sent.workload].name, NO_POOL)
            stage = sent.stage
            old._leave(sent, now_ns)
            if NO_POOL not in {pool_now, workload_now}:
                sent.pool, sent.workload, sent.stage = pool_now, workload_now, stage
                self._adopt(sent, now_ns)
        self._unstreamed = [one for one in old._unstreamed if one[2] in self.sent]
        self._serial = old._serial
        heapify(self._unstreamed)

    def retire(self) -> None:
        """Say nothing to other workers any more: what is in flight here is another's to count."""
        number, block, _ = self.settings.worker
        if block is not None:
            block.clear(number)
        self._own, self._others = alone(len(self.fleet.pools), len(self.fleet.workloads)), None

    def _learn(self, pool: int, values: dict[str, float]) -> None:
        """Set what an older decider learned of a pool."""
        for name, value in values.items():
            self.view.pools[name][pool] = value
        self._record(Learned(pool, values))

    def _adopt(self, sent: Sent, now_ns: int) -> None:
        """Count a request that an older decider sent."""
        self.sent.add(sent)
        waits = int(sent.stage is _WAITING)
        unread = 0 if sent.stage is _ANSWERING else sent.tokens
        self._count(sent, 1, waits, unread)
        self._elsewhere(Change(sent.pool, sent.workload, 1, waits, unread), now_ns)

    def _elsewhere(self, change: Change, now_ns: int) -> None:
        """Count what others have in flight at a pool."""
        pool, workload, in_flight, waiting, tokens = change
        self._tell(Event(EventKind.ELSEWHERE, pool, workload, in_flight, tokens, 0, now_ns))
        if waiting:
            self._tell(Event(EventKind.ADMITTED, pool, 0, -waiting, 0, 0, now_ns))

    # ── within ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _tell(self, event: Event) -> None:
        """Apply an event to the view and put it into the log."""
        self._machine.update(event)
        if self._keep is not None:
            self._record(event)

    def _count(self, sent: Sent, in_flight: int, waiting: int, unread_tokens: int) -> None:
        """Change what this worker says to the others."""
        own = self._own
        at, levels = (sent.pool * own.size.workloads + sent.workload) * LEVELS, own.levels
        if in_flight:
            levels[at + IN_FLIGHT] += in_flight
        if waiting:
            levels[at + WAITING] += waiting
        if unread_tokens:
            levels[at + UNREAD] += unread_tokens

    def _take(self, pool: int, tokens: int, now_ns: int) -> None:
        """Take tokens of an API's rate limit, or give them back."""
        self._own.totals[pool * TOTALS + TAKEN] += tokens
        self._tell(Event(_TAKEN, pool, 0, 1, tokens, 0, now_ns))

    def _own_ns(self, pool: int, tokens: int) -> int:
        """Return the time to first token at an empty pool, ns; as ``policy.price.own_ns``."""
        own_ns, read_ns, read_ns2 = self._reading[pool]
        return int(own_ns + tokens * (read_ns + tokens * read_ns2))

    def _output(self, request: Request) -> int:
        """Return the output tokens to expect of a request; as ``policy.price.expected_output``."""
        mean = self._output_tokens[request.workload]
        return round(min(mean, request.output_tokens_max) if request.output_tokens_max > 0 else mean)

    def _record(self, entry: Entry) -> None:
        """Put an entry into the log, if one is kept."""
        if self._keep is not None:
            self._keep(framed(entry))


def week_hour(wall_ns: int) -> float:
    """Return the hour of the week, from Monday 00:00 UTC, of a time since 1970."""
    return (wall_ns / NS_PER_HOUR + EPOCH_HOUR) % HOURS_PER_WEEK


def session_of(tenant: int, key: bytes) -> int:
    """Return the number of a session, the same in every router: below ``policy.view.PRIME``, by BLAKE2b."""
    digest = hashlib.blake2b(key, digest_size=8, salt=tenant.to_bytes(8, "little", signed=True)).digest()
    return int.from_bytes(digest, "little") % PRIME


def shared_out(number: int, weight: Ints | Floats) -> Ints:
    """Share out a whole number by weight, what is left to the largest remainders; nothing where all weights are 0."""
    total = float(weight.sum())
    if total <= 0:
        return np.zeros(len(weight), np.int64)
    exact = number * weight / total
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: number - int(whole.sum())]] += 1
    return whole
