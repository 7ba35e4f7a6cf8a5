"""The mock pools answer as real ones do: the official clients read them, and their pace is that of their tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from offtake.policy.build import live_view
from offtake.route.loop import run
from offtake.route.mock import Mock
from tests.rehearse.fleets import small_fleet
from tests.route.setup import tables

Body = Callable[[Mock, str], Awaitable[None]]
SAY = [{"role": "user", "content": "hello"}]


def asked(**how: Any) -> Any:
    """An official client, whose many overloads are of no interest here."""
    return openai.AsyncOpenAI(**how)


def claude(**how: Any) -> Any:
    return anthropic.AsyncAnthropic(**how)


def with_mock(folder: Path, body: Body, speed: float = 50.0) -> None:
    """Run ``body`` beside a mock fleet; it is given the address."""

    async def main() -> None:
        fleet = small_fleet()
        mock = Mock(fleet, live_view(fleet, 0.0, tables(folder)), speed)
        server = await asyncio.get_running_loop().create_server(mock.meet, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            await body(mock, address)
        finally:
            server.close()
            for connection in tuple(mock.connections):
                connection.transport.abort()
            await asyncio.sleep(0.01)

    run(main)


def test_the_official_clients_read_its_answers_whole_and_streamed(tmp_path: Path) -> None:
    async def body(mock: Mock, address: str) -> None:
        async with asked(api_key="k", base_url=f"{address}/0/v1", max_retries=0) as client:
            whole = await client.chat.completions.create(model="m", messages=SAY, max_tokens=7)
            assert whole.usage is not None
            assert len((whole.choices[0].message.content or "").split()) == whole.usage.completion_tokens <= 7
            stream = await client.chat.completions.create(model="m", messages=SAY, max_tokens=7, stream=True)
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            assert text.startswith("the")
            answer = await client.responses.create(model="m", input="hello")
            assert answer.output_text.startswith("the")
            events = [event.type async for event in await client.responses.create(model="m", input="x", stream=True)]
            assert (events[0], events[-1]) == ("response.created", "response.completed")
            old = await client.completions.create(model="m", prompt="x")
            assert old.choices[0].text
            vector = await client.embeddings.create(model="m", input="x", encoding_format="float")
            assert len(vector.data[0].embedding) == 4
        async with claude(api_key="k", base_url=f"{address}/1", max_retries=0) as client2:
            async with client2.messages.stream(model="m", max_tokens=9, messages=SAY) as told:
                final = await told.get_final_message()
            assert 1 <= final.usage.output_tokens <= 9
        assert mock.pools["0"].served == 6
        assert mock.pools["1"].served == 1
        assert mock.pools["0"].running == 0

    with_mock(tmp_path, body)


def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    async def body(mock: Mock, address: str) -> None:
        async with asked(api_key="k", base_url=f"{address}/0/v1", max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=SAY, stream=True)
            await anext(aiter(stream))
            assert mock.pools["0"].running == 1
            await stream.close()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if mock.pools["0"].running == 0:
                return
        pytest.fail("the place is still taken")

    with_mock(tmp_path, body, speed=0.05)


def test_a_pool_without_a_place_lets_requests_wait_in_turn(tmp_path: Path) -> None:
    async def body(mock: Mock, address: str) -> None:
        pool = mock.pools["1"]
        pool.pace = pool.pace._replace(places=1)
        async with asked(api_key="k", base_url=f"{address}/1/v1", max_retries=0) as client:
            asks = [client.completions.create(model="m", prompt="x", max_tokens=3) for _ in range(5)]
            answers = await asyncio.gather(*asks)
        assert len(answers) == 5
        assert (pool.running, len(pool.waiting), pool.served) == (0, 0, 5)

    with_mock(tmp_path, body)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("error", openai.InternalServerError),
        ("busy", openai.RateLimitError),
        ("reset", openai.APIConnectionError),
        ("malformed", openai.APIConnectionError),
        ("cut", openai.APIConnectionError),
        ("hang", openai.APITimeoutError),
    ],
)
def test_it_does_wrong_what_it_is_asked_to_do_wrong(tmp_path: Path, fault: str, error: type[Exception]) -> None:
    async def body(mock: Mock, address: str) -> None:
        assert mock.set_fault(mock.pools["0"], fault).status == 200
        assert mock.set_fault(mock.pools["0"], "unknown").status == 400
        async with asked(api_key="k", base_url=f"{address}/0/v1", max_retries=0, timeout=0.4) as client:
            with pytest.raises(error):
                await client.completions.create(model="m", prompt="x", max_tokens=1)
            mock.set_fault(mock.pools["0"], "none")
            assert (await client.completions.create(model="m", prompt="x", max_tokens=1)).usage

    with_mock(tmp_path, body)
