"""Hold the bytes that go over the wire in every measurement, made once: requests, answers, and streams of pieces."""

from __future__ import annotations

import json

MODEL = "llama-3.1-70b"
KEY = "ot-benchmark"
PIECES, BETWEEN_S = 50, 0.01  #: of a stream
FLOOD_BYTES = 33_554_432
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
PROMPT = "The quick brown fox jumps over the lazy dog, and nobody who watched it could say why. " * 8
USAGE = {"prompt_tokens": 180, "completion_tokens": PIECES, "total_tokens": 180 + PIECES}
COMMON = {"id": "chatcmpl-1", "created": 1_780_000_000, "model": MODEL}
SAID = "It is a fine day to route."


def request_of(*, stream: bool, wish: str = "") -> bytes:
    """Return a request of 0.9 kB; ``wish`` asks the upstream for something out of the ordinary."""
    asked = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
    body = json.dumps(asked).encode()
    told = f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\naccept: */*\r\n"
    told += f"user-agent: benchmark\r\nx-wish: {wish}\r\ncontent-length: {len(body)}\r\n\r\n"
    return HEAD + told.encode() + body


def event(fields: dict[str, object]) -> bytes:
    """Return one event of a stream."""
    return b"data: " + json.dumps(COMMON | {"object": "chat.completion.chunk"} | fields).encode() + b"\n\n"


def framed(piece: bytes) -> bytes:
    """Return a piece of a body as one chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


MESSAGE = {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
WHOLE = json.dumps(COMMON | {"object": "chat.completion", "choices": [MESSAGE], "usage": USAGE}).encode()
WHOLE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FLOOD_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % FLOOD_BYTES
TOKENS = [
    event({"choices": [{"index": 0, "delta": {"content": f" word{index}"}, "finish_reason": None}]})
    for index in range(PIECES - 1)
]
LAST = event({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"
EVENTS = [*TOKENS, LAST]
STREAM = b"".join(EVENTS)
