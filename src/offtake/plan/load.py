"""Hold demand as the planner sees it: a rate for each scenario, period, block and workload, and what a request weighs.

Comes in: arrays. Goes out: :class:`Load`. It must never know supply.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offtake.performance.goodput import Lengths

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Load:
    """Hold the demand of every workload.

    ``rate_rps [S, T, K]`` is the mean of the period, growth and shocks included; ``level [B, K]`` multiplies it;
    ``block_share [B]`` sums to 1; ``block_of_hour`` maps the 168 hours from Monday 00:00 UTC to blocks.
    ``lengths [K]`` are samples of requests; ``input_tokens``, ``output_tokens [K]`` their means.
    ``surges [S]`` says in words what struck demand in each scenario.
    """

    blocks: list[str]
    block_share: Floats
    block_of_hour: list[int]
    rate_rps: Floats
    level: Floats
    lengths: list[Lengths]
    input_tokens: Floats
    output_tokens: Floats
    surges: list[list[str]]

    @property
    def demand_rps(self) -> Floats:
        """Give the rate in each block [S, T, B, K]."""
        return self.rate_rps[:, :, np.newaxis, :] * self.level

    @property
    def busiest_first(self) -> list[int]:
        """Order the blocks by their level of all demand together, highest first."""
        weight = self.rate_rps.mean(axis=(0, 1))
        return [int(block) for block in np.argsort(-(self.level @ weight), kind="stable")]
