"""Show how far a plan can be trusted: in words, on fresh paths, against simple rules, and offer by offer.

Comes in: a :class:`~offtake.plan.result.PlanResult`. Goes out: a :class:`~offtake.report.parts.Section`, empty where
trust was not worked out. It writes no HTML.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from offtake.plan.result import Leeway, PlanResult, Range, RuleLoss, Steadiness, Trust
from offtake.report import theme
from offtake.report.parts import Column, Figure, Grid, Key, Part, Section, Sentences
from offtake.report.words import NOTHING, change, listing, money, money_unit, number, plural, share

ROW_HEIGHT = 34
DOT_AREA = 90


def section(plan: PlanResult) -> Section:
    """Lay out the section on trust."""
    return Section(key="trust", heading="How far to trust it", parts=parts_of(plan, plan.trust) if plan.trust else [])


def parts_of(plan: PlanResult, trust: Trust) -> list[Part]:
    """Show all that was worked out, the sentences first."""
    parts: list[Part] = [Sentences(sentences=trust.sentences, bullets=True)]
    if any(one.loss_usd is not None for one in trust.rules):
        parts.append(losses(trust))
    if trust.rules:
        parts.append(rule_grid(trust.rules))
    if trust.fresh is not None:
        parts.append(fresh_grid(plan, trust))
    if trust.leeway:
        parts.append(offer_grid(trust))
    if trust.left_out:
        parts.append(Sentences(sentences=trust.left_out, bullets=True, fold="What was not worked out"))
    return parts


def losses(trust: Trust) -> Figure:
    """Draw what each simple rule loses against the plan: a dot on its own scenarios, a bar on fresh paths."""
    shown = [one for one in trust.rules if one.loss_usd is not None]
    frame = pl.DataFrame([loss_row(one) for one in shown], schema_overrides={"low": pl.Float64, "high": pl.Float64})
    order = frame.sort("usd", "rule")["rule"].to_list()
    most = max(map(abs, [*frame["usd"], *frame["low"].drop_nulls(), *frame["high"].drop_nulls()]))
    divisor, unit = money_unit(most)
    axis = alt.Axis(
        title=f"Loss against the plan, {unit}",
        labelExpr=theme.label_expression(divisor),
        tickCount=alt.ExprRef(expr="ceil(width / 80)"),
    )
    tips = [
        alt.Tooltip("rule:N", title="Rule"),
        alt.Tooltip("told:N", title="Loss on the plan's scenarios"),
        alt.Tooltip("fresh:N", title="Loss on fresh paths, 95% interval"),
    ]
    base = alt.Chart(theme.values(frame)).encode(y=alt.Y("rule:N", sort=order, axis=theme.name_axis("Rule")))
    bars = base.mark_rule(color=theme.paint(0), strokeWidth=6, opacity=0.35).encode(
        x=alt.X("low:Q", axis=axis), x2="high:Q", tooltip=tips
    )
    dots = base.mark_circle(color=theme.INK, size=DOT_AREA, opacity=1.0).encode(
        x=alt.X("usd:Q", axis=axis), tooltip=tips
    )
    zero = (
        alt.Chart(theme.values(pl.DataFrame({"at": [0.0]})))
        .mark_rule(color=theme.MUTED, strokeDash=[5, 4], strokeWidth=2)
        .encode(x="at:Q")
    )
    return Figure(
        key="simple-rules",
        question="What would a simple rule lose?",
        says=say_losses(shown),
        spec=theme.finish(theme.layered(zero, bars, dots), ROW_HEIGHT * len(order)),
        csv=theme.csv(frame.drop("told", "fresh")),
        legend=[
            Key(label="on the plan's own scenarios", paint=theme.INK, shape="dot"),
            Key(label="on fresh paths, 95% interval", paint=theme.paint(0), shape="line"),
            Key(label="the plan", paint=theme.MUTED, shape="dash"),
        ],
        note="Each rule decides the first day; all that follows is planned at its best, the kindest reading of a rule.",
    )


def loss_row(one: RuleLoss) -> dict[str, str | float | None]:
    """Return the row of one rule."""
    fresh = one.fresh_loss_usd
    return {
        "rule": one.rule,
        "usd": one.loss_usd,
        "low": fresh.low if fresh else None,
        "high": fresh.high if fresh else None,
        "told": NOTHING if one.loss_usd is None else money(one.loss_usd),
        "fresh": interval(fresh),
    }


def say_losses(rules: list[RuleLoss]) -> str:
    """Say which rule loses least and which most."""
    by_loss = sorted((one.loss_usd, one.rule) for one in rules if one.loss_usd is not None)
    (least, _), (most, worst) = by_loss[0], by_loss[-1]
    near = [rule for loss, rule in by_loss if loss == least]
    if least == most:
        return f"Every rule loses {money(least)}."
    verb = "loses" if len(near) == 1 else "lose"
    return f"{listing(near)} {verb} least, {money(least)}; {worst} loses most, {money(most)}.".capitalize()


def interval(one: Range | None) -> str:
    """Write a 95% interval."""
    if one is None or one.low is None or one.high is None:
        return NOTHING
    return f"{money(one.low)} to {money(one.high)}"


def rule_grid(rules: list[RuleLoss]) -> Grid:
    """Table every rule: what it signs on the first day, and what it loses."""
    columns = [
        Column(name="Rule"),
        Column(name="What it does"),
        Column(name="Signs today"),
        Column(name="Loss", figures=True),
        Column(name="Loss on fresh paths, 95%", figures=True),
    ]
    rows = [
        [
            one.rule,
            one.words,
            listing([f"{number(units)} {offer}" for offer, units in one.units.items() if units]) or "nothing",
            "breaks a limit" if one.loss_usd is None else money(one.loss_usd),
            interval(one.fresh_loss_usd),
        ]
        for one in rules
    ]
    return Grid(caption="Simple rules against the plan, risk weighed", columns=columns, rows=rows, folded=True)


def fresh_grid(plan: PlanResult, trust: Trust) -> Grid:
    """Table the plan on its own scenarios beside the plan on fresh paths."""
    fresh = trust.fresh
    if fresh is None:
        raise AssertionError("asked for fresh paths where there are none")
    worst = f"Mean of the worst {share(1.0 - plan.risk_alpha)}"
    tail = fresh.cvar_loss_usd
    turned = Range(
        estimate=-tail.estimate,
        low=None if tail.high is None else -tail.high,
        high=None if tail.low is None else -tail.low,
    )
    rows = [
        ["Mean net value", money(plan.mean_net_usd), *both(fresh.mean_net_usd)],
        [worst, money(-plan.cvar_loss_usd), *both(turned)],
        ["Value, risk weighed", money(plan.objective_usd), *both(fresh.value_usd)],
    ]
    columns = [
        Column(name="Measure"),
        Column(name="Own scenarios", figures=True),
        Column(name="Fresh paths", figures=True),
        Column(name="95% interval", figures=True),
    ]
    return Grid(
        caption=f"The plan on {plural(fresh.paths, 'fresh path')} (seed {fresh.seed}), following its own tree",
        columns=columns,
        rows=rows,
    )


def both(one: Range) -> list[str]:
    """Write an estimate, and its interval."""
    return [money(one.estimate), interval(one)]


def offer_grid(trust: Trust) -> Grid:
    """Table each open offer: what other draws sign today, and what plans at little loss sign."""
    steady = {one.offer: one for one in trust.steadiness}
    columns = [
        Column(name="Offer"),
        Column(name="Units today", figures=True),
        Column(name="Other draws", figures=True),
        Column(name="Without it", figures=True),
        Column(name="With some of it", figures=True),
        Column(name=f"Units within {share(trust.near_share)}", figures=True),
    ]
    rows = [
        [
            one.offer,
            number(one.units_now),
            drawn(steady.get(one.offer)),
            lost(one.without_loss_usd),
            lost(one.with_loss_usd),
            span(one),
        ]
        for one in trust.leeway
    ]
    caption = f"Each open offer today: {plural(trust.samples, 'other draw')}, and the best plans with it and without it"
    return Grid(caption=caption, columns=columns, rows=rows)


def drawn(one: Steadiness | None) -> str:
    """Write what other draws sign of an offer."""
    if one is None:
        return NOTHING
    if one.units_least == one.units_most:
        return number(one.units_least)
    return f"{number(one.units_least)} to {number(one.units_most)}"


def span(one: Leeway) -> str:
    """Write the range of units of near plans."""
    if one.units_least == one.units_most:
        return number(one.units_least)
    return f"{number(one.units_least)} to {number(one.units_most)}"


def lost(usd: float | None) -> str:
    """Write what is lost, as a change of value."""
    if usd is None:
        return "breaks a limit"
    return "the plan" if usd == 0.0 else change(-usd)
