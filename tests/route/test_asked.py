from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offtake.route.answers import AnswerReader
from offtake.route.dialects.asked import Refusal, dialect_of, read, with_model, with_usage
from offtake.route.dialects.usage import Usage, is_whole, usage_of
from offtake.route.http1 import Limits
from offtake.route.seams import Call, Dialect


def test_only_what_a_decision_needs_is_read() -> None:
    body = b'{"model":"m","stream":true,"max_completion_tokens":64,"n":2,"messages":[{"role":"user"}],"odd":{"x":[1]}}'
    asked = read(Call.CHAT, body)
    assert (asked.model, asked.stream, asked.prompt_bytes, asked.output_tokens_max, asked.answers) == (
        "m",
        True,
        17,
        64,
        2,
    )


@pytest.mark.parametrize(
    ("call", "body", "size"),
    [
        (Call.RESPONSES, b'{"model":"m","input":"hello","instructions":"be"}', 11),
        (Call.COMPLETIONS, b'{"model":"m","prompt":"hello"}', 7),
        (Call.EMBEDDINGS, b'{"model":"m","input":["a","b"]}', 9),
        (Call.MESSAGES, b'{"model":"m","max_tokens":5,"system":"sys","messages":[]}', 7),
    ],
)
def test_each_call_has_its_own_prompt(call: Call, body: bytes, size: int) -> None:
    assert read(call, body).prompt_bytes == size


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not JSON"),
        (b"[1]", "The request is not valid"),
        (b'{"messages":[]}', "The request is not valid"),
        (b'{"model":"m"}', "The request has no `messages`"),
        (b'{"model":"m","messages":[],"n":0}', None),
        (b'{"model":"m","messages":[],"n":-1}', "must be at least 1"),
        (b'{"model":"m","messages":[],"stream":"yes"}', "The request is not valid"),
    ],
)
def test_what_cannot_be_a_request_is_refused_in_words(body: bytes, message: str | None) -> None:
    if message is None:
        assert read(Call.CHAT, body).answers == 1
        return
    with pytest.raises(Refusal, match=message) as caught:
        read(Call.CHAT, body)
    assert caught.value.status == 400


def test_turns_of_one_talk_have_one_session_and_other_talks_another() -> None:
    start = '{"role":"system","content":"' + "long " * 500 + '"}'
    one = read(Call.CHAT, f'{{"model":"m","messages":[{start},1]}}'.encode())
    next_turn = read(Call.CHAT, f'{{"model":"m","messages":[{start},1,2,3]}}'.encode())
    other = read(Call.CHAT, b'{"model":"m","messages":["other"]}')
    keyed = read(Call.CHAT, b'{"model":"m","messages":["other"],"prompt_cache_key":"k"}')
    assert one.session == next_turn.session
    assert len({one.session, other.session, keyed.session}) == 3
    assert read(Call.EMBEDDINGS, b'{"model":"m","input":"x"}').session == b""


def test_another_model_is_named_and_nothing_else_changes() -> None:
    body = b'{"n": 1, "model":"a","messages":[{"model":"a","x": 1.50}],"model":"b"}'
    changed = with_model(body, "c/d")
    assert changed == b'{"n":1,"model":"c/d","messages":[{"model":"a","x": 1.50}]}'
    assert dialect_of(Call.MESSAGES) is Dialect.ANTHROPIC


def test_a_stream_is_asked_for_its_usage_and_what_it_says_itself_stands() -> None:
    asked = {"model": "a", "stream_options": {"include_usage": True}}
    assert msgspec.json.decode(with_usage(b'{"model":"a"}')) == asked
    assert msgspec.json.decode(with_usage(b'{"model":"a","stream_options":null}')) == asked
    assert with_usage(b'{"stream_options":{"include_usage":false}}') == b'{"stream_options":{"include_usage":false}}'
    assert with_usage(b'{"stream_options":7}') == b'{"stream_options":7}'


@given(st.dictionaries(st.text(), st.none() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text())))
def test_any_other_field_goes_through(fields: dict[str, object]) -> None:
    body = msgspec.json.encode({**fields, "model": "a"})
    assert msgspec.json.decode(with_model(body, "b")) == {**fields, "model": "b"}


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b'{"id":1,"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}', Usage(7, 9)),
        (
            b'"usage": {"prompt_tokens":7,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":5}}}',
            Usage(7, 9, 5),
        ),
        (b'{"usage":{"input_tokens":3,"output_tokens":4,"cache_read_input_tokens":10}}', Usage(13, 4, 10)),
        (
            b'data: {"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata: {"usage":null}\n\ndata: [DONE]\n\n',
            Usage(1, 2),
        ),
        (b'data: {"usage":{"prompt_tokens":1,"compl', None),
        (b"data: [DONE]\n\n", None),
        (b'{"usage":{"prompt_tokens":-1,"completion_tokens":true}}', None),
        (b'{"text":"say \\"usage\\": {\\"a\\": 1}"}', None),
        (b"", None),
        (b'"usage":' + b'{"a":' * 5_000, None),
    ],
)
def test_usage_is_read_from_the_end_of_an_answer(tail: bytes, usage: Usage | None) -> None:
    assert usage_of(tail) == usage


def test_a_long_anthropic_stream_tells_its_prompt_first_and_its_answer_last() -> None:
    begin = b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","usage":'
    begin += b'{"input_tokens":25,"cache_read_input_tokens":7,"output_tokens":1}}}\n\n'
    text = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"usage\\": {}"}}\n\n'
    last = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":4000}}\n\n'
    reader = AnswerReader(Limits())
    reader.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for data in (begin[:50], begin[50:], *[text] * 4000, last):
        reader.feed(b"%x\r\n%b\r\n" % (len(data), data))
    assert len(reader.tail()) < 100_000
    assert usage_of(reader.tail()) == Usage(32, 4000, 7)
    assert usage_of(begin + text) == Usage(32, 1, 7, whole=False)


def test_only_the_answers_own_usage_counts() -> None:
    answer = b'{"usage":{"input_tokens":3,"output_tokens":4},"content":[{"input":{"usage":{"output_tokens":9}}}]}'
    assert usage_of(answer) == Usage(3, 4)


def test_a_stream_is_whole_once_its_last_event_began() -> None:
    assert is_whole(b'data: {"a":1}\n\ndata: [DONE]\n\n')
    assert is_whole(b"data: 1\n\nevent: response.completed\ndata: " + b"x" * 10_000)
    assert is_whole(b'\r\nevent: message_stop\r\ndata: {"type":"message_stop"}')
    assert not is_whole(b'data: {"text":"event: message_stop, data: [DONE]"}\n\n')


@given(st.binary(max_size=200))
def test_any_tail_can_be_looked_at(tail: bytes) -> None:
    usage_of(b'"usage":{' + tail)
    usage_of(tail)
