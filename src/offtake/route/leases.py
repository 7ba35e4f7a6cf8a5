"""Agree with other hosts on each one's share of a tenant's limits, by leases in a store that all of them reach.

Comes in: what this host was asked for, and spent. Goes out: its share of each limit, and what the others spent today,
as rows that its workers read. The shares of all hosts never add up to more than one: a host that should have less says
so only once it has less, and another gets it then. The store is asked a few times a second by a thread of one worker,
never while a request waits. While the store is away, every host goes on with the share it has.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from offtake.errors import Fault, InputError
from offtake.route.clock import Clock
from offtake.route.columns import Host, Numbers
from offtake.route.config import TenantRow
from offtake.route.limits import DAY as DAY_AT
from offtake.route.limits import (
    LEASE,
    LEASE_WIDTH,
    OTHERS_DAY,
    OTHERS_USD,
    REACHED,
    RENEWED_S,
    REQUESTS_ASKED,
    ROW,
    SHARE,
    TOKENS_ASKED,
    USD,
)
from offtake.units import NS_PER_DAY, NS_PER_S, S_PER_DAY, S_PER_MINUTE

EVERY_S = 0.2  #: between two renewals
TIMEOUT_S = 0.5  #: for an answer of the store
LEASE_S = 60  #: a host that was not heard for so long has no share any more (assumption)
FLOOR = 0.02  #: least share that a host is taken to want, so that it can begin (assumption)
WEIGHT = 0.3  #: of the newest reading in what a host is taken to want
_LOG = logging.getLogger(__name__)

#: Arguments: host, share it has, share it wants, day, US dollars spent on it, seconds a lease lasts, seconds kept.
#: Max-min fair shares; what nobody wants is given to all evenly.
SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local has, want, day, usd = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local held, spent, wants, sum = 0, 0, {want}, want
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local h, w, d, u, t = string.match(all[i + 1], '(%S+) (%S+) (%S+) (%S+) (%S+)')
  if all[i] ~= ARGV[1] then
    if tonumber(d) == day then spent = spent + tonumber(u) end
    if tonumber(t) + tonumber(ARGV[6]) >= now then
      held = held + tonumber(h)
      wants[#wants + 1] = tonumber(w)
      sum = sum + tonumber(w)
    elseif tonumber(d) ~= day then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
local share
if sum <= 1 then
  share = want + (1 - sum) / #wants
else
  table.sort(wants)
  local left, level = 1, 0
  for i = 1, #wants do
    level = left / (#wants - i + 1)
    if wants[i] >= level then break end
    left = left - wants[i]
  end
  share = math.min(want, level)
end
local kept = has
if share >= has then
  share = math.max(math.min(share, 1 - held), 0)
  kept = share
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.9f %.9f %d %.9f %d', kept, want, day, usd, now))
redis.call('EXPIRE', KEYS[1], ARGV[7])
return {string.format('%.9f', share), string.format('%.9f', spent)}
"""


class Lease(NamedTuple):
    """Hold what the store granted."""

    share: float
    others_usd: float


class Ask(NamedTuple):
    """Hold what a host says of one tenant."""

    name: str
    has: float
    wants: float
    day: int
    usd: float


class AwayError(Exception):
    """Say that the store cannot be reached."""


class Store:
    """Ask a Valkey or Redis server for leases; ``name`` is that of the fleet, ``host`` one that nobody else has.

    Raises
    ------
    InputError
        If the client library is not installed, or the address is none.
    """

    def __init__(self, url: str, name: str, host: str) -> None:
        try:
            from valkey import Valkey
            from valkey.exceptions import ValkeyError
        except ImportError:
            mend = "Install offtake[shared], or leave `shared` out."
            raise InputError([Fault("route.toml", "the client for shared limits is missing", mend)]) from None
        self.name, self.host, self._error = name, host, ValkeyError
        try:
            self._client: Any = Valkey.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        except ValueError as error:
            mend = "Write valkey://HOST:PORT or redis://HOST:PORT."
            raise InputError([Fault("route.toml", f"`shared` is no store: {error}", mend, row="shared")]) from None
        self._script = self._client.register_script(SCRIPT)

    def renew(self, asks: Sequence[Ask]) -> list[Lease]:
        """Say what this host has, wants and spent, in one round trip, and return its leases.

        Raises
        ------
        AwayError
            If the store does not answer.
        """
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for ask in asks:
                    arguments: list[str | float] = [
                        self.host,
                        ask.has,
                        ask.wants,
                        ask.day,
                        ask.usd,
                        LEASE_S,
                        2 * S_PER_DAY,
                    ]
                    self._script(keys=[f"offtake:{self.name}:{ask.name}"], args=arguments, client=pipe)
                return [Lease(float(share), float(spent)) for share, spent in pipe.execute()]
        except (self._error, OSError) as error:
            raise AwayError(str(error)) from None

    def close(self) -> None:
        """Let go of the server."""
        self._client.close()


