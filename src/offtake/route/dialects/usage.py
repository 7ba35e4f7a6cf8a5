"""Read from the end of an answer how many tokens it took, as the provider counts them.

Comes in: an answer's body, or its beginning and its end. Goes out: a ``Usage``, or None where the provider tells none.
No more is looked at, because a stream is never read while it passes. OpenAI's dialect counts cached tokens among those
of the prompt, Anthropic's beside them; Anthropic's streams tell the prompt's first and the answer's last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

TRIES = 16  #: places looked at, from the last: chunks without usage say `"usage":null`
NAME = '"usage"'
#: What begins the last event of a stream; a text cannot hold it, because it stands at the beginning of a line.
LAST_EVENTS = (
    *(b"\ndata: [DONE]", b"\nevent: message_stop"),
    *(b"\nevent: response.completed", b"\nevent: response.incomplete", b"\nevent: response.failed"),
)


class Usage(NamedTuple):
    """Hold the tokens of a request; ``cached`` are those of the prompt that need not be read again."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    whole: bool = True  #: whether the answer's end told it; else its beginning did, and more was said since


class _Answer(msgspec.Struct):
    """Hold the one field of a whole answer that is looked at; the same name may stand deeper in it."""

    usage: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(_Answer)


def is_whole(tail: bytes) -> bool:
    """Tell whether a stream said all that it had to say, though the bytes that end its body may be missing."""
    return any(mark in tail for mark in LAST_EVENTS)


_scan = json.JSONDecoder().raw_decode


def usage_of(tail: bytes) -> Usage | None:
    """Return what an answer says of its tokens, at its end or, what is not said there, at its beginning."""
    if tail.startswith(b"{"):
        try:
            return told_by(_DECODER.decode(tail).usage or {})
        except msgspec.MsgspecError:
            pass  # its beginning and its end are no whole
    found = list(usages_in(tail))
    told = next((usage for each in found if (usage := told_by(each)) is not None), None)
    if told is None or b'"message_start"' not in tail:
        return told
    start = next((usage for each in found[1:] if (usage := told_by(each)) is not None and usage.input_tokens), None)
    if start is not None and not told.input_tokens:
        told = told._replace(input_tokens=start.input_tokens, cached_tokens=start.cached_tokens)
    return told._replace(whole=b'"message_delta"' in tail)


def usages_in(tail: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects named `usage`, from the last; in a text the name's quotes are escaped."""
    text = tail.decode("utf-8", "replace")
    end = len(text)
    for _ in range(TRIES):
        end = text.rfind(NAME, 0, end)
        if end < 0:
            return
        start = text.find("{", end)
        if start >= 0 and not text[end + len(NAME) : start].strip(": \t\r\n"):
            try:
                yield _scan(text, start)[0]
            except (ValueError, RecursionError):
                continue


def told_by(found: dict[str, Any]) -> Usage | None:
    """Return the tokens that a usage object tells, of either dialect."""
    output = first_of(found, "completion_tokens", "output_tokens")
    read = first_of(found, "prompt_tokens", "input_tokens")
    if output is None and read is None:
        return None
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details")
    cached = first_of(details, "cached_tokens") or 0 if isinstance(details, dict) else 0
    again = first_of(found, "cache_read_input_tokens") or 0
    anew = first_of(found, "cache_creation_input_tokens") or 0
    return Usage((read or 0) + again + anew, output or 0, cached + again)


def first_of(found: dict[str, Any], *names: str) -> int | None:
    """Return the first of these fields that holds a count."""
    for name in names:
        value = found.get(name)
        if type(value) is int and value >= 0:  # True is no count
            return value
    return None
