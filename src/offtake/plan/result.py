"""Hold what a plan and an appraisal say, as records: the content of ``plan.json`` and ``appraisal.json``.

The report and the command line read these and the Parquet tables beside them; no solver object goes out.
Money is US dollars, discounted to the first day where ``Settings.discount_per_year`` is set.
"""

from __future__ import annotations

import msgspec

PLAN_FORMAT = "offtake-plan-1"
APPRAISAL_FORMAT = "offtake-appraisal-1"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is done with one offer: how much, signed when, kept until when, and what that costs.

    ``action`` is keep (signed before), sign, sign part, or leave. ``fees_usd`` is the mean over scenarios.
    ``sentence`` says it in plain English.
    """

    offer: str
    name: str
    provider: str
    action: str
    firmness: str
    units: float
    units_max: float
    sign_date: str
    kept_until: str
    notice: str
    chips: float
    firm_kw: float
    fees_usd: float
    reduced_cost_usd: float | None
    sentence: str


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Give one shadow price: what is scarce, where and when, its price with its unit, and what that means."""

    family: str
    where: str
    when: str
    price: float
    unit: str
    sentence: str


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Split the mean over scenarios of money over the horizon."""

    value_served_usd: float
    fees_usd: float
    prepay_usd: float
    used_fees_usd: float
    energy_usd: float
    request_fees_usd: float
    refusal_usd: float
    training_missed_usd: float
    net_usd: float


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Give the size of the model and what it took."""

    scenarios: int
    periods: int
    blocks: int
    variables: int
    integers: int
    rows: int
    nonzeros: int
    build_s: float
    solve_s: float


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much rests on one mark of confidence: figures by count, firm kW and fees by amount."""

    confidence: str
    figures: int
    figures_share: float
    fees_share: float
    kw_share: float


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a whole plan. ``warnings`` are sentences that a reader must see beside the answer."""

    format: str
    name: str
    title: str
    version: str
    seed: int
    portfolio_hash: str
    inputs: dict[str, str]
    start: str
    end: str
    answer: str
    objective_usd: float
    bound_usd: float
    gap: float
    mean_net_usd: float
    cvar_loss_usd: float
    risk_weight: float
    risk_alpha: float
    money: Money
    size: Size
    decisions: list[Decision]
    prices: list[Price]
    refused_share: dict[str, float]
    marks: list[Mark]
    assumptions: list[str]
    warnings: list[str]
    fleet_week: str


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """Say what one offer is worth: the best plan with it less the best plan without it.

    ``forced_usd`` is the difference when it must be signed at its largest size (None when the plan already
    does so); ``break_even_fee_ratio`` multiplies the fee at which signing that size is worth nothing.
    ``difference_by_scenario_usd`` pairs with ``scenario_names``; ``proves_right_share`` is the probability
    weight of scenarios in which signing is better. The dual is never given as a value.
    """

    format: str
    portfolio_hash: str
    offer: str
    name: str
    answer: str
    sign: bool
    units: float
    units_max: float
    with_usd: float
    without_usd: float
    difference_usd: float
    forced_usd: float | None
    mean_difference_usd: float
    cvar_difference_usd: float
    break_even_fee_ratio: float | None
    fee_paid_usd: float
    proves_right_share: float
    scenario_names: list[str]
    scenario_probability: list[float]
    difference_by_scenario_usd: list[float]
    displaces: list[str]
    gap: float
    sentences: list[str]
    warnings: list[str]
