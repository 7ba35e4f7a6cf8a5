"""Look at upstreams in the background: are they well, and what do their engines have that this router did not send.

Comes in: the health paths and metrics of upstreams, asked by one worker of the host for all. Goes out: rows that every
worker applies to its own health and view. Nothing here can slow an engine or the router: one question at a time for
each upstream, none longer than its time limit or its size, and after a slow answer a pause of ten times as long.

Sources: names of gauges as vLLM, SGLang, trtllm-serve and Triton's TensorRT-LLM backend document them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from math import nan
from typing import NamedTuple

from httptools import HttpParserError, HttpResponseParser

from offtake.route.clock import Clock
from offtake.route.columns import Host, Numbers
from offtake.route.decider import Held
from offtake.route.desk import RequestDesk
from offtake.route.seams import Upstream
from offtake.units import NS_PER_S

PROBED = "probed"  #: row by upstream: when, whether it is well, requests running and waiting, when those were read
PROBED_WIDTH = 5
AT_S, WELL, RUNNING, WAITING, READ_S = range(PROBED_WIDTH)
SHARE = 0.8  #: of the time between two looks that one may take
BODY_BYTES_MAX = 4 * 1_048_576  #: of an answer; longer metrics are not read
PAUSE = 10.0  #: times as long as a reading of metrics took is waited before the next
STALE_S = 10.0  #: metrics older than this tell nothing any more (assumption)
TWICE = 2  #: times in a row that a health path must fail, unless nobody listens
OK = 200

RUNS = (b"vllm:num_requests_running", b"sglang:num_running_reqs", b"trtllm_num_requests_running")
WAITS = (b"vllm:num_requests_waiting", b"sglang:num_queue_reqs", b"trtllm_num_requests_waiting")
TRITON = b"nv_trt_llm_request_metrics"
TRITON_RUNS, TRITON_WAITS = b'request_type="scheduled"', b'request_type="waiting"'
NUMBER = re.compile(rb"(?:\{[^\n]*\})?[ \t]+([0-9.eE+-]+)")


class Answered(NamedTuple):
    """Hold an answer to a look: its status, and its body."""

    status: int
    body: bytes


class UnreachableError(Exception):
    """Say that nobody listens there."""


def held_of(text: bytes) -> Held | None:
    """Return what an engine's metrics say that it has, over all its models and ranks; None if they do not say."""
    runs = [value for name in RUNS for value in values(text, name, b"")]
    runs += values(text, TRITON, TRITON_RUNS)
    waits = [value for name in WAITS for value in values(text, name, b"")]
    waits += values(text, TRITON, TRITON_WAITS)
    return Held(round(sum(runs)), round(sum(waits))) if runs else None


def values(text: bytes, name: bytes, label: bytes) -> list[float]:
    """Return the values of a gauge; of those with a label, where one is given."""
    found: list[float] = []
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        match = NUMBER.match(text, end) if not at or text[at - 1 : at] == b"\n" else None
        if match is not None and label in match[0]:
            with suppress(ValueError):
                found.append(float(match[1]))
        at = text.find(name, end)
    return found


class Answer:
    """Read one answer to its end, or to its limit."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size, self.done = 0, False
        self.status = 0  #: once the head is whole
        self.parser = HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        """Note the status."""
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Take a piece."""
        self.pieces.append(body)
        self.size += len(body)

    def on_message_complete(self) -> None:
        """Note the end."""
        self.done = True


async def look(upstream: Upstream, path: bytes, limit_s: float) -> Answered:
    """Ask an upstream for one of its own pages.

    Raises
    ------
    UnreachableError
        If no connection can be made.
    OSError, TimeoutError, HttpParserError
        If no good answer comes in time.
    """
    async with asyncio.timeout(limit_s):
        try:
            name = upstream.host if upstream.tls is not None else None
            reader, writer = await asyncio.open_connection(
                upstream.host, upstream.port, ssl=upstream.tls, server_hostname=name
            )
        except OSError as error:
            raise UnreachableError from error
        try:
            host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
            lines = [b"GET %b%b HTTP/1.1" % (upstream.path, path), b"host: %b:%d" % (host.encode(), upstream.port)]
            lines += [b"%b: %b" % pair for pair in upstream.headers]
            writer.write(b"\r\n".join([*lines, b"accept: text/plain, */*", b"connection: close", b"", b""]))
            answer = Answer()
            while not answer.done and answer.size <= BODY_BYTES_MAX:
                data = await reader.read(65_536)
                if not data:
                    break
                answer.parser.feed_data(data)
            return Answered(answer.status, b"".join(answer.pieces))
        finally:
            writer.transport.abort()


