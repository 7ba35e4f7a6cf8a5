"""Keep the connections to the upstreams: one pool for each, with as many as its contract allows.

Comes in: a user that wants to send a request. Goes out: a link, at once where one is kept alive, else when one is open;
or the failure. A pool never chooses an upstream and never repeats a request; it knows no policy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Protocol, cast

from offtake.route.answers import AnswerReader
from offtake.route.http1 import Limits
from offtake.route.seams import Failure, Upstream
from offtake.route.wheel import NEVER, Clock, Timed, Wheel
from offtake.units import NS_PER_S

JOINED_BYTES = 65_536  #: A body up to this goes out with its head in one piece.


class User(Protocol):
    """Use one link for one request."""

    def opened(self, link: Link) -> None:
        """Take a link."""

    def unopened(self, failure: Failure) -> None:
        """Learn that no link could be opened."""

    def received(self, data: bytes) -> None:
        """Take bytes of the answer."""

    def lost(self, link: Link, *, clean: bool) -> None:
        """Learn that the link is gone; ``clean`` if the upstream closed it in the usual way."""


class Link(asyncio.Protocol):
    """Hold one connection to an upstream."""

    __slots__ = ("_ended", "_large", "_pool", "answer", "idle_ns", "transport", "used", "user")

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self._ended = False
        self._large = False  #: whether the request may still be on its way when its answer is whole
        self.answer = AnswerReader(limits)
        self.user: User | None = None
        self.used = 0  #: requests sent on it
        self.idle_ns = 0  #: since when it is idle
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._pool.joined(self)

    def data_received(self, data: bytes) -> None:
        """Hand what came to the user; without one nothing may come."""
        user = self.user
        if user is None:
            self.abort()
        else:
            user.received(data)

    def eof_received(self) -> None:
        """Note that the upstream ended in the usual way; the transport closes itself."""
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the pool and the user."""
        user, self.user = self.user, None
        self._pool.gone(self)
        if user is not None:
            user.lost(self, clean=exc is None and self._ended)
        self.answer.close()

    def send(self, head: bytes, body: bytes) -> None:
        """Send one request."""
        self.used += 1
        self.answer.expect()
        self._large = len(body) > JOINED_BYTES
        if self._large:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)

    def release(self) -> None:
        """Give the link back for another request, if it can carry one."""
        self.user = None
        answer, transport = self.answer, self.transport
        if not answer.keep or answer.junk or not answer.done or (self._large and transport.get_write_buffer_size()):
            transport.abort()
        elif not transport.is_closing():
            self._pool.kept(self)

    def abort(self) -> None:
        """End the connection at once, with all that it still holds."""
        self.user = None
        self.transport.abort()


