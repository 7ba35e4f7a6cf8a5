"""Hold what a plan and an appraisal say, as records: the content of ``plan.json`` and ``appraisal.json``.

The report and the command line read these and the Parquet tables beside them; no solver object goes out.
Money is US dollars, discounted to the first day where ``Settings.discount_per_year`` is set.
"""

from __future__ import annotations

import msgspec

PLAN_FORMAT = "offtake-plan-1"
APPRAISAL_FORMAT = "offtake-appraisal-1"
OFFERS_FORMAT = "offtake-offers-1"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is done with one offer: how much, signed when, kept until when, and what that costs."""

    offer: str  #: Key of the offer in `offers.csv`.
    name: str  #: Its full name.
    provider: str  #: Key of the provider.
    action: str  #: Today: `keep` (signed before), `sign`, `sign part`, `wait` (sign later in some futures) or `leave`.
    firmness: str  #: How firm the offer is, as its row says.
    units: float  #: Units signed, in all: mean over scenarios.
    units_now: float  #: Units signed on the first day.
    units_max: float  #: Units on offer.
    later_share: float  #: Probability that any, or more, is signed after the first day.
    notice_share: float  #: Probability that some of it is ended by notice before its term, or the plan, ends.
    sign_date: str  #: Day or days of signing, parted by commas; the first day for `keep`; empty for `leave`.
    kept_until: str  #: Last day on which any of it is kept in any scenario; empty for `leave`.
    notice: str  #: When the buyer may leave if it signs on the first day, in words.
    chips: float  #: Most chips that these units deliver in any scenario, before ramps and slips; 0 for an API.
    firm_kw: float  #: Most firm power that they bring in any period and scenario.
    fees_usd: float  #: Fees, prepayment, use and tokens, discounted: mean over scenarios.
    #: What one more unit would add at the margin; null where units are whole or signed before. Not a value.
    reduced_cost_usd: float | None
    sentence: str  #: The decision in plain English.


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much one kind of supply serves, with how many chips, for which fees."""

    kind: str  #: `reserved`, `by use` (chips paid as they are used, in whole or in part) or `API` (paid by the token).
    share: float  #: Share of all requests asked for that it serves, over all scenarios.
    chips_mean: float  #: Chips on average: there if reserved, at work if paid by use; 0 for APIs.
    chips_most: float  #: Most of them in any period, block and scenario.
    fees_usd: float  #: Its fees, discounted: mean over scenarios.


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Give one shadow price: what is scarce, where and when, its price with its unit, and what that means."""

    family: str  #: `chips`, `rate limit`, `power`, `link`, `concentration`, `budget` or `lead time`.
    where: str  #: Site and chip, site, group, the budget, or the offer.
    when: str  #: Period or year it belongs to; of a lead time, the day promised.
    price: float  #: Mean over the plan, in `unit`; of a lead time, what a week sooner adds.
    unit: str  #: Unit of the price.
    sentence: str  #: What it means.


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Split the mean over scenarios of money over the horizon."""

    value_served_usd: float  #: Value of the requests served.
    fees_usd: float  #: Fees paid whether used or not, without prepayment; and for ending contracts.
    prepay_usd: float  #: Paid in advance.
    used_fees_usd: float  #: Fees for chip-hours used.
    energy_usd: float  #: Energy beside the fee.
    request_fees_usd: float  #: Fees by the token.
    refusal_usd: float  #: Cost of refusing requests, beyond their value.
    training_missed_usd: float  #: Training not done by its deadline.
    net_usd: float  #: Value served and terminal value, less all the others.
    terminal_usd: float = 0.0  #: What is left of terms beyond the horizon, as the offers value it.


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Give the size of the model and what it took."""

    scenarios: int  #: Scenarios drawn.
    periods: int  #: Periods of the horizon.
    blocks: int  #: Blocks of the week.
    variables: int  #: Variables of the program.
    integers: int  #: Whole-number variables among them.
    rows: int  #: Constraints.
    nonzeros: int  #: Coefficients.
    build_s: float  #: Time to build it; differs from run to run.
    solve_s: float  #: Time to solve it; differs from run to run.


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much rests on one mark of confidence: figures by count, firm kW and fees by amount."""

    confidence: str  #: `confirmed`, `reported`, `estimate` or `assumption`.
    figures: int  #: Figures of the portfolio with this mark.
    figures_share: float  #: Of all figures.
    fees_share: float  #: Of mean fees, by the mark of the fee.
    kw_share: float  #: Of mean power, by the mark of the chip counts.


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Give an estimate from independent draws, with its 95% interval."""

    estimate: float  #: The estimate.
    low: float | None  #: Lower end; null where one draw tells nothing about it.
    high: float | None  #: Upper end.


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """Say how the plan fares on futures that it was not made from, following its own tree."""

    paths: int  #: Paths in all.
    batches: int  #: Independent batches that they come in, each drawn as the plan's scenarios are.
    seed: int  #: Seed of the first batch; never the plan's.
    mean_net_usd: Range  #: Mean net value; beside `mean_net_usd` of the plan.
    cvar_loss_usd: Range  #: Mean loss of the worst paths; beside `cvar_loss_usd` of the plan.
    value_usd: Range  #: Risk-adjusted value; beside `objective_usd` of the plan.
    broken_share: float  #: Share of paths on which the research floor or a budget could not be met.


class RuleLoss(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is lost by a simple rule that signs on the first day alone, with the best notice and operation after."""

    rule: str  #: `look-back`, `all on demand`, `longest terms`, `sign everything` or `sign nothing`.
    words: str  #: What the rule does.
    units: dict[str, float]  #: Units that it signs on the first day, by open offer.
    loss_usd: float | None  #: Value of the plan less that of the rule, on the plan's scenarios; null: a limit breaks.
    fresh_loss_usd: Range | None  #: The same on fresh paths, the same ones for both; null where not worked out.
    breaks: list[str]  #: Which limits it breaks, a sentence each.


