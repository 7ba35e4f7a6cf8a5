"""Whatever is sent to the router's calls, it answers in time: with an answer, or an error in the caller's dialect."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offtake.route.dialects.asked import CALLS, dialect_of
from offtake.route.seams import Dialect
from tests.route.recorded import CHAT, MESSAGE
from tests.route.wire import Answer, Got, Wire, json_answer, routed

KINDS = {"invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error"}
KINDS |= {"api_error", "overloaded_error", "request_too_large", "timeout_error"}
#: Fields of the two providers' requests, as their official clients list them.
FIELDS = [
    *("model", "messages", "input", "prompt", "system", "instructions", "max_tokens", "max_completion_tokens", "n"),
    *("max_output_tokens", "stream", "stream_options", "tools", "tool_choice", "temperature", "top_p", "top_k", "stop"),
    *("stop_sequences", "metadata", "user", "thinking", "response_format", "logprobs", "seed", "store", "service_tier"),
    *("previous_response_id", "prompt_cache_key", "parallel_tool_calls", "output_config", "cache_control", "odd"),
]
INNER = [
    "type",
    "role",
    "content",
    "text",
    "name",
    "id",
    "source",
    "url",
    "function",
    "arguments",
    "input",
    "tool_calls",
]
WORDS = ["model", "other", "text", "user", "assistant", "system", "tool", "function", "auto", "", "é\x00", "{}"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS),
    lambda deep: st.lists(deep, max_size=3) | st.dictionaries(st.sampled_from(INNER), deep, max_size=4),
    max_leaves=10,
)
TALK = {"model": "model", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": TALK,
    "/v1/responses": {"model": "model", "input": "a"},
    "/v1/completions": {"model": "model", "prompt": "a"},
    "/v1/embeddings": {"model": "model", "input": "a"},
    "/v1/messages": TALK,
    "/v1/messages/count_tokens": {"model": "model", "messages": TALK["messages"]},
}
PATHS = list(GOOD)
ODD = st.dictionaries(st.sampled_from(FIELDS[1:]), VALUES, max_size=4)
ASKED = st.one_of(
    st.tuples(st.sampled_from(PATHS), ODD).map(lambda pair: (pair[0], json.dumps(GOOD[pair[0]] | pair[1]).encode())),
    st.tuples(st.sampled_from(PATHS), ODD).map(lambda pair: (pair[0], json.dumps(pair[1] | GOOD[pair[0]]).encode())),
    st.tuples(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(FIELDS), VALUES).map(json.dumps).map(str.encode)),
    st.tuples(st.sampled_from(PATHS), st.binary(max_size=60)),
    st.tuples(st.sampled_from(PATHS), st.integers(0, 60).map(lambda cut: json.dumps(TALK).encode()[:cut])),
)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
HEADERS: Any = st.fixed_dictionaries(
    {"authorization": st.sampled_from(["Bearer ot-acme"] * 8 + ["Bearer wrong", "Basic ot-acme", ""])},
    optional={
        "anthropic-version": st.just("2023-06-01"),
        "x-offtake-workload": st.sampled_from(["chat", "code", "none"]) | TEXTS,
        "x-request-id": TEXTS,
        "content-type": st.sampled_from(["text/plain", "application/json"]),
    },
)


def provider(got: Got) -> Answer:
    """Answer what fits the path, or nothing that anyone could read."""
    if got.path.split("?")[0].endswith("/chat/completions"):
        return json_answer(CHAT)
    return json_answer(MESSAGE if got.path.split("?")[0].endswith("/messages") else {})


@pytest.fixture(scope="module", params=[Dialect.OPENAI, Dialect.ANTHROPIC], ids=["openai", "anthropic"])
def wire(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    pools: Any = dict.fromkeys(["a-one", "a-two", "b-one", "api"], (request.param, provider))
    with routed(tmp_path_factory.mktemp("fuzz"), pools) as running:
        yield running
        view = running.desk.parts.decider.view
        assert int(view.pools["in_flight"].sum()) == 0
        assert [each.request_id for each in running.book.open] == [each.request_id for each in running.book.shut]


def ask(wire: Wire, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, Any]:
    link = http.client.HTTPConnection("127.0.0.1", wire.port, timeout=10)
    try:
        link.request(method, path, body, {name: value.encode("latin-1") for name, value in headers.items()})
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        link.close()


def check(dialect: Dialect, status: int, headers: Any, body: bytes) -> None:
    """Hold an answer to what its dialect says of errors."""
    if status < 400:
        assert status == 200
        return
    told = json.loads(body)
    assert headers["content-type"] == "application/json"
    assert told["error"]["type"] in KINDS
    assert isinstance(told["error"]["message"], str)
    assert "Traceback" not in told["error"]["message"]
    named = headers["request-id" if dialect is Dialect.ANTHROPIC else "x-request-id"]
    assert named
    if dialect is Dialect.ANTHROPIC:
        assert (told["type"], told["request_id"]) == ("error", named)
    else:
        assert set(told["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in headers) != ("x-should-retry" in headers)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True)
@given(asked=ASKED, query=st.sampled_from(["", "?beta=true", "?a=%00"]), headers=HEADERS)
def test_every_call_is_answered_in_its_dialect(
    wire: Wire, asked: tuple[str, bytes], query: str, headers: dict[str, str]
) -> None:
    path, body = asked
    status, head, told = ask(wire, "POST", path + query, body, headers)
    check(dialect_of(CALLS[path.encode()]), status, head, told)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    path=st.sampled_from(
        ["/", "/v1", "/v1/models", "/v1/models/model", "/v1/models/a/b", "/v2/chat", "/../etc", *PATHS]
    )
    | st.text(st.sampled_from("abc/%.-_~"), max_size=20).map(lambda name: "/" + name),
    headers=HEADERS,
)
def test_every_other_path_is_answered_too(wire: Wire, method: str, path: str, headers: dict[str, str]) -> None:
    status, head, told = ask(wire, method, path, b"", headers)
    called = dialect_of(CALLS[path.encode()]) if method == "POST" and path.encode() in CALLS else None
    dialect = Dialect.ANTHROPIC if "anthropic-version" in headers else Dialect.OPENAI
    check(dialect if called is None else called, status, head, told)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"model","messages":'
        + b"[" * 100_000
        + b"]" * 100_000
        + b',"input":"a","prompt":"a","max_tokens":1}',
        b'{"model":"model","messages":' + b'{"a":' * 100_000,
        b'{"model":"model","model":"other","messages":[],"input":"a","prompt":"a","max_tokens":1e400}',
        b'{"model":"\\ud800","messages":[],"input":"a","prompt":"a"}',
        b"\xef\xbb\xbf" + json.dumps(TALK).encode(),
    ],
    ids=["deep", "deeper", "twice", "surrogate", "mark"],
)
def test_bodies_made_to_break_a_reader_are_answered(wire: Wire, path: str, body: bytes) -> None:
    status, head, told = ask(wire, "POST", path, body, {"authorization": "Bearer ot-acme"})
    check(dialect_of(CALLS[path.encode()]), status, head, told)
