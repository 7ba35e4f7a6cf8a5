"""Read server-sent events from bytes that may be cut anywhere, and write them.

Comes in: bytes of a stream. Goes out: the data of each event that is whole. What came is kept in pieces until its line
ends, so that a long line in small pieces costs no more than a short one.

Source: the HTML standard, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

LINE_END = re.compile(rb"\r\n|\n|\r")
EVENT_BYTES_MAX = 16_777_216  #: longest event that is read (assumption)
BOM = b"\xef\xbb\xbf"
DONE = b"data: [DONE]\n\n"


class EventReader:
    """Hold what of a stream is not a whole event yet."""

    __slots__ = ("_begun", "_data", "_kept", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  #: of a line without its end
        self._kept = 0
        self._data: list[bytes] = []  #: lines of an event without its end
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that end with these bytes.

        Raises
        ------
        ValueError
            Where an event is too long.
        """
        self._kept += len(data)
        if self._kept > EVENT_BYTES_MAX:
            raise ValueError("an event of the upstream's stream is too long")
        if not data:
            return []
        self._pieces.append(data)
        cut_end = len(self._pieces) > 1 and self._pieces[-2].endswith(b"\r")
        if b"\n" not in data and b"\r" not in data[:-1] and not cut_end:
            return []  # a `\r` at the end may be half of a line's end
        whole = b"".join(self._pieces)
        held = whole[-1:] if whole.endswith(b"\r") else b""
        *lines, rest = LINE_END.split(whole[: len(whole) - len(held)])
        self._pieces = [rest + held] if rest or held else []
        found = [event for line in lines if (event := self._line(line)) is not None]
        self._kept = len(rest) + sum(map(len, self._data))
        return found

    def close(self) -> list[bytes]:
        """Return what the end of the stream ends; an event without its empty line is none."""
        return self.feed(b"\n") if self._pieces and self._pieces[-1].endswith(b"\r") else []

    def _line(self, line: bytes) -> bytes | None:
        """Take a line; return the event that it ends."""
        if not self._begun:
            line, self._begun = line.removeprefix(BOM), True
        if not line:
            data, self._data = self._data, []
            return b"\n".join(data) if data else None
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            self._data.append(b"")
        return None


def data_event(said: dict[str, Any]) -> bytes:
    """Write an event of OpenAI's dialect."""
    return b"data: " + msgspec.json.encode(said) + b"\n\n"


def named_event(said: dict[str, Any]) -> bytes:
    """Write an event of Anthropic's dialect: its name is its type."""
    return b"event: " + str(said["type"]).encode() + b"\ndata: " + msgspec.json.encode(said) + b"\n\n"
