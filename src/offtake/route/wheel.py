"""Keep all time limits of one worker in one wheel: setting one costs a few stores, and nothing ticks while none is set.

Comes in: things that have a time at which they are due. Goes out: a call of each one's ``expired``, never early, and
late by one tick (about 4 ms) and the loop's own lag. It knows nothing of what it times.

A limit that only moves away, as those of a connection mostly do, is not moved in the wheel: the thing is found in its
old slot, seen not to be due, and put where it belongs (Varghese and Lauck 1987, "Hashed and hierarchical timing
wheels", scheme 6).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol

from offtake.units import NS_PER_S

TICK_BITS = 22  #: A tick is 2**22 ns, 4.2 ms.
SLOTS = 1024  #: One turn is 4.3 s; what is due later is looked at once a turn.
NEVER = 1 << 62


class Clock(Protocol):
    """Tell nanoseconds that never go back; ``speed`` of them pass in one of real time."""

    speed: float

    def now_ns(self) -> int:
        """Return the time, ns."""


class Timed(ABC):
    """Have a time at which ``expired`` is called; it is set through the wheel alone."""

    __slots__ = ("due_ns", "tick")

    def __init__(self) -> None:
        self.due_ns = NEVER
        self.tick = NEVER  #: of the slot where it is looked for

    @abstractmethod
    def expired(self, now_ns: int) -> None:
        """Act: the time has come. It may be set again from here."""


class Wheel:
    """Hold timed things in slots of one tick and call each when it is due."""

    __slots__ = ("_clock", "_count", "_handle", "_loop", "_slots", "_tick", "_wake_tick")

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock, self._loop = clock, loop
        self._slots: list[set[Timed] | None] = [None] * SLOTS
        self._count = 0
        self._tick = clock.now_ns() >> TICK_BITS  #: every slot before it is empty
        self._wake_tick = NEVER
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def put(self, timed: Timed, due_ns: int) -> None:
        """Call ``timed.expired`` at ``due_ns`` and not before; an earlier setting is forgotten."""
        timed.due_ns = due_ns
        tick = (due_ns >> TICK_BITS) + 1
        if timed.tick > tick:
            self._place(timed, tick)

    def drop(self, timed: Timed) -> None:
        """Forget a thing's time."""
        timed.due_ns = NEVER
        if timed.tick != NEVER:
            self._take(timed)

    def close(self) -> None:
        """Forget everything."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots, self._count = [None] * SLOTS, 0

    def _place(self, timed: Timed, tick: int) -> None:
        """Put a thing into the slot of a tick, or into the last one there is."""
        if timed.tick != NEVER:
            self._take(timed)
        now_tick = self._clock.now_ns() >> TICK_BITS
        if not self._count:
            self._tick = now_tick
        tick = max(now_tick + 1, min(tick, self._tick + SLOTS - 1))
        timed.tick = tick
        index = tick % SLOTS
        slot = self._slots[index]
        if slot is None:
            slot = self._slots[index] = set()
        slot.add(timed)
        self._count += 1
        if tick < self._wake_tick:
            self._wake_at(tick)

    def _take(self, timed: Timed) -> None:
        """Take a thing out of its slot."""
        slot = self._slots[timed.tick % SLOTS]
        timed.tick = NEVER
        if slot is not None and timed in slot:
            slot.remove(timed)
            self._count -= 1

    def _wake_at(self, tick: int) -> None:
        """See that the loop wakes the wheel at a tick."""
        if self._handle is not None:
            self._handle.cancel()
        self._wake_tick = tick
        wait_ns = max(0, (tick << TICK_BITS) - self._clock.now_ns())
        self._handle = self._loop.call_later(wait_ns / (self._clock.speed * NS_PER_S), self._turn)

    def _turn(self) -> None:
        """Call what is due in the slots that have passed, and sleep until the next that holds something."""
        self._handle, self._wake_tick = None, NEVER
        now_ns = self._clock.now_ns()
        now_tick = now_ns >> TICK_BITS
        passed: set[Timed] = set()
        for tick in range(self._tick, min(now_tick + 1, self._tick + SLOTS)):
            slot, self._slots[tick % SLOTS] = self._slots[tick % SLOTS], None
            if slot:
                passed |= slot
        self._tick = max(self._tick, now_tick + 1)  # a loop may wake us a little early
        self._count -= len(passed)
        for timed in passed:
            timed.tick = NEVER
        try:
            self._call(passed, now_ns)
        finally:
            for timed in passed:  # what one call broke is no reason to forget the others
                if timed.tick == NEVER and timed.due_ns != NEVER:
                    self._place(timed, now_tick + 1)
            self._sleep()

    def _call(self, passed: set[Timed], now_ns: int) -> None:
        """Call what is due, and put back the rest."""
        while passed:
            timed = passed.pop()
            if timed.tick != NEVER:
                continue
            if timed.due_ns <= now_ns:
                timed.due_ns = NEVER
                timed.expired(now_ns)
            elif timed.due_ns != NEVER:
                self._place(timed, (timed.due_ns >> TICK_BITS) + 1)

    def _sleep(self) -> None:
        """Have the loop wake the wheel at the next slot that holds something."""
        if not self._count:
            return
        for tick in range(self._tick, self._tick + SLOTS):
            if self._slots[tick % SLOTS]:
                if tick < self._wake_tick:
                    self._wake_at(tick)
                return
