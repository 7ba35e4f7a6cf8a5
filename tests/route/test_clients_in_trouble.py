"""The official clients leave, are told what went wrong, and are served by other pools and models."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from offtake.fleet import Fleet
from offtake.route.seams import Dialect
from tests.rehearse.fleets import small_fleet
from tests.route.providers import (
    ANTHROPIC,
    HELLO,
    OPENAI,
    anthropic_at,
    openai_at,
    provider,
    wire,
)
from tests.route.recorded import (
    CHAT,
    CHAT_STREAM,
    DONE,
    MESSAGE_STREAM,
)
from tests.route.setup import route_text
from tests.route.wire import Answer, Got, Wire, alike, json_answer, routed, stream_answer

pytestmark = pytest.mark.slow

__all__ = ["wire"]


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
