"""What an upstream of one dialect answers, a client of the other understands, however its bytes are cut."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offtake.route.dialects.events import EventReader
from offtake.route.seams import Call
from tests.route.recorded import (
    CALL_STREAM,
    CALLED,
    CHAT,
    CHAT_STREAM,
    DONE,
    MESSAGE,
    MESSAGE_STREAM,
    USE_STREAM,
    USED,
    USING,
    block,
    chunk,
    delta,
    end,
    start,
    stop,
)
from tests.route.translating import CHAT_HELLO, MESSAGE_HELLO, TEXT, turn


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def answered(call: Call, answer: dict[str, Any], status: int = 200) -> Any:
    base = CHAT_HELLO if call is Call.CHAT else MESSAGE_HELLO
    translator = turn(call, base, status).translator
    data = msgspec.json.encode(answer)
    assert translator.feed(data[:7]) + translator.feed(data[7:]) == b""
    return msgspec.json.decode(translator.close())


def test_a_message_is_told_as_a_completion() -> None:
    told = answered(Call.CHAT, USING)
    assert told == {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "claude-sonnet-4-5-20250929",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "I look.",
                    "refusal": None,
                    "tool_calls": [
                        {
                            "id": "toolu_01D7",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"place":"San Francisco, CA"}'},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 2200,
            "completion_tokens": 503,
            "total_tokens": 2703,
            "prompt_tokens_details": {"cached_tokens": 100},
        },
    }


def test_a_completion_is_told_as_a_message() -> None:
    told = answered(Call.MESSAGES, CHAT)
    assert told == {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4.1-2025-04-14",
        "content": [{"type": "text", "text": "Hello!"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 15,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 10,
        },
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_each_reason_to_stop_has_its_word(theirs: str, ours: str) -> None:
    assert answered(Call.CHAT, MESSAGE | {"stop_reason": theirs})["choices"][0]["finish_reason"] == ours


def completion(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return CHAT | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | choice]}


def test_what_engines_tell_beside_openais_own_words_is_kept() -> None:
    told = answered(Call.MESSAGES, completion({"content": "a", "reasoning_content": "hm"}, stop_reason="END"))
    assert told["content"][0] == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "END")
    refused = answered(Call.MESSAGES, completion({"content": None, "refusal": "I will not"}))
    assert (refused["content"][0]["text"], refused["stop_reason"]) == ("I will not", "refusal")
    thought = MESSAGE | {"content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, TEXT]}
    assert answered(Call.CHAT, thought)["choices"][0]["message"]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (Call.CHAT, {}),
        (Call.CHAT, MESSAGE | {"content": [{"type": "server_tool_use"}]}),
        (Call.CHAT, MESSAGE | {"stop_reason": "of tomorrow"}),
        (Call.CHAT, MESSAGE | {"content": None}),
        (Call.MESSAGES, {}),
        (Call.MESSAGES, CHAT | {"choices": []}),
        (Call.MESSAGES, CHAT | {"choices": CHAT["choices"] * 2}),
        (Call.MESSAGES, completion({"content": ["a"]})),
        (Call.MESSAGES, completion({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}]})),
    ],
)
def test_an_answer_that_is_none_is_a_fault_of_the_upstream(call: Call, answer: dict[str, Any]) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        answered(call, answer)


def test_a_call_that_was_asked_for_by_name_is_told_as_one() -> None:
    called = CALLED | {"choices": [CALLED["choices"][0] | {"finish_reason": "stop"}]}
    assert answered(Call.MESSAGES, called)["stop_reason"] == "tool_use"
    out = streamed(Call.MESSAGES, [*CALL_STREAM[:-1], chunk({}, "stop"), DONE])
    assert b'"stop_reason":"tool_use"' in out


def test_without_the_upstreams_count_the_pieces_of_an_answer_are_told() -> None:
    out = streamed(Call.MESSAGES, [*CHAT_STREAM, DONE])
    assert b'"usage":{"output_tokens":2}' in out


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b'"x"', b'{"error":"x"}', b'{"error":{"message":7}}', b"[1]", b"\xff"]
)
@pytest.mark.parametrize("call", [Call.CHAT, Call.MESSAGES])
def test_any_error_of_an_upstream_is_told_in_the_callers_dialect(call: Call, body: bytes) -> None:
    base = CHAT_HELLO if call is Call.CHAT else MESSAGE_HELLO
    translator = turn(call, base | {"stream": True}, 404).translator
    assert translator.feed(body) == b""
    told = json.loads(translator.close())
    assert told["error"]["type"] == "not_found_error"
    assert told["error"]["message"] == "The upstream answered with status 404."
    assert ("request_id" in told) == (call is Call.MESSAGES)


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────
STREAMS = {
    "chat": (Call.MESSAGES, [*CHAT_STREAM, USED, DONE]),
    "calls": (Call.MESSAGES, [*CALL_STREAM, USED, DONE]),
    "message": (Call.CHAT, MESSAGE_STREAM),
    "uses": (Call.CHAT, USE_STREAM),
    "thought": (
        Call.CHAT,
        [
            start(input_tokens=1),
            block(0, type="thinking", thinking=""),
            delta(0, type="thinking_delta", thinking="hm ü"),
            delta(0, type="signature_delta", signature="s"),
            stop(0),
            *end("max_tokens", 3),
        ],
    ),
    "reasoning": (
        Call.MESSAGES,
        [chunk({"role": "assistant", "reasoning": "hm ü"}), chunk({"content": "a\n\nb"}), chunk({}, "length"), DONE],
    ),
}


def streamed(call: Call, pieces: list[bytes]) -> bytes:
    base = CHAT_HELLO if call is Call.CHAT else MESSAGE_HELLO
    translator = turn(
        call,
        base | {"stream": True, "stream_options": {"include_usage": True}}
        if call is Call.CHAT
        else base | {"stream": True},
    ).translator
    return b"".join([*map(translator.feed, pieces), translator.close()])


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_split_of_a_stream_gives_the_same_bytes(name: str, data: st.DataObject) -> None:
    call, events = STREAMS[name]
    whole = b"".join(events)
    ends = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    whole = whole.replace(b"\n", ends)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=30)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert streamed(call, pieces) == streamed(call, events)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_byte_by_byte_gives_the_same_bytes(name: str) -> None:
    call, events = STREAMS[name]
    whole = b"".join(events)
    assert streamed(call, [whole[at : at + 1] for at in range(len(whole))]) == streamed(call, events)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_too_early_never_ends_well(name: str) -> None:
    call, events = STREAMS[name]
    ended = [b'"finish_reason":"' in event or b"[DONE]" in event for event in events]
    last = ended.index(True) if True in ended else len(events) - 1
    for count in range(last):
        with pytest.raises(ValueError, match="stream ended before"):
            streamed(call, events[:count])


def datas(out: bytes) -> list[Any]:
    return [json.loads(data) for data in EventReader().feed(out) if data != b"[DONE]"]


def test_a_message_streams_as_chunks() -> None:
    out = streamed(Call.CHAT, USE_STREAM)
    assert out.endswith(b"\n\ndata: [DONE]\n\n")
    chunks = datas(out)
    assert {each["object"] for each in chunks} == {"chat.completion.chunk"}
    deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Okay"},
        {
            "tool_calls": [
                {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"place":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "Rome"}'}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 472,
        "completion_tokens": 89,
        "total_tokens": 561,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_chunks_stream_as_a_message() -> None:
    out = streamed(Call.MESSAGES, STREAMS["calls"][1])
    events = datas(out)
    assert [line[7:] for line in out.decode().split("\n") if line.startswith("event: ")] == [
        one["type"] for one in events
    ]
    assert [(one["type"], one.get("index")) for one in events] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert events[0]["message"]["usage"] == {"input_tokens": 33, "output_tokens": 0}
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (19, 10)


@pytest.mark.parametrize(
    ("call", "events"),
    [
        (Call.CHAT, [block(0, type="text", text="")]),
        (Call.CHAT, [start(input_tokens=1), block(0, type="server_tool_use", id="s")]),
        (Call.CHAT, [start(input_tokens=1), delta(0, type="citations_delta", citation={})]),
        (Call.CHAT, [start(input_tokens=1), delta(5, type="input_json_delta", partial_json="{}")[:-4] + b"\n\n"]),
        (Call.CHAT, [b"data: {\n\n"]),
        (Call.MESSAGES, [b"data: 7\n\n"]),
        (Call.MESSAGES, [chunk({"content": ["a"]})]),
        (Call.MESSAGES, [chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]})]),
        (Call.MESSAGES, [b'data: {"choices":[{}]}\n\n']),
        (Call.MESSAGES, [CHAT_STREAM[0], chunk({}, "of tomorrow")]),
    ],
)
def test_a_stream_that_is_none_is_a_fault_of_the_upstream(call: Call, events: list[bytes]) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        streamed(call, events)


NAMES = ["type", "message", "content", "choices", "delta", "usage", "id", "model", "index", "content_block", "text"]
NAMES += [
    "tool_calls",
    "function",
    "name",
    "arguments",
    "finish_reason",
    "stop_reason",
    "error",
    "input",
    "partial_json",
]
KINDS = ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "tool_use"]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([*KINDS, "text", "text_delta", "stop", "{}", ""]),
    lambda deep: st.lists(deep, max_size=3) | st.dictionaries(st.sampled_from(NAMES), deep, max_size=6),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(call=st.sampled_from([Call.CHAT, Call.MESSAGES]), stream=st.booleans(), said=st.lists(ODD, max_size=4))
def test_whatever_an_upstream_says_is_turned_or_is_its_fault(call: Call, stream: bool, said: list[Any]) -> None:
    begin = [USE_STREAM[0] if call is Call.CHAT else CHAT_STREAM[0]]
    outs: list[bytes] = []
    with suppress(ValueError, msgspec.MsgspecError):
        if stream:
            outs.append(streamed(call, [*begin, *(b"data: " + msgspec.json.encode(each) + b"\n\n" for each in said)]))
        else:
            base = MESSAGE if call is Call.CHAT else CHAT
            changed = {name: each for name, each in zip(base, said, strict=False) if name in {"content", "choices"}}
            outs.append(msgspec.json.encode(answered(call, base | changed)))
    assert all(out.isascii() or out.decode() for out in outs)


def test_events_are_read_as_the_standard_says() -> None:
    reader = EventReader()
    told = b"\xef\xbb\xbf: note\ndata: a\ndata:b\ndata\nid: 1\nevent: x\n\n\n\ndata: c\r\n\r\ndata: d\r\rdata: lost"
    assert reader.feed(told) + reader.close() == [b"a\nb\n", b"c", b"d"]


def test_an_event_without_end_is_not_read_for_ever() -> None:
    reader = EventReader()
    assert [reader.feed(b"x" * 1_000_000) for _ in range(16)] == [[]] * 16
    with pytest.raises(ValueError, match="too long"):
        reader.feed(b"x" * 1_000_000)
