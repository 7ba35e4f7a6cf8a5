"""Lay a run out as a page: the decision first, then what it rests on, section by section.

Comes in: a :class:`~offtake.report.tables.Run`. Goes out: a :class:`~offtake.report.parts.Page`. A section
whose stage was not run is left out, and the section on inputs says so. It writes no HTML.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from offtake.plan.result import Appraisal, Decision, PlanResult, Price
from offtake.report import comparisons, figures, negotiation, offers, rehearsals, risks, sums, trusts
from offtake.report.parts import Column, Figure, Grid, KeyFigure, Page, Part, Section, Sentences, Tone
from offtake.report.tables import Run
from offtake.report.words import NOTHING, change, count, day, money, number, plural, power, share, with_interval

PARTNERS_MAX = 8
PLACES_MAX = 12
PRICES_MAX = 24
HASH_SHOWN = 12
SENTENCE_LENGTH = 150  # longer sentences are folded away


def page(run: Run) -> Page:
    """Lay out the whole page."""
    plan, appraisals = run.plan, run.appraisals
    asked = appraisals[0] if len(appraisals) == 1 else None
    answers = [asked.answer] if asked else []
    answers += [plan.answer] if plan else []
    answers += [appraisal.answer for appraisal in appraisals if appraisal is not asked]
    question = plan.title if plan and plan.title else run.name
    open_offers = offers.section(run.offers)
    sections = [
        *(weigh(appraisal, run) for appraisal in appraisals),
        open_offers,
        *plan_sections(run),
        *last_sections(run),
    ]
    return Page(
        title=f"{question} · Offtake",
        question=question,
        decision=answers[0] if answers else "No decision: this run holds no plan and no appraisal.",
        more=[*answers[1:], *([plan.serving] if plan and plan.serving else [])],
        key_figures=key_figures(run),
        warnings=warnings(run),
        sections=[section for section in sections if section.parts],
        footer=footer(run),
    )


def key_figures(run: Run) -> list[KeyFigure]:
    """Choose the few figures that the decision turns on."""
    shown = []
    if len(run.appraisals) == 1:
        shown += offer_figures(run.appraisals[0])
    if run.plan:
        plan = run.plan
        worst = f"the worst {share(1.0 - plan.risk_alpha)} of futures bring {money(-plan.cvar_loss_usd)} on average"
        shown.append(
            KeyFigure(
                label="Net value of the plan",
                value=money(plan.mean_net_usd),
                note=f"mean of {plural(plan.size.scenarios, 'scenario')}; {worst}",
            )
        )
    if run.rehearsals:
        shown.append(rehearsals.key_figure(next(iter(run.rehearsals.values()))))
    return shown


def warnings(run: Run) -> list[str]:
    """Gather the sentences that must be read beside the answer, each once."""
    plan = run.plan.warnings if run.plan else []
    appraised = [text for appraisal in run.appraisals for text in appraisal.warnings]
    rehearsed = [text for summary in list(run.rehearsals.values())[:1] for text in rehearsals.warnings(summary)]
    return list(dict.fromkeys([*rehearsed, *plan, *appraised]))


def offer_figures(appraisal: Appraisal) -> list[KeyFigure]:
    """Choose the figures of one offer."""
    adds = what_signing_adds(appraisal)
    how = (
        "the best plan with it" if appraisal.sign or appraisal.forced_usd is None else "signed in full on the first day"
    )
    tone: Tone = "good" if adds > 0.0 else "bad" if adds < 0.0 else "plain"
    note = f"{how}, less the best plan without it, risk weighed"
    shown = [KeyFigure(label="What signing adds", value=change(adds), note=note, tone=tone)]
    ratio = appraisal.break_even_fee_ratio
    if ratio is not None:
        limit = "above this, signing loses" if ratio < 1.0 else "up to this, signing pays"
        shown.append(KeyFigure(label="Break-even fee", value=share(ratio), note=f"of the fee asked: {limit}"))
    scenarios = plural(len(appraisal.scenario_names), "scenario")
    note = f"chance that signing beats not signing, over {scenarios}"
    shown.append(KeyFigure(label="Proves right", value=share(appraisal.proves_right_share), note=note))
    return shown


def what_signing_adds(appraisal: Appraisal) -> float:
    """Return what signing is worth in USD: as the best plan signs it, or in full where that plan leaves it."""
    if appraisal.sign or appraisal.forced_usd is None:
        return appraisal.difference_usd
    return appraisal.forced_usd


def weigh(appraisal: Appraisal, run: Run) -> Section:
    """Show what one offer is worth, and in which futures."""
    frame = sums.differences(
        appraisal.scenario_names,
        appraisal.scenario_probability,
        appraisal.difference_by_scenario_usd,
        run.frames.get("scenarios"),
    )
    name = appraisal.name or appraisal.offer
    short = [text for text in appraisal.sentences if len(text) <= SENTENCE_LENGTH]
    long = [text for text in appraisal.sentences if len(text) > SENTENCE_LENGTH]
    parts: list[Part] = [Sentences(sentences=short, bullets=True)] if short else []
    if frame.height:
        parts.append(risks.offer_value(frame, appraisal))
    if long:
        parts.append(Sentences(sentences=long, bullets=True, fold="What happens in the best and the worst future"))
    parts.append(with_and_without(appraisal))
    if appraisal.displaces:
        parts.append(Sentences(sentences=["What else changes when it is signed:"]))
        parts.append(Sentences(sentences=appraisal.displaces, bullets=True))
    parts += negotiation.parts(appraisal)
    return Section(key=f"appraisal-of-{appraisal.offer}", heading=f"What {name} is worth", parts=parts)


def with_and_without(appraisal: Appraisal) -> Grid:
    """Table the plan with the offer beside the plan without it."""
    rows = [
        ["Best plan that may sign it", money(appraisal.with_usd)],
        ["Best plan without it", money(appraisal.without_usd)],
        ["What being able to sign it is worth", change(appraisal.difference_usd)],
    ]
    if appraisal.forced_usd is not None:
        rows.append(["What signing all of it on the first day adds", change(appraisal.forced_usd)])
    rows += [
        ["What signing adds to the mean net value", change(appraisal.mean_difference_usd)],
        ["What signing adds to the mean of the worst futures", change(-appraisal.cvar_difference_usd)],
        ["Fees paid for it, mean over scenarios", money(appraisal.fee_paid_usd)],
    ]
    if appraisal.break_even_fee_ratio is not None:
        rows.append(
            ["Fee at which signing is worth nothing", f"{share(appraisal.break_even_fee_ratio)} of the fee asked"]
        )
    fresh = appraisal.fresh
    if fresh is not None and fresh.value_usd is not None and fresh.proves_right_share is not None:
        trials = f"{plural(fresh.trials, 'fresh draw')} of {plural(fresh.scenarios, 'scenario')}"
        rows.append([f"What signing adds on {trials}", with_interval(fresh.value_usd, fresh.low_usd, fresh.high_usd)])
        rows.append([f"Chance that it proves right: here, and on {trials}",
                     f"{share(appraisal.proves_right_share)}, {share(fresh.proves_right_share)}"])  # fmt: skip
    rows.append(["Units signed in the best plan", f"{number(appraisal.units)} of {number(appraisal.units_max)}"])
    rows.append(["Gap to the best possible", share(appraisal.gap)])
    columns = [Column(name="Measure"), Column(name="Amount", figures=True)]
    caption = "With the offer and without it (a plan's value is its mean net value less the weight of risk)"
    return Grid(caption=caption, columns=columns, rows=rows)


def plan_sections(run: Run) -> list[Section]:
    """Show the plan: decisions, capacity and demand, money and risk, how it serves, scarcity."""
    plan = run.plan
    rehearsed = rehearsals.section(run.rehearsals)
    compared = comparisons.section(run.comparisons)
    if plan is None:
        return [rehearsed, compared]
    return [
        Section(key="decisions", heading="What to do with each offer", parts=[decision_grid(plan.decisions)]),
        Section(key="capacity-and-demand", heading="Capacity against demand", parts=supply_parts(run, plan)),
        Section(key="cost-and-risk", heading="Cost and risk", parts=money_parts(run, plan)),
        trusts.section(plan),
        rehearsed,
        compared,
        Section(key="scarcity", heading="What is scarce, and its price", parts=price_parts(run, plan)),
    ]


def decision_grid(decisions: list[Decision]) -> Grid:
    """Table every offer: what is done with it first, then how much and what it costs."""
    names = ["Offer", "Partner", "Decision", "Units", "Signed", "Kept until", "Firmness"]
    columns = [Column(name=name, figures=name == "Units", whole=name in {"Decision", "Kept until"}) for name in names]
    columns += [Column(name="Firm power", figures=True), Column(name="Fees, mean", figures=True)]
    rows = [
        [
            each.name or each.offer,
            each.provider,
            each.action,
            f"{number(each.units_now)} of {number(each.units_max)}",
            sums.signed_when(each) or NOTHING,
            day(each.kept_until) or NOTHING,
            each.firmness,
            power(each.firm_kw) if each.firm_kw else NOTHING,
            money(each.fees_usd) if each.fees_usd else NOTHING,
        ]
        for each in sums.by_interest(decisions)
    ]
    return Grid(caption="Every offer: what is open first, then what is signed already", columns=columns, rows=rows)


def supply_parts(run: Run, plan: PlanResult) -> list[Part]:
    """Show capacity by partner above the demand it has to meet."""
    parts: list[Part] = []
    end = last_day(plan)
    capacity, demand = run.frames.get("capacity"), run.frames.get("demand")
    if capacity is not None and capacity["kw_mean"].max():
        parts.append(figures.capacity(sums.capacity_by_partner(capacity, end, PARTNERS_MAX)))
    if demand is not None and demand.height:
        shares = block_shares(run, demand)
        parts.append(figures.demand(sums.demand_by_period(demand, shares, end)))
        if demand["refused_mean"].sum() > 0.0:
            parts.append(figures.refusals(sums.refused_by_workload(demand, shares, end)))
    if plan.refused_share:
        columns = [Column(name="Workload"), Column(name="Refused", figures=True)]
        rows = [[workload, share(part)] for workload, part in plan.refused_share.items()]
        parts.append(Grid(caption="Share of requests refused over the horizon, mean", columns=columns, rows=rows))
    return parts


def block_shares(run: Run, demand: pl.DataFrame) -> dict[str, float] | None:
    """Return the share of the week that each block takes, where the fleet tells it."""
    blocks = demand["block"].unique(maintain_order=True).to_list()
    if run.fleet is None or len(run.fleet.block_share) != len(blocks):
        return None
    return dict(zip(blocks, run.fleet.block_share, strict=True))


def last_day(plan: PlanResult) -> date | None:
    """Return the last day of the horizon, where the plan states one."""
    try:
        return date.fromisoformat(plan.end)
    except ValueError:
        return None


def money_parts(run: Run, plan: PlanResult) -> list[Part]:
    """Show the spread of net value, and the parts of money."""
    parts: list[Part] = []
    scenarios, cost = run.frames.get("scenarios"), run.frames.get("cost")
    if scenarios is not None and scenarios.height:
        parts.append(risks.net_value(sums.outcomes(scenarios), plan))
    if cost is not None and cost.height:
        flow = sums.money_by_period(cost, last_day(plan))
        if flow.height:
            parts.append(figures.money_flow(flow))
    parts.append(money_grid(plan))
    return parts


def money_grid(plan: PlanResult) -> Grid:
    """Table the parts of money over the whole horizon."""
    money_of = plan.money
    rows = [
        ["Value of requests served", money(money_of.value_served_usd)],
        ["Fees owed", money(-money_of.fees_usd)],
        ["Prepayments", money(-money_of.prepay_usd)],
        ["Fees for what is used", money(-money_of.used_fees_usd)],
        ["Energy", money(-money_of.energy_usd)],
        ["Egress and token fees", money(-money_of.request_fees_usd)],
        ["Refused requests", money(-money_of.refusal_usd)],
        ["Training missed", money(-money_of.training_missed_usd)],
        ["Terms beyond the horizon", money(money_of.terminal_usd)],
        ["Net", money(money_of.net_usd)],
        [f"Mean of the worst {share(1.0 - plan.risk_alpha)}", money(-plan.cvar_loss_usd)],
    ]
    rows = [row for row in rows if row[1] != money(0.0)]
    columns = [Column(name="Part"), Column(name="Mean over scenarios", figures=True)]
    return Grid(caption=f"Money from {day(plan.start)} to {day(plan.end)}", columns=columns, rows=rows)


def price_parts(run: Run, plan: PlanResult) -> list[Part]:
    """Show shadow prices: a map of places and blocks, and the dearest in sentences."""
    parts: list[Part] = []
    prices = run.frames.get("prices")
    if prices is not None and prices.height:
        chart = price_chart(run, prices, last_day(plan))
        parts += [chart] if chart else []
    dearest = plan.prices[:PRICES_MAX]
    if dearest:
        parts.append(price_grid(dearest))
    elif not parts:
        parts.append(Sentences(sentences=["Nothing is scarce: no limit of the plan has a price."]))
    return parts


def price_chart(run: Run, prices: pl.DataFrame, end: date | None) -> Figure | None:
    """Draw the prices of chips, where any has one."""
    frame = sums.scarcity(prices, run.frames.get("capacity"), end, PLACES_MAX)
    return risks.prices(frame) if frame.height else None


def price_grid(prices: list[Price]) -> Grid:
    """Table the dearest limits, each with what it means."""
    columns = [
        Column(name="What is scarce"),
        Column(name="When"),
        Column(name="Price", figures=True),
        Column(name="What it means"),
    ]
    rows = [
        [f"{each.family}: {each.where}", each.when, f"{number(each.price)} {each.unit}", each.sentence]
        for each in prices
    ]
    return Grid(caption="The dearest limits", columns=columns, rows=rows)


def last_sections(run: Run) -> list[Section]:
    """Show what the answer rests on: assumptions, what is missing, inputs."""
    plan = run.plan
    grounds: list[Part] = []
    if plan and plan.marks:
        grounds.append(risks.marks(plan.marks))
    if plan and plan.assumptions:
        lines = [[text] for text in plan.assumptions]
        grounds.append(
            Grid(
                caption=f"All {plural(len(lines), 'assumption')}",
                columns=[Column(name="Assumption")],
                rows=lines,
                folded=True,
            )
        )
    left_out: list[Part] = [Sentences(sentences=run.missing, bullets=True)] if run.missing else []
    return [
        Section(key="assumptions", heading="What rests on assumptions", parts=grounds),
        Section(key="left-out", heading="What this page leaves out", parts=left_out),
        Section(key="inputs", heading="Inputs, seed and version", parts=input_parts(plan) if plan else []),
    ]


def input_parts(plan: PlanResult) -> list[Part]:
    """Table what the run was made from, so that it can be made again."""
    size = plan.size
    rows = [
        ["Portfolio", plan.name],
        ["Hash of the portfolio", plan.portfolio_hash],
        ["Seed", str(plan.seed)],
        ["Version of Offtake", plan.version],
        ["Horizon", f"{day(plan.start)} to {day(plan.end)}"],
        ["Scenarios", str(size.scenarios)],
        ["Periods, blocks of the week", f"{size.periods}, {size.blocks}"],
        ["Size", f"{count(size.variables)} variables ({count(size.integers)} whole), {count(size.rows)} rows"],
        ["Value found, and the bound on any plan", f"{money(plan.objective_usd)}, {money(plan.bound_usd)}"],
        ["Gap to the best possible", share(plan.gap)],
        ["Weight of risk", f"{number(plan.risk_weight)} on the worst {share(1.0 - plan.risk_alpha)}"],
        ["Week handed to the rehearsal", day(plan.fleet_week)],
    ]
    files = [[name, code] for name, code in sorted(plan.inputs.items())]
    parts: list[Part] = [Grid(caption="The run", columns=[Column(name="What"), Column(name="Value")], rows=rows)]
    if files:
        columns = [Column(name="File"), Column(name="Hash")]
        parts.append(Grid(caption=f"{plural(len(files), 'input file')}", columns=columns, rows=files, folded=True))
    return parts


def footer(run: Run) -> str:
    """Say in one line what made the page."""
    if run.plan is None:
        return f"Offtake report on run {run.name}."
    plan = run.plan
    return f"Offtake {plan.version}, run {run.name}, seed {plan.seed}, portfolio {plan.portfolio_hash[:HASH_SHOWN]}."
