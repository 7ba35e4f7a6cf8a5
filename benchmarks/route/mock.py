"""Be an upstream that costs next to nothing: ``python -m benchmarks.route.mock PORT``.

Comes in: requests. Goes out: bytes made beforehand: a whole answer; a stream of 50 pieces, 10 ms apart, each written by
itself; and by the header ``x-wish`` a stream that stays open (``hold``), or as many bytes as the reader takes
(``flood``).
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from benchmarks.route.wire import BETWEEN_S, EVENTS, FLOOD_BYTES, FLOOD_HEAD, STREAM_HEAD, WHOLE, WHOLE_HEAD, framed
from offtake.route.loop import run

PIECES = [framed(event) for event in EVENTS]
PIECES[-1] += b"0\r\n\r\n"
ANSWER = WHOLE_HEAD + WHOLE
AWAKE_S = 5.0  #: between two pieces of a stream that stays open
BLOCK = b"x" * 65_536


class Answering(asyncio.Protocol):
    """Answer the requests of one connection, one after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.data = b""
        self.timer: asyncio.TimerHandle | None = None
        self.left_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Send no more."""
        del exc
        self.left_bytes = 0
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self.data += data
        head, mark, body = self.data.partition(b"\r\n\r\n")
        if not mark:
            return
        low = head.lower()
        length = int(low.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.data = b""
        if b"x-wish: hold" in low:
            self.transport.write(STREAM_HEAD)
            self.hold()
        elif b"x-wish: flood" in low:
            self.left_bytes = FLOOD_BYTES
            self.transport.write(FLOOD_HEAD)
            self.resume_writing()
        elif b'"stream": true' in body or b'"stream":true' in body:
            self.transport.write(STREAM_HEAD)
            self.begun_s = self.loop.time()
            self.piece(0)
        else:
            self.transport.write(ANSWER)

    def piece(self, number: int) -> None:
        """Send a piece of a stream, and see to the next."""
        self.transport.write(PIECES[number])
        if number + 1 < len(PIECES):
            self.timer = self.loop.call_at(self.begun_s + (number + 1) * BETWEEN_S, self.piece, number + 1)

    def hold(self) -> None:
        """Send a piece of a stream that does not end."""
        self.transport.write(PIECES[0])
        self.timer = self.loop.call_later(AWAKE_S, self.hold)

    def pause_writing(self) -> None:
        """Wait for the reader."""
        self.paused = True

    def resume_writing(self) -> None:
        """Send until the reader lags behind."""
        self.paused = False
        while self.left_bytes and not self.paused:
            self.left_bytes -= len(BLOCK)
            self.transport.write(BLOCK)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port, backlog=8_192)
    await server.serve_forever()


if __name__ == "__main__":
    run(lambda: serve(int(sys.argv[1])))
