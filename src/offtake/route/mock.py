"""Behave like a fleet's pools on this machine, so that a router can be tried at once: the right times, made-up words.

Comes in: a fleet, and requests at `/POOL/v1/…` in either dialect. Goes out: answers whose first token and whose pace
are those of the pool's step table at the load it has, and faults where they are asked for. A pool is its replicas
taken together: as many requests run as have places, the others wait in turn. This module must never know the router.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from httptools import HttpParserError, HttpRequestParser

from offtake.fleet import Fleet
from offtake.policy.view import View
from offtake.route.dialects.asked import CALLS, Asked, Refusal, dialect_of, read
from offtake.route.dialects.faults import Error, reply_of
from offtake.route.http1 import status_line
from offtake.route.seams import Call, Headers, Reply
from offtake.route.words import Words, chunk, events_of, whole_of
from offtake.units import NS_PER_S

BYTES_PER_TOKEN = 4  #: of a prompt (assumption)
CHANCE_STREAM = 11  #: stream of random numbers that gives answers their lengths
SLOW = 10.0  #: times as slow is a pool that is asked to be slow
CUT_AT = 5  #: tokens after which an answer is cut, where that is asked for


class _Least(msgspec.Struct):
    """Read how long an answer is to be, as vLLM takes it."""

    min_tokens: int = 0


_LEAST = msgspec.json.Decoder(_Least)


class Fault(StrEnum):
    """Name what a pool can be asked to do wrong."""

    NONE = "none"
    ERROR = "error"  # it answers 500
    BUSY = "busy"  # it answers 429
    RESET = "reset"  # it ends the connection without an answer
    HANG = "hang"  # it never answers
    SLOW = "slow"  # it is ten times as slow
    CUT = "cut"  # it ends the connection in the middle of an answer
    MALFORMED = "malformed"  # it answers with what is not HTTP


class Pace(NamedTuple):
    """Hold how fast a pool is, seconds, and how many requests run at once.

    A request in flight makes each token of the others later by ``load_s``, and by the reading of its own prompt, which
    is spread over the tokens of its answer.
    """

    own_s: float
    read_s: float
    token_s: float
    load_s: float
    replicas: int
    places: int


class MockPool:
    """Hold the requests of one pool."""

    def __init__(self, name: str, pace: Pace, output_tokens: float) -> None:
        self.name, self.pace, self.output_tokens = name, pace, output_tokens
        self.running = 0
        self.load_s = 0.0  #: of all that run, together
        self.read_until_s = 0.0  #: when the prompts that came are read, if nothing more comes
        self.waiting: deque[Answering] = deque()
        self.fault = Fault.NONE
        self.served = 0

    def token_s(self) -> float:
        """Return the time to the next token of each running request."""
        slow = SLOW if self.fault is Fault.SLOW else 1.0
        return slow * (self.pace.token_s + self.load_s / self.pace.replicas)

    def begin(self, one: Answering) -> None:
        """Let a request run, or wait for a place."""
        if self.running < self.pace.places:
            self._run(one)
        else:
            self.waiting.append(one)

    def _run(self, one: Answering) -> None:
        """Let a request run."""
        self.running += 1
        self.load_s += one.load_s
        one.run()

    def end(self, one: Answering) -> None:
        """Let a request go, and the next begin."""
        if not one.runs:
            if one in self.waiting:
                self.waiting.remove(one)
            return
        self.running -= 1
        self.load_s = max(self.load_s - one.load_s, 0.0) if self.running else 0.0
        if self.waiting:
            self._run(self.waiting.popleft())


def paces_of(fleet: Fleet, view: View, region: int = 0) -> list[Pace]:
    """Return the pace of every pool as users of a region see it, from the view that the policy has of it."""
    return [
        Pace(
            own_s=float(row["own_ns"] + view.rtt_ns[index, region]) / NS_PER_S,
            read_s=float(row["read_ns_per_token"]) / NS_PER_S,
            token_s=float(row["tpot_ns"]) / NS_PER_S,
            load_s=slope_s(fleet, view, index),
            replicas=max(int(row["replicas_up"]), 1),
            places=int(min(float(row["places"]) * max(int(row["replicas_up"]), 1), 1e9)),
        )
        for index, row in enumerate(view.pools)
    ]


def slope_s(fleet: Fleet, view: View, pool: int) -> float:
    """Return by how much a request in flight makes a replica's tokens later, its prompt left out, seconds."""
    read_ns = float(view.pools["read_ns_per_token"][pool])
    found = [
        float(view.load_ns[pool, index]) - read_ns * each.input_tokens_mean / max(each.output_tokens_mean, 1.0)
        for index, each in enumerate(fleet.workloads)
    ]
    return max(0.0, *found) / NS_PER_S


