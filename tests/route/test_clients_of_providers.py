"""The official clients talk to a router whose upstreams speak either dialect: nothing changes but the base URL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from offtake.route.dialects.events import named_event
from tests.route.providers import (
    ANTHROPIC,
    ANTHROPIC_TOOL,
    HELLO,
    OPENAI,
    OPENAI_TOOL,
    PIXEL,
    anthropic_at,
    openai_at,
    provider,
    wire,
)
from tests.route.wire import Answer, Got, Wire, alike, json_answer, routed, stream_answer

__all__ = ["wire"]


# ── openai, before upstreams of either dialect ───────────────────────────────────────────────────────────────────────
def test_openai_chats(wire: Wire) -> None:
    with openai_at(wire) as client:
        answer = client.chat.completions.create(model="model", messages=HELLO)
    assert answer.choices[0].message.content in {"Hello!", "Hi! My name is Claude."}
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens in {19, 2200}
    record = wire.closed()
    assert (record.input_tokens, record.output_tokens) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert (record.counted, record.outcome) == (False, "served")
    assert answer._request_id == record.request_id
    assert record.cached_tokens in {4, 100}


def test_openai_streams_and_is_told_the_usage_it_asks_for(wire: Wire) -> None:
    options: Any = {"include_usage": True}
    with (
        openai_at(wire) as client,
        client.chat.completions.create(model="model", messages=HELLO, stream=True, stream_options=options) as stream,
    ):
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) in {(19, 10), (32, 15)}
    record = wire.closed()
    assert (record.input_tokens, record.output_tokens, record.counted) in {(19, 10, False), (32, 15, False)}


def test_openai_without_asking_is_told_no_usage(wire: Wire) -> None:
    with openai_at(wire) as client, client.chat.completions.create(model="model", messages=HELLO, stream=True) as told:
        assert all(chunk.usage is None for chunk in told)
    record = wire.closed()
    anthropic_told = (record.input_tokens, record.output_tokens, record.counted) == (32, 15, False)
    assert anthropic_told or (record.counted and record.output_tokens > 0)


def test_openai_calls_tools_and_sends_back_what_they_gave(wire: Wire) -> None:
    with openai_at(wire) as client:
        answer = client.chat.completions.create(model="model", messages=HELLO, tools=[OPENAI_TOOL])
        message: Any = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert message.tool_calls is not None
        [call] = message.tool_calls
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) in {
            ("weather", '{"place":"Boston, MA"}'),
            ("weather", '{"place":"San Francisco, CA"}'),
        }
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}
        client.chat.completions.create(model="model", messages=[*HELLO, message, result])
    turns = wire.got[-1].json["messages"]
    if "/messages" in wire.got[-1].path:
        assert turns[1]["content"][-1] == {
            "type": "tool_use",
            "id": call.id,
            "name": "weather",
            "input": {"place": "San Francisco, CA"},
        }
        assert turns[2]["content"] == [{"type": "tool_result", "tool_use_id": call.id, "content": "12 degrees"}]
    else:
        assert turns[2] == result


def test_openai_streams_calls_of_tools(wire: Wire) -> None:
    with (
        openai_at(wire) as client,
        client.chat.completions.stream(model="model", messages=HELLO, tools=[OPENAI_TOOL]) as stream,
    ):
        stream.until_done()
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls]
    assert calls in (
        [("weather", '{"place":"Rome"}'), ("now", "{}")],
        [("weather", '{"place": "Rome"}'), ("now", "{}")],
    )


def test_openai_from_asyncio(wire: Wire) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{wire.port}/v1", api_key="ot-acme") as client:
            first, second = await asyncio.gather(
                client.chat.completions.create(model="model", messages=HELLO),
                client.chat.completions.create(model="model", messages=HELLO, stream=True),
            )
            assert first.choices[0].message.content
            texts = [chunk.choices[0].delta.content or "" async for chunk in second if chunk.choices]
            assert "".join(texts) == "Hello!"

    asyncio.run(main())


# ── anthropic, before upstreams of either dialect ────────────────────────────────────────────────────────────────────
def test_anthropic_talks(wire: Wire) -> None:
    with anthropic_at(wire) as client:
        answer = client.messages.create(model="model", max_tokens=50, messages=HELLO, system="be kind")
    assert answer.content[0].type == "text"
    assert answer.content[0].text in {"Hello!", "Hi! My name is Claude."}
    assert answer.stop_reason == "end_turn"
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) in {(15, 4), (2095, 100)}
    record = wire.closed()
    assert answer._request_id == record.request_id
    assert (record.input_tokens, record.output_tokens, record.counted) in {(19, 10, False), (2200, 503, False)}
    sent = wire.got[0]
    assert ("ot-acme" in str(sent.headers), "upstream-secret" in str(sent.headers)) == (False, True)


def test_anthropic_streams(wire: Wire) -> None:
    with (
        anthropic_at(wire) as client,
        client.messages.stream(model="model", max_tokens=50, messages=HELLO) as stream,
    ):
        assert "".join(stream.text_stream) == "Hello!"
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) in {(19, 10), (25, 15)}
    record = wire.closed()
    assert (record.input_tokens, record.output_tokens, record.counted) in {(19, 10, False), (32, 15, False)}


def test_anthropic_uses_tools_and_sends_back_what_they_gave(wire: Wire) -> None:
    with anthropic_at(wire) as client:
        answer = client.messages.create(model="model", max_tokens=50, messages=HELLO, tools=[ANTHROPIC_TOOL])
        assert answer.stop_reason == "tool_use"
        used = answer.content[-1]
        assert used.type == "tool_use"
        assert used.input in ({"place": "Boston, MA"}, {"place": "San Francisco, CA"})
        result: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "12"}]}
        before: Any = {"role": "assistant", "content": answer.content}
        client.messages.create(model="model", max_tokens=50, messages=[*HELLO, before, result])
    turns = wire.got[-1].json["messages"]
    if "/chat" in wire.got[-1].path:
        assert turns[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"place":"Boston, MA"}'}
        assert turns[2] == {"role": "tool", "tool_call_id": used.id, "content": "12"}
    else:
        assert turns[2] == result


def test_anthropic_streams_uses_of_tools(wire: Wire) -> None:
    with (
        anthropic_at(wire) as client,
        client.messages.stream(model="model", max_tokens=50, messages=HELLO, tools=[ANTHROPIC_TOOL]) as stream,
    ):
        message = stream.get_final_message()
    used = [(each.name, each.input) for each in message.content if each.type == "tool_use"]
    assert used == [("weather", {"place": "Rome"}), ("now", {})]
    assert message.stop_reason == "tool_use"


def test_anthropic_from_asyncio(wire: Wire) -> None:
    async def main() -> None:
        url = f"http://127.0.0.1:{wire.port}"
        async with anthropic.AsyncAnthropic(base_url=url, api_key="ot-acme") as client:
            answer = await client.messages.create(model="model", max_tokens=9, messages=HELLO)
            assert answer.stop_reason == "end_turn"
            async with client.messages.stream(model="model", max_tokens=9, messages=HELLO) as stream:
                assert "".join([text async for text in stream.text_stream]) == "Hello!"

    asyncio.run(main())


# ── what one dialect alone has ───────────────────────────────────────────────────────────────────────────────────────
RESPONSE: dict[str, Any] = {
    "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
    "object": "response",
    "created_at": 1741476542,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "model": "gpt-4.1-2025-04-14",
    "output": [
        {
            "type": "message",
            "id": "msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "In a peaceful grove", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [{"type": "function", "name": "usage", "parameters": {"properties": {"usage": {"type": "integer"}}}}],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 6},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 123,
    },
    "user": None,
    "metadata": {},
}


def test_openai_responses_pass_untouched(tmp_path: Path) -> None:
    with (
        routed(tmp_path, alike(OPENAI, lambda _got: json_answer(RESPONSE))) as wire,
        openai_at(wire) as client,
    ):
        answer = client.responses.create(model="model", input="tell me", extra_body={"odd": {"new": [1.50]}})
        assert answer.output_text == "In a peaceful grove"
        record = wire.closed()
        assert (record.input_tokens, record.output_tokens, record.cached_tokens) == (36, 87, 6)
        assert b'"odd":{"new":[1.5]}' in wire.got[0].body


def test_openai_completions_and_embeddings_pass_untouched(tmp_path: Path) -> None:
    def answer(got: Got) -> Answer:
        if got.path.endswith("/embeddings"):
            rows = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
            return json_answer({"object": "list", "data": rows, "model": "e", "usage": {"prompt_tokens": 8}})
        choice = {"index": 0, "text": " is", "finish_reason": "length", "logprobs": None}
        return json_answer(
            {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        )

    with routed(tmp_path, alike(OPENAI, answer)) as wire, openai_at(wire) as client:
        assert client.completions.create(model="model", prompt="this", max_tokens=1).choices[0].text == " is"
        made = client.embeddings.create(model="model", input="this", encoding_format="float")
        assert made.data[0].embedding == [0.25, -0.5]
    assert [record.counted for record in wire.book.shut] == [True, False]


def test_anthropic_counts_tokens_at_its_own_upstreams_and_is_told_an_estimate_elsewhere(tmp_path: Path) -> None:
    def count(got: Got) -> Answer:
        assert got.path == "/up/v1/messages/count_tokens"
        return json_answer({"input_tokens": 14})

    with routed(tmp_path / "a", alike(ANTHROPIC, count)) as wire, anthropic_at(wire) as client:
        assert client.messages.count_tokens(model="model", messages=HELLO).input_tokens == 14
    with routed(tmp_path / "b", alike(OPENAI, count)) as wire, anthropic_at(wire) as client:
        raw = client.messages.with_raw_response.count_tokens(model="model", messages=HELLO)
        assert raw.headers["x-offtake-counted"] == "estimate"
        assert raw.parse().input_tokens == 9  # 37 bytes of JSON, four to a token
        assert wire.got == []
        assert wire.closed().outcome == "served"


def test_models_are_listed_in_either_dialect(tmp_path: Path) -> None:
    with routed(tmp_path, alike(OPENAI, provider)) as wire:
        with openai_at(wire) as client:
            assert [model.id for model in client.models.list()] == ["model"]
            assert client.models.retrieve("model").id == "model"
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve("other")
            assert caught.value.code == "model_not_found"
            assert caught.value.request_id
        with anthropic_at(wire) as other:
            assert [model.id for model in other.models.list()] == ["model"]
            assert other.models.retrieve("model").display_name == "model"
            with pytest.raises(anthropic.NotFoundError) as missing:
                other.models.retrieve("other")
            assert missing.value.request_id


def test_images_and_unknown_fields_pass_byte_for_byte(tmp_path: Path) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
    with routed(tmp_path, alike(OPENAI, provider)) as wire, openai_at(wire) as client:
        client.chat.completions.create(
            model="model", messages=[{"role": "user", "content": [image]}], extra_body={"vendor": {"x": None}}
        )
    assert wire.got[0].json["messages"][0]["content"] == [image]
    assert wire.got[0].json["vendor"] == {"x": None}
    assert wire.got[0].json["model"].startswith("model-at-")


def test_the_answer_names_the_pool_and_the_model_that_served(wire: Wire) -> None:
    with openai_at(wire) as client:
        raw = client.chat.completions.with_raw_response.create(model="model", messages=HELLO)
    pool = raw.headers["x-offtake-pool"]
    assert raw.headers["x-offtake-model"] == f"model-at-{pool}"
    assert wire.closed().pool == pool


# ── more of what passes untouched ────────────────────────────────────────────────────────────────────────────────────
def told(number: int, kind: str, **fields: Any) -> bytes:
    return named_event({"type": kind, "sequence_number": number, **fields})


def test_openai_streams_responses_and_their_usage_is_known(tmp_path: Path) -> None:
    place: Any = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events = [
        told(0, "response.created", response=RESPONSE | {"status": "in_progress", "output": [], "usage": None}),
        told(1, "response.output_text.delta", **place, delta="In a peaceful"),
        told(2, "response.output_text.delta", **place, delta=" grove"),
        told(3, "response.completed", response=RESPONSE),
    ]
    with routed(tmp_path, alike(OPENAI, lambda _got: stream_answer(*events))) as wire, openai_at(wire) as client:
        with client.responses.create(model="model", input="tell me", stream=True) as stream:
            kinds = [event.type for event in stream]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        record = wire.closed()
    assert (record.input_tokens, record.output_tokens, record.counted, record.outcome) == (36, 87, False, "served")
