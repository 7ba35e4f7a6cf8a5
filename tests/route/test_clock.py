from __future__ import annotations

import asyncio

from offtake.route.clock import Clock, RequestNames
from offtake.route.loop import run


def test_time_never_goes_back_and_the_wall_clock_goes_with_it() -> None:
    clock = Clock()
    times = [clock.now_ns() for _ in range(100)]
    assert times == sorted(times)
    assert clock.wall_ns(5) - clock.wall_ns(2) == 3


def test_time_can_pass_quicker_than_it_does() -> None:
    clock = Clock(speed=1e6)
    before = clock.now_ns()
    assert clock.now_ns() - before > 10_000


def test_no_two_requests_share_a_name() -> None:
    one, other = RequestNames(), RequestNames()
    assert len({one.next() for _ in range(1_000)} | {other.next() for _ in range(1_000)}) == 2_000


def test_the_event_loop_runs_a_coroutine() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert run(answer) == 42
