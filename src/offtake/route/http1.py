"""Read requests strictly, and write heads: whatever could be framed in two ways is refused.

Comes in: bytes as they arrive. Goes out: whole requests; bytes of heads to send. llhttp does the reading; here stands
what it leaves to others: one Host, no other coding than chunked, HTTP/1.0 and 1.1 alone, no user in a target, limits.
It knows no socket, no clock and no policy.

Sources: RFC 9112 sections 3.2, 5.2, 6.1, 6.3, 7.1 and 11; what llhttp itself refuses is pinned by
``tests/route/test_smuggling.py``.
"""

from __future__ import annotations

from collections import deque
from http import HTTPStatus

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from offtake.route.seams import Head, Headers, Reply
from offtake.units import NS_PER_S, S_PER_MINUTE

METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))
TARGET = bytes(c for c in range(0x21, 0x7F) if chr(c) not in '#"<>\\^`{|}')  # RFC 3986 and the brackets of queries
HOST = bytes(c for c in TARGET if chr(c) not in "/?@,;&=")
SLASH, CR = ord("/"), ord("\r")
BLANK = b"\r\n" * 4
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NO_BODY = frozenset((204, 304))  # RFC 9112 section 6.3; 1xx never come this far

PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request", 529: "Overloaded"}
STATUS_LINES = {code: f"HTTP/1.1 {code} {phrase}\r\n".encode() for code, phrase in PHRASES.items()}
TOO_LARGE = "the body of the request is too large"
JSON: Headers = ((b"content-type", b"application/json"),)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one worker takes at most, bytes, counts and nanoseconds (all defaults: assumption)."""

    target_bytes: int = 8_192
    head_bytes: int = 32_768
    headers: int = 100
    body_bytes: int = 33_554_432  #: A million tokens and some images.
    answer_head_bytes: int = 65_536
    answer_body_bytes: int = 1_073_741_824
    connections: int = 10_000
    pipelined: int = 16  #: Requests that wait on one connection for the answer before them.
    lag_bytes: int = 1_000_000  #: How far a reader of a feed may be behind.
    idle_ns: int = 75 * NS_PER_S  #: Between two requests.
    head_ns: int = 15 * NS_PER_S  #: From a request's first byte to the end of its head.
    body_ns: int = 2 * S_PER_MINUTE * NS_PER_S  #: From there to its end.
    stall_ns: int = 2 * S_PER_MINUTE * NS_PER_S  #: How long a client may read nothing of an answer.
    linger_ns: int = 2 * NS_PER_S  #: How long a refused client is listened to, so that it sees why.
    upstream_idle_ns: int = S_PER_MINUTE * NS_PER_S


class RefusedError(Exception):
    """Say with which status a request is refused, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Request(msgspec.Struct, frozen=True, gc=False):
    """Hold a whole request; ``keep`` says whether the connection can go on, ``modern`` whether it is HTTP/1.1."""

    head: Head
    body: bytes
    keep: bool
    modern: bool


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def head_of(first_line: bytes, headers: Headers) -> bytes:
    """Write a first line (with its line end) and headers, without the empty line.

    Raises
    ------
    ValueError
        A name or value holds a line end or a zero byte.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
        raise ValueError("a header holds a line end or a zero byte")
    return first_line + lines


def status_line(status: int) -> bytes:
    """Write an answer's first line, with its line end."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def whole(reply: Reply, date: bytes, *, keep: bool, headless: bool = False) -> bytes:
    """Write an answer of our own; ``headless`` leaves the body out, as HEAD wants it."""
    end = b"\r\n" if keep else b"connection: close\r\n\r\n"
    try:
        head = head_of(status_line(reply.status), reply.headers)
    except ValueError:  # what came from elsewhere into one of our headers is not passed on
        head, reply = status_line(500), Reply(500, (), b"")
    body = b"" if headless or reply.status in NO_BODY else reply.body
    length = b"" if reply.status in NO_BODY else b"content-length: %d\r\n" % len(reply.body)
    return b"".join((head, length, b"date: ", date, b"\r\n", end, body))


