"""Read what a request asks for, as little of it as a decision needs; the rest goes through untouched.

Comes in: which call it is, and its body. Goes out: an ``Asked``, or a ``Refusal`` that the caller can understand. A
prompt is only measured, never read: its size in bytes, and a digest of its beginning that names its session.
"""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

import msgspec

from offtake.route.seams import Call, Dialect

#: What a client may post, and to which call it belongs. Clients put `/v1` before it or have it in their base URL.
CALLS = {
    b"/v1/chat/completions": Call.CHAT,
    b"/v1/responses": Call.RESPONSES,
    b"/v1/completions": Call.COMPLETIONS,
    b"/v1/embeddings": Call.EMBEDDINGS,
    b"/v1/messages": Call.MESSAGES,
    b"/v1/messages/count_tokens": Call.COUNT_TOKENS,
}
PATHS = [path for path, _ in sorted(CALLS.items(), key=itemgetter(1))]  #: by number of the call
# Looking into an enumeration takes longer than the rest of its line.
_MESSAGES, _COUNT_TOKENS, _EMBEDDINGS = Call.MESSAGES, Call.COUNT_TOKENS, Call.EMBEDDINGS
_OPENAI, _ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
PREFIX_BYTES = 2_048  #: of a prompt name its session: turns of one talk begin alike (assumption)


class Refusal(Exception):  # noqa: N818  # it is no error of the program: the request cannot be served as it is
    """Say why a request cannot be served as it is."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


class Asked(NamedTuple):
    """Hold what a body asks for; ``output_tokens_max`` is 0 where it does not say.

    ``session`` is the same for all turns of a talk; empty for what stands alone.
    """

    model: str
    stream: bool
    prompt_bytes: int
    output_tokens_max: int
    answers: int
    session: bytes


class _Body(msgspec.Struct):
    """Hold the fields of any call that a decision needs; every other field is passed over unread."""

    model: str
    stream: bool | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    prompt_cache_key: str | None = None
    previous_response_id: str | None = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")


_DECODER = msgspec.json.Decoder(_Body)
PROMPTS = {
    Call.CHAT: "messages",
    Call.RESPONSES: "input",
    Call.COMPLETIONS: "prompt",
    Call.EMBEDDINGS: "input",
    Call.MESSAGES: "messages",
    Call.COUNT_TOKENS: "messages",
}
_PROMPTS = [PROMPTS[call] for call in Call]


def dialect_of(call: Call) -> Dialect:
    """Return the dialect that a call belongs to."""
    return _ANTHROPIC if call is _MESSAGES or call is _COUNT_TOKENS else _OPENAI


def read(call: Call, body: bytes) -> Asked:
    """Return what ``body`` asks for.

    Raises
    ------
    Refusal
        Where it is not JSON, or lacks what every such request has.
    """
    try:
        found = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        where = str(error).rpartition("$.")[2].rstrip("`") if "$." in str(error) else None
        raise Refusal(400, f"The request is not valid: {error}.", where) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, f"The body is not JSON: {error}.") from None
    name = _PROMPTS[call]
    prompt: msgspec.Raw = getattr(found, name)
    if not bytes(prompt) and not found.previous_response_id:
        raise Refusal(400, f"The request has no `{name}`.", name)
    most = found.max_completion_tokens or found.max_output_tokens or found.max_tokens or 0
    answers = found.n or 1
    if most < 0 or answers < 1:
        raise Refusal(400, "The number of tokens or answers must be at least 1.", "n" if answers < 1 else "max_tokens")
    alone = call is _COUNT_TOKENS or call is _EMBEDDINGS
    before = bytes(found.system) + bytes(found.instructions)
    size = len(bytes(prompt)) + len(before) + len(bytes(found.tools))
    session = b"" if alone else session_of(found, before, prompt)
    return Asked(found.model, bool(found.stream), size, 0 if alone else most, answers, session)


def session_of(found: _Body, before: bytes, prompt: msgspec.Raw) -> bytes:
    """Return what names the session of a request: the key it gives, or how its prompt begins."""
    if found.prompt_cache_key:
        return found.prompt_cache_key.encode("utf-8", "replace")
    return (before + bytes(prompt)[:PREFIX_BYTES])[:PREFIX_BYTES]


def with_usage(body: bytes) -> bytes:
    """Return the body of a request for a stream that tells its usage at its end; what it says itself stands."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    said = msgspec.json.decode(fields.get("stream_options", b"null"))
    if said is not None and not isinstance(said, dict):
        return body
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode({"include_usage": True} | (said or {})))
    return msgspec.json.encode(fields)


def with_model(body: bytes, model: str) -> bytes:
    """Return the body of a request for another name of the model; all else keeps its bytes and its order."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)
