"""Send a client events of our own as they come, until it leaves, lags too far behind, or the router drains.

Comes in: a ``Feed``, which sends. Goes out: its bytes, in chunks where the client knows them. Whoever lags is dropped:
nothing is kept for it beyond its own connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from offtake.route.framing import CHUNKED, CLOSE_END, chunk
from offtake.route.http1 import LAST_CHUNK, Request, head_of, status_line
from offtake.route.seams import Feed


class Feeding:
    """Hold one client's feed."""

    __slots__ = ("_end", "_lag_bytes", "_request", "_transport")

    def __init__(self, transport: asyncio.Transport, request: Request, lag_bytes: int) -> None:
        self._transport, self._request, self._lag_bytes = transport, request, lag_bytes
        self._end: Callable[[], None] | None = None

    def begin(self, feed: Feed) -> None:
        """Send the head, and let the feed begin; HEAD wants no more than the head."""
        framing = CHUNKED if self._request.modern else b""
        self._transport.write(head_of(status_line(HTTPStatus.OK), feed.headers) + framing + CLOSE_END)
        if self._request.head.method != b"HEAD":
            self._end = feed.begin(self._send)

    def end(self) -> None:
        """Let the feed end, and tell the client so."""
        end, self._end = self._end, None
        if end is None:
            return
        end()
        if self._request.modern and not self._transport.is_closing():
            self._transport.write(LAST_CHUNK)

    def _send(self, data: bytes) -> None:
        """Pass on what the feed sends; who lags too far behind is dropped."""
        transport = self._transport
        if not data or transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._lag_bytes:
            transport.abort()
        else:
            transport.write(chunk(data) if self._request.modern else data)
