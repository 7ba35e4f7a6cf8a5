"""Burn contracts down: what was used of what is paid anyway, and of what the plan had placed there.

Comes in: a fleet, what each workload took at each pool, and the hours that are meant. Goes out: one ``Burn`` for each
contract. A pool that several contracts bring is shared out by the chips of each. What is paid anyway is the contract's;
what is paid by use comes from the ledger. Chip-hours at work are tokens at the pace that the plan counts with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from offtake.fleet import Fleet, Pool
from offtake.route.ledger.span import Span, hour_of_week
from offtake.route.ledger.sums import Use
from offtake.units import HOURS_PER_WEEK, NS_PER_HOUR, S_PER_HOUR


class Burn(msgspec.Struct, frozen=True, kw_only=True):
    """Say how far one contract was used in some hours."""

    contract: str  #: Key of the offer.
    pools: list[str]  #: Pools that it brings chips or tokens to.
    hours: float  #: Hours that are meant.
    chip_hours_there: float  #: Chip-hours that were there; 0 for an API.
    chip_hours_used: float  #: Of them at work, by tokens at the pace that the plan counts with.
    tokens: float  #: Prompts and answers that it served.
    tokens_planned: float  #: What the plan had placed there.
    fee_usd: float  #: Paid for these hours whether used or not.
    use_usd: float  #: Paid because requests were served.

    @property
    def used_share(self) -> float:
        """Return the share of its chip-hours that was at work; 0 where it has none."""
        return self.chip_hours_used / self.chip_hours_there if self.chip_hours_there > 0 else 0.0

    @property
    def planned_share(self) -> float:
        """Return what it served over what the plan had placed there; 0 where that is nothing."""
        return self.tokens / self.tokens_planned if self.tokens_planned > 0 else 0.0


def burn_down(fleet: Fleet, uses: Iterable[Use], span: Span) -> list[Burn]:
    """Return how far each contract of the fleet was used, in the order of the pools."""
    taken = {(use.pool, use.workload): use for use in uses}
    hours = list(hours_of(span))
    found: dict[str, Burn] = {}
    for pool in fleet.pools:
        whole = burn_of(fleet, pool, [taken.get((pool.name, workload.name)) for workload in fleet.workloads], hours)
        for offer, share in shares_of(pool):
            found[offer] = joined(found.get(offer), scaled(whole, offer, share))
    return list(found.values())


def hours_of(span: Span) -> Iterator[tuple[int, float]]:
    """Yield each hour of the week that a span touches, and how much of it."""
    at = span.since_ns
    while at < span.until_ns:
        end = min((at // NS_PER_HOUR + 1) * NS_PER_HOUR, span.until_ns)
        yield int(hour_of_week(at)) % HOURS_PER_WEEK, (end - at) / NS_PER_HOUR
        at = end


def shares_of(pool: Pool) -> list[tuple[str, float]]:
    """Return the contracts of a pool, and which share each brings."""
    shares = pool.offer_share or [1.0 / len(pool.offers)] * len(pool.offers)
    return list(zip(pool.offers, shares, strict=True))


def burn_of(fleet: Fleet, pool: Pool, uses: list[Use | None], hours: list[tuple[int, float]]) -> Burn:
    """Return how far a whole pool was used; ``uses`` [workload] is what each took there."""
    elapsed = sum(part for _, part in hours)
    block_hours = [0.0] * len(fleet.block_share)
    for hour, part in hours:
        block_hours[fleet.block_of_hour[hour]] += part
    chip_hours, tokens, planned, used_usd = 0.0, 0, 0.0, 0.0
    for index, (workload, use) in enumerate(zip(fleet.workloads, uses, strict=True)):
        each = workload.input_tokens_mean + workload.output_tokens_mean
        placed = sum(rps[index] * part for rps, part in zip(pool.allotment_rps, block_hours, strict=True))
        planned += placed * S_PER_HOUR * each
        if use is None:
            continue
        tokens += use.tokens
        used_usd += use.cost_usd
        if pool.kind == "chips" and pool.goodput_rps[index] > 0:
            chip_hours += use.tokens / each * pool.chips_per_replica / pool.goodput_rps[index] / S_PER_HOUR
    there = pool.replicas * pool.chips_per_replica * elapsed
    return Burn(
        contract="",
        pools=[pool.name],
        hours=elapsed,
        chip_hours_there=there,
        chip_hours_used=chip_hours,
        tokens=tokens,
        tokens_planned=planned,
        fee_usd=there * pool.usd_per_chip_hour,
        use_usd=used_usd,
    )


SIZES = ("chip_hours_there", "chip_hours_used", "tokens", "tokens_planned", "fee_usd", "use_usd")


def scaled(whole: Burn, contract: str, share: float) -> Burn:
    """Return the share of a pool's use that one contract brings."""
    sizes = {name: share * getattr(whole, name) for name in SIZES}
    return msgspec.structs.replace(whole, contract=contract, **sizes)


def joined(one: Burn | None, other: Burn) -> Burn:
    """Return the use of one contract in two pools."""
    if one is None:
        return other
    sizes = {name: getattr(one, name) + getattr(other, name) for name in SIZES}
    return msgspec.structs.replace(one, pools=[*one.pools, *other.pools], **sizes)
