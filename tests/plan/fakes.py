"""Stand in for the rooms below the plan: a demand and a goodput with the figures a test is about."""

from __future__ import annotations

from typing import Any

import numpy as np

from offtake.performance.goodput import Goodput, Lengths
from offtake.plan.assemble import Assembled, Inputs, assemble
from offtake.plan.calendar import calendar_of
from offtake.plan.load import Load
from offtake.plan.tree import tree_of
from offtake.schema.portfolio import Tables
from offtake.schema.settings import WorkloadRow
from offtake.supply.portfolio import portfolio_of


def load(tables: Tables, scenarios: int, periods: int, **given: Any) -> Load:
    """Ask for each workload's rate in every scenario and period, in one block; requests of 300 and 100 tokens."""
    rates = np.array([row.rate_rps for row in tables.workloads])
    count = len(rates)
    sample = Lengths(np.array([300], dtype=np.int32), np.array([100], dtype=np.int32))
    known: dict[str, Any] = {
        "blocks": ["all week"],
        "block_share": np.ones(1),
        "block_of_hour": [0] * 168,
        "rate_rps": np.broadcast_to(rates, (scenarios, periods, count)).copy(),
        "level": np.ones((1, count)),
        "lengths": [sample] * count,
        "input_tokens": np.full(count, 300.0),
        "output_tokens": np.full(count, 100.0),
        "surges": [[] for _ in range(scenarios)],
    }
    return Load(**(known | given))


class Goodputs:
    """Serve ``rps`` requests per second on a replica, or nothing once the round trip passes ``rtt_ms_max``."""

    def __init__(self, rps: float = 1.0, rtt_ms_max: float = 1e9, stopped_by: str = "ttft") -> None:
        self.rps = rps
        self.rtt_ms_max = rtt_ms_max
        self.stopped_by = stopped_by
        self.asked: list[tuple[str, str, int]] = []

    def __call__(self, workload: WorkloadRow, chip: str, rtt_ms: int) -> Goodput:
        self.asked.append((workload.workload, chip, rtt_ms))
        rps = self.rps if rtt_ms <= self.rtt_ms_max else 0.0
        return Goodput(rps, rps * 300, rps * 100, 0.9, self.stopped_by, 100.0, 20.0, 0.25)


def inputs(tables: Tables, goodputs: Goodputs | None = None, **demand: Any) -> Inputs:
    """Put together what a problem is made from; ``demand`` overrides parts of the load."""
    portfolio = portfolio_of(tables)
    calendar, tree = calendar_of(tables.settings), tree_of(portfolio)
    asked = load(tables, tree.scenarios, calendar.periods, **demand)
    return Inputs(portfolio=portfolio, calendar=calendar, tree=tree, load=asked, goodput_of=goodputs or Goodputs())


def assembled(tables: Tables, goodputs: Goodputs | None = None, **demand: Any) -> Assembled:
    """Assemble the problem of a small portfolio."""
    return assemble(inputs(tables, goodputs, **demand))
