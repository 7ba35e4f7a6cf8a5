"""The official clients talk to a router whose upstreams speak either dialect: nothing changes but the base URL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from offtake.fleet import Fleet
from offtake.route.dialects.events import named_event
from offtake.route.seams import Dialect
from tests.rehearse.fleets import small_fleet
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
)
from tests.route.setup import route_text
from tests.route.wire import Answer, Got, Wire, alike, json_answer, routed, stream_answer

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
HELLO: Any = [{"role": "user", "content": "hello"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
OPENAI_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
ANTHROPIC_TOOL: Any = {"name": "weather", "input_schema": WEATHER}


def provider(got: Got) -> Answer:
    """Answer as the provider whose path is asked for."""
    asked = got.json
    streams, tools = asked.get("stream"), bool(asked.get("tools"))
    if got.path.startswith("/up/v1/chat/completions"):
        usage = [USED] if (asked.get("stream_options") or {}).get("include_usage") else []
        if streams:
            return stream_answer(*(CALL_STREAM if tools else CHAT_STREAM), *usage, DONE)
        return json_answer(CALLED if tools else CHAT)
    if got.path.startswith("/up/v1/messages"):
        if streams:
            return stream_answer(*(USE_STREAM if tools else MESSAGE_STREAM))
        return json_answer(USING if tools else MESSAGE)
    raise AssertionError(got.path)


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    with routed(tmp_path, alike(request.param, provider)) as wire:
        yield wire


def openai_at(wire: Wire, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{wire.port}/v1", api_key="ot-acme", max_retries=0, **options)


def anthropic_at(wire: Wire, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{wire.port}", api_key="ot-acme", **({"max_retries": 0} | options)
    )


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


# ── leaving, and what goes wrong ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("spoken", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("asked", [OPENAI, ANTHROPIC])
def test_a_client_that_stops_reading_stops_the_upstream(tmp_path: Path, asked: Dialect, spoken: Dialect) -> None:
    begins = CHAT_STREAM[:2] if spoken is OPENAI else MESSAGE_STREAM[:4]
    with routed(tmp_path, alike(spoken, lambda _got: stream_answer(*begins, then="wait"))) as wire:
        if asked is OPENAI:
            with openai_at(wire) as client:
                chunks = client.chat.completions.create(model="model", messages=HELLO, stream=True)
                next(iter(chunks))
                chunks.close()
        else:
            with (
                anthropic_at(wire) as other,
                other.messages.stream(model="model", max_tokens=9, messages=HELLO) as told,
            ):
                next(iter(told))
        assert wire.gone.wait(5)
        assert wire.closed().outcome == "left"


@pytest.mark.parametrize("spoken", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (400, openai.BadRequestError, anthropic.BadRequestError),
        (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
        (404, openai.NotFoundError, anthropic.NotFoundError),
        (409, openai.ConflictError, anthropic.ConflictError),
        (413, openai.APIStatusError, anthropic.RequestTooLargeError),
        (422, openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
    ],
)
def test_a_fault_that_the_upstream_finds_reaches_the_client_as_its_own_error(
    tmp_path: Path, spoken: Dialect, status: int, theirs: Any, ours: Any
) -> None:
    told: dict[str, Any] = {"error": {"message": "too odd", "type": "t", "param": None, "code": None}}
    if spoken is ANTHROPIC:
        told = {"type": "error", "error": {"type": "t", "message": "too odd"}}
    with routed(tmp_path, alike(spoken, lambda _got: json_answer(told, status))) as wire:
        with openai_at(wire) as client, pytest.raises(theirs, match="too odd") as caught:
            client.chat.completions.create(model="model", messages=HELLO, stream=True)
        assert (caught.value.status_code, caught.value.request_id) == (status, wire.book.shut[0].request_id)
        with anthropic_at(wire) as other, pytest.raises(ours, match="too odd") as found:
            other.messages.create(model="model", max_tokens=9, messages=HELLO)
        assert (found.value.status_code, found.value.request_id) == (status, wire.book.shut[1].request_id)
        assert found.value.body["type"] == "error"
    assert [record.outcome for record in wire.book.shut] == ["faulty", "faulty"]
    assert len(wire.got) == 2  # nothing is tried again


@pytest.mark.parametrize(
    ("status", "told", "theirs", "ours"),
    [
        (429, 429, openai.RateLimitError, anthropic.RateLimitError),
        (529, 429, openai.RateLimitError, anthropic.RateLimitError),
        (500, 502, openai.InternalServerError, anthropic.InternalServerError),
        (401, 502, openai.InternalServerError, anthropic.InternalServerError),
    ],
)
def test_an_upstream_that_cannot_serve_is_no_fault_of_the_client(
    tmp_path: Path, status: int, told: int, theirs: Any, ours: Any
) -> None:
    busy = json_answer({"error": {"message": "the upstream's own"}}, status, **{"retry-after": "3"})
    with routed(tmp_path, alike(OPENAI, lambda _got: busy)) as wire:
        with openai_at(wire) as client, pytest.raises(theirs) as caught:
            client.chat.completions.create(model="model", messages=HELLO)
        assert (caught.value.status_code, "upstream's own" in str(caught.value)) == (told, False)
        headers = caught.value.response.headers
        with anthropic_at(wire) as other, pytest.raises(ours) as found:
            other.messages.create(model="model", max_tokens=9, messages=HELLO)
        assert found.value.status_code in {told, 503}
    if told == 429:
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "3000")
    else:
        assert headers["x-should-retry"] == "false"


def test_an_unknown_key_is_refused_in_either_dialect(wire: Wire) -> None:
    with openai_at(wire).with_options(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="model", messages=HELLO)
    with anthropic_at(wire).with_options(api_key="wrong") as other, pytest.raises(anthropic.AuthenticationError):
        other.messages.create(model="model", max_tokens=9, messages=HELLO)
    assert wire.got == []


def test_a_body_that_is_too_large_is_refused(wire: Wire) -> None:
    long: Any = [{"role": "user", "content": "x" * 1_100_000}]
    with openai_at(wire) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="model", messages=long)
    with anthropic_at(wire) as other, pytest.raises(anthropic.RequestTooLargeError):
        other.messages.create(model="model", max_tokens=9, messages=long)
    assert caught.value.status_code == 413


def test_a_client_waits_for_as_long_as_it_is_told_and_is_served_then(tmp_path: Path) -> None:
    count = 0

    def busy_first(got: Got) -> Answer:
        nonlocal count
        count += 1
        return json_answer({"error": {}}, 429, **{"retry-after-ms": "50"}) if count <= 1 else provider(got)

    text = route_text() + "\n[retry]\nattempts_max = 1\n"
    with (
        routed(tmp_path, alike(ANTHROPIC, busy_first), text=text) as wire,
        anthropic_at(wire, max_retries=2) as client,
    ):
        assert client.messages.create(model="model", max_tokens=9, messages=HELLO).stop_reason == "end_turn"
    assert [record.status for record in wire.book.shut] == [429, 200]


@pytest.mark.parametrize("spoken", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("then", ["end", "break"])
def test_half_a_stream_is_never_taken_for_a_whole_one(tmp_path: Path, spoken: Dialect, then: str) -> None:
    """Where the answer is turned even a clean end of the connection in its middle is seen."""
    begins = CHAT_STREAM[:3] if spoken is OPENAI else MESSAGE_STREAM[:5]
    with routed(tmp_path, alike(spoken, lambda _got: stream_answer(*begins, then=then))) as wire:
        if spoken is ANTHROPIC:
            with openai_at(wire) as client, pytest.raises(openai.APIConnectionError):
                list(client.chat.completions.create(model="model", messages=HELLO, stream=True))
        else:
            with anthropic_at(wire) as other, pytest.raises(Exception, match="peer closed"):
                list(other.messages.create(model="model", max_tokens=9, messages=HELLO, stream=True))
        assert wire.closed().outcome == "cut"


def test_an_error_in_the_middle_of_a_stream_is_told_in_the_callers_dialect(tmp_path: Path) -> None:
    late = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    with (
        routed(tmp_path / "a", alike(ANTHROPIC, lambda _got: stream_answer(*MESSAGE_STREAM[:4], late))) as wire,
        openai_at(wire) as client,
        pytest.raises(openai.APIError, match="Overloaded"),
    ):
        list(client.chat.completions.create(model="model", messages=HELLO, stream=True))
    broken = b'data: {"error":{"message":"out of memory","type":"server_error","code":500}}\n\n'
    with (
        routed(tmp_path / "b", alike(OPENAI, lambda _got: stream_answer(*CHAT_STREAM[:2], broken, DONE))) as wire,
        anthropic_at(wire) as other,
        pytest.raises(anthropic.APIError, match="out of memory"),
    ):
        list(other.messages.create(model="model", max_tokens=9, messages=HELLO, stream=True))


# ── other pools, other models ────────────────────────────────────────────────────────────────────────────────────────
def test_a_request_that_one_pools_dialect_cannot_say_goes_to_a_pool_that_can(tmp_path: Path) -> None:
    pools: Any = dict.fromkeys(["a-one", "a-two", "b-one"], (ANTHROPIC, provider)) | {"api": (OPENAI, provider)}
    with routed(tmp_path, pools) as wire, openai_at(wire) as client:
        for seed in range(5):
            client.chat.completions.create(model="model", messages=HELLO, seed=seed)
    assert [got.path for got in wire.got] == ["/up/v1/chat/completions"] * 5
    assert [record.pool for record in wire.book.shut] == ["api"] * 5


def test_what_no_pools_dialect_can_say_is_refused_by_its_name_and_sent_nowhere(tmp_path: Path) -> None:
    with routed(tmp_path, alike(ANTHROPIC, provider)) as wire:
        with openai_at(wire) as client, pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="model", messages=HELLO, seed=7)
        assert (caught.value.param, caught.value.code) == ("seed", "not_translatable")
        assert wire.got == []
        assert wire.closed().outcome == "refused"


def test_hints_that_change_no_answer_are_dropped_and_the_answer_says_so(tmp_path: Path) -> None:
    kept: Any = [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}]
    with routed(tmp_path, alike(OPENAI, provider)) as wire, anthropic_at(wire) as client:
        raw = client.messages.with_raw_response.create(model="model", max_tokens=9, messages=HELLO, system=kept)
    assert raw.headers["x-offtake-dropped"] == "cache_control"


def of_two_models(equivalent: list[list[str]]) -> Fleet:
    fleet = small_fleet()
    pools = [msgspec.structs.replace(pool, model="model" if pool.name == "a-two" else "other") for pool in fleet.pools]
    return msgspec.structs.replace(fleet, pools=pools, equivalent=equivalent)


def test_a_model_is_never_changed_unless_the_fleet_says_that_the_other_is_as_good(tmp_path: Path) -> None:
    def only_others(got: Got) -> Answer:
        return json_answer({"error": {}}, 500) if got.json["model"] == "model-at-a-two" else json_answer(CHAT)

    with routed(tmp_path / "a", alike(OPENAI, only_others), of_two_models([])) as wire, openai_at(wire) as client:
        for _ in range(10):
            with pytest.raises(openai.APIStatusError):
                client.chat.completions.create(model="model", messages=HELLO)
        assert {got.json["model"] for got in wire.got} == {"model-at-a-two"}
    fleet = of_two_models([["model", "other"]])
    with routed(tmp_path / "b", alike(OPENAI, only_others), fleet) as wire, openai_at(wire) as client:
        raw = client.chat.completions.with_raw_response.create(model="model", messages=HELLO)
        assert raw.headers["x-offtake-model"] == f"other-at-{raw.headers['x-offtake-pool']}"
        assert wire.got[-1].json["model"] == raw.headers["x-offtake-model"]
        assert wire.closed().model == "other"


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


@pytest.mark.parametrize(("asks", "usage"), [(False, None), (True, (19, 10))])
def test_an_operator_may_have_streams_asked_for_their_usage(
    tmp_path: Path, asks: bool, usage: tuple[int, int] | None
) -> None:
    text = route_text().replace('url = "', f'ask_usage = {str(asks).lower()}\nurl = "')
    with routed(tmp_path, alike(OPENAI, provider), text=text) as wire, openai_at(wire) as client:
        chunks = list(client.chat.completions.create(model="model", messages=HELLO, stream=True))
        record = wire.closed()
    assert (chunks[-1].usage is not None) == asks
    assert record.counted != asks
    assert usage is None or (record.input_tokens, record.output_tokens) == usage


@pytest.mark.parametrize("spoken", [OPENAI, ANTHROPIC])
def test_a_task_that_is_cancelled_stops_the_upstream(tmp_path: Path, spoken: Dialect) -> None:
    begins = CHAT_STREAM[:2] if spoken is OPENAI else MESSAGE_STREAM[:4]

    async def main(port: int) -> None:
        seen = asyncio.Event()

        async def read() -> None:
            async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="ot-acme") as client:
                async for _ in await client.chat.completions.create(model="model", messages=HELLO, stream=True):
                    seen.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(seen.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with routed(tmp_path, alike(spoken, lambda _got: stream_answer(*begins, then="wait"))) as wire:
        asyncio.run(main(wire.port))
        assert wire.gone.wait(5)
        assert wire.closed().outcome == "left"
