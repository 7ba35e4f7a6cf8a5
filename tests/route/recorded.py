"""Answers in the shapes of the two providers' own, as their references print them."""

from __future__ import annotations

from typing import Any

from offtake.route.dialects.events import data_event, named_event

CHAT: dict[str, Any] = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "object": "chat.completion",
    "created": 1741569952,
    "model": "gpt-4.1-2025-04-14",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 19,
        "completion_tokens": 10,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    },
    "service_tier": "default",
}
CALLED: dict[str, Any] = CHAT | {
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_abc123",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"place":"Boston, MA"}'},
                    }
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    base = {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1694268190, "model": "gpt-4o-mini"}
    return data_event(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | more)


USED = data_event(
    {
        "id": "chatcmpl-123",
        "object": "chat.completion.chunk",
        "created": 1694268190,
        "model": "gpt-4o-mini",
        "choices": [],
        "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
    }
)
DONE = b"data: [DONE]\n\n"
CHAT_STREAM = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo!"}),
    chunk({}, "stop"),
]
CALL_STREAM = [
    chunk({"role": "assistant", "content": None}),
    chunk(
        {
            "tool_calls": [
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        }
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"pla'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'ce":"Rome"}'}}]}),
    chunk(
        {
            "tool_calls": [
                {"index": 1, "id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}}
            ]
        }
    ),
    chunk({}, "tool_calls"),
]

MESSAGE: dict[str, Any] = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hi! My name is Claude."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 2095,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 100,
        "output_tokens": 503,
        "service_tier": "standard",
    },
}
USING: dict[str, Any] = MESSAGE | {
    "content": [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_01D7", "name": "weather", "input": {"place": "San Francisco, CA"}},
    ],
    "stop_reason": "tool_use",
}


def start(**usage: int) -> bytes:
    message = MESSAGE | {"content": [], "stop_reason": None, "usage": usage}
    return named_event({"type": "message_start", "message": message})


def block(index: int, **content: Any) -> bytes:
    return named_event({"type": "content_block_start", "index": index, "content_block": content})


def delta(index: int, **change: Any) -> bytes:
    return named_event({"type": "content_block_delta", "index": index, "delta": change})


def stop(index: int) -> bytes:
    return named_event({"type": "content_block_stop", "index": index})


def end(reason: str, output_tokens: int) -> list[bytes]:
    return [
        named_event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": output_tokens},
            }
        ),
        named_event({"type": "message_stop"}),
    ]


PING = named_event({"type": "ping"})
MESSAGE_STREAM = [
    start(input_tokens=25, cache_creation_input_tokens=0, cache_read_input_tokens=7, output_tokens=1),
    block(0, type="text", text=""),
    PING,
    delta(0, type="text_delta", text="Hel"),
    delta(0, type="text_delta", text="lo!"),
    stop(0),
    *end("end_turn", 15),
]
USE_STREAM = [
    start(input_tokens=472, output_tokens=2),
    block(0, type="text", text=""),
    delta(0, type="text_delta", text="Okay"),
    stop(0),
    block(1, type="tool_use", id="toolu_1", name="weather", input={}),
    delta(1, type="input_json_delta", partial_json=""),
    delta(1, type="input_json_delta", partial_json='{"place":'),
    delta(1, type="input_json_delta", partial_json=' "Rome"}'),
    stop(1),
    block(2, type="tool_use", id="toolu_2", name="now", input={}),
    stop(2),
    *end("tool_use", 89),
]
