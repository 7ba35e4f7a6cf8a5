"""Read from the end of an answer how many tokens it took, as the provider counts them.

Comes in: the last kilobytes of an answer's body. Goes out: a ``Usage``, or None where the provider tells none. Only the
end is looked at, because a stream is never read while it passes. OpenAI's dialect counts cached tokens among those of
the prompt, Anthropic's beside them.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

TRIES = 16  #: places looked at, from the last: chunks without usage say `"usage":null`
NAME = '"usage"'
LAST_BYTES = 512  #: of a stream, in which its last event begins
LAST_EVENTS = (b"data: [DONE]", b"event: message_stop", b"event: response.completed")


class Usage(NamedTuple):
    """Hold the tokens of a request; ``cached`` are those of the prompt that need not be read again."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


def is_whole(tail: bytes) -> bool:
    """Tell whether a stream said all that it had to say, though the bytes that end its body may be missing."""
    return any(mark in tail[-LAST_BYTES:] for mark in LAST_EVENTS)


_scan = json.JSONDecoder().raw_decode


def usage_of(tail: bytes) -> Usage | None:
    """Return what the last object named `usage` says."""
    text, end = tail.decode("utf-8", "replace"), len(tail)
    for _ in range(TRIES):
        end = text.rfind(NAME, 0, end)
        if end < 0:
            return None
        start = text.find("{", end)
        if start >= 0 and not text[end + len(NAME) : start].strip(": \t\r\n"):
            try:
                found, _ = _scan(text, start)
            except (ValueError, RecursionError):
                continue
            told = told_by(found)
            if told is not None:
                return told
    return None


def told_by(found: dict[str, Any]) -> Usage | None:
    """Return the tokens that a usage object tells, of either dialect."""
    output = first_of(found, "completion_tokens", "output_tokens")
    read = first_of(found, "prompt_tokens", "input_tokens")
    if output is None and read is None:
        return None
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details") or {}
    cached = first_of(details, "cached_tokens") or 0 if isinstance(details, dict) else 0
    beside = (first_of(found, "cache_read_input_tokens") or 0, first_of(found, "cache_creation_input_tokens") or 0)
    return Usage((read or 0) + sum(beside), output or 0, cached + beside[0])


def first_of(found: dict[str, Any], *names: str) -> int | None:
    """Return the first of these fields that holds a count."""
    for name in names:
        value = found.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
