"""Say what serving a request cost, at the prices and the chip-seconds per token of the plan.

The chip-seconds that a request takes are those of the plan's goodput; a pool that is driven beyond it serves more than
its chip-seconds would allow, and what it has is then shared out in proportion, so that nobody is charged for chips that
are not there. All costs are linear in tokens, so sums of tokens give sums of money. Comes in: what was served. Goes
out: prices by pool. This module must never know a single request.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from offtake.fleet import Fleet
from offtake.policy.view import View
from offtake.rehearse.tally import Tally
from offtake.units import NS_PER_S, S_PER_HOUR

Floats = npt.NDArray[np.float64]


class Costs(NamedTuple):
    """Hold prices; in every array the last pool is nowhere, where nothing costs anything.

    ``chip_s_per_token [pool + 1, workload, 2]`` for prompt and answer, shared out; ``held_usd``, ``used_usd [pool +
    1]`` per chip-second; ``token_usd [pool + 1, 2]`` per token of prompt and answer.
    """

    chip_s_per_token: Floats
    held_usd: Floats
    used_usd: Floats
    token_usd: Floats


def costs_of(tally: Tally, view: View, fleet: Fleet, span_ns: int) -> Costs:
    """Return the prices of a rehearsal whose arrivals span ``span_ns``."""
    pools, rows = len(fleet.pools), view.pools
    chip_s = np.zeros((pools + 1, len(fleet.workloads), 2))
    chip_s[:pools] = view.chip_s_per_token
    tokens = np.stack([tally.cells["input_tokens"], tally.cells["output_tokens"]], axis=-1)
    taken = (chip_s * tokens)[:pools].sum(axis=(1, 2))
    there = np.array([each.replicas * each.chips_per_replica for each in fleet.pools]) * (span_ns / NS_PER_S)
    share = np.minimum(1.0, np.divide(there, taken, out=np.ones_like(taken), where=taken > 0))
    chip_s[:pools] *= share[:, None, None]
    token_usd = np.stack([rows["usd_per_input_token"], rows["usd_per_output_token"]], axis=-1)
    return Costs(
        chip_s_per_token=chip_s,
        held_usd=np.array([*(pool.usd_per_chip_hour / S_PER_HOUR for pool in fleet.pools), 0.0]),
        used_usd=np.array([*rows["usd_per_chip_s_used"], 0.0]),
        token_usd=np.concatenate([token_usd, np.zeros((1, 2))]),
    )