class Mock:
    """Hold the pools of a fleet, and meet those who ask; ``speed`` makes all times shorter."""

    def __init__(self, fleet: Fleet, view: View, speed: float = 1.0) -> None:
        self.speed = speed
        self.chance = np.random.default_rng([fleet.seed, CHANCE_STREAM])
        means = [workload.output_tokens_mean for workload in fleet.workloads]
        mean = sum(means) / len(means)
        paces = paces_of(fleet, view)
        self.pools = {
            str(index): MockPool(pool.name, pace, mean)
            for index, (pool, pace) in enumerate(zip(fleet.pools, paces, strict=True))
        }
        self.names = {pool.name: pool for pool in self.pools.values()}
        self.connections: set[MockConnection] = set()

    def meet(self) -> MockConnection:
        """Make the protocol of a new connection."""
        return MockConnection(self)

    def length_of(self, pool: MockPool, asked: Asked, body: bytes) -> int:
        """Draw the length of an answer: geometric around the mean, no longer than asked; or `min_tokens`, if given."""
        least = _LEAST.decode(body).min_tokens
        if least > 0:
            return least
        drawn = int(self.chance.geometric(1.0 / max(pool.output_tokens, 1.0)))
        return min(drawn, asked.output_tokens_max) if asked.output_tokens_max else drawn

    def metrics(self, pool: MockPool) -> Reply:
        """Tell the load of a pool as vLLM does."""
        text = f"vllm:num_requests_running {pool.running}\nvllm:num_requests_waiting {len(pool.waiting)}\n"
        return Reply(200, ((b"content-type", b"text/plain; version=0.0.4"),), text.encode())

    def set_fault(self, pool: MockPool, kind: str) -> Reply:
        """Make a pool do something wrong from now on, or no more."""
        if kind not in set(Fault):
            told = f"Write one of: {', '.join(Fault)}.\n"
            return Reply(400, (), told.encode())
        pool.fault = Fault(kind)
        return Reply(200, (), f"{pool.name}: {kind}\n".encode())


