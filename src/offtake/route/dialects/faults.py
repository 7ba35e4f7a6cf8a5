"""Say what went wrong in the words of the caller's dialect, so that its client raises the error that it should.

Comes in: a status and a sentence. Goes out: a ``Reply``. Official clients choose their exception by the status, and
wait for as long as ``Retry-After`` says; it is given only where waiting helps.
"""

from __future__ import annotations

import msgspec

from offtake.route.seams import Dialect, Reply
from offtake.units import NS_PER_MS, NS_PER_S

#: What the two dialects call an error of a status: OpenAI's `type`, Anthropic's `type`.
TYPES = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("not_found_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_error"),
    502: ("api_error", "api_error"),
    503: ("overloaded_error", "overloaded_error"),
    504: ("api_error", "timeout_error"),
    529: ("overloaded_error", "overloaded_error"),
}
OTHER = ("api_error", "api_error")
ID_NAMES = {
    Dialect.OPENAI: b"x-request-id",
    Dialect.ANTHROPIC: b"request-id",
}  #: where clients look for a request's name
NO_RETRY = -1


class Error(msgspec.Struct):
    """Hold what is wrong with a request, or with us."""

    status: int
    message: str
    code: str | None = None  #: OpenAI's, such as `model_not_found`.
    param: str | None = None  #: Field at fault.
    retry_ns: int = NO_RETRY  #: After how long trying again helps; below 0: it does not.
    reason: str = ""  #: The router's own word for it, told in a header.


def reply_of(dialect: Dialect, error: Error, request_id: str) -> Reply:
    """Return the answer that tells ``error``."""
    kind = TYPES.get(error.status, OTHER)[dialect]
    if dialect is Dialect.ANTHROPIC:
        told: object = {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
    else:
        told = {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    headers = [(b"content-type", b"application/json"), (ID_NAMES[dialect], request_id.encode())]
    if error.retry_ns >= 0:
        headers.append((b"retry-after", b"%d" % -(-error.retry_ns // NS_PER_S)))
        headers.append((b"retry-after-ms", b"%d" % -(-error.retry_ns // NS_PER_MS)))
    else:
        headers.append((b"x-should-retry", b"false"))
    if error.reason:
        headers.append((b"x-offtake-reason", error.reason.encode()))
    return Reply(error.status, tuple(headers), msgspec.json.encode(told))
