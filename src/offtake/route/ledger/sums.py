"""Add up the ledger: requests, outcomes, tokens and spend, by who asked and by who served.

Comes in: the ledger and a span of arrivals. Goes out: sums. The database adds; nothing of a request is read.
"""

from __future__ import annotations

import msgspec

from offtake.route.ledger.rows import Value
from offtake.route.ledger.span import Span
from offtake.route.ledger.store import Store

SUMS = """
SELECT {by}, count(*), sum(CASE WHEN outcome = 'served' THEN 1 ELSE 0 END), sum(input_tokens), sum(output_tokens),
       sum(cached_tokens), sum(CASE WHEN counted = ? AND outcome = 'served' THEN 1 ELSE 0 END), sum(attempts),
       sum(cost_usd)
FROM requests WHERE arrival_ns >= ? AND arrival_ns < ? GROUP BY {by} ORDER BY {by}
"""
KEYS = ("outcome", "tenant", "workload", "pool")
BY = {key: SUMS.replace("{by}", key) for key in KEYS}
USES = """
SELECT pool, workload, sum(input_tokens + output_tokens), sum(cost_usd), count(*)
FROM requests WHERE arrival_ns >= ? AND arrival_ns < ? AND pool <> '' GROUP BY pool, workload ORDER BY pool, workload
"""
LAST = "SELECT arrival_ns FROM requests WHERE arrival_ns >= ? AND arrival_ns < ? ORDER BY arrival_ns DESC LIMIT 1"


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """Add up the requests that share a name."""

    name: str  #: Of the outcome, tenant, workload or pool; empty: none is known.
    requests: int  #: That arrived.
    served: int  #: Of them, those that were served.
    input_tokens: int  #: Of their prompts.
    output_tokens: int  #: Of their answers.
    cached_tokens: int  #: Of the prompts, not read again.
    counted: int  #: Served requests whose tokens the router counted, because the provider did not say.
    attempts: int  #: At upstreams.
    cost_usd: float  #: Paid because they were served.


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Add up what one workload took at one pool."""

    pool: str  #: Name of the pool.
    workload: str  #: Name of the workload.
    tokens: int  #: Prompts and answers.
    cost_usd: float  #: Paid because they were served.
    requests: int  #: That were sent there.


def sums(store: Store, by: str, span: Span) -> list[Sum]:
    """Return the sums of each ``outcome``, ``tenant``, ``workload`` or ``pool``, by name."""
    values: list[Value] = [True, *span]
    return [
        Sum(
            name=str(name),
            requests=int(requests),
            served=int(served),
            input_tokens=int(input_tokens),
            output_tokens=int(output_tokens),
            cached_tokens=int(cached),
            counted=int(counted),
            attempts=int(attempts),
            cost_usd=float(cost),
        )
        for name, requests, served, input_tokens, output_tokens, cached, counted, attempts, cost in store.read(
            BY[by], values
        )
    ]


def uses(store: Store, span: Span) -> list[Use]:
    """Return what each workload took at each pool."""
    return [
        Use(pool=str(pool), workload=str(workload), tokens=int(tokens), cost_usd=float(cost), requests=int(requests))
        for pool, workload, tokens, cost, requests in store.read(USES, span)
    ]


def last_arrival_ns(store: Store, span: Span) -> int | None:
    """Return when the last request arrived, ns since 1970; None where there is none."""
    return next((int(last) for (last,) in store.read(LAST, span)), None)
