"""Ask a router and check every answer: ``python -m benchmarks.route.load PORT KIND VERBATIM NUMBER NUMBER``.

Comes in: a port, what to do, whether the bytes must be those of the upstream, and two numbers. Goes out: one line of
JSON; the process fails if any answer was wrong. Kinds:

- ``closed`` CONNECTIONS REQUESTS: each connection asks again as soon as it was answered.
- ``steady`` PER_SECOND REQUESTS: at fixed times, whatever was answered; latency counts from when it should go out.
- ``streams`` CONNECTIONS EACH: connections that each read so many paced streams, one after another.
- ``hold`` CONNECTIONS 0, ``flood`` CONNECTIONS 0: open them, say so, and wait for a line; floods are not read.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

from httptools import HttpResponseParser

from benchmarks.route.wire import BETWEEN_S, EVENTS, PIECES, SAID, STREAM, WHOLE, request_of
from offtake.route.loop import run

OPENED_AT_ONCE = 100
STEADY_CONNECTIONS = 64
BEGIN_S = 0.05
OK = 200
US_PER_S = 1e6


class Target(NamedTuple):
    """Say what is asked, and what must come back."""

    port: int
    verbatim: bool


class Asking(asyncio.Protocol):
    """Ask on one connection."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.done: Callable[[Asking], None] = lambda _: None
        self.reads = 0
        self.keep = True
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        del exc
        if not self.lost.done():
            self.lost.set_result(None)

    def ask(self, request: bytes, wanted: bytes) -> None:
        """Send a request."""
        self.wanted, self.body = wanted, list[bytes]()
        self.on_body = self.body.append
        self.parser = HttpResponseParser(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read."""
        self.reads += 1
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Check the answer."""
        got, status = b"".join(self.body), self.parser.get_status_code()
        right = got == self.wanted if self.target.verbatim else self.fits(got)
        if status != OK or not right:
            sys.exit(f"wrong answer ({status}): {got[:300]!r}")
        self.keep = self.parser.should_keep_alive()
        self.done(self)

    def fits(self, got: bytes) -> bool:
        """Tell whether an answer that was written anew says the same."""
        if self.wanted is STREAM:
            return got.count(b" word") == PIECES - 1
        return SAID.encode() in got


async def connected(target: Target, count: int) -> list[Asking]:
    """Return so many connections."""
    loop, made = asyncio.get_running_loop(), list[Asking]()
    while len(made) < count:
        batch = min(OPENED_AT_ONCE, count - len(made))
        opening = [loop.create_connection(lambda: Asking(target), "127.0.0.1", target.port) for _ in range(batch)]
        made += [protocol for _, protocol in await asyncio.gather(*opening)]
    return made


async def closed(target: Target, connections: int, requests: int) -> dict[str, float]:
    """Ask on every connection again as soon as it was answered."""
    request, over = request_of(stream=False), asyncio.get_running_loop().create_future()
    left, answered = requests, 0

    def again(one: Asking) -> None:
        nonlocal left, answered
        answered += 1
        if left:
            left -= 1
            one.ask(request, WHOLE)
        elif answered == requests and not over.done():
            over.set_result(None)

    for one in await connected(target, connections):
        one.done = again
        left -= 1
        one.ask(request, WHOLE)
    await over
    return {"answered": answered}


async def steady(target: Target, per_second: int, requests: int) -> dict[str, float]:
    """Ask at fixed times; return latencies, µs; a request without a free connection waits, and that counts."""
    loop, request, took = asyncio.get_running_loop(), request_of(stream=False), list[float]()
    free, late, over = deque(await connected(target, STEADY_CONNECTIONS)), deque[float](), loop.create_future()

    def begin(one: Asking, due_s: float) -> None:
        def end(_: Asking) -> None:
            took.append(time.monotonic() - due_s)
            if late:
                begin(one, late.popleft())
            else:
                free.append(one)
            if len(took) == requests:
                over.set_result(None)

        one.done = end
        one.ask(request, WHOLE)

    sent, first_s = 0, time.monotonic() + BEGIN_S

    def due() -> None:
        nonlocal sent
        now_s = time.monotonic()
        while sent < requests and first_s + sent / per_second <= now_s:
            sent += 1
            if free:
                begin(free.pop(), now_s)
            else:
                late.append(now_s)
        if sent < requests:
            loop.call_later(max(0.0, first_s + sent / per_second - now_s), due)

    loop.call_later(BEGIN_S, due)
    await over
    took.sort()
    p50, p90, p99 = (took[int(len(took) * share)] * US_PER_S for share in (0.5, 0.9, 0.99))
    return {"answered": len(took), "p50_us": p50, "p90_us": p90, "p99_us": p99}


async def streams(target: Target, connections: int, each: int) -> dict[str, float]:
    """Read paced streams, begun one after another within the time of one."""
    loop, request, over = (
        asyncio.get_running_loop(),
        request_of(stream=True),
        asyncio.get_running_loop().create_future(),
    )
    left = connections * each
    asked: dict[Asking, int] = {}

    def again(one: Asking) -> None:
        nonlocal left
        left -= 1
        asked[one] += 1
        if asked[one] < each:
            one.ask(request, STREAM)
        if not left:
            over.set_result(None)

    everyone = await connected(target, connections)
    for number, one in enumerate(everyone):
        asked[one] = 0
        one.done = again
        loop.call_later(PIECES * BETWEEN_S * number / connections, one.ask, request, STREAM)
    await over
    read = sum(one.reads for one in everyone)
    return {"answered": connections * each, "chunks": connections * each * len(EVENTS), "reads": read}


async def held(target: Target, connections: int, kind: str) -> dict[str, float]:
    """Open answers that do not end, say so, and wait for a line."""
    request, everyone = request_of(stream=True, wish=kind), await connected(target, connections)
    for number, one in enumerate(everyone):
        one.ask(request, STREAM)
        if kind == "flood":
            one.transport.pause_reading()
        elif number % OPENED_AT_ONCE == 0:
            await asyncio.sleep(0.02)
    while kind == "hold" and not all(one.body for one in everyone):
        await asyncio.sleep(0.1)
        gone = sum(one.transport.is_closing() for one in everyone)
        if gone:
            sys.exit(f"{gone} of {connections} streams were closed")
    await asyncio.sleep(2.0)
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for one in everyone:
        one.transport.abort()
    return {"answered": connections}


def main(port: str, kind: str, verbatim: str, first: str, second: str) -> None:
    """Do it, and print what was found."""
    target, numbers = Target(int(port), verbatim == "1"), (int(first), int(second))
    if kind in {"hold", "flood"}:
        found = run(lambda: held(target, numbers[0], kind))
    else:
        found = run(lambda: {"closed": closed, "steady": steady, "streams": streams}[kind](target, *numbers))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
