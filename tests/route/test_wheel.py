from __future__ import annotations

import asyncio

import pytest

from offtake.route.clock import Clock
from offtake.route.wheel import NEVER, Timed, Wheel

MS = 1_000_000


class Alarm(Timed):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.rung: list[int] = []

    def expired(self, now_ns: int) -> None:
        self.rung.append(now_ns)


def test_a_thing_is_called_once_and_never_early() -> None:
    async def main() -> None:
        clock = Clock()
        wheel = Wheel(clock, asyncio.get_running_loop())
        alarms = [Alarm(clock) for _ in range(20)]
        for index, alarm in enumerate(alarms):
            wheel.put(alarm, 3 * MS * index)
        await asyncio.sleep(0.3)
        for index, alarm in enumerate(alarms):
            assert len(alarm.rung) == 1
            assert alarm.rung[0] >= 3 * MS * index
        assert len(wheel) == 0

    asyncio.run(main())


@pytest.mark.parametrize("first_ms, then_ms", [(20, 80), (80, 20), (10_000, 60), (20, 4_000_000)])
def test_the_last_setting_counts(first_ms: int, then_ms: int) -> None:
    async def main() -> None:
        clock = Clock()
        wheel = Wheel(clock, asyncio.get_running_loop())
        alarm = Alarm(clock)
        wheel.put(alarm, first_ms * MS)
        wheel.put(alarm, then_ms * MS)
        await asyncio.sleep(0.15)
        assert [rung >= then_ms * MS for rung in alarm.rung] == [True] * (then_ms < 150)
        assert len(wheel) == (then_ms > 150)
        wheel.close()

    asyncio.run(main())


def test_what_is_dropped_is_not_called() -> None:
    async def main() -> None:
        clock = Clock()
        wheel = Wheel(clock, asyncio.get_running_loop())
        alarm = Alarm(clock)
        wheel.put(alarm, 10 * MS)
        wheel.drop(alarm)
        await asyncio.sleep(0.05)
        assert (alarm.rung, alarm.due_ns, len(wheel)) == ([], NEVER, 0)

    asyncio.run(main())


def test_what_is_due_after_many_turns_is_called_then() -> None:
    class Jumping(Clock):
        offset_ns = 0

        def now_ns(self) -> int:
            return super().now_ns() + self.offset_ns

    async def main() -> None:
        clock = Jumping()
        wheel = Wheel(clock, asyncio.get_running_loop())
        alarm = Alarm(clock)
        wheel.put(alarm, 60_000 * MS)
        for at_ms in (2_000, 5_000, 30_000, 59_000):
            clock.offset_ns = at_ms * MS
            wheel._turn()
            assert alarm.rung == []
        clock.offset_ns = 61_000 * MS
        wheel._turn()
        assert len(alarm.rung) == 1
        wheel.close()

    asyncio.run(main())


def test_a_loop_that_wakes_it_too_early_makes_nothing_late() -> None:
    class Still(Clock):
        time_ns = 0

        def now_ns(self) -> int:
            return self.time_ns

    async def main() -> None:
        clock = Still()
        wheel = Wheel(clock, asyncio.get_running_loop())
        alarm = Alarm(clock)
        wheel.put(alarm, 50 * MS)
        for clock.time_ns in (49 * MS, 50 * MS, 50 * MS + 1, 50 * MS + 2):
            wheel._turn()
        clock.time_ns = 59 * MS
        wheel._turn()
        assert alarm.rung == [59 * MS]
        wheel.close()

    asyncio.run(main())


def test_what_one_call_breaks_does_not_keep_the_others_from_theirs() -> None:
    class Broken(Alarm):
        def expired(self, now_ns: int) -> None:
            super().expired(now_ns)
            raise RuntimeError("broken")

    async def main() -> None:
        clock = Clock()
        loop = asyncio.get_running_loop()
        told: list[object] = []
        loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        wheel = Wheel(clock, loop)
        alarms = [Broken(clock) if index % 2 else Alarm(clock) for index in range(10)]
        for alarm in alarms:
            wheel.put(alarm, 10 * MS)
        await asyncio.sleep(0.2)
        assert [len(alarm.rung) for alarm in alarms] == [1] * 10
        assert len(told) == 5

    asyncio.run(main())
