"""Say what serving a request cost, at the prices and the chip-seconds per token of the plan.

The chip-seconds that a request takes are those of the plan's goodput; a pool that is driven beyond it serves more than
its chip-seconds would allow, and what it has is then shared out in proportion, so that nobody is charged for chips that
are not there. All costs are linear in tokens, so sums of tokens give sums of money.

The fee of chips is owed while they are the buyer's, whether they run or not: not before a late tranche comes, and no
longer once a partner has taken them back or their site is lost for good; of late chips as far as the late remedy leaves
it owed. So the plan has it too (``supply.fee``); all chips of a pool have its mean fee. Comes in: what was served, and
the timeline. Goes out: prices by pool, and the share of time in which its chips are paid. This module must never know
a single request.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.fleet import Fleet, Pool
from offtake.policy.view import View
from offtake.rehearse.shares import share_held
from offtake.rehearse.tally import Tally
from offtake.rehearse.timeline import FOREVER_HOURS, LateTranche, LostSite, Reclaim, Timeline, ns, span_of
from offtake.units import NS_PER_S, S_PER_HOUR

Floats = npt.NDArray[np.float64]


class Costs(NamedTuple):
    """Hold prices; in every array the last pool is nowhere, where nothing costs anything.

    ``chip_s_per_token [pool + 1, workload, 2]`` for prompt and answer, shared out; ``held_usd``, ``used_usd [pool +
    1]`` per chip-second; ``token_usd [pool + 1, 2]`` per token of prompt and answer; ``paid_share [pool + 1]`` of the
    chip time between the first and the last arrival, of which the fee is owed.
    """

    chip_s_per_token: Floats
    held_usd: Floats
    used_usd: Floats
    token_usd: Floats
    paid_share: Floats


def costs_of(tally: Tally, view: View, fleet: Fleet, timeline: Timeline, span_ns: int) -> Costs:
    """Return the prices of a rehearsal whose arrivals span ``span_ns``."""
    first_ns = int(tally.clock[0])
    paid_share = np.array([*(paid_share_of(each, timeline, (first_ns, first_ns + span_ns)) for each in fleet.pools), 1])
    pools, rows = len(fleet.pools), view.pools
    chip_s = np.zeros((pools + 1, len(fleet.workloads), 2))
    chip_s[:pools] = view.chip_s_per_token
    tokens = np.stack([tally.cells["input_tokens"], tally.cells["output_tokens"]], axis=-1)
    taken = (chip_s * tokens)[:pools].sum(axis=(1, 2))
    chips = np.array([each.replicas * each.chips_per_replica for each in fleet.pools])
    there = chips * (span_ns / NS_PER_S) * paid_share[:pools]
    share = np.minimum(1.0, np.divide(there, taken, out=np.ones_like(taken), where=taken > 0))
    chip_s[:pools] *= share[:, None, None]
    token_usd = np.stack([rows["usd_per_input_token"], rows["usd_per_output_token"]], axis=-1)
    return Costs(
        chip_s_per_token=chip_s,
        held_usd=np.array([*(pool.usd_per_chip_hour / S_PER_HOUR for pool in fleet.pools), 0.0]),
        used_usd=np.array([*rows["usd_per_chip_s_used"], 0.0]),
        token_usd=np.concatenate([token_usd, np.zeros((1, 2))]),
        paid_share=paid_share,
    )


def paid_share_of(pool: Pool, timeline: Timeline, span: tuple[int, int]) -> float:
    """Return the share of a pool's chip time in a span (ns, from and to) of which the fee is owed."""
    first, last = span
    away = [(max(start, first), min(end, last), share) for start, end, share in unpaid_of(pool, timeline)]
    if last <= first or not away:
        return 1.0
    edges = sorted({first, last, *(edge for start, end, _ in away if start < end for edge in (start, end))})
    owed_ns = 0.0
    for low, high in pairwise(edges):
        owed_ns += (high - low) * max(0.0, 1.0 - sum(share for start, end, share in away if start <= low < end))
    return owed_ns / (last - first)


def unpaid_of(pool: Pool, timeline: Timeline) -> Iterator[tuple[int, int, float]]:
    """Yield from when until when (ns) of which share of a pool's chips no fee is owed: of late ones, by the remedy."""
    never_ns = ns(FOREVER_HOURS)
    for row in timeline.rows:
        match row:
            case Reclaim() if (share := share_held(row, pool)) > 0:
                yield ns(row.notice_hour + row.notice_hours), never_ns, share
            case LateTranche() if (share := share_held(row, pool)) > 0:
                yield ns(row.start_hour), ns(row.until_hour), share * pool.late_remedy_share
            case LostSite() if row.site == pool.site and span_of(row)[1] is None:
                yield ns(row.start_hour), never_ns, 1.0
            case _:
                pass
