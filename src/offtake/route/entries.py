"""Write down a request: its two records for the ledger, and what it cost by its contract.

Comes in: a case, how it ended, and what its tokens were. Goes out: ``Opened`` and ``Closed``. The cost is what is
paid *because* the request was served: tokens at an API's price, chip-seconds at what is paid only when they are used.
What is paid anyway belongs to the contract, and its burn-down tells it.
"""

from __future__ import annotations

from typing import NamedTuple

from offtake.fleet import Fleet
from offtake.policy.view import View
from offtake.route.dialects.usage import Usage
from offtake.route.ledger.entry import Closed, Opened
from offtake.route.seams import NOTHING, Call, Case, Outcome
from offtake.units import S_PER_HOUR, TOKENS_PER_MILLION

#: By number: looking a name up in an enumeration takes longer than writing the record.
CALL_NAMES = [call.name.lower() for call in Call]
OUTCOME_NAMES = [outcome.name.lower() for outcome in Outcome]


class Asker(NamedTuple):
    """Say who asked, and from where."""

    tenant: str
    key: str
    region: int


class Bill(NamedTuple):
    """Hold what a request took, as far as it is known."""

    usage: Usage
    counted: bool  #: by the router
    cost_usd: float


class End(NamedTuple):
    """Hold how a request ended."""

    outcome: Outcome
    reason: str
    first_wall_ns: int  #: 0 if nothing came
    end_wall_ns: int


def bill_of(fleet: Fleet, view: View, case: Case, told: Usage | None, answer_tokens: int) -> Bill:
    """Return what ``case`` took at its pool; without a word of the provider, what the router counted."""
    usage = told or Usage(case.input_tokens, answer_tokens)
    if not usage.whole:
        usage = usage._replace(output_tokens=max(usage.output_tokens, answer_tokens))
    if case.pool == NOTHING:
        return Bill(Usage(0, 0), counted=True, cost_usd=0.0)
    pool = fleet.pools[case.pool]
    read_s, write_s = view.chip_s_per_token[case.pool, case.workload].tolist()
    chip_s = read_s * usage.input_tokens + write_s * usage.output_tokens
    usd = pool.usd_per_million_input_tokens * usage.input_tokens / TOKENS_PER_MILLION
    usd += pool.usd_per_million_output_tokens * usage.output_tokens / TOKENS_PER_MILLION
    return Bill(usage, told is None or not told.whole, usd + pool.usd_per_chip_hour_used / S_PER_HOUR * chip_s)


def opened_of(fleet: Fleet, case: Case, asker: Asker, wall_ns: int) -> Opened:
    """Return what is kept of a request before it is sent."""
    return Opened(
        request_id=case.request_id,
        arrival_ns=wall_ns,
        tenant=asker.tenant,
        key=asker.key,
        workload=fleet.workloads[case.workload].name,
        call=CALL_NAMES[case.call],
        model_asked=case.model,
        region=fleet.regions[asker.region],
        stream=case.stream,
        session=case.session,
        input_tokens=case.input_tokens,
        output_tokens_max=case.output_tokens_max,
    )


def closed_of(fleet: Fleet, case: Case, end: End, bill: Bill, policy: str) -> Closed:
    """Return what is kept of a request once it has ended."""
    pool = fleet.pools[case.pool] if case.pool != NOTHING else None
    upstream = case.upstream
    return Closed(
        request_id=case.request_id,
        end_ns=end.end_wall_ns,
        first_ns=end.first_wall_ns,
        outcome=OUTCOME_NAMES[end.outcome],
        reason=end.reason,
        status=case.status,
        pool=pool.name if pool else "",
        upstream=upstream.name if upstream else "",
        contract="+".join(pool.offers) if pool else "",
        model=pool.model if pool else "",
        attempts=case.attempts,
        input_tokens=bill.usage.input_tokens,
        output_tokens=bill.usage.output_tokens,
        cached_tokens=bill.usage.cached_tokens,
        counted=bill.counted,
        cost_usd=bill.cost_usd,
        bid_usd=case.bid_usd,
        margin_usd=case.margin_usd,
        policy=policy,
    )