class MockConnection(asyncio.Protocol):
    """Hold one connection: a request at a time, answered when it is time."""

    def __init__(self, mock: Mock) -> None:
        self.mock = mock
        self.transport: asyncio.Transport
        self.answering: Answering | None = None
        self.later: deque[tuple[bytes, bytes, bytes]] = deque()
        self.url = self.body = b""
        self.parser = HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self.transport = cast("asyncio.Transport", transport)
        self.mock.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is being answered: the one who asked is gone."""
        del exc
        self.mock.connections.discard(self)
        if self.answering is not None:
            self.answering.stop()

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self.url += url

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer a request, after those before it."""
        self.later.append((self.parser.get_method(), self.url, self.body))
        self.next()

    def next(self) -> None:
        """Answer the next request, if none is being answered."""
        while self.later and self.answering is None and not self.transport.is_closing():
            self.answer(*self.later.popleft())

    def answer(self, method: bytes, url: bytes, body: bytes) -> None:
        """Answer one request, at once or as a pool would."""
        path, _, query = url.partition(b"?")
        name, _, rest = path.removeprefix(b"/").partition(b"/")
        pool = self.mock.pools.get(name.decode("ascii", "replace"))
        if pool is None:
            return self.say(Reply(404, (), b"no such pool\n"))
        if rest == b"metrics":
            return self.say(self.mock.metrics(pool))
        if rest == b"fault" and method in {b"PUT", b"POST"}:
            return self.say(self.mock.set_fault(pool, (query or body).decode("ascii", "replace").strip()))
        call = CALLS.get(b"/" + rest)
        if rest == b"health" or call is None:
            return self.say(Reply(200 if rest == b"health" else 404, (), b""))
        return self.serve(pool, call, body)

    def serve(self, pool: MockPool, call: Call, body: bytes) -> None:
        """Serve a call, or do what the pool was asked to do wrong."""
        dialect = dialect_of(call)
        if pool.fault is Fault.RESET:
            return self.transport.abort()
        if pool.fault is Fault.HANG:
            return None
        if pool.fault is Fault.MALFORMED:
            return self.transport.write(b"HTTP/1.1 banana\r\n\r\n")
        if pool.fault in {Fault.ERROR, Fault.BUSY}:
            status = 500 if pool.fault is Fault.ERROR else 429
            return self.say(reply_of(dialect, Error(status, "As it was asked to.", retry_ns=NS_PER_S), "mock"))
        try:
            asked = read(call, body)
        except Refusal as refusal:
            return self.say(reply_of(dialect, Error(refusal.status, refusal.message), "mock"))
        words = Words(
            call, asked.model, max(1, asked.prompt_bytes // BYTES_PER_TOKEN), self.mock.length_of(pool, asked, body)
        )
        self.answering = Answering(self, pool, words, stream=asked.stream)
        return pool.begin(self.answering)

    def say(self, reply: Reply) -> None:
        """Give a whole answer."""
        self.transport.write(
            head_of(reply.status, (*reply.headers, (b"content-length", b"%d" % len(reply.body)))) + reply.body
        )

    def done(self) -> None:
        """Go on with the next request."""
        self.answering = None
        self.next()


def head_of(status: int, headers: Headers) -> bytes:
    """Return the head of an answer."""
    return status_line(status) + b"".join(b"%s: %s\r\n" % each for each in headers) + b"\r\n"


class Answering:
    """Hold one answer as it is made, token by token."""

    def __init__(self, connection: MockConnection, pool: MockPool, words: Words, *, stream: bool) -> None:
        self.connection, self.pool, self.words, self.stream = connection, pool, words, stream
        self.load_s = pool.pace.load_s + pool.pace.read_s * words.input_tokens / max(words.output_tokens, 1)
        self.runs = False
        self.said = 0
        self.timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Begin to read the prompt."""
        self.runs = True
        pace = self.pool.pace
        slow = SLOW if self.pool.fault is Fault.SLOW else 1.0
        first_s = slow * (pace.own_s + self._read_s())
        rest_s = 0.0 if self.stream else max(self.words.output_tokens - 1, 0) * self.pool.token_s()
        self._in(first_s + rest_s, self._first if self.stream else self._whole)

    def _read_s(self) -> float:
        """Return how long until the prompt is read: replicas together read one prompt after the other."""
        pool, speed = self.pool, self.connection.mock.speed
        now_s = asyncio.get_running_loop().time() * speed
        alone_s = pool.pace.read_s * self.words.input_tokens
        pool.read_until_s = max(pool.read_until_s, now_s) + alone_s / pool.pace.replicas
        return max(alone_s, pool.read_until_s - now_s)

    def stop(self) -> None:
        """Stop: nobody reads it any more."""
        if self.timer is not None:
            self.timer.cancel()
        self.pool.end(self)

    def _in(self, wait_s: float, then: Callable[[], None]) -> None:
        """Do something when it is time."""
        self.timer = asyncio.get_running_loop().call_later(wait_s / self.connection.mock.speed, then)

    def _whole(self) -> None:
        """Give the whole answer."""
        if self.pool.fault is Fault.CUT:
            return self._cut()
        self.connection.say(Reply(200, ((b"content-type", b"application/json"),), whole_of(self.words)))
        return self._end()

    def _first(self) -> None:
        """Begin a stream."""
        headers = ((b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked"))
        self.events = events_of(self.words)
        self.connection.transport.write(head_of(200, headers) + chunk(next(self.events)))
        self._token()

    def _token(self) -> None:
        """Say a token, or the end."""
        event = next(self.events, b"")
        if not event:
            self.connection.transport.write(b"0\r\n\r\n")
            return self._end()
        self.connection.transport.write(chunk(event))
        self.said += 1
        if self.pool.fault is Fault.CUT and self.said >= CUT_AT:
            return self._cut()
        return self._in(self.pool.token_s(), self._token)

    def _cut(self) -> None:
        """End the connection in the middle."""
        self.connection.transport.abort()

    def _end(self) -> None:
        """Free the place."""
        self.pool.served += 1
        self.pool.end(self)
        self.connection.done()


def told(mock: Mock) -> dict[str, Any]:
    """Return what each pool has, for those who look on."""
    return {
        pool.name: {"running": pool.running, "waiting": len(pool.waiting), "served": pool.served, "fault": pool.fault}
        for pool in mock.pools.values()
    }


def encoded(mock: Mock) -> bytes:
    """Return the same as JSON."""
    return msgspec.json.encode(told(mock))
