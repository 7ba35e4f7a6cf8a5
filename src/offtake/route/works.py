"""Name what all exchanges of a worker share, what one needs of its client's connection, and how a status ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol

from offtake.route.http1 import Limits
from offtake.route.seams import Desk, Outcome
from offtake.route.upstream import Pools
from offtake.route.wheel import Clock, Wheel

# What an exchange waits for: plain numbers, because they are looked at with every piece of every answer.
HOLDING = 0  #: until the desk is asked again
OPENING = 1  #: for a link
SENT = 2  #: for the first byte of the answer's body
PASSING = 3  #: for the rest of it
FEEDING = 4  #: for the client to leave
OVER = 5

BAD_REQUEST = 400
SERVED = Outcome.SERVED  #: looking into an enumeration costs more than the rest of its line


class Works(NamedTuple):
    """Hold what all exchanges of a worker share."""

    desk: Desk
    clock: Clock
    limits: Limits
    wheel: Wheel
    pools: Pools
    loop: asyncio.AbstractEventLoop
    date: Callable[[int], bytes]


class Beside(Protocol):
    """Be a second attempt beside one that is late."""

    def give_up(self) -> None:
        """End it, and tell the desk so."""


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


def verdict_of(status: int) -> Outcome:
    """Say how a request ended whose whole answer has this status."""
    if status < BAD_REQUEST:
        return SERVED
    overloaded = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Outcome.FAILED if overloaded else Outcome.FAULTY