class Looker:
    """Look at the upstreams of a host, for all its workers, while ``leads`` says that this worker does."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self.host, self.clock = host, clock
        self._failures: dict[str, int] = {}
        self._not_before_s: dict[str, float] = {}

    async def round(self, upstreams: Iterable[Upstream], probe_s: float) -> None:
        """Look once at every upstream that can be looked at, all at the same time."""
        asked = [upstream for upstream in upstreams if upstream.health or upstream.metrics]
        await asyncio.gather(*(self._one(upstream, probe_s) for upstream in asked))

    def now_s(self) -> float:
        """Return the time since 1970, seconds."""
        return self.clock.wall_ns(self.clock.now_ns()) / NS_PER_S

    async def _one(self, upstream: Upstream, probe_s: float) -> None:
        """Look at one upstream: its health first, then its metrics."""
        row = self.host.row((PROBED, upstream.name), PROBED_WIDTH)
        if upstream.health:
            row[WELL] = float(await self._is_well(upstream, probe_s * SHARE))
        else:
            row[WELL] = 1.0
        row[AT_S] = self.now_s()
        begun_s = self.now_s()
        if not upstream.metrics or not row[WELL] or begun_s < self._not_before_s.get(upstream.name, 0.0):
            return
        with suppress(OSError, TimeoutError, UnreachableError, HttpParserError):
            answer = await look(upstream, upstream.metrics, probe_s * SHARE)
            held = held_of(answer.body) if answer.status == OK else None
            if held is not None:
                row[RUNNING], row[WAITING], row[READ_S] = held.running, held.waiting, self.now_s()
        self._not_before_s[upstream.name] = begun_s + PAUSE * (self.now_s() - begun_s)

    async def _is_well(self, upstream: Upstream, limit_s: float) -> bool:
        """Tell whether an upstream is well: it is not if nobody listens, or its health path failed twice in a row."""
        name = upstream.name
        try:
            answer = await look(upstream, upstream.health, limit_s)
        except UnreachableError:
            self._failures[name] = TWICE
        except (OSError, TimeoutError, HttpParserError):
            self._failures[name] = self._failures.get(name, 0) + 1
        else:
            self._failures[name] = 0 if answer.status == OK else self._failures.get(name, 0) + 1
        return self._failures[name] < TWICE


class Applier:
    """Apply what was seen to the health and the view of one worker."""

    def __init__(self, host: Host, clock: Clock, desk: RequestDesk) -> None:
        self.host, self.clock, self.desk = host, clock, desk
        self._applied: dict[str, float] = {}
        self._read: dict[int, float] = {}

    def apply(self, now_ns: int) -> None:
        """Apply what is new."""
        now_s = self.clock.wall_ns(now_ns) / NS_PER_S
        parts = self.desk.parts
        for pool, patients in parts.health.of_pool.items():
            rows = [(patient.upstream, self._newest(patient.upstream.name)) for patient in patients]
            for upstream, row in rows:
                if row is not None and upstream.health and row[AT_S] > self._applied.get(upstream.name, 0.0):
                    self._applied[upstream.name] = row[AT_S]
                    self.desk.probed(upstream, well=bool(row[WELL]), now_ns=now_ns)
            told = [row for upstream, row in rows if upstream.metrics and row is not None and row[READ_S]]
            if told and len(told) == sum(bool(upstream.metrics) for upstream, _ in rows):
                self._measure(pool, told, now_s, now_ns)

    def _measure(self, pool: int, rows: list[Numbers], now_s: float, now_ns: int) -> None:
        """Tell the decider what the engines of a pool have; of what is stale, that nobody else is there."""
        decider, name = self.desk.parts.decider, self.desk.parts.fleet.pools[pool].name
        read_s = min(row[READ_S] for row in rows)
        stale = now_s - read_s > STALE_S
        mark = -read_s if stale else read_s
        if mark == self._read.get(pool):
            return
        self._read[pool] = mark
        held = Held(round(sum(row[RUNNING] for row in rows)), round(sum(row[WAITING] for row in rows)))
        self.host.row(("offtake_engine_running", name), 1)[0] = nan if stale else held.running
        self.host.row(("offtake_engine_waiting", name), 1)[0] = nan if stale else held.waiting
        decider.measured(pool, Held(0, 0) if stale else held, now_ns)

    def _newest(self, upstream: str) -> Numbers | None:
        """Return what was seen last of an upstream, by whichever worker."""
        key = (PROBED, upstream)
        own = self.host.own.rows.get(key)
        rows = [*([own] if own is not None else []), *self.host.of_others(key)]
        return max(rows, key=lambda row: row[AT_S]) if rows else None
