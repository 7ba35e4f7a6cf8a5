"""Make the bytes that go to an upstream: its own path, its own credential, and the body as it came.

Comes in: a case and an upstream. Goes out: a ``Sending``; where the two speak different dialects, with the translator
of its answer. What a client sends to prove who it is, and what belongs to its connection alone, stays behind;
everything else goes on, also what is not known here.
"""

from __future__ import annotations

from functools import lru_cache

from offtake.route.dialects.asked import PATHS, with_model, with_usage
from offtake.route.dialects.translate import turned
from offtake.route.seams import Call, Case, Dialect, Headers, Sending, Upstream

#: Headers of a client that stay behind: its connection's, its credentials, and what only the router may say.
STAY = frozenset(
    {
        *(b"host", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"content-length", b"expect", b"accept-encoding", b"cookie"),
        *(b"authorization", b"x-api-key", b"api-key", b"openai-organization", b"openai-project"),
        *(
            b"x-request-id",
            b"forwarded",
            b"x-forwarded-for",
            b"x-forwarded-host",
            b"x-forwarded-proto",
            b"x-real-ip",
            b"via",
        ),
    }
)
OURS = b"x-offtake-"
HOSTS_KEPT = 4_096
#: What a client says of its own dialect, when the upstream speaks the other.
OF_DIALECT = (b"anthropic-", b"openai-", b"x-stainless-", b"content-")
JSON = (b"content-type", b"application/json")
USAGE_ASKED = frozenset({Call.CHAT, Call.COMPLETIONS})  #: whose streams tell their usage only if they are asked
VERSION = (b"anthropic-version", b"2023-06-01")


def sending_of(case: Case, upstream: Upstream, now_s: int) -> Sending:
    """Return the attempt to have ``case`` answered by ``upstream``; ``now_s``: seconds since 1970, for its answer.

    Raises
    ------
    Refusal
        Where the upstream speaks another dialect, in which the request cannot be said.
    """
    if upstream.dialect is not case.dialect:
        other = turned(case, upstream.model, now_s)
        case.dropped = other.dropped
        headers = (*(each for each in passed(case.head.headers) if not each[0].startswith(OF_DIALECT)), JSON)
        if upstream.dialect is Dialect.ANTHROPIC:
            headers += (VERSION,)
        return Sending(
            upstream, request_head(case, upstream, other.path, headers, len(other.body)), other.body, other.translator
        )
    case.dropped = ()
    body = case.body
    if upstream.asks_usage and case.stream and case.call in USAGE_ASKED:
        body = with_usage(body)
    if upstream.model != case.model or body.count(b'"model"') > 1:
        body = with_model(body, upstream.model)
    path = PATHS[case.call] + (b"?" + case.head.query if case.head.query else b"")
    return Sending(upstream, request_head(case, upstream, path, passed(case.head.headers), len(body)), body)


def request_head(case: Case, upstream: Upstream, path: bytes, headers: Headers, body_bytes: int) -> bytes:
    """Return the request line and headers for ``upstream``, whole."""
    host = host_of(upstream.host, upstream.port, 80 if upstream.tls is None else 443)
    parts = [b"POST %s%s HTTP/1.1\r\nhost: %s\r\n" % (upstream.path, path, host)]
    parts += [b"%s: %s\r\n" % each for each in (*headers, *upstream.headers)]
    parts.append(b"x-request-id: %s\r\ncontent-length: %d\r\n\r\n" % (case.request_id.encode(), body_bytes))
    return b"".join(parts)


@lru_cache(HOSTS_KEPT)
def host_of(host: str, port: int, usual: int) -> bytes:
    """Return how an upstream is called in the header that names it; a usual port is left out."""
    name = f"[{host}]" if ":" in host else host
    return (name if port == usual else f"{name}:{port}").encode()


def passed(headers: Headers) -> Headers:
    """Return the headers of a client that go on to an upstream."""
    return tuple([each for each in headers if each[0] not in STAY and not each[0].startswith(OURS)])
