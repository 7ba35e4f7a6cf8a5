"""Keep tenants within their limits: requests and tokens a minute, US dollars a day.

Comes in: what a request is estimated to take, and later what it took. Goes out: yes, or which limit would be broken and
when it would not. A minute's worth may be taken at once and comes back evenly. What was taken too much or too little is
put right when the provider has counted. Each of several workers keeps an even share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from offtake.route.config import TenantRow
from offtake.route.entries import Bill
from offtake.units import NS_PER_DAY, NS_PER_S, S_PER_MINUTE


class Denied(NamedTuple):
    """Say which limit of a tenant a request would break, and when it would not."""

    limit: str
    retry_ns: int


class Bucket:
    """Hold what is left of a limit by the minute; it may fall below nothing when an answer was longer than thought."""

    __slots__ = ("at_ns", "left", "most")

    def __init__(self, most: float) -> None:
        self.most = self.left = most
        self.at_ns = 0

    def wait_ns(self, amount: float, now_ns: int) -> int:
        """Return after how long so much is there; of more than a minute's worth, when the bucket is full."""
        a_minute_ns = S_PER_MINUTE * NS_PER_S
        self.left = min(self.left + self.most * (now_ns - self.at_ns) / a_minute_ns, self.most)
        self.at_ns = now_ns
        lacking = min(amount, self.most) - self.left
        return max(0, round(lacking / self.most * a_minute_ns))


class Tenant:
    """Hold the limits of one tenant; None where there is none."""

    def __init__(self, row: TenantRow, share: float) -> None:
        self.requests = Bucket(max(row.requests_per_minute * share, 1.0)) if row.requests_per_minute else None
        self.tokens = Bucket(max(row.tokens_per_minute * share, 1.0)) if row.tokens_per_minute else None
        self.usd_most = row.usd_per_day * share
        self.usd, self.day = 0.0, -1


class Allowances:
    """Hold the limits of all tenants in one worker; ``share`` is its part of each."""

    def __init__(self, rows: Sequence[TenantRow], begun_wall_ns: int, share: float = 1.0) -> None:
        self.begun_wall_ns = begun_wall_ns
        self.tenants = [Tenant(row, share) for row in rows]

    def take(self, tenant: int, tokens: int, now_ns: int) -> Denied | None:
        """Take one request of so many tokens from what a tenant may have, or say why not."""
        mine = self.tenants[tenant]
        day, since_ns = divmod(self.begun_wall_ns + now_ns, NS_PER_DAY)
        if day != mine.day:
            mine.day, mine.usd = day, 0.0
        if mine.usd_most and mine.usd >= mine.usd_most:
            return Denied("usd_per_day", NS_PER_DAY - since_ns)
        for name, bucket, amount in (
            ("requests_per_minute", mine.requests, 1),
            ("tokens_per_minute", mine.tokens, tokens),
        ):
            if bucket is not None and (wait_ns := bucket.wait_ns(amount, now_ns)) > 0:
                return Denied(name, wait_ns)
        for bucket, amount in ((mine.requests, 1), (mine.tokens, tokens)):
            if bucket is not None:
                bucket.left -= amount
        return None

    def settle(self, tenant: int, estimate: int, bill: Bill, now_ns: int) -> None:
        """Put right what was taken, now that it is known."""
        del now_ns
        mine = self.tenants[tenant]
        mine.usd += bill.cost_usd
        if mine.tokens is not None:
            mine.tokens.left += estimate - bill.usage.input_tokens - bill.usage.output_tokens
