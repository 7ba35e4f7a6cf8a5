"""Read an upstream's answers as strictly as requests: its head, the pieces of its body, and where it ends.

Comes in: bytes as they arrive. Goes out: those that belong to the body, untouched; the end of the body without its
framing, of which no more is kept than is needed. It knows no socket, no clock and no policy.

Sources: RFC 9112 sections 4, 6.1, 6.3, 7.1 and 11.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from offtake.route.http1 import LAST_CHUNK, NO_BODY, Limits
from offtake.route.seams import Headers

FINAL = 200  #: The first status that is not informational.
TAIL_BYTES = 16_384  #: What is kept of an answer's end.
START_BYTES = 2_048  #: What is kept of its beginning, where an Anthropic stream tells the tokens of its prompt.
TRIM_BYTES = 65_536  #: How much may come between two looks at what is kept.


class MalformedError(Exception):
    """Say that an answer is not HTTP, or framed in two ways."""


class OversizedError(Exception):
    """Say that an answer is larger than its limit."""


class AnswerReader:
    """Read one upstream's answers, one after the other; ``expect`` comes before each.

    ``pieces`` holds the end of the body without its framing, ``trimmed`` how many pieces came before.
    """

    __slots__ = (
        "_before",
        "_feed",
        "_headers",
        "_informed",
        "_kept_bytes",
        "_limits",
        "_parser",
        "_raw",
        "_start",
        "chunked",
        "done",
        "headers",
        "junk",
        "keep",
        "length",
        "on_body",
        "pieces",
        "received",
        "status",
        "trimmed",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pieces: deque[bytes] = deque()
        self.on_body = self.pieces.append  # straight into the list: no call of ours for a piece
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self.expect()

    def close(self) -> None:
        """Let go of the parser, which knows this reader."""
        del self._parser, self._feed

    def expect(self) -> None:
        """Be ready for the next answer."""
        self.status = 0  #: until the head is whole
        self.headers: Headers = ()
        self.done = self.junk = self.chunked = self.keep = False
        self.length = -1  #: of the body, where the head says it
        self.received = 0  #: bytes after the head, framing included
        self.trimmed = self._kept_bytes = 0
        self.pieces.clear()
        self._raw: bytes | None = b""  #: what came, until the head is whole
        self._before = self._start = b""
        self._informed = 0
        self._headers: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return those of them that belong to the body, framing included.

        Raises
        ------
        MalformedError, OversizedError
        """
        if self.done:
            self.junk = True
            return b""
        if self._kept_bytes > TRIM_BYTES:
            self._trim()
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            cause = error.__context__
            if isinstance(cause, OversizedError):
                raise cause from None
            if not self.done:
                raise MalformedError(str(error)) from None
            self.junk = True
        if self._raw is not None:
            data = self._after_head(self._raw + data)
        size = len(data)
        self.received += size
        if self.received > self._limits.answer_body_bytes:
            raise OversizedError
        self._kept_bytes += size
        if self.done:
            return self._cut_junk(data)
        self._before = data if size > len(LAST_CHUNK) else (self._before + data)[-8:]
        return data

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self.done:
            raise MalformedError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body is passed on unread."""
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Judge the head."""
        headers, parser = self._headers, self._parser
        status = parser.get_status_code()
        if status < FINAL:
            self._informed += 1
            return
        first = dict(headers)
        if len(first) != len(headers):
            check_framed_once(headers)
        if b"transfer-encoding" in first:
            if first[b"transfer-encoding"].lower() != b"chunked" or parser.get_http_version() != "1.1":
                raise MalformedError
            self.chunked = True
        elif status in NO_BODY:
            self.length = 0
        else:
            self.length = int(first.get(b"content-length", b"-1"))
            if self.length > self._limits.answer_body_bytes:
                raise OversizedError
        self.keep = parser.should_keep_alive()
        self.headers, self.status = tuple(headers), status

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self.status:
            self.done = True
        else:
            self._headers = []

    def is_silent(self) -> bool:
        """Tell whether nothing came yet, not even a part of a head."""
        return self._raw == b"" and not self._informed

    def ends_by_close(self) -> bool:
        """Tell whether only the end of the connection ends the body."""
        return self.status > 0 and not self.chunked and self.length < 0

    def tail(self) -> bytes:
        """Return the body without its framing: all of it, or its first 2 kB and at least its last 16 kB."""
        pieces = self.pieces
        if self.trimmed:
            return self._start + b"".join(pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def count(self) -> int:
        """Count the pieces of the body so far."""
        return self.trimmed + len(self.pieces)

    def since(self, count: int) -> bytes:
        """Return what came of the body, without its framing, since there were ``count`` pieces."""
        return b"".join(islice(self.pieces, count - self.trimmed, None))

    def _after_head(self, raw: bytes) -> bytes:
        """Return what of the bytes so far belongs to the body, while the head is looked for."""
        if not self.status:
            self._raw = raw
            if len(raw) > self._limits.answer_head_bytes:
                raise OversizedError
            return b""
        self._raw = None
        start = 0
        for _ in range(self._informed + 1):
            if not raw.startswith(b"HTTP/1.", start):
                raise MalformedError
            start = raw.index(b"\r\n\r\n", start) + 4
        if start > self._limits.answer_head_bytes or len(self._headers) > 2 * self._limits.headers:
            raise OversizedError
        return raw[start:]

    def _trim(self) -> None:
        """Forget the beginning of what is kept."""
        pieces = self.pieces
        if not self.trimmed:
            self._start = b"".join(pieces)[:START_BYTES]
        kept = sum(map(len, pieces))
        while pieces and kept - len(pieces[0]) >= TAIL_BYTES:
            kept -= len(pieces.popleft())
            self.trimmed += 1
        self._kept_bytes = kept

    def _cut_junk(self, data: bytes) -> bytes:
        """Return the data up to the answer's end; what comes after it, only line ends by now, is junk."""
        if not self.chunked:
            over = self.received - max(self.length, 0)
            if over > 0:
                self.junk = True
                return data[: max(0, len(data) - over)]
            return data
        end = (self._before + data)[-8:]
        if not end.endswith(LAST_CHUNK) and (not end.endswith(b"\r\n\r\n") or end.endswith(b"\r\n\r\n\r\n")):
            self.junk = True
        return data


def check_framed_once(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a length or a coding that is given more than once."""
    names = [name for name, _ in headers]
    if names.count(b"content-length") > 1 or names.count(b"transfer-encoding") > 1:
        raise MalformedError
