"""Listen to clients: read their requests strictly, carry each out in order, and drain without breaking a stream.

Comes in: connections. Goes out: answers, by one ``Exchange`` at a time per connection. It knows no policy; what is
answered comes from the desk, how it gets there from ``exchange``.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from email.utils import formatdate
from ssl import SSLContext
from typing import cast

from offtake.route.clock import Clock
from offtake.route.exchange import Exchange
from offtake.route.hedging import HedgedExchange
from offtake.route.http1 import CONTINUE, Limits, RefusedError, RequestReader, refusal, whole
from offtake.route.seams import Desk
from offtake.route.upstream import Pools
from offtake.route.wheel import TICK_BITS, Timed, Wheel
from offtake.route.works import Works
from offtake.units import NS_PER_S

NOTHING, HEAD, BODY = 0, 1, 2
BACKLOG = 4_096  #: Connections that the kernel holds until they are accepted.


class Downstream(asyncio.Protocol, Timed):
    """Hold one client's connection: what it asked, in order, and the exchange that answers."""

    __slots__ = (
        "_advancing",
        "_deaf",
        "_exchange",
        "_limits",
        "_lost",
        "_reader",
        "_refused",
        "_server",
        "_stopped",
        "_waits",
        "_works",
        "paused",
        "transport",
    )

    def __init__(self, server: Server, works: Works) -> None:
        super().__init__()
        self._server, self._works, self._limits = server, works, works.limits
        self._reader = RequestReader(works.limits)
        self._exchange: Exchange | None = None
        self._refused: RefusedError | None = None  #: what is answered after all that came before
        self._advancing = self._lost = False
        self._deaf = False  #: whether what comes is thrown away
        self._waits = NOTHING  #: which part of a request has begun to come, and is not whole
        self._stopped = False  #: whether the kernel holds back what comes, because too many requests wait
        self.paused = False
        self.transport: asyncio.Transport

    def __repr__(self) -> str:
        return f"Downstream({'busy' if self._exchange else 'idle'}, {len(self._reader.ready)} waiting)"

    # ── the socket ───────────────────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        if self._server.joined(self):
            self.due(self._works.clock.now_ns() + self._limits.idle_ns)
        else:
            self._refuse(RefusedError(503, "too many connections are open"))

    def data_received(self, data: bytes) -> None:
        """Read requests and begin with the first, if none is being answered."""
        if self._deaf:
            return
        try:
            self._reader.feed(data)
        except RefusedError as refused:
            self._refused, self._deaf = refused, True
        if self._exchange is None:
            self._advance()
        elif len(self._reader.ready) > self._limits.pipelined:
            self._stopped = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange; how the connection was lost changes nothing."""
        del exc
        self._lost = self._deaf = True
        self._reader.ready.clear()
        self._reader.close()
        if self._exchange is not None:
            self._exchange.left()
        if self._exchange is None:
            self._forget()

    def pause_writing(self) -> None:
        """Hold the answer back: the client lags behind."""
        self.paused = True
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self.paused = False
        if self._exchange is not None:
            self._exchange.resume()
        elif not self._lost:
            self._advance()

    # ── the order of requests ────────────────────────────────────────────────────────────────────────────────────
    def _advance(self) -> None:
        """Begin with the requests that wait, as far as they can be answered at once."""
        if self._advancing:
            return
        self._advancing = True
        ready = self._reader.ready
        while ready and self._exchange is None and not self.paused and not self.transport.is_closing():
            self._waits = NOTHING
            self._exchange = exchange = HedgedExchange(self._works, self)
            exchange.begin(ready.popleft(), self._works.clock.now_ns())
        self._advancing = False
        if self._exchange is None and not self._lost and not self.transport.is_closing():
            self._await_more()

    def _await_more(self) -> None:
        """Wait for a request, for the rest of one, or for the client to read."""
        reader, limits = self._reader, self._limits
        now_ns = self._works.clock.now_ns()
        if self._refused is not None and not reader.ready:
            self._refuse(self._refused)
        elif self.paused:
            self.due(now_ns + limits.stall_ns)
        elif reader.in_body:
            self._wait_for(BODY, now_ns + limits.body_ns)
            if reader.expecting:
                reader.expecting = False
                self.transport.write(CONTINUE)
        elif reader.in_head:
            self._wait_for(HEAD, now_ns + limits.head_ns)
        else:
            self.due(now_ns + limits.idle_ns)
        if self._stopped:
            self._stopped = False
            self.transport.resume_reading()

    def _wait_for(self, part: int, due_ns: int) -> None:
        """Wait for a part of a request; that more of it comes does not make its time longer."""
        if self._waits != part:
            self._waits = part
            self.due(due_ns)

    def ended(self, *, keep: bool) -> None:
        """Go on with the next request, or end the connection."""
        self._exchange = None
        if self._lost:
            self._forget()
        elif not keep:
            self._close()
        elif not self._advancing:
            reader = self._reader
            if reader.ready or reader.in_head or reader.in_body or self._refused is not None or self.paused:
                self._advance()
            else:
                self.due(self._works.clock.now_ns() + self._limits.idle_ns)

    def wants_close(self) -> bool:
        """Tell whether this answer is the last one."""
        return self._server.draining

    def _refuse(self, refused: RefusedError) -> None:
        """Answer what was no good request, and listen a little longer, so that the client reads why."""
        self._deaf, self._refused = True, None
        now_ns = self._works.clock.now_ns()
        answer = refusal(refused.status, str(refused))
        self.transport.write(whole(answer, self._works.date(now_ns), keep=False))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.due(now_ns + self._limits.linger_ns)
        else:
            self._close()

    def _close(self) -> None:
        """End the connection once the client has read everything, or takes too long."""
        self._deaf = True
        self.due(self._works.clock.now_ns() + self._limits.stall_ns)
        self.transport.close()

    def _forget(self) -> None:
        """Let the server forget the connection."""
        self._works.wheel.drop(self)
        self._server.gone(self)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def due(self, due_ns: int) -> None:
        """Call ``expired`` at a time."""
        if self.tick <= due_ns >> TICK_BITS:  # the wheel looks here before then
            self.due_ns = due_ns
        else:
            self._works.wheel.put(self, due_ns)

    def expired(self, now_ns: int) -> None:
        """End what takes too long: the exchange knows its limits, everything else ends the connection."""
        if self._exchange is not None:
            self._exchange.expired(now_ns)
        elif self._deaf or self.paused:
            self.transport.abort()
        elif self._reader.in_head or self._reader.in_body:
            self._refuse(RefusedError(408, "the request did not come in time"))
        else:
            self.transport.close()

    # ── draining ─────────────────────────────────────────────────────────────────────────────────────────────────
    def wind_up(self) -> None:
        """End the connection if it is idle, and what would never end by itself."""
        if self._exchange is not None:
            self._exchange.wind_up()
        elif not self._reader.in_head and not self._reader.in_body:
            self._close()

    def cut(self) -> None:
        """End the connection at once."""
        if self._exchange is not None:
            self._exchange.stop()
        self.transport.abort()


class Server:
    """Serve clients on any number of addresses, with one desk.

    ``desk`` decides, ``clock`` tells the time, ``limits`` says what is taken at most. It is made inside a running loop.
    """

    def __init__(self, desk: Desk, clock: Clock, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        loop = asyncio.get_running_loop()
        wheel = Wheel(clock, loop)
        self._clock, self._limits, self._loop = clock, limits, loop
        self._pools = Pools(clock, limits, wheel, loop)
        self._works = Works(desk, clock, limits, wheel, self._pools, loop, self._date)
        self._listeners: list[asyncio.Server] = []
        self._clients: set[Downstream] = set()
        self._empty: asyncio.Event = asyncio.Event()
        self._date_s, self._date_text = -1, b""
        self.draining = False

    @property
    def connections(self) -> int:
        """Count the clients' connections, with those that left a request behind which is read to its end."""
        return len(self._clients)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return where it listens."""
        names = [listening.getsockname() for listener in self._listeners for listening in listener.sockets]
        return [(name[0], name[1]) for name in names]

    async def start(self, where: socket.socket | tuple[str, int], tls: SSLContext | None = None) -> None:
        """Listen on a socket, or on a host and port.

        Raises
        ------
        OSError
            The address is taken, or is not ours.
        """
        if not isinstance(where, socket.socket):
            family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
            where = socket.create_server(where, family=family, backlog=BACKLOG)
        shake_s = None if tls is None else self._limits.head_ns / NS_PER_S
        listener = await self._loop.create_server(
            self._meet, sock=where, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=shake_s
        )
        self._listeners.append(listener)

    def stop_accepting(self) -> None:
        """Take no more connections; idle ones end now, the others after their answer."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for client in tuple(self._clients):
            client.wind_up()
        self._check_empty()

    async def drain(self, deadline_ns: int) -> int:
        """Let every answer end, until the deadline; cut what is left then and return how many that were."""
        self.stop_accepting()
        left_ns = max(0, deadline_ns - self._clock.now_ns())
        with suppress(TimeoutError):
            async with asyncio.timeout(left_ns / (self._clock.speed * NS_PER_S)):
                await self._empty.wait()
        cut = tuple(self._clients)
        for client in cut:
            client.cut()
        await self._pools.close()
        self._works.wheel.close()
        await asyncio.sleep(0)  # so that the sockets that were cut are closed when this returns
        return len(cut)

    def joined(self, client: Downstream) -> bool:
        """Count a client in; tell whether there is room for it."""
        room = len(self._clients) < self._limits.connections and not self.draining
        self._clients.add(client)
        return room

    def gone(self, client: Downstream) -> None:
        """Count a client out."""
        self._clients.discard(client)
        self._check_empty()

    def _check_empty(self) -> None:
        """Say that the last connection is gone, while draining."""
        if self.draining and not self._clients:
            self._empty.set()

    def _meet(self) -> Downstream:
        """Make the protocol of a new connection."""
        return Downstream(self, self._works)

    def _date(self, now_ns: int) -> bytes:
        """Write the date of an answer; it is written anew once a second."""
        now_s = self._clock.wall_ns(now_ns) // NS_PER_S
        if now_s != self._date_s:
            self._date_s, self._date_text = now_s, formatdate(now_s, usegmt=True).encode()
        return self._date_text
