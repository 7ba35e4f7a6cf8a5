"""What one dialect says, the other says; what it cannot say is refused by its name; nothing is dropped unseen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offtake.route.dialects.asked import PATHS, Refusal
from offtake.route.dialects.sending import sending_of
from offtake.route.seams import Call, Dialect, Head, Upstream
from tests.route.fakes import described
from tests.route.translating import CHAT_HELLO, MESSAGE_HELLO, SCHEMA, TEXT, case_of, said, turn

# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
CHAT_ASKED: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "developer", "content": [{"type": "text", "text": "be short"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": "I look",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "c2", "type": "function", "function": {"name": "f", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "go on"},
    ],
    "max_completion_tokens": 64,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": "END",
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "u-1",
    "n": 1,
    "seed": None,
    "presence_penalty": 0,
    "tools": [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
}


def test_a_chat_becomes_a_message() -> None:
    made = turn(Call.CHAT, CHAT_ASKED)
    assert made.path == b"/v1/messages"
    assert msgspec.json.decode(made.body) == {
        "model": "theirs",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "be kind"}, {"type": "text", "text": "be short"}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look"},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
                    {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
        "metadata": {"user_id": "u-1"},
        "tools": [{"name": "f", "description": "d", "strict": True, "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    }


def test_a_message_becomes_a_chat() -> None:
    body = {
        "model": "m",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "I look"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "one", "is_error": False},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        "stop_sequences": ["END"],
        "temperature": 1,
        "thinking": {"type": "disabled"},
        "metadata": {"user_id": "u-1"},
        "stream": True,
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    made = turn(Call.MESSAGES, body)
    assert (made.path, made.dropped) == (b"/v1/chat/completions", ("cache_control",))
    assert msgspec.json.decode(made.body) == {
        "model": "theirs",
        "max_completion_tokens": 64,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "be kind"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "I look"}],
                "reasoning_content": "hm",
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "go on"}]},
        ],
        "stop": ["END"],
        "temperature": 1,
        "user": "u-1",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }


def test_an_answer_has_a_limit_though_a_chat_gives_none() -> None:
    assert said(Call.CHAT)["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("theirs", "ours"), [("auto", {"type": "auto"}), ("none", {"type": "none"}), ("required", {"type": "any"})]
)
def test_whether_a_tool_must_be_called_is_said_either_way(theirs: str, ours: dict[str, str]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
    assert said(Call.CHAT, tools=[tool], tool_choice=theirs)["tool_choice"] == ours
    other = said(Call.MESSAGES, tools=[{"name": "f", "input_schema": SCHEMA}], tool_choice=ours)
    assert other["tool_choice"] == theirs


def user(*parts: Any) -> Any:
    return [{"role": "user", "content": list(parts)}]


def replying(**message: Any) -> Any:
    return [{"role": "user", "content": "a"}, {"role": "assistant", **message}]


AUDIO = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "f"}}
UNSAID_BY_ANTHROPIC: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"seed": 1}, "seed"),
    ({"temperature": 1.5}, "temperature"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}, "response_format"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"verbosity": "low"}, "verbosity"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"store": True}, "store"),
    ({"metadata": {"a": "b"}}, "metadata"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"a_field_of_tomorrow": 0}, "a_field_of_tomorrow"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
    ({"messages": user(AUDIO)}, "messages[0].content[0].type"),
    ({"messages": user(FILE)}, "messages[0].content[0].type"),
    (
        {"messages": user({"type": "image_url", "image_url": {"url": "https://a/b", "detail": "high"}})},
        "messages[0].content[0].image_url.detail",
    ),
    (
        {"messages": user({"type": "image_url", "image_url": {"url": "data:,x"}})},
        "messages[0].content[0].image_url.url",
    ),
    ({"messages": [{"role": "user", "content": "a", "name": "bob"}]}, "messages[0].name"),
    ({"messages": [{"role": "function", "content": "a", "name": "f"}]}, "messages[0].role"),
    ({"messages": [*CHAT_HELLO["messages"], {"role": "system", "content": "late"}]}, "messages[1].role"),
    ({"messages": replying(content=None, refusal="no")}, "messages[1].refusal"),
    ({"messages": replying(content=None, audio={"id": "a"})}, "messages[1].audio"),
    ({"messages": replying(content=None, function_call={"name": "f", "arguments": "{}"})}, "messages[1].function_call"),
]
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "x"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
UNSAID_BY_OPENAI: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 5}, "top_k"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    ({"output_config": {"effort": "low"}}, "output_config"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": [{"type": "url", "url": "https://a", "name": "n"}]}, "mcp_servers"),
    ({"context_management": {"edits": []}}, "context_management"),
    ({"service_tier": "standard_only"}, "service_tier"),
    ({"speed": "fast"}, "speed"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"metadata": {"user_id": "u", "more": 1}}, "metadata.more"),
    ({"a_field_of_tomorrow": 0}, "a_field_of_tomorrow"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"name": "f", "input_schema": {}, "input_examples": [{}]}]}, "tools[0].input_examples"),
    ({"system": [TEXT | {"citations": [{"type": "char_location"}]}]}, "system[0].citations"),
    (
        {"messages": user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}})},
        "messages[0].content[0].type",
    ),
    ({"messages": user({"type": "search_result", "content": []})}, "messages[0].content[0].type"),
    (
        {"messages": user({"type": "image", "source": {"type": "file", "file_id": "f"}})},
        "messages[0].content[0].source.type",
    ),
    ({"messages": user(TEXT, RESULT)}, "messages[0].content[1].type"),
    ({"messages": user(RESULT | {"is_error": True})}, "messages[0].content[0].is_error"),
    ({"messages": user(RESULT | {"content": [IMAGE]})}, "messages[0].content[0].content[0].type"),
    (
        {"messages": replying(content=[{"type": "thinking", "thinking": "t", "signature": "signed"}])},
        "messages[1].content[0].signature",
    ),
    ({"messages": replying(content=[{"type": "redacted_thinking", "data": "x"}])}, "messages[1].content[0].type"),
    ({"messages": replying(content=[{"type": "server_tool_use", "id": "s"}])}, "messages[1].content[0].type"),
    (
        {"messages": replying(content=[{"type": "tool_use", "id": "t", "name": "f", "input": {}}, TEXT])},
        "messages[1].content[1].type",
    ),
]


@pytest.mark.parametrize(
    ("call", "base", "fields", "where"),
    [
        *((Call.CHAT, CHAT_HELLO, *each) for each in UNSAID_BY_ANTHROPIC),
        *((Call.MESSAGES, MESSAGE_HELLO, *each) for each in UNSAID_BY_OPENAI),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_other_dialect_cannot_say_is_refused_by_its_name(
    call: Call, base: dict[str, Any], fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(Refusal, match="cannot be said") as caught:
        turn(call, base | fields)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, where, "not_translatable")


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (Call.RESPONSES, {"model": "m", "input": "x"}),
        (Call.COMPLETIONS, {"model": "m", "prompt": "x"}),
        (Call.EMBEDDINGS, {"model": "m", "input": "x"}),
        (Call.COUNT_TOKENS, CHAT_HELLO),
    ],
)
def test_a_call_that_the_other_dialect_does_not_have_is_refused(call: Call, body: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=PATHS[call].decode()):
        turn(call, body)


@pytest.mark.parametrize(
    ("call", "fields", "where"),
    [
        (Call.CHAT, {"messages": "hello"}, "messages"),
        (Call.CHAT, {"messages": ["hello"]}, "messages[0]"),
        (Call.CHAT, {"messages": user(1)}, "messages[0].content[0]"),
        (Call.CHAT, {"messages": user({"type": "text", "text": 5})}, "messages[0].content[0].text"),
        (Call.CHAT, {"temperature": "hot"}, "temperature"),
        (Call.CHAT, {"stop": [1]}, "stop"),
        (Call.CHAT, {"tools": [{"type": "function"}]}, "tools[0].function"),
        (Call.CHAT, {"tool_choice": "required"}, "tools"),
        (
            Call.CHAT,
            {"messages": replying(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{"}}])},
            "messages[1].tool_calls[0].function.arguments",
        ),
        (Call.MESSAGES, {"max_tokens": None}, "max_tokens"),
        (Call.MESSAGES, {"max_tokens": True}, "max_tokens"),
        (Call.MESSAGES, {"metadata": []}, "metadata"),
        (Call.MESSAGES, {"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(call: Call, fields: dict[str, Any], where: str) -> None:
    with pytest.raises(Refusal) as caught:
        said(call, **fields)
    assert (caught.value.status, caught.value.param) == (400, where)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["text", "user", "function", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "name", "id", "function", "source", "tool_calls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = ["messages", "tools", "tool_choice", "system", "stop", "temperature", "metadata", "stream_options", "top_p"]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from([Call.CHAT, Call.MESSAGES]))
def test_any_body_is_said_or_refused(fields: dict[str, Any], call: Call) -> None:
    refusals: list[Refusal] = []
    try:
        said(call, **fields)
    except Refusal as refusal:
        refusals.append(refusal)
    assert all(each.status == 400 and each.param is not None for each in refusals)


def test_an_upstream_of_the_other_dialect_is_asked_in_its_own_way() -> None:
    case = case_of(Call.CHAT, CHAT_HELLO | {"prompt_cache_key": "k"})
    headers = (
        (b"openai-beta", b"x"),
        (b"x-stainless-lang", b"python"),
        (b"traceparent", b"00-1"),
        (b"x-api-key", b"k"),
    )
    case.head = Head(b"POST", b"/v1/chat/completions", b"beta=true", headers)
    up: Upstream = described(9001, dialect=Dialect.ANTHROPIC, path=b"/base", headers=((b"x-api-key", b"secret"),))
    sending = sending_of(case, up, 0)
    line, *lines = sending.head.decode().strip().split("\r\n")
    assert line == "POST /base/v1/messages HTTP/1.1"
    assert "anthropic-version: 2023-06-01" in lines
    assert "traceparent: 00-1" in lines
    assert [each for each in lines if each.startswith(("openai-", "x-stainless", "x-api-key"))] == ["x-api-key: secret"]
    assert f"content-length: {len(sending.body)}" in lines
    assert case.dropped == ("prompt_cache_key",)
    assert sending.translator is not None
    same = sending_of(case, described(9001, model="m"), 0)
    assert same.body == case.body
    assert same.translator is None
    assert not case.dropped
