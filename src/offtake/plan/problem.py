"""State the planning problem as plain arrays with named axes: what the constraints read, and all they read.

Comes in: a portfolio, its demand and the goodput of each workload on each chip (see ``assemble.py``).
Goes out: one :class:`Problem`. It knows no solver and no file. Axes run scenario, period, block, site,
chip, workload; a *cell* is a pair of site and chip (a token-priced API is a cell of its own), a
*vintage* is an offer with a signing date, a *lane* is a workload allowed to run in a cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Name each element of each axis, in the user's words; lengths give the sizes S, T, B, I, N, K, O, V, J, G."""

    scenarios: list[str]
    periods: list[str]
    blocks: list[str]
    sites: list[str]
    cells: list[str]
    workloads: list[str]
    offers: list[str]
    vintages: list[str]
    jobs: list[str]
    groups: list[str]
    years: list[str]


@dataclass(frozen=True, kw_only=True)
class Vintages:
    """Hold what may be signed, when, and how it is paid; one row per vintage v (an offer at one signing date).

    ``paid_usd [V, S, T]`` is what one kept unit costs in a period whether it is used or not (take-or-pay
    share of the fee, ramp discount and late remedy applied); ``prepay_usd [V]`` is due at signing and
    already taken off ``paid_usd``. Units are kept from ``sign_period`` to ``lock_until`` (exclusive), may only
    fall afterwards, and end at ``term_until``. ``signed``: a contract already, for ``units_max``.
    ``all_or_nothing``: 0 or ``units_max``, kept or ended whole. ``firm_kw [V, T]`` is the facility kW of one unit
    counted as firm; ``group_kw [V, T, G]`` the part of it in each correlated-loss group: all of it in a group of the
    partner's, and in a group of a site or a chip only what is delivered there. ``cancel_usd [V, S, T]`` is due for each
    unit that is ended at the start of a period. ``renewed [V, T]``: units may not be ended at the start of the period,
    although the lock is over: a renewal runs. ``terminal_usd [V, S]`` is what a unit kept to the last day is worth
    beyond it, in money of that day; it is no payment.
    """

    offer: Ints
    sign_period: Ints
    units_min: Floats
    units_max: Floats
    whole_units: Bools
    all_or_nothing: Bools
    signed: Bools
    lock_until: Ints
    term_until: Ints
    paid_usd: Floats
    prepay_usd: Floats
    cancel_usd: Floats
    renewed: Bools
    terminal_usd: Floats
    firm_kw: Floats
    group_kw: Floats


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """List delivered chips per kept unit, sparse: entry e is (scenario, vintage, period, cell) → chips.

    Slip, ramp, qualification, term, provider's exit, reclaim and site loss are already in ``chips``.
    Where the take-or-pay share is below one the vintage is *elastic*: only ``used_usd_per_chip_hour``
    of what is used is paid on top of ``paid_usd``. ``group_member [E, G]``: lost with a correlated-loss group, because
    the vintage's partner, the cell's site or its chip is in it.
    """

    scenario: Ints
    vintage: Ints
    period: Ints
    cell: Ints
    chips: Floats
    elastic: Bools
    used_usd_per_chip_hour: Floats
    group_member: Bools

    @property
    def unit(self) -> tuple[Ints, Ints, Ints]:
        """Give the place of each entry among kept units: vintage, scenario, period."""
        return self.vintage, self.scenario, self.period


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """List the lanes l: workload ``workload[l]`` may run in cell ``cell[l]``.

    ``goodput_rps_per_chip [L, S]`` within the SLO (scenario: throughput error), 0 < g;
    for an API cell a "chip" is one request per second of the rate limit and goodput is 1.
    ``usd_per_request [L]`` is egress plus token fees; ``bytes_per_request [L]``.
    """

    workload: Ints
    cell: Ints
    goodput_rps_per_chip: Floats
    usd_per_request: Floats
    bytes_per_request: Floats


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Hold each cell n: its site, whether it is a token-priced API, kW of a busy chip and its idle share."""

    site: Ints
    is_api: Bools
    kw_per_chip: Floats
    idle_share: Floats
    usd_per_kwh: Floats


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Hold training jobs j: need ``chip_hours[j]`` (of speed-1 chips) between two periods, in allowed cells.

    ``speed [J, N]`` is 0 where a job may not run; ``single_site`` jobs take one site; ``floor_chips [T]``
    is the research floor: chips (speed-weighted) that training and research together must hold in every block.
    ``gang_chips [J]`` run at once, whole or not at all, one gang at a time; 0 is any number.
    ``steady [J]``: begun, it may not pause until it is done.
    ``missed_usd [J]`` is the penalty for each chip-hour not done by the deadline.
    """

    chip_hours: Floats
    first_period: Ints
    last_period: Ints
    single_site: Bools
    gang_chips: Floats
    steady: Bools
    speed: Floats
    missed_usd: Floats
    floor_chips: Floats


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hold the hard limits of policy: money, concentration and the loss of any one partner.

    ``group_cap [G]`` is the largest share of firm kW a correlated-loss group may hold (1 = no limit), from
    period ``group_cap_from [G]``. ``survive_share`` of the critical workloads' demand must be served
    without any one group in ``survive_group [G]``, from the same period. Budgets are per calendar year, in proportion
    where the plan holds a part of it; ``inf`` is no limit.
    """

    group_cap: Floats
    group_cap_from: Ints
    survive_group: Bools
    survive_share: float
    critical: Bools
    budget_usd: Floats
    period_year: Ints
    prepay_usd_max: float


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Say what is known when something is decided: scenarios that look alike so far are one node, and decide alike.

    Each entry is the first scenario of a node: ``node_as [S, T]`` of the node a scenario is in during a period (what
    was seen before it began), ``sign_as [V, S]`` of the one in which a vintage is signed, ``keep_as [V, S, T]`` of the
    one in which it was decided to keep units through a period: the notice of the buyer earlier. Later nodes part
    earlier ones, never join them.
    """

    node_as: Ints
    sign_as: Ints
    keep_as: Ints