class Keeper:
    """Renew the leases of a host, for all its workers; one of them does, and another one if that ends."""

    def __init__(self, host: Host, tenants: Sequence[TenantRow], store: Store, clock: Clock) -> None:
        self.host, self.tenants, self.store, self.clock = host, tenants, store, clock
        self._wants: dict[str, float] = {}
        self._asked: dict[str, tuple[float, float, float]] = {}
        self._away = False

    def run(self, stop: Event) -> None:
        """Renew until told to stop, whenever no other worker of the host does."""
        held = os.open(lock_of(self.host.folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not stop.wait(EVERY_S):
                if is_mine(held):
                    self.renew(self.clock.wall_ns(self.clock.now_ns()))
        finally:
            os.close(held)
            self.store.close()

    def renew(self, wall_ns: int) -> bool:
        """Renew all leases once; False if the store cannot be reached."""
        now_s, day = wall_ns / NS_PER_S, wall_ns // NS_PER_DAY
        tenants = list(self.tenants)
        rows = [self.host.row((LEASE, tenant.name), LEASE_WIDTH) for tenant in tenants]
        asks = [self._ask(tenant, row, now_s, day) for tenant, row in zip(tenants, rows, strict=True)]
        try:
            leases = self.store.renew(asks)
        except AwayError as error:
            self._tell(str(error))
            for row in rows:
                row[REACHED] = 0.0
            return False
        self._tell("")
        for row, lease in zip(rows, leases, strict=True):
            row[SHARE] = lease.share
            row[OTHERS_DAY], row[OTHERS_USD] = day, lease.others_usd
            row[RENEWED_S], row[REACHED] = now_s, 1.0
        return True

    def _ask(self, tenant: TenantRow, lease: Numbers, now_s: float, day: int) -> Ask:
        """Return what this host says of a tenant: the share it would use up, by what it was asked for of late."""
        key = (ROW, tenant.name)
        own = self.host.own.rows.get(key)
        rows = [*([own] if own else []), *self.host.of_others(key)]
        requests, tokens = sum(row[REQUESTS_ASKED] for row in rows), sum(row[TOKENS_ASKED] for row in rows)
        if not lease[RENEWED_S]:  # another keeper's, before this one
            for other in self.host.of_others((LEASE, tenant.name)):
                if other[RENEWED_S] > lease[RENEWED_S]:
                    lease[:] = other
        before = self._asked.get(tenant.name, (requests, tokens, now_s))
        self._asked[tenant.name] = requests, tokens, now_s
        minutes = max(now_s - before[2], EVERY_S / 2) / S_PER_MINUTE
        shares = [
            (now - then) / minutes / most
            for now, then, most in (
                (requests, before[0], tenant.requests_per_minute),
                (tokens, before[1], tenant.tokens_per_minute),
            )
            if most
        ]
        old = self._wants.get(tenant.name, 0.0)
        self._wants[tenant.name] = wants = old + WEIGHT * (min(max(shares, default=0.0), 1.0) - old)
        usd = sum(row[USD] for row in rows if row[DAY_AT] == day)
        return Ask(tenant.name, lease[SHARE], max(wants, FLOOR), day, usd)

    def _tell(self, error: str) -> None:
        """Write down that the store went away or came back, once each time."""
        if bool(error) != self._away:
            self._away = bool(error)
            if error:
                _LOG.warning("the store of shared limits is away; this host goes on with its share: %s", error)
            else:
                _LOG.info("the store of shared limits is back")


def lock_of(folder: Path, office: str = "keeper") -> Path:
    """Return the file whose lock the one worker of a host holds that does something for all."""
    return folder / f"{office}.lock"


def is_mine(held: int) -> bool:
    """Take the lock, or learn that another has it; who has it already takes it again."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unrenewed(host: Host, tenants: Sequence[TenantRow]) -> tuple[list[str], list[str]]:
    """Return the tenants that have no lease yet, and those whose lease could not be renewed when last tried."""
    newest: dict[str, Numbers] = {}
    for key, numbers, _ in host.rows():
        if key[0] == LEASE and (key[1] not in newest or numbers[RENEWED_S] > newest[key[1]][RENEWED_S]):
            newest[key[1]] = numbers
    names = [tenant.name for tenant in tenants]
    none = [name for name in names if name not in newest or not newest[name][RENEWED_S]]
    stale = [name for name in names if name not in none and not newest[name][REACHED]]
    return none, stale