class Steadiness(msgspec.Struct, frozen=True, kw_only=True):
    """Say what is signed of one offer on the first day when the plan is made from other draws."""

    offer: str  #: Key of the offer.
    units_now: float  #: Units that the plan signs on the first day.
    signed_share: float  #: Share of the samples that sign any of it on the first day.
    units_least: float  #: Fewest units that a sample signs.
    units_most: float  #: Most units that a sample signs.


class Leeway(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much room there is on one offer at little loss, everything else planned anew."""

    offer: str  #: Key of the offer.
    units_now: float  #: Units that the plan signs on the first day.
    without_loss_usd: float | None  #: Value lost by the best plan that signs none of it today; null: a limit breaks.
    with_loss_usd: float | None  #: Value lost by the best plan that signs some of it today; null: a limit breaks.
    units_least: float  #: Fewest units found within the loss allowed.
    units_most: float  #: Most units found within the loss allowed.


class Replanned(msgspec.Struct, frozen=True, kw_only=True):
    """Say what planning anew at each stage date adds to following the plan's tree, on the same fresh paths."""

    paths: int  #: Paths planned anew.
    dates: list[str]  #: First days of the periods in which it is planned anew.
    followed_usd: float  #: Mean net value where the tree is followed.
    replanned_usd: float  #: Mean net value where the plan is made anew.
    gain_usd: Range  #: Mean of the difference, path by path.
    stuck: int  #: Times that no new plan met the limits, so that the tree was followed until the next date.


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Say how far a plan can be trusted."""

    level: str  #: `quick` or `full`.
    foresight_usd: float | None  #: Expected value of perfect information: no forecast is worth more.
    mean_plan_loss_usd: float | None  #: Value of the stochastic solution; null where the mean's plan breaks a limit.
    fresh: Fresh | None  #: The plan on fresh paths.
    rules: list[RuleLoss]  #: The plan against simple rules.
    samples: int  #: Other draws that the plan was made anew from.
    steadiness: list[Steadiness]  #: The first day over those draws, one for each open offer.
    near_share: float  #: Loss allowed to near-optimal plans, as a share of the plan's value.
    leeway: list[Leeway]  #: Near-optimal plans, one for each open offer.
    replanned: Replanned | None  #: Rolling re-planning; null where it was not asked for.
    sentences: list[str]  #: What all this says, a sentence each.
    left_out: list[str]  #: What was not worked out, a sentence each.


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a whole plan."""

    format: str  #: `offtake-plan-1`.
    name: str  #: Short name of the portfolio.
    title: str  #: Its question.
    version: str  #: Version of Offtake.
    seed: int  #: Seed of every random draw.
    portfolio_hash: str  #: SHA-256 over the hashes of all input files.
    inputs: dict[str, str]  #: SHA-256 of each input file, by name.
    start: str  #: First day.
    end: str  #: Last day; it counts.
    answer: str  #: The answer in one sentence.
    objective_usd: float  #: Risk-adjusted value: `mean_net_usd` less `risk_weight` times `cvar_loss_usd`.
    bound_usd: float  #: No plan is worth more than this.
    gap: float  #: How far `objective_usd` may be below the best, as a share.
    mean_net_usd: float  #: Mean net value over scenarios, discounted.
    cvar_loss_usd: float  #: Mean loss of the worst 1 - `risk_alpha` of scenarios; below zero it is a gain.
    risk_weight: float  #: Weight of the tail in the objective.
    risk_alpha: float  #: Where the tail begins.
    money: Money  #: What the mean net value is made of.
    size: Size  #: Size of the program.
    decisions: list[Decision]  #: One for each offer.
    prices: list[Price]  #: The dearest shadow prices.
    refused_share: dict[str, float]  #: Share of requests that the plan refuses, by workload.
    marks: list[Mark]  #: What the answer rests on, by mark of confidence.
    assumptions: list[str]  #: Assumed figures that the answer leans on most, one a line.
    warnings: list[str]  #: Sentences that a reader must see beside the answer.
    fleet_week: str  #: Monday of the week in `fleet.json`.
    supplies: list[Supply] = []  #: Who serves: reserved chips, chips paid by use, APIs.
    serving: str = ""  #: Who serves, in a sentence.
    trust: Trust | None = None  #: How far the plan can be trusted; null where it was not asked for.


class ClauseWorth(msgspec.Struct, frozen=True, kw_only=True):
    """Say what moving one clause by one step is worth to the buyer, everything planned anew."""

    clause: str  #: Name of the clause.
    step: str  #: How far it is moved, in words.
    asked: bool  #: Whether the provider would have to grant it; otherwise the buyer gives it.
    worth_usd: float  #: Change of the value of signing by this step; null where no plan keeps the limits.
    value_usd: float  #: Value of signing with it: the plan that signs less the plan without the offer.
    flips: bool  #: Whether the answer is another with it, beyond what the solver leaves open.
    doubt_usd: float = 0.0  #: What the solver leaves open in `worth_usd`; a worth that is no larger says nothing.

    @property
    def unclear(self) -> bool:
        """Tell whether the worth is within what the solver leaves open."""
        return 0.0 < abs(self.worth_usd) <= self.doubt_usd


class PointOfCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Give what one size, one day of delivery, or one day of signing, is worth, and up to which fee it pays."""

    units: float  #: Units signed.
    sign_date: str  #: Day of signing.
    delivery_date: str  #: First day of delivery as promised.
    value_usd: float | None  #: The plan that signs it so less the plan without the offer; null where no plan can.
    #: What multiplies the fee up to which it pays if kept as planned; 0 where it does not even for nothing, null where
    #: no fee is too high or no plan can sign it.
    break_even_fee_ratio: float | None


class BranchRegret(msgspec.Struct, frozen=True, kw_only=True):
    """Compare the choices in one branch: what each falls short of the best choice there, on average."""

    branch: str  #: Growth, and the reading of the terms where there are several.
    probability: float  #: Weight of the branch.
    regret_usd: dict[str, float]  #: By choice: `sign`, `amend`, `part`, `ration` (leave it and refuse) and `wait`.


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Say what signing is worth at one end of an assumption's range, everything planned anew."""

    setting: str  #: Where the assumption is put, in words.
    value_usd: float | None  #: The plan that signs less the one without the offer; null where no plan keeps the limits.
    flips: bool  #: Whether the answer is another one there, beyond what the solver leaves open.


class Swing(msgspec.Struct, frozen=True, kw_only=True):
    """Say how far the value of signing moves with one assumption: a bar of the tornado."""

    name: str  #: What is assumed.
    low: Side  #: The low end of its range.
    high: Side  #: The high end.
    swing_usd: float  #: Highest less lowest value of signing over both ends and what is assumed now.
    confidence: str  #: How sure the range is: `assumption`.


class OutOfSample(msgspec.Struct, frozen=True, kw_only=True):
    """Say what signing is worth on draws that the plan was not made from: the first day held, the rest decided anew."""

    trials: int  #: Independent draws of all scenarios, each with a tree of its own.
    broken: int  #: Further draws in which a plan that is held to its first day cannot keep the limits.
    scenarios: int  #: Scenarios in each.
    seed: int  #: Seed of the first; never the plan's.
    value_usd: float | None  #: Mean over the draws of what signing is worth; beside the value on the plan's own draws.
    low_usd: float | None  #: Lower end of its 95% interval (Student's t over the draws); null of fewer than two.
    high_usd: float | None  #: Upper end.
    own_value_usd: float  #: The same on the draws that the plan was made from.
    proves_right_share: float | None  #: Probability that signing proves right; beside the plan's own.


class RightToLeave(msgspec.Struct, frozen=True, kw_only=True):
    """Say what the buyer's right to leave is worth: three plans that sign, each less the plan without the offer."""

    notice_days: int  #: The longest notice that the buyer owes.
    none_usd: float | None  #: Value of signing if the buyer could never leave; null where no plan keeps the limits.
    notice_usd: float  #: Value of signing as the terms are: notice is decided its days before it takes effect.
    foresight_usd: float | None  #: The same if whoever gives notice knew all that ever comes.
    right_usd: float | None  #: What the right is worth: `notice_usd` less `none_usd`.
    right_in_foresight_usd: float | None  #: What it would be worth in foresight: `foresight_usd` less `none_usd`.


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Say how two offers stand to each other."""

    one: str  #: Key of an offer.
    other: str  #: Key of another.
    #: What losing both costs beyond what losing each alone does: above 0 they stand in for each other (substitutes),
    #: below 0 each is worth more with the other (complements).
    together_usd: float
    kind: str  #: `substitutes`, `complements` or `apart` (within what the solver leaves open).


class OfferWorth(msgspec.Struct, frozen=True, kw_only=True):
    """Say what being able to sign one open offer is worth, all others on the table."""

    offer: str  #: Key of the offer.
    name: str  #: Its full name.
    units: float  #: Units in the best plan: mean over scenarios.
    units_max: float  #: Units on offer.
    worth_usd: float  #: The best plan less the best plan without it.


class OffersAppraisal(msgspec.Struct, frozen=True, kw_only=True):
    """Say what every open offer is worth beside the others."""

    format: str  #: `offtake-offers-1`.
    portfolio_hash: str  #: As in `plan.json`.
    best_usd: float  #: Risk-adjusted value of the best plan.
    doubt_usd: float  #: What the solver leaves open in a difference of two plans.
    offers: list[OfferWorth]  #: The most valuable first.
    pairs: list[Pair]  #: Every two of them.


class Appraisal(msgspec.Struct, frozen=True, kw_only=True):
    """Say what one offer is worth: the best plan with it less the best plan without it.

    The dual is never given as a value.
    """

    format: str  #: `offtake-appraisal-1`.
    portfolio_hash: str  #: As in `plan.json`.
    offer: str  #: Key of the offer.
    name: str  #: Its full name.
    answer: str  #: The answer in one sentence.
    sign: bool  #: Whether the best plan has any of it.
    units: float  #: Units in the best plan.
    units_max: float  #: Units on offer.
    with_usd: float  #: Risk-adjusted value of the best plan that may sign it.
    without_usd: float  #: The same without it.
    difference_usd: float  #: What being able to sign it is worth: the two above, subtracted.
    #: The same if all of it must be signed on the first day; null where the best plan does so, or none can.
    forced_usd: float | None
    mean_difference_usd: float  #: Change of the mean net value by signing (by force where the best plan leaves it).
    cvar_difference_usd: float  #: Change of the mean loss of the worst scenarios by signing.
    #: The fee at which signing is worth nothing, over the fee asked; null where no fee is.
    break_even_fee_ratio: float | None
    fee_paid_usd: float  #: Its fees when signed, discounted: mean over scenarios.
    proves_right_share: float  #: Probability of the scenarios in which signing is better.
    scenario_names: list[str]  #: Names of the scenarios.
    scenario_probability: list[float]  #: Their probabilities.
    difference_by_scenario_usd: list[float]  #: Change of net value by signing, in each.
    #: The sheet to negotiate from, the most valuable clause first.
    clauses: list[ClauseWorth] = []
    flip: str = ""  #: The smallest single change that flips the answer, in words; empty where none that was tried does.
    sizes: list[PointOfCurve] = []  #: Value and break-even fee by size.
    starts: list[PointOfCurve] = []  #: The same by day of delivery, in full, signed on the first day.
    signings: list[PointOfCurve] = []  #: The same by day of signing, in full.
    period_names: list[str] = []  #: First days of the periods.
    difference_by_period_usd: list[float] = []  #: Change of mean net value by signing, discounted, in each period.
    branches: list[BranchRegret] = []  #: Regret of each choice, branch by branch.
    no_choice: dict[str, str] = {}  #: Why a choice is missing from them, in words.
    right: RightToLeave | None = None  #: What the buyer's right to leave is worth; null where it has none.
    swings: list[Swing] = []  #: What the answer rests on, the widest swing first; empty where not asked for.
    fresh: OutOfSample | None = None  #: Signing on fresh draws; null where not asked for.
    displaces: list[str]  #: What else changes when it is signed, a sentence each.
    gap: float  #: Largest gap of the plans compared.
    sentences: list[str]  #: What the answer rests on, a sentence each.
    warnings: list[str]  #: What a reader must know beside it.
