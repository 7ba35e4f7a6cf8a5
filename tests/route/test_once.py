"""Whatever happens in whatever order, each request ends exactly once, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from offtake.route.clock import Clock
from offtake.route.http1 import Limits
from offtake.route.seams import Case, Hold, Leave, Outcome, Reply, Step
from offtake.route.serve import Downstream, Server
from offtake.route.upstream import Link, Pool
from tests.route.fakes import ASK, EVENT, OK, PAGE, SSE, FakeDesk, chunk, described
from tests.route.kept import Kept, Turned

STREAM = 20261122  # of the generator
ANSWERS = [
    OK,
    SSE + chunk(EVENT) * 5 + b"0\r\n\r\n",
    SSE + chunk(EVENT) + b"zz\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n" + EVENT,
    b"HTTP/1.1 429 Too Many\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\n" + EVENT,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    OK + b"HTTP/1.1 200 OK\r\n",
    b"nonsense\r\n\r\n",
]
ASKED = [ASK, ASK, ASK, ASK + ASK, PAGE, ASK[:-1], b"G\x00T\r\n\r\n", ASK.replace(b"1.1", b"1.0"), ASK + PAGE + ASK]


class World:
    """One client, one upstream, and everything that can happen to them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, STREAM])
        self.up = described(1, leave=Leave(int(self.rng.integers(2))))
        self.desk = FakeDesk([self.up] * 5)
        self.desk.hold = self.perhaps_hold
        self.desk.judge = self.perhaps_refuse
        self.desk.kept = bool(self.rng.random() < 0.9)
        if self.rng.random() < 0.3:
            self.desk.translator = Turned
        self.server = Server(self.desk, Clock(), Limits())
        self.links: list[Link] = []
        self.rest: dict[int, bytes] = {}
        self.arrive()

    def arrive(self) -> None:
        self.transport = Kept()
        self.client = Downstream(self.server, self.server._works)
        self.client.connection_made(cast("asyncio.Transport", self.transport))
        self.gone = False

    def pool(self) -> Pool:
        return self.server._pools.of(self.up)

    def perhaps_hold(self, _case: object, now_ns: int) -> Step | None:
        return Hold(now_ns) if self.rng.random() < 0.2 else None

    def perhaps_refuse(self, case: Case, status: int) -> Step | None:
        if status < 400 or self.rng.random() < 0.5:
            return None
        return self.desk.send(case) if self.rng.random() < 0.5 else Reply(status, (), b"")

    # what can happen
    def ask(self) -> None:
        if self.gone:
            self.arrive()
        elif not self.transport.closed:
            self.client.data_received(ASKED[self.rng.integers(len(ASKED))])

    def link(self) -> None:
        """A connection to the upstream opens: it serves who waits, or is kept alive."""
        link = Link(self.pool(), Limits())
        link.connection_made(cast("asyncio.Transport", Kept()))
        self.links.append(link)
        self.pool().kept(link)

    def answer(self) -> None:
        for link in self.links:
            if link.user is not None and not link.transport.is_closing():
                rest = self.rest.get(id(link)) or ANSWERS[self.rng.integers(len(ANSWERS))]
                size = int(self.rng.integers(1, len(rest) + 1))
                self.rest[id(link)] = rest[size:]
                link.data_received(rest[:size])

    def lose(self) -> None:
        if self.links:
            self.end(self.links.pop(int(self.rng.integers(len(self.links)))), clean=bool(self.rng.random() < 0.5))

    def end(self, link: Link, *, clean: bool) -> None:
        if clean:
            link.eof_received()
        link.connection_lost(None if clean else ConnectionResetError())

    def lag(self) -> None:
        if not self.gone:
            self.client.pause_writing()

    def read(self) -> None:
        if not self.gone and self.client.paused:
            self.client.resume_writing()

    def pass_time(self) -> None:
        if self.client.due_ns < 1 << 61 and self.rng.random() < 0.2:
            self.client.expired(self.client.due_ns)

    def leave(self) -> None:
        if not self.gone and self.rng.random() < 0.2:
            self.gone = True
            self.client.connection_lost(None)

    async def live(self) -> None:
        happenings: list[Callable[[], None]] = [self.ask, self.link, self.lose, self.lag, self.read, self.pass_time]
        happenings += [self.leave, self.ask, self.link, self.link, *[self.answer] * 6]
        for _ in range(150):
            happenings[self.rng.integers(len(happenings))]()
            self.lose_what_was_aborted()
            await asyncio.sleep(0)
        await self.finish()

    def lose_what_was_aborted(self) -> None:
        for link in [link for link in self.links if link.transport.is_closing()]:
            self.links.remove(link)
            link.connection_lost(None)
        if self.transport.closed and not self.gone:
            self.gone = True
            self.client.connection_lost(None)

    async def finish(self) -> None:
        if not self.gone:
            self.gone = True
            self.client.connection_lost(None)
        while self.links:
            self.end(self.links.pop(), clean=False)
            self.lose_what_was_aborted()
        for _ in range(200):  # connections that were asked for are refused by now
            if self.server.connections == 0 and not self.pool()._opening:
                break
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", range(40))
def test_each_request_ends_exactly_once_in_any_order_of_events(seed: int) -> None:
    async def main() -> None:
        world = World(seed)
        try:
            await world.live()
        finally:
            await world.server.drain(0)
        desk = world.desk
        assert len(desk.closed) == len(desk.cases)
        assert len(set(map(id, desk.closed))) == len(desk.cases)
        assert all(isinstance(outcome, Outcome) for outcome, _, _ in desk.ends)
        assert world.server.connections == 0
        assert not world.pool()._links
        assert not world.pool()._waiting

    asyncio.run(main())
