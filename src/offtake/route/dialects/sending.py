"""Make the bytes that go to an upstream: its own path, its own credential, and the body as it came.

Comes in: a case and an upstream. Goes out: a ``Sending``. What a client sends to prove who it is, and what belongs to
its connection alone, stays behind; everything else goes on, also what is not known here.
"""

from __future__ import annotations

from offtake.route.dialects.asked import PATHS, with_model
from offtake.route.seams import Case, Headers, Sending, Upstream

#: Headers of a client that stay behind: its connection's, its credentials, and what only the router may say.
STAY = frozenset(
    {
        *(b"host", b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"content-length", b"expect", b"accept-encoding", b"cookie"),
        *(b"authorization", b"x-api-key", b"api-key", b"openai-organization", b"openai-project"),
        *(b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via"),
    }
)
OURS = b"x-offtake-"


def sending_of(case: Case, upstream: Upstream) -> Sending:
    """Return the attempt to have ``case`` answered by ``upstream``."""
    body = case.body
    if upstream.model != case.model or body.count(b'"model"') > 1:
        body = with_model(body, upstream.model)
    return Sending(upstream, request_head(case, upstream, len(body)), body)


def request_head(case: Case, upstream: Upstream, body_bytes: int) -> bytes:
    """Return the request line and headers for ``upstream``, whole."""
    port = b"" if upstream.port == (443 if upstream.tls is not None else 80) else b":%d" % upstream.port
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    query = b"?" + case.head.query if case.head.query else b""
    parts = [b"POST %s%s%s HTTP/1.1\r\nhost: %s%s\r\n" % (upstream.path, PATHS[case.call], query, host.encode(), port)]
    parts += [b"%s: %s\r\n" % each for each in passed(case.head.headers)]
    parts += [b"%s: %s\r\n" % each for each in upstream.headers]
    parts.append(b"x-request-id: %s\r\ncontent-length: %d\r\n\r\n" % (case.request_id.encode(), body_bytes))
    return b"".join(parts)


def passed(headers: Headers) -> Headers:
    """Return the headers of a client that go on to an upstream."""
    return tuple(
        each for each in headers if each[0] not in STAY and not each[0].startswith(OURS) and each[0] != b"x-request-id"
    )