def one_node(scenarios: int, periods: int, vintages: int) -> Nodes:
    """Return nodes that never part: all is decided today, the same for every scenario."""
    return Nodes(
        node_as=np.zeros((scenarios, periods), dtype=np.int64),
        sign_as=np.zeros((vintages, scenarios), dtype=np.int64),
        keep_as=np.zeros((vintages, scenarios, periods), dtype=np.int64),
    )


@dataclass(frozen=True, kw_only=True)
class Held:
    """Hold decisions that are made already: the solver may not change them, whatever it would gain.

    ``signed [V, S]`` and ``kept [V, S, T]`` in units, NaN where the decision is still open; ``hosts [J, I]`` whether a
    single-site job runs at a site, NaN where that is open.
    """

    signed: Floats
    kept: Floats
    hosts: Floats


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Hold one planning problem, complete.

    ``demand_rps [S, T, B, K]``, ``power_kw [S, T, B, I]`` (curtailment taken off), ``link_bytes_per_s [I]``,
    ``value_usd``, ``refusal_usd [K]`` per request, ``deferrable [K]`` (may move between blocks of a week),
    ``period_hours [T]``, ``block_share [B]`` sums to 1, ``probability [S]`` sums to 1, ``discount [T]``;
    ``end_discount`` takes money of the horizon's end to the first day.
    ``exclusive`` lists sets of offers of which at most one may be signed. Without ``nodes`` nothing is learnt: signing
    and notice are decided today for all scenarios. With ``held`` some decisions are made already.
    Objective: maximise expected net value − risk_weight · CVaR_alpha(loss); loss is minus net value.
    """

    axes: Axes
    probability: Floats
    period_hours: Floats
    discount: Floats
    block_share: Floats
    demand_rps: Floats
    value_usd: Floats
    refusal_usd: Floats
    deferrable: Bools
    power_kw: Floats
    link_bytes_per_s: Floats
    cells: Cells
    lanes: Lanes
    vintages: Vintages
    deliveries: Deliveries
    jobs: Jobs
    limits: Limits
    risk_weight: float
    risk_alpha: float
    end_discount: float = 1.0
    exclusive: list[list[int]] = field(default_factory=list)
    nodes: Nodes | None = None
    held: Held | None = None

    @property
    def decided(self) -> Nodes:
        """Give the nodes; one where none are given."""
        return self.nodes or one_node(self.probability.size, self.period_hours.size, self.vintages.offer.size)
