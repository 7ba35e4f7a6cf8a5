"""Name what all exchanges of a worker share, and what one needs of its client's connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from offtake.route.http1 import Limits
from offtake.route.seams import Desk
from offtake.route.upstream import Pools
from offtake.route.wheel import Clock, Wheel


class Works(NamedTuple):
    """Hold what all exchanges of a worker share."""

    desk: Desk
    clock: Clock
    limits: Limits
    wheel: Wheel
    pools: Pools
    loop: asyncio.AbstractEventLoop
    date: Callable[[int], bytes]


class Client(Protocol):
    """Be the connection on which a request came; at most one exchange at a time has it."""

    transport: asyncio.Transport
    paused: bool  #: whether the client lags behind

    def ended(self, *, keep: bool) -> None:
        """Learn that the answer is whole; without ``keep`` the connection ends after it."""

    def wants_close(self) -> bool:
        """Tell whether the connection should end after this answer."""

    def due(self, due_ns: int) -> None:
        """Call the exchange's ``expired`` at a time."""
