"""A late answer is asked for twice, within a budget; the first to begin goes on, and nobody is counted twice."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import cast

import pytest

from offtake.policy.build import live_view
from offtake.route.health import Health
from offtake.route.loop import run
from offtake.route.mock import Fault, Mock
from offtake.route.places import upstreams_of
from offtake.route.serve import Server
from tests.rehearse.fleets import small_fleet
from tests.route.setup import Pages, desk_in, route_text, tables

pytestmark = pytest.mark.slow
STREAM = b'{"model":"model","stream":true,"min_tokens":5,"messages":[{"role":"user","content":"x"}]}'


def serve(folder: Path, share: float, faults: dict[int, Fault], asks: int) -> tuple[list[bytes], Pages, Mock, int]:
    """Ask a router for so many streams, one after the other; some of its pools do wrong."""

    async def main() -> tuple[list[bytes], Pages, Mock, int]:
        fleet = small_fleet()
        mock = Mock(fleet, live_view(fleet, 0.0, tables(folder)), speed=5.0)
        listening = await asyncio.get_running_loop().create_server(mock.meet, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        text = (
            route_text().replace('key_env = "B_KEY"', "").replace("https://api.example.com", "http://127.0.0.1:9004/3")
        )
        for index, row in enumerate(("9001", "9002", "9003/base", "9004/3")):
            text = text.replace(f":{row}", f":{port}/{index}")
        desk = desk_in(folder, text=f"{text}\n[retry]\nhedge_share = {share}\n[limits]\nfirst_s = 1.0\n")
        desk.parts.health = Health(upstreams_of(desk.parts.config, fleet, os.environ), desk.parts.config.file.breaker)
        for index, fault in faults.items():
            mock.pools[str(index)].fault = fault
        server = Server(desk, desk.parts.clock)
        await server.start(("127.0.0.1", 0))
        answers = [await ask(server.addresses[0]) for _ in range(asks)]
        await server.drain(desk.parts.clock.now_ns() + 2_000_000_000)
        left = int(desk.parts.decider.view.pools["in_flight"].sum()) + sum(
            one.in_flight for one in desk.parts.health.by_name.values()
        )
        listening.close()
        for connection in tuple(mock.connections):
            connection.transport.abort()
        await asyncio.sleep(0.05)
        return answers, cast("Pages", desk.parts.book), mock, left

    return run(main)


async def ask(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ot-acme\r\nconnection: close\r\n"
    writer.write(head + b"content-length: %d\r\n\r\n" % len(STREAM) + STREAM)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_a_second_pool_answers_while_the_first_hangs_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    answers, book, mock, left = serve(tmp_path, 1.0, {0: Fault.HANG, 2: Fault.HANG}, 6)
    assert [answer.count(b"HTTP/1.1 200 OK") for answer in answers] == [1] * 6
    assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
    assert left == 0
    assert [row.outcome for row in book.shut] == ["served"] * 6
    assert len({row.request_id for row in book.shut}) == 6
    assert any(row.attempts == 2 for row in book.shut)
    assert sum(pool.running for pool in mock.pools.values()) == 0


def test_without_a_share_nothing_is_asked_twice(tmp_path: Path) -> None:
    answers, book, _, left = serve(tmp_path, 0.0, {}, 5)
    assert [answer.count(b"200 OK") for answer in answers] == [1] * 5
    assert {row.attempts for row in book.shut} == {1}
    assert left == 0


def test_a_second_attempt_that_fails_leaves_the_first_alone(tmp_path: Path) -> None:
    faults = {index: Fault.SLOW if index else Fault.ERROR for index in range(4)}
    answers, book, _, left = serve(tmp_path, 1.0, faults, 5)
    assert [answer.count(b"HTTP/1.1 200 OK") for answer in answers] == [1] * 5
    assert {row.outcome for row in book.shut} == {"served"}
    assert left == 0
