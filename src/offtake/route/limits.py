"""Keep tenants within their limits: requests and tokens a minute, US dollars a day.

Comes in: what a request is estimated to take, and later what it took. Goes out: yes, or which limit would be broken and
when it would not. A minute's worth may be taken at once and comes back evenly. What was taken too much or too little is
put right when the provider has counted. All workers of a host keep one limit: each says what it takes before it looks
at what all have taken, so that two of them can both be refused, but never both be let through. Money is counted when it
was spent, so that none is held for a request that is no more; what is in flight at the limit is still served.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from offtake.route.columns import Host, Numbers
from offtake.route.config import TenantRow
from offtake.route.entries import Bill
from offtake.units import NS_PER_DAY, NS_PER_S, S_PER_MINUTE

A_MINUTE_NS = S_PER_MINUTE * NS_PER_S
ROW, LEASE = "tenant", "lease"  #: names of rows
WIDTH = 10  #: of a tenant's row
#: Taken so far; what is left of both as this worker sees it, and when; asked for so far, granted or not; the day, and
#: US dollars spent on it.
REQUESTS, TOKENS, REQUESTS_LEFT, TOKENS_LEFT, LEFT_AT_S, REQUESTS_ASKED, TOKENS_ASKED, DAY, USD, DENIED = range(WIDTH)
LEASE_WIDTH = 5  #: of a lease's row
SHARE, OTHERS_DAY, OTHERS_USD, RENEWED_S, REACHED = range(LEASE_WIDTH)


class Denied(NamedTuple):
    """Say which limit of a tenant a request would break, and when it would not."""

    limit: str
    retry_ns: int


class Bucket:
    """Hold what is left of a limit by the minute; it may fall below nothing when an answer was longer than thought."""

    __slots__ = ("at", "at_ns", "full", "left", "most", "others", "own", "seen")

    def __init__(self, most: float, own: Numbers, at: int) -> None:
        self.full = self.most = self.left = most
        self.own, self.at = own, at
        self.others: list[Numbers] = []
        self.seen = own[at]  #: taken by all, as last looked at
        self.at_ns = 0

    def look(self, now_ns: int) -> None:
        """Count what has come back, and what anybody took since."""
        taken = self.own[self.at]
        for other in self.others:
            taken += other[self.at]
        left = self.left + self.most * (now_ns - self.at_ns) / A_MINUTE_NS
        self.left = min(left, self.most) - (taken - self.seen)
        self.seen, self.at_ns = taken, now_ns

    def take(self, amount: float, now_ns: int) -> int:
        """Take so much, and return 0; or take nothing, and return after how long it is there.

        Of more than a minute's worth, that is when the bucket is full.
        """
        self.own[self.at] += amount  # said before it is looked at
        self.look(now_ns)
        lacking = min(amount, self.most) - (self.left + amount)
        if lacking <= 0.0 < self.most:
            return 0
        self.give(amount)
        return max(1, round(lacking / self.most * A_MINUTE_NS)) if self.most > 0.0 else NS_PER_S

    def give(self, amount: float) -> None:
        """Give so much back; below 0, take it."""
        self.own[self.at] -= amount
        self.seen -= amount
        self.left += amount

    def hold(self, share: float) -> None:
        """Have this share of the limit from now on."""
        most = self.full * share
        if most != self.most:
            self.most, self.left = most, min(self.left, most)

    def join(self, others: list[Numbers]) -> None:
        """Count these others from now on: one that was not known has taken what it has."""
        known = {id(other.obj) for other in self.others}
        self.seen += sum(other[self.at] for other in others if id(other.obj) not in known)
        self.others = others


class Tenant:
    """Hold the limits of one tenant; None where there is none."""

    def __init__(self, row: TenantRow, own: Numbers) -> None:
        self.name, self.own, self.usd_most = row.name, own, row.usd_per_day
        self.others: list[Numbers] = []
        self.lease: list[Numbers] = []
        self.requests = Bucket(row.requests_per_minute, own, REQUESTS) if row.requests_per_minute else None
        self.tokens = Bucket(row.tokens_per_minute, own, TOKENS) if row.tokens_per_minute else None

    def usd(self, day: int) -> float:
        """Return what all have spent on a day."""
        spent = self.own[USD] if self.own[DAY] == day else 0.0
        for each in self.others:
            if each[DAY] == day:
                spent += each[USD]
        for each in self.lease:
            if each[OTHERS_DAY] == day:
                spent += each[OTHERS_USD]
        return spent

    def spend(self, usd: float, day: int) -> None:
        """Count what was spent."""
        if self.own[DAY] != day:
            self.own[USD], self.own[DAY] = 0.0, day
        self.own[USD] += usd

    def begin(self, now_s: float) -> None:
        """Go on from what any worker last saw to be left, so that a new one begins with no full bucket."""
        for bucket, at in ((self.requests, REQUESTS_LEFT), (self.tokens, TOKENS_LEFT)):
            for row in (self.own, *self.others):
                if bucket is not None and row[LEFT_AT_S]:
                    back = bucket.most * max(now_s - row[LEFT_AT_S], 0.0) / S_PER_MINUTE
                    bucket.left = min(bucket.left, row[at] + back)


class Allowances:
    """Hold the limits of all tenants in one worker; ``shared`` says that other hosts keep them too, by leases."""

    def __init__(
        self, rows: Sequence[TenantRow], host: Host, begun_wall_ns: int, *, now_ns: int = 0, shared: bool = False
    ) -> None:
        self.begun_wall_ns, self.host, self.shared = begun_wall_ns, host, shared
        self.tenants = [Tenant(row, host.row((ROW, row.name), WIDTH)) for row in rows]
        self.limited = [tenant for tenant in self.tenants if tenant.requests or tenant.tokens or tenant.usd_most]
        self._join(now_ns)
        for tenant in self.limited:
            tenant.begin((begun_wall_ns + now_ns) / NS_PER_S)

    def look(self, now_ns: int) -> None:
        """Look at what the others took, and at the leases; call it every few milliseconds."""
        self._join(now_ns)
        now_s = (self.begun_wall_ns + now_ns) / NS_PER_S
        for tenant in self.limited:
            for bucket, at in ((tenant.requests, REQUESTS_LEFT), (tenant.tokens, TOKENS_LEFT)):
                if bucket is not None:
                    tenant.own[at] = bucket.left
            tenant.own[LEFT_AT_S] = now_s

    def _join(self, now_ns: int) -> None:
        """Count those that came since, and hold the share that was agreed on."""
        for tenant in self.limited:
            tenant.others = self.host.of_others((ROW, tenant.name))
            share = 1.0
            if self.shared:
                key = (LEASE, tenant.name)
                own = self.host.own.rows.get(key)
                tenant.lease = leases = newest([*([own] if own else []), *self.host.of_others(key)])
                share = leases[0][SHARE] if leases else 0.0
            for bucket in (tenant.requests, tenant.tokens):
                if bucket is not None:
                    if len(tenant.others) != len(bucket.others):
                        bucket.join(tenant.others)
                    bucket.hold(share)
                    bucket.look(now_ns)

    def take(self, tenant: int, tokens: int, now_ns: int) -> Denied | None:
        """Take one request of so many tokens from what a tenant may have, or say why not."""
        mine = self.tenants[tenant]
        own, requests = mine.own, mine.requests
        if mine.usd_most:
            wall_ns = self.begun_wall_ns + now_ns
            if mine.usd(wall_ns // NS_PER_DAY) >= mine.usd_most:
                own[DENIED] += 1
                return Denied("usd_per_day", NS_PER_DAY - wall_ns % NS_PER_DAY)
        own[REQUESTS_ASKED] += 1
        own[TOKENS_ASKED] += tokens
        if requests is not None and (wait_ns := requests.take(1, now_ns)):
            own[DENIED] += 1
            return Denied("requests_per_minute", wait_ns)
        if mine.tokens is not None and (wait_ns := mine.tokens.take(tokens, now_ns)):
            if requests is not None:
                requests.give(1)
            own[DENIED] += 1
            return Denied("tokens_per_minute", wait_ns)
        return None

    def settle(self, tenant: int, estimate: int, bill: Bill, now_ns: int) -> None:
        """Put right what was taken, now that it is known."""
        mine = self.tenants[tenant]
        mine.spend(bill.cost_usd, (self.begun_wall_ns + now_ns) // NS_PER_DAY)
        if mine.tokens is not None:
            mine.tokens.give(estimate - bill.usage.input_tokens - bill.usage.output_tokens)


def newest(leases: list[Numbers]) -> list[Numbers]:
    """Return the lease that was renewed last, or none."""
    return [max(leases, key=lambda lease: lease[RENEWED_S])] if leases else []
