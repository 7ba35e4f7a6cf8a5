"""Make up answers in either dialect: their shape is real, their words are not.

Comes in: which call it is, and how many tokens it has. Goes out: a whole body, or the events of a stream, one for each
token. An Anthropic stream has its own events around them, as OpenAI's has its chunks and `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from offtake.route.seams import Call

WORDS = ("the", "plan", "holds", "what", "was", "signed", "and", "routes", "what", "comes")
NAME = "mock"
EMBEDDING = (0.25, -0.5, 0.125, 1.0)
_json = msgspec.json.encode


class Words(NamedTuple):
    """Say what is answered: the call, the model, and how many tokens prompt and answer have."""

    call: Call
    model: str
    input_tokens: int
    output_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """Return the usage, as the dialect of the call tells it."""
        read, said = self.input_tokens, self.output_tokens
        if self.call in {Call.MESSAGES, Call.RESPONSES}:
            total = {"total_tokens": read + said} if self.call is Call.RESPONSES else {}
            return {"input_tokens": read, "output_tokens": said, **total}
        return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def text_of(words: Words) -> str:
    """Return the text of an answer."""
    return " ".join(WORDS[index % len(WORDS)] for index in range(words.output_tokens))


def chunk(data: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(data: object, name: str = "") -> bytes:
    """Return one event of a stream."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + _json(data) + b"\n\n"


def whole_of(words: Words) -> bytes:
    """Return the body of an answer."""
    model, usage = words.model, words.usage
    if words.call is Call.COUNT_TOKENS:
        return _json({"input_tokens": words.input_tokens})
    if words.call is Call.EMBEDDINGS:
        rows = [{"object": "embedding", "index": 0, "embedding": EMBEDDING}]
        return _json(
            {
                "object": "list",
                "data": rows,
                "model": model,
                "usage": {"prompt_tokens": words.input_tokens, "total_tokens": words.input_tokens},
            }
        )
    text = text_of(words)
    if words.call is Call.MESSAGES:
        return _json(message_of(words, [{"type": "text", "text": text}], "end_turn", usage))
    if words.call is Call.RESPONSES:
        return _json(response_of(words, text, "completed", usage))
    if words.call is Call.COMPLETIONS:
        choice: dict[str, object] = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        return _json(
            {"id": NAME, "object": "text_completion", "created": 0, "model": model, "choices": [choice], "usage": usage}
        )
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    return _json(
        {"id": NAME, "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}
    )


def message_of(words: Words, content: list[object], stop: str | None, usage: dict[str, int]) -> dict[str, object]:
    """Return a message of Anthropic's dialect."""
    told = {"id": NAME, "type": "message", "role": "assistant", "model": words.model, "content": content}
    return told | {"stop_reason": stop, "stop_sequence": None, "usage": usage}


def response_of(words: Words, text: str, status: str, usage: dict[str, int] | None) -> dict[str, object]:
    """Return a response of OpenAI's newer interface."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"id": "item", "type": "message", "role": "assistant", "status": status, "content": content}
    told = {"id": NAME, "object": "response", "created_at": 0, "status": status, "model": words.model}
    rest = {
        "output": [item] if text else [],
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    return told | rest


def events_of(words: Words) -> Iterator[bytes]:
    """Yield the events of a stream: one before the first token, one for each token, those after it together."""
    if words.call is Call.MESSAGES:
        yield from anthropic_events(words)
    elif words.call is Call.RESPONSES:
        yield from response_events(words)
    else:
        yield from chunk_events(words)


def pieces(words: Words) -> Iterator[str]:
    """Yield the text of each token."""
    for index in range(words.output_tokens):
        yield ("" if index == 0 else " ") + WORDS[index % len(WORDS)]


def chunk_events(words: Words) -> Iterator[bytes]:
    """Yield the chunks of a chat or a completion."""
    chat = words.call is Call.CHAT
    base = {
        "id": NAME,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 0,
        "model": words.model,
    }

    def choice(text: str, reason: str | None) -> dict[str, object]:
        delta: dict[str, object] = {"content": text} if text else {}
        return {"index": 0, "finish_reason": reason, **({"delta": delta} if chat else {"text": text, "logprobs": None})}

    if chat:
        role = {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": ""}}
        yield event(base | {"choices": [role]})
    for text in pieces(words):
        yield event(base | {"choices": [choice(text, None)]})
    last = event(base | {"choices": [choice("", "stop")]}) + event(base | {"choices": [], "usage": words.usage})
    yield last + b"data: [DONE]\n\n"


def anthropic_events(words: Words) -> Iterator[bytes]:
    """Yield the events of a message."""
    start = message_of(words, [], None, {"input_tokens": words.input_tokens, "output_tokens": 1})
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield event({"type": "message_start", "message": start}, "message_start") + event(block, "content_block_start")
    for text in pieces(words):
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        yield event(delta, "content_block_delta")
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": words.usage}
    stop = event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    yield stop + event(ended, "message_delta") + event({"type": "message_stop"}, "message_stop")


def response_events(words: Words) -> Iterator[bytes]:
    """Yield the events of a response."""
    number = 0
    place = {"item_id": "item", "output_index": 0, "content_index": 0}

    def told(kind: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **fields}, kind)

    item = {"id": "item", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield (
        told("response.created", response=response_of(words, "", "in_progress", None))
        + told("response.output_item.added", output_index=0, item=item)
        + told("response.content_part.added", **place, part=part)
    )
    for text in pieces(words):
        yield told("response.output_text.delta", **place, delta=text, logprobs=[])
    text = text_of(words)
    yield told("response.output_text.done", **place, text=text, logprobs=[]) + told(
        "response.completed", response=response_of(words, text, "completed", words.usage)
    )
