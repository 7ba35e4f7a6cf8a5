"""Say a whole answer, or an error, of one dialect in the other.

Comes in: an answer's object, as JSON. Goes out: the other's. Only what a translated request can bring about is known
here; anything else in an answer is a fault of the upstream (``ValueError``), because to drop it would hide it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from offtake.route.dialects.faults import OTHER, TYPES
from offtake.route.seams import Dialect

Said = dict[str, Any]
#: Why an Anthropic answer ended, in OpenAI's words. That a given text ended it cannot be told apart there.
FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
#: Why an OpenAI answer ended, in Anthropic's words.
STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def count_of(found: Said, name: str) -> int:
    """Return a count of an object of usage; 0 where there is none."""
    value = found.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


def openai_usage(usage: Said) -> Said:
    """Return Anthropic's usage in OpenAI's words: cached tokens are among those of the prompt there."""
    cached = count_of(usage, "cache_read_input_tokens")
    read = count_of(usage, "input_tokens") + cached + count_of(usage, "cache_creation_input_tokens")
    wrote = count_of(usage, "output_tokens")
    return {
        "prompt_tokens": read,
        "completion_tokens": wrote,
        "total_tokens": read + wrote,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def anthropic_usage(usage: Said) -> Said:
    """Return OpenAI's usage in Anthropic's words: cached tokens are beside those of the prompt there."""
    details = usage.get("prompt_tokens_details")
    cached = count_of(details, "cached_tokens") if isinstance(details, dict) else 0
    return {
        "input_tokens": max(0, count_of(usage, "prompt_tokens") - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": count_of(usage, "completion_tokens"),
    }


def finish_of(stop: object) -> str:
    """Return why an answer ended, in OpenAI's words."""
    return known(FINISHES, stop, "stop_reason")


def stop_of(choice: Said, *, called: bool) -> tuple[str, str | None]:
    """Return why an answer ended, in Anthropic's words, and the text that ended it where an engine tells it (vLLM).

    After a call that was asked for by its name OpenAI says `stop`; Anthropic's clients wait for `tool_use` there.
    """
    if called and choice.get("finish_reason") == "stop":
        return "tool_use", None
    matched = choice.get("stop_reason")
    if isinstance(matched, str) and choice.get("finish_reason") == "stop":
        return "stop_sequence", matched
    return known(STOPS, choice.get("finish_reason"), "finish_reason"), None


def known(words: dict[str, str], word: object, field: str) -> str:
    """Return the other dialect's word."""
    if not isinstance(word, str) or word not in words:
        raise ValueError(f"the upstream's {field} has no word in the other dialect")
    return words[word]


def chat_of(answer: Said, now_s: int) -> Said:
    """Return an Anthropic message as an OpenAI chat completion."""
    text, thought, calls = "", "", list[Said]()
    for block in answer["content"]:
        kind = block["type"]
        if kind == "text":
            text += block["text"]
        elif kind == "thinking":
            thought += block["thinking"]
        elif kind == "tool_use":
            arguments = msgspec.json.encode(block["input"]).decode()
            function = {"name": block["name"], "arguments": arguments}
            calls.append({"id": block["id"], "type": "function", "function": function})
        else:
            raise ValueError("the upstream's answer holds a block of a kind that was not asked for")
    message: Said = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    message |= {"tool_calls": calls} if calls else {}
    message |= {"reasoning_content": thought} if thought else {}
    finish = finish_of(answer["stop_reason"])
    return {
        "id": answer["id"],
        "object": "chat.completion",
        "created": now_s,
        "model": answer["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": openai_usage(answer["usage"]),
    }


def message_of(answer: Said) -> Said:
    """Return an OpenAI chat completion as an Anthropic message."""
    [choice] = answer["choices"]
    message = choice["message"]
    blocks: list[Said] = []
    thought = thought_of(message)
    if thought:
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    texts = [text_of(message[name]) for name in ("content", "refusal") if message.get(name)]
    blocks += [{"type": "text", "text": text} for text in texts]
    for call in message.get("tool_calls") or ():
        given = msgspec.json.decode(call["function"]["arguments"] or "{}", type=dict)
        blocks.append({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given})
    reason, matched = stop_of(choice, called=bool(message.get("tool_calls")))
    return {
        "id": answer["id"],
        "type": "message",
        "role": "assistant",
        "model": answer["model"],
        "content": blocks,
        "stop_reason": "refusal" if message.get("refusal") else reason,
        "stop_sequence": matched,
        "usage": anthropic_usage(answer.get("usage") or {}),
    }


def thought_of(message: Said) -> str:
    """Return what a model thought before it spoke, as engines tell it beside OpenAI's own words."""
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    return thought if isinstance(thought, str) else ""


def text_of(value: object) -> str:
    """Return a text that must be one (``ValueError`` otherwise)."""
    return msgspec.convert(value, str)


def error_of(dialect: Dialect, status: int, body: bytes, request_id: str) -> bytes:
    """Return an upstream's error in the caller's dialect; its sentence is kept if it can be found."""
    message, code, param = f"The upstream answered with status {status}.", None, None
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        found = None
    if isinstance(found, dict):
        inner = found.get("error")
        told = inner if isinstance(inner, dict) else found
        if isinstance(told.get("message"), str):
            message = told["message"]
        code, param = told.get("code"), told.get("param")
    kind = TYPES.get(status, OTHER)[dialect]
    if dialect is Dialect.ANTHROPIC:
        said: Said = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    else:
        said = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return msgspec.json.encode(said)
