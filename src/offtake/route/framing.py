"""Choose how a body goes to the client, write the framing, and end what broke so that it looks broken.

Comes in: an answer's framing, what the client speaks, whether the body is turned. Goes out: bytes around the body.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from enum import IntEnum

from offtake.route.answers import AnswerReader
from offtake.route.http1 import NO_BODY

CHUNKED = b"transfer-encoding: chunked\r\n"
END = b"\r\n"
CLOSE_END = b"connection: close\r\n\r\n"
#: SO_LINGER of no time: closing drops what is unsent, and resets.
RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Way(IntEnum):
    """Say how a body goes to the client."""

    VERBATIM = 0  # as it came, framing included
    CHUNKED = 1  # in chunks of our own
    RAW = 2  # without framing: the connection's end ends it (HTTP/1.0)


def way_of(answer: AnswerReader, *, modern: bool, turned: bool) -> Way:
    """Choose how an answer's body goes to a client that speaks HTTP/1.1 if ``modern``."""
    verbatim = not turned and not answer.ends_by_close()
    if modern:
        return Way.VERBATIM if verbatim else Way.CHUNKED
    return Way.VERBATIM if verbatim and not answer.chunked else Way.RAW


def length_line(answer: AnswerReader, way: Way, length: int) -> bytes:
    """Write the header that says how the body is framed; ``length`` is -1 while nobody knows it."""
    if answer.status in NO_BODY:
        return b""
    if length < 0 and way is Way.VERBATIM:
        length = answer.length
    if length >= 0:
        return b"content-length: %d\r\n" % length
    return b"" if way is Way.RAW else CHUNKED


def chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that nobody takes its end for that of an answer: with a reset, where TCP allows it."""
    taken = transport.get_extra_info("socket")
    if taken is not None:
        with suppress(OSError):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()
