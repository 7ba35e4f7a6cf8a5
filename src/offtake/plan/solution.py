"""Hold what the planner found, as plain arrays in the user's units; ``solve`` fills it, everyone else reads it.

Comes in: nothing. Goes out: :class:`Solution`, its :class:`Money` and its :class:`Prices`. It must never
know a solver. Axes are those of :class:`offtake.plan.problem.Problem`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Money:
    """Account the plan in USD, undiscounted, by scenario and period [S, T]; ``missed_usd`` is by scenario [S].

    ``value_usd`` is what is served; ``fees_usd`` the paid part of kept units (net of prepay), ``prepay_usd`` at
    signing, ``used_usd`` fees for elastic chips used, ``energy_usd``, ``request_usd`` egress and token fees;
    ``refusal_usd`` and ``missed_usd`` are penalties, not payments, and ``terminal_usd [S]``, of the horizon's end, is
    no payment either. What ending units costs is in ``fees_usd``. ``net_usd [S]`` is discounted:
    Σ_t discount·(value − fees − prepay − used − energy − request − refusal) − discount at the deadline·missed
    + discount at the end·terminal.
    """

    value_usd: Floats
    fees_usd: Floats
    prepay_usd: Floats
    used_usd: Floats
    energy_usd: Floats
    request_usd: Floats
    refusal_usd: Floats
    missed_usd: Floats
    terminal_usd: Floats
    net_usd: Floats

    @property
    def spend_usd(self) -> Floats:
        """Add up what is paid out, by scenario and period [S, T]: what budgets limit."""
        return self.fees_usd + self.prepay_usd + self.used_usd + self.energy_usd + self.request_usd


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Hold shadow prices in USD of the period they are read in, risk-adjusted, integers fixed.

    ``chips_usd_per_chip_hour [T, B, N]`` one more usable chip-hour in a cell, in every scenario;
    ``work_usd_per_chip_hour [T, B, N]`` what a chip-hour of work takes: the chip, the power it draws beyond an idle
    one and what it sends over the link, where those are scarce; this is the bid price that a request must meet;
    ``power_usd_per_kwh [T, B, I]`` one more kW for an hour at a site; ``link_usd_per_gb [T, B, I]`` one more
    gigabyte over its link; ``concentration_usd_per_point [T, G]`` one more percentage point of firm power in a
    group; ``budget_usd_per_usd [Y]`` one more dollar of a year's budget (0 where it does not bind);
    ``sign_usd_per_unit [V]`` what one more unit at that signing date would add (below zero: what forcing one costs);
    a marginal figure, not the value of the offer.
    ``meanings`` says each in a sentence.
    """

    chips_usd_per_chip_hour: Floats
    work_usd_per_chip_hour: Floats
    power_usd_per_kwh: Floats
    link_usd_per_gb: Floats
    concentration_usd_per_point: Floats
    budget_usd_per_usd: Floats
    sign_usd_per_unit: Floats
    meanings: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Quantities:
    """Hold what a plan does, in the user's units.

    ``signed [V, S]`` and ``kept [V, S, T]`` units, the same for all scenarios of the node that decides;
    ``served_rps [S, T, B, L]``, ``refused_rps [S, T, B, K]``,
    ``deferred_rps [S, T, B, K]`` (positive: moved out of the block, negative: into it);
    ``training_chips [S, T, B, J, N]``, ``research_chips [S, T, N]`` (kept for research beside the jobs),
    ``missed_chip_hours [S, J]``; ``used_chips [E, B]`` of each elastic entry of ``Deliveries`` (0 elsewhere);
    ``hosts [J, I]`` whether a single-site job runs at a site.
    """

    signed: Floats
    kept: Floats
    served_rps: Floats
    refused_rps: Floats
    deferred_rps: Floats
    training_chips: Floats
    research_chips: Floats
    missed_chip_hours: Floats
    used_chips: Floats
    hosts: Bools


@dataclass(frozen=True, kw_only=True)
class Solution(Quantities):
    """Hold a plan and its proof.

    ``objective_usd`` = expected net value − risk_weight · ``cvar_usd`` (CVaR of the loss), recomputed from the
    arrays; no plan can exceed ``bound_usd``; ``gap`` is their difference over max(|objective|, 1).
    ``integers`` counts the whole columns that are not fixed, ``columns``/``rows`` the
    program's size by family. ``algorithm`` tells how it was solved.
    """

    money: Money
    expected_net_usd: float
    cvar_usd: float
    objective_usd: float
    bound_usd: float
    gap: float
    prices: Prices
    algorithm: str
    integers: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    nonzeros: int = 0
    build_seconds: float = 0.0
    solve_seconds: float = 0.0
