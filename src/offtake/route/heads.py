"""Make the head of an answer that goes to a client, from that of an upstream.

Comes in: a status and headers. Goes out: bytes. What belongs to one connection alone stays behind, and the answer names
the pool and the model that served it. How the body is framed is the bytes' business.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from functools import lru_cache

from offtake.route.dialects.faults import ID_NAMES
from offtake.route.http1 import status_line
from offtake.route.seams import Case, Headers
from offtake.units import NS_PER_HOUR, NS_PER_MS, NS_PER_S

#: What belongs to one connection alone (RFC 9110, 7.6.1), or is given anew.
OF_CONNECTION = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"upgrade"),
        *(
            b"content-length",
            b"transfer-encoding",
            b"x-request-id",
            b"request-id",
            b"alt-svc",
            b"set-cookie",
            b"strict-transport-security",
        ),
    }
)
FAULT = 400  #: the first status of an error
JSON = (b"content-type", b"application/json")
RETRY_MAX_NS = NS_PER_HOUR
NAMES_KEPT = 4_096  #: of pools and models, as headers' values


def answer_head(case: Case, status: int, headers: Headers) -> bytes:
    """Return the head of the answer to ``case`` for ``seams.Pass``."""
    parts = [status_line(status)]
    upstream = case.upstream
    if status >= FAULT and upstream is not None and upstream.dialect is not case.dialect:
        headers = (*(each for each in headers if not each[0].startswith(b"content-")), JSON)  # it is told anew
    parts += [b"%s: %s\r\n" % (name, value) for name, value in headers if name not in OF_CONNECTION]
    pool, model = (upstream.name, upstream.model) if upstream is not None else ("", "")
    parts.append(b"%s: %s\r\nx-offtake-pool: %s\r\n" % (ID_NAMES[case.dialect], case.request_id.encode(), quoted(pool)))
    parts.append(b"x-offtake-model: %s\r\n" % quoted(model))
    if case.dropped:
        parts.append(b"x-offtake-dropped: %s\r\n" % ", ".join(case.dropped).encode())
    return b"".join(parts)


@lru_cache(NAMES_KEPT)
def quoted(name: str) -> bytes:
    """Return a name as a header's value: printable ASCII, and nothing that could end the line."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in name).encode()


def header(headers: Headers, wanted: bytes) -> bytes | None:
    """Return the value of a header, or None."""
    for name, value in headers:
        if name == wanted:
            return value
    return None


def retry_after_ns(headers: Headers) -> int:
    """Return for how long an upstream asks to be left alone, ns; 0 where it does not say.

    A date is compared with the upstream's own, so that no two clocks need agree (RFC 9110, 10.2.3).
    """
    for name, unit in ((b"retry-after-ms", NS_PER_MS), (b"retry-after", NS_PER_S)):
        value = header(headers, name)
        if value is not None:
            try:
                seconds = float(value)
            except ValueError:
                seconds = seconds_between(header(headers, b"date"), value)
            if seconds >= 0:
                return int(min(seconds * unit, RETRY_MAX_NS))
    return 0


def seconds_between(start: bytes | None, end: bytes) -> float:
    """Return the time from one date of HTTP to another, seconds; below 0 where one of them is none."""
    try:
        dates = [parsedate_to_datetime(date.decode("ascii")) for date in (start or b"", end)]
        return (dates[1] - dates[0]).total_seconds()
    except (ValueError, TypeError):
        return -1.0
