"""Turn demand into what the planner sees: a rate by scenario, period, block and workload; what a request weighs.

Comes in: the tables, a calendar and the scenarios. Goes out: :class:`Load`. Growth follows the scenario's branch,
averaged over the days of each period; surges strike every workload. It must never know supply.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from offtake.demand.forecast import growth_paths
from offtake.demand.generate import TraceSpec, generate
from offtake.demand.profile import Profile
from offtake.demand.shape import WeekBlocks, blocks_of_week
from offtake.demand.shock import Shock, ShockEvents, sample_shocks, shock_paths
from offtake.demand.workload import Demand, demand_of
from offtake.performance.goodput import Lengths
from offtake.plan.calendar import Calendar
from offtake.plan.given import demand_factors, ways_of
from offtake.plan.tree import Tree
from offtake.plan.words import day, significant
from offtake.schema.portfolio import Tables

Floats = npt.NDArray[np.float64]

# How many requests stand for the lengths of a workload (assumption: enough for a P95 within a few per cent).
SAMPLE_RPS = 20.0
SAMPLE_S = 600.0
SAMPLE_MOST = 8_000
MIDDAY = 0.5


@dataclass(frozen=True, kw_only=True)
class Load:
    """Hold the demand of every workload.

    ``rate_rps [S, T, K]`` is the mean of the period, growth and shocks included; ``level [B, K]`` multiplies it;
    ``block_share [B]`` sums to 1; ``block_of_hour`` maps the 168 hours from Monday 00:00 UTC to blocks.
    ``lengths [K]`` are samples of requests; ``input_tokens``, ``output_tokens [K]`` the means of their profiles.
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


def load_of(tables: Tables, calendar: Calendar, tree: Tree) -> Load:
    """Return the demand of a portfolio in every scenario.

    Raises
    ------
    InputError
        With a fault for each unknown profile and each training job that cannot be done.
    """
    demand = demand_of(tables)
    weeks = week_of(demand, tables.settings.blocks)
    horizon_days = float(calendar.edges[-1] - calendar.edges[0])
    events = sample_shocks(demand.shocks, horizon_days, tree.scenarios, tables.settings.seed)
    samples = {profile.name: lengths_of(profile, tables.settings.seed) for profile in demand.profiles}
    return Load(
        blocks=block_names(len(weeks.share)),
        block_share=weeks.share,
        block_of_hour=weeks.block_of_hour.tolist(),
        rate_rps=rates_of(demand, events, calendar, tree) * given_factors(tables, calendar, tree),
        level=weeks.level.T,
        lengths=[samples[profile.name] for profile in demand.profiles],
        input_tokens=np.array([profile.input_tokens.mean() for profile in demand.profiles]),
        output_tokens=np.array([profile.output_tokens.mean() for profile in demand.profiles]),
        surges=[surge_words(demand.shocks, events, calendar, scenario) for scenario in range(tree.scenarios)],
    )


def week_of(demand: Demand, blocks: int) -> WeekBlocks:
    """Group the hours of the week, each workload counting by what its requests are worth."""
    worth = [row.rate_rps * (row.value_usd_per_request + row.refusal_usd_per_request) for row in demand.workloads]
    weight = np.array(worth) if sum(worth) > 0 else demand.rate_rps
    return blocks_of_week(demand.shapes(), blocks, weight)


def block_names(blocks: int) -> list[str]:
    """Name the blocks from busy to quiet."""
    if blocks == 1:
        return ["all week"]
    return ["busiest", *(f"block {index}" for index in range(2, blocks)), "quietest"]


def rates_of(demand: Demand, events: ShockEvents, calendar: Calendar, tree: Tree) -> Floats:
    """Return the mean rate of each scenario, period and workload [S, T, K]: today's × growth × surges."""
    since = calendar.days - calendar.edges[0] + MIDDAY
    growth = calendar.mean(growth_paths(demand.branches, since))[np.maximum(tree.growth, 0)]
    edges = (calendar.edges - calendar.edges[0]).astype(np.float64)
    surge = shock_paths(demand.shocks, events, edges, tree.scenarios)
    followed = np.where(demand.grows, growth[:, :, np.newaxis], 1.0)
    rates: Floats = demand.rate_rps * followed * surge[:, :, np.newaxis]
    return rates


def given_factors(tables: Tables, calendar: Calendar, tree: Tree) -> Floats:
    """Return what the user's own tree multiplies demand by [S, T, 1]; 1 without one."""
    ways = ways_of(tables.nodes)
    if not ways:
        return np.ones((1, 1, 1))
    factors: Floats = demand_factors(ways, calendar)[tree.way][:, :, np.newaxis]
    return factors


def lengths_of(profile: Profile, seed: int) -> Lengths:
    """Return a sample of request lengths of a profile, the same for every workload that has it."""
    spec = TraceSpec(profile=profile, rate_rps_mean=SAMPLE_RPS, duration_s=SAMPLE_S, seed=seed)
    batches = list(islice(generate(spec), SAMPLE_MOST))
    inputs = np.concatenate([batch.input_tokens for batch in batches])[:SAMPLE_MOST]
    outputs = np.concatenate([batch.output_tokens for batch in batches])[:SAMPLE_MOST]
    return Lengths(inputs, outputs)


def surge_words(shocks: tuple[Shock, ...], events: ShockEvents, calendar: Calendar, scenario: int) -> list[str]:
    """Say which surges strike in a scenario, one part for each kind."""
    words = []
    for kind, shock in enumerate(shocks):
        starts = np.sort(events.start_day[(events.scenario == scenario) & (events.kind == kind)])
        if len(starts):
            first = day(int(calendar.edges[0] + max(np.floor(starts[0]), 0)))
            times = f"{len(starts)} times, first" if len(starts) > 1 else "once,"
            size = f"×{significant(shock.multiplier)} for {significant(shock.days)} days"
            words.append(f"{shock.name} ({size}) {times} on {first}")
    return words
