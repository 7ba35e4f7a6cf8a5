"""Run a test once on Python's own event loop and once on uvloop, ten seconds at most."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from offtake.route import loop

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = asyncio.new_event_loop if request.param == "asyncio" else loop.new_event_loop

    def start(main: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(10):
                await main()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return start
