"""Name what the desk works with, and what it knows of each request beside its case.

Comes in: nothing; these are the shapes. Whatever keeps records, limits tenants or looks on fits one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from offtake.fleet import Fleet
from offtake.policy.view import Request as Wish
from offtake.route.clock import Clock
from offtake.route.config import Config
from offtake.route.decider import Decider, Sent
from offtake.route.dialects.asked import Asked
from offtake.route.entries import Bill
from offtake.route.health import Health
from offtake.route.keys import Caller, Keyring
from offtake.route.ledger.entry import Closed, Opened
from offtake.route.limits import Denied
from offtake.route.seams import Case, Feed, Head, Reply, Upstream

Page: TypeAlias = Callable[[Head], Reply | Feed]


class Book(Protocol):
    """Keep records: ``ledger.journal.Journal``."""

    def opened(self, record: Opened) -> bool:
        """Keep a record before its request is sent; False if it cannot be kept."""

    def closed(self, record: Closed) -> bool:
        """Keep a record before the last bytes are passed on; False if it cannot be kept."""


class Allowance(Protocol):
    """Keep tenants within their limits: ``limits.Allowances``."""

    def take(self, tenant: int, tokens: int, now_ns: int) -> Denied | None:
        """Take one request of so many tokens from what a tenant may have, or say why not."""

    def settle(self, tenant: int, estimate: int, bill: Bill, now_ns: int) -> None:
        """Put right what was taken, now that it is known."""


class Watcher(Protocol):
    """Look on: metrics, logs, spans, the live page."""

    def ended(self, case: Case, closed: Closed, now_ns: int) -> None:
        """Learn that a request ended."""


@dataclass(kw_only=True)
class Parts:
    """Hold what the desk works with."""

    fleet: Fleet
    config: Config
    keyring: Keyring
    decider: Decider
    health: Health
    book: Book
    allowance: Allowance
    clock: Clock
    watchers: Sequence[Watcher] = ()
    trace: Callable[[Case], Head] | None = None  #: gives a request the head that its upstream shall see
    pages: Mapping[bytes, Page] = field(default_factory=dict)


class Rival(NamedTuple):
    """Hold a second attempt beside one that is late."""

    pool: int
    upstream: Upstream
    trial: bool
    sent: Sent


class Work:
    """Hold what the desk itself knows of a case."""

    __slots__ = ("allowance", "asked", "caller", "open", "parts", "reason", "rival", "sent", "taken", "trial", "wish")

    def __init__(self, parts: Parts, caller: Caller, asked: Asked, taken: int) -> None:
        self.parts = parts  #: those under which its pool and workload are numbered
        self.caller, self.asked, self.taken = caller, asked, taken  #: tokens taken from the tenant's limit
        self.allowance = parts.allowance  #: what was taken goes back to where it was taken from
        self.open = False  #: its open record is kept
        self.reason = ""
        self.trial = False  #: its attempt tries an upstream that was left alone
        self.rival: Rival | None = None
        self.wish: Wish | None = None
        self.sent: Sent | None = None  #: its attempt, as the decider counts it