class Pool(Timed):
    """Hold the links to one upstream: those in use, those kept alive, and who waits for one."""

    __slots__ = ("_idle", "_links", "_opening", "_pools", "_waiting", "upstream")

    def __init__(self, upstream: Upstream, pools: Pools) -> None:
        super().__init__()
        self.upstream = upstream
        self._pools = pools
        self._links: set[Link] = set()
        self._idle: deque[Link] = deque()  #: the last one given back is the first to be used again
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[User] = deque()

    def __repr__(self) -> str:
        idle, opening, waiting = len(self._idle), len(self._opening), len(self._waiting)
        return (
            f"Pool({self.upstream.name}: {len(self._links)} links, {idle} idle, {opening} opening, {waiting} waiting)"
        )

    def take(self, user: User) -> Link | None:
        """Return a link that was kept alive, or see that ``user`` gets one later."""
        idle = self._idle
        while idle:
            link = idle.pop()
            if not link.transport.is_closing():
                link.user = user
                return link
        self.open(user)
        return None

    def open(self, user: User) -> None:
        """See that ``user`` gets a link, a new one where there may be one more."""
        self._waiting.append(user)
        if len(self._links) + len(self._opening) < self.upstream.connections_max:
            task = self._pools.loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._tried)

    def leave(self, user: User) -> None:
        """Wait for no link any more."""
        with suppress(ValueError):
            self._waiting.remove(user)

    def joined(self, link: Link) -> None:
        """Count a link that is open."""
        self._links.add(link)

    def kept(self, link: Link) -> None:
        """Take a link back: it serves who waits, or stays alive for a while."""
        if self._pools.closed:
            link.abort()
        elif self._waiting:
            link.user = user = self._waiting.popleft()
            user.opened(link)
        else:
            link.idle_ns = self._pools.clock.now_ns()
            self._idle.append(link)
            if self.due_ns == NEVER:
                self._pools.wheel.put(self, link.idle_ns + self._pools.limits.upstream_idle_ns)

    def gone(self, link: Link) -> None:
        """Forget a link; who waits for its place gets a new one."""
        self._links.discard(link)
        with suppress(ValueError):
            self._idle.remove(link)
        self._open_for_who_waits()

    def expired(self, now_ns: int) -> None:
        """Close the links that were idle for too long, and be forgotten once there are none."""
        oldest_ns = now_ns - self._pools.limits.upstream_idle_ns
        while self._idle and self._idle[0].idle_ns <= oldest_ns:
            self._idle.popleft().abort()
        if self._idle:
            self._pools.wheel.put(self, self._idle[0].idle_ns + self._pools.limits.upstream_idle_ns)
        elif not self._links and not self._opening and not self._waiting:
            self._pools.forget(self)

    def close(self) -> list[asyncio.Task[None]]:
        """End every link and every attempt to open one; return the attempts, which end soon."""
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        for link in tuple(self._links):
            link.abort()
        self._idle.clear()
        return opening

    async def _open(self) -> None:
        """Open one link, for whoever waits longest once it is open."""
        up, pools = self.upstream, self._pools
        try:
            async with asyncio.timeout(up.times.connect_ns / NS_PER_S):
                name = up.host if up.tls is not None else None
                _, link = await pools.loop.create_connection(
                    self._link, up.host, up.port, ssl=up.tls, server_hostname=name
                )
        except TimeoutError:
            self._fail(Failure.CONNECT_TIME)
        except OSError:
            self._fail(Failure.UNREACHABLE)
        else:
            if link.transport.is_closing():
                self._fail(Failure.UNREACHABLE)
            else:
                self.kept(link)

    def _tried(self, task: asyncio.Task[None]) -> None:
        """Count an attempt to open a link out; who waits for its place gets another."""
        self._opening.discard(task)
        self._open_for_who_waits()

    def _open_for_who_waits(self) -> None:
        """Open a link for whoever waits, if none is being opened for it."""
        if len(self._waiting) > len(self._opening) and not self._pools.closed:
            self.open(self._waiting.popleft())

    def _link(self) -> Link:
        """Make the protocol of a new connection."""
        return Link(self, self._pools.limits)

    def _fail(self, failure: Failure) -> None:
        """Tell whoever waits longest that there is no link."""
        if self._waiting:
            self._waiting.popleft().unopened(failure)


class Pools:
    """Hold the pools of one worker, each under the upstream it was made for."""

    __slots__ = ("_pools", "clock", "closed", "limits", "loop", "wheel")

    def __init__(self, clock: Clock, limits: Limits, wheel: Wheel, loop: asyncio.AbstractEventLoop) -> None:
        self.clock, self.limits, self.wheel, self.loop = clock, limits, wheel, loop
        self.closed = False
        self._pools: dict[int, Pool] = {}  # by identity: an upstream that is read anew is another one

    def of(self, upstream: Upstream) -> Pool:
        """Return the pool of an upstream."""
        pool = self._pools.get(id(upstream))
        if pool is None:
            pool = self._pools[id(upstream)] = Pool(upstream, self)
        return pool

    def forget(self, pool: Pool) -> None:
        """Let go of a pool that holds nothing."""
        self._pools.pop(id(pool.upstream), None)

    async def close(self) -> None:
        """End every connection to every upstream."""
        self.closed = True
        opening = [task for pool in self._pools.values() for task in pool.close()]
        await asyncio.gather(*opening, return_exceptions=True)