def refusal(status: int, reason: str) -> Reply:
    """Answer what never became a request, in words that both dialects' clients understand."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "overloaded_error"
    body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": reason, "code": status}})
    return Reply(status, JSON, body)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class RequestReader:
    """Read one client's requests; ``ready`` fills with those that are whole, in order."""

    __slots__ = (
        "_blank",
        "_body",
        "_coded",
        "_feed",
        "_headers",
        "_limits",
        "_long",
        "_parser",
        "_plain_bytes",
        "_size",
        "_target",
        "_upgrade",
        "expecting",
        "in_body",
        "in_head",
        "keep",
        "modern",
        "on_body",
        "ready",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.ready: deque[Request] = deque()
        self._body: list[bytes] = []
        self.on_body = self._body.append  # straight into the list: no call of ours for a piece
        self.in_head = self.in_body = self.expecting = False
        self._long = False  #: whether the head may be over its limit
        self._plain_bytes = 0  #: of a body that llhttp does not read, because its head asks for an upgrade
        self._begin()

    def _begin(self) -> None:
        """Read with a new parser."""
        self._parser = HttpRequestParser(self)
        self._feed = self._parser.feed_data
        self.on_message_begin()
        self.in_head = False

    def close(self) -> None:
        """Let go of the parser, which knows this reader."""
        del self._parser, self._feed

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        RefusedError
            What came is not a request that can be answered; the connection must end. ``ready`` keeps what came before.
        """
        if self._plain_bytes:
            self._feed_plain(data)
            return
        if data[0] <= CR and not self.in_head and not self.in_body:
            self._check_blank(data)
        self._long = self._size + len(data) > self._limits.head_bytes
        try:
            self._feed(data)
        except HttpParserUpgrade as upgrade:
            self._pass_by(data[upgrade.args[0] :])
        except HttpParserError as error:
            cause = error.__context__
            raise (
                cause if isinstance(cause, RefusedError) else RefusedError(400, f"malformed request: {error}")
            ) from None
        if self.in_head:
            self._size += len(data)
            if self._long:
                raise RefusedError(431, "the head of the request is too long")
        elif self.in_body and self._coded:
            self._size += len(data)
            if self._size > self._limits.body_bytes + self._limits.head_bytes:
                raise RefusedError(413, TOO_LARGE)

    def _check_blank(self, data: bytes) -> None:
        """Let a few empty lines stand before a request, as RFC 9112 section 2.2 wants; no bare line end."""
        self._blank += data[: len(data) - len(data.lstrip(b"\r\n"))]
        if not BLANK.startswith(self._blank):
            raise RefusedError(400, "bare line ends stand before the request")

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._blank = b""  #: empty lines before it
        self.in_head = True
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._body.clear()
        self._size = 0

    def on_url(self, target: bytes) -> None:
        """Take the next part of the target."""
        self._target += target
        if len(self._target) > self._limits.target_bytes:
            raise RefusedError(414, "the request's target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Judge the head."""
        self.in_head, self.in_body = False, True
        headers, limits = self._headers, self._limits
        first = dict(headers)
        version = self._parser.get_http_version()
        self.modern = modern = version == "1.1"
        if not modern and version != "1.0":
            raise RefusedError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        if len(first) != len(headers):
            check_repeated(headers)
        if len(headers) > limits.headers or (self._long and head_bytes(headers) > limits.head_bytes):
            raise RefusedError(431, "the head of the request is too long")
        host = first.get(b"host", b"")
        if not host and (modern or b"host" in first):
            raise RefusedError(400, "the request names no host")
        if self._target.translate(None, TARGET):
            raise RefusedError(400, "the request's target holds a character that must be encoded")
        if host.translate(None, HOST):
            raise RefusedError(400, "the host is malformed")
        if self._target[0] != SLASH:
            self._target = in_origin_form(self._target, host)
        self.keep = modern and self._parser.should_keep_alive()
        self._check_body(first)

    def _check_body(self, first: dict[bytes, bytes]) -> None:
        """Judge how the body is framed."""
        self._coded = False
        self._upgrade = -1
        length = int(first.get(b"content-length", b"0"))
        if length > self._limits.body_bytes:
            raise RefusedError(413, TOO_LARGE)
        if b"transfer-encoding" in first:
            self._coded = True
            if first[b"transfer-encoding"].lower() != b"chunked" or not self.modern:
                raise RefusedError(400, "no other coding than chunked is taken, and only in HTTP/1.1")
        if b"upgrade" in first and self._parser.should_upgrade():
            if self._coded:
                raise RefusedError(400, "an upgrade is not offered")
            self._upgrade = length
        if b"expect" in first and self.modern:
            if first[b"expect"].lower() != b"100-continue":
                raise RefusedError(417, "only 100-continue can be expected")
            self.expecting = self._coded or length > 0

    def on_message_complete(self) -> None:
        """Put the request with those that are ready."""
        if self._upgrade < 0:
            self._finish()

    def _finish(self) -> None:
        """Put the request with those that are ready."""
        self.in_body = self.expecting = False
        method = self._parser.get_method()
        if method not in METHODS:
            raise RefusedError(501, "the method is not known here")
        body = self._body
        path, _, query = self._target.partition(b"?")
        head = Head(method, path, query, tuple(self._headers))
        whole_body = body[0] if len(body) == 1 else b"".join(body)
        if len(whole_body) > self._limits.body_bytes:
            raise RefusedError(413, TOO_LARGE)
        self.ready.append(Request(head, whole_body, self.keep, self.modern))

    def _pass_by(self, rest: bytes) -> None:
        """Ignore an offer to upgrade, as RFC 9110 section 7.8 allows: llhttp reads no body after one, so it is here."""
        if self._upgrade < 0 or self._parser.get_method() not in METHODS:
            raise RefusedError(501, "the method is not known here")
        self._plain_bytes, self._size = self._upgrade, 0
        self._feed_plain(rest)

    def _feed_plain(self, data: bytes) -> None:
        """Take bytes of a body that llhttp does not read."""
        part = data[: self._plain_bytes]
        self._plain_bytes -= len(part)
        if part:
            self._body.append(part)
        if self._plain_bytes:
            return
        self._finish()
        self._begin()
        if len(data) > len(part):
            self.feed(data[len(part) :])


def head_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    """Count the bytes of headers as they were sent."""
    return sum([len(name) + len(value) + 4 for name, value in headers])


def check_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse what may stand once only."""
    names = [name for name, _ in headers]
    for name in (b"host", b"content-length", b"transfer-encoding", b"expect", b"authorization"):
        if names.count(name) > 1:
            raise RefusedError(400, f"{name.decode()} is given more than once")


def in_origin_form(target: bytes, host: bytes) -> bytes:
    """Return an absolute target as path and query; it must name the same host, and no user."""
    if target == b"*":
        return target
    scheme, mark, rest = target.partition(b"://")
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    if not mark or scheme.lower() not in {b"http", b"https"} or authority.lower() != host.lower():
        raise RefusedError(400, "the request's target is not of this host")
    path = rest[len(authority) :]
    return path if path[:1] == b"/" else b"/" + path
