"""Show what to negotiate: clauses, curves over size and start, months, regret, and what the answer rests on.

Comes in: an :class:`~offtake.plan.result.Appraisal`. Goes out: parts of a section: charts that answer the question in
their title, and tables with every figure. It reads no file and writes no HTML.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import altair as alt
import polars as pl

from offtake.plan.result import Appraisal, ClauseWorth, PointOfCurve, Side
from offtake.report import heats, sums, theme
from offtake.report.parts import Column, Figure, Grid, Key, Part
from offtake.report.words import NOTHING, change, day, money, money_unit, number, share
from offtake.units import PERCENT

ROW_HEIGHT = 30
SMALL_HEIGHT = 180
SEVERAL = 2
QUESTIONS = {
    "size": "How dear may each size be?",
    "start": "How dear may it be, delivered later?",
    "signing": "How dear may it be, signed later?",
}


def parts(appraisal: Appraisal) -> list[Part]:
    """Show all that an appraisal says beyond its value; what was not worked out is left out."""
    found: list[Part] = []
    if appraisal.swings:
        found += [tornado(appraisal), tornado_grid(appraisal)]
    if appraisal.clauses:
        found += [sheet(appraisal), sheet_grid(appraisal)]
    curves = (("size", appraisal.sizes), ("start", appraisal.starts), ("signing", appraisal.signings))
    for name, points in curves:
        told = [one for one in points if one.break_even_fee_ratio is not None]
        if len(told) >= SEVERAL:
            found.append(curve(appraisal, name, told))
    if appraisal.sizes or appraisal.starts or appraisal.signings:
        found.append(curve_grid(appraisal))
    if appraisal.difference_by_period_usd:
        found.append(months(appraisal))
    if appraisal.branches:
        found.append(regret(appraisal))
    if appraisal.right is not None:
        found.append(right_grid(appraisal))
    return found


def key_of(appraisal: Appraisal, name: str) -> str:
    """Name a chart of an offer."""
    return f"{name}-{appraisal.offer}"


def told_money(column: str) -> pl.Expr:
    """Write a column of differences in words."""
    return pl.col(column).map_elements(change, return_dtype=pl.String)


# ── what the answer rests on ─────────────────────────────────────────────────────────────────────────────────────────
def now_usd(appraisal: Appraisal) -> float:
    """Return what signing is worth as assumed: by the best plan that signs, else in full by force."""
    if appraisal.sign or appraisal.forced_usd is None:
        return appraisal.difference_usd
    return appraisal.forced_usd


def tornado(appraisal: Appraisal) -> Figure:
    """Draw what signing is worth at both ends of each assumption."""
    now = now_usd(appraisal)
    rows = [
        {"assumption": one.name, "end": end, "setting": side.setting, "usd": side.value_usd, "now": now}
        for one in appraisal.swings
        for end, side in (("low end", one.low), ("high end", one.high))
        if side.value_usd is not None
    ]
    frame = pl.DataFrame(rows).with_columns(told=told_money("usd"))
    divisor, unit = money_unit(max(map(abs, [*frame["usd"], now])))
    paints = {"low end": theme.paint(0), "high end": theme.paint(1)}
    axis = alt.Axis(
        title=f"What signing adds, {unit}",
        labelExpr=theme.label_expression(divisor),
        tickCount=alt.ExprRef(expr="ceil(width / 90)"),
    )
    names = [one.name for one in appraisal.swings]
    bars = (
        alt.Chart(theme.values(frame))
        .mark_bar(height={"band": 0.42})
        .encode(
            x=alt.X("usd:Q", axis=axis),
            x2="now:Q",
            y=alt.Y("assumption:N", sort=names, axis=theme.name_axis("Assumption")),
            yOffset=alt.YOffset("end:N", sort=list(paints)),
            color=alt.Color("end:N", scale=alt.Scale(domain=list(paints), range=list(paints.values())), legend=None),
            tooltip=[
                alt.Tooltip("assumption:N", title="Assumption"),
                alt.Tooltip("setting:N", title="Put at"),
                alt.Tooltip("told:N", title="Signing then adds"),
            ],
        )
    )
    lines = [rule_at(now, theme.INK), rule_at(0.0, theme.MUTED, dashed=True)]
    return Figure(
        key=key_of(appraisal, "tornado"),
        question="What does the answer rest on?",
        says=sums.say_swings(appraisal),
        spec=theme.finish(theme.layered(bars, *lines), ROW_HEIGHT * len(names)),
        csv=theme.csv(frame.drop("told")),
        legend=[
            Key(label="low end of the range", paint=paints["low end"]),
            Key(label="high end of the range", paint=paints["high end"]),
            Key(label=f"as assumed: {change(now)}", paint=theme.INK, shape="line"),
            Key(label="nothing gained", paint=theme.MUTED, shape="dash"),
        ],
        note="Each assumption is moved alone; the plan with the offer and the plan without it are made anew. "
        "Every range is itself an assumption. A bar as short as the solver's gap says nothing.",
    )


def rule_at(usd: float, paint: str, *, dashed: bool = False) -> alt.Chart:
    """Draw an upright line at an amount."""
    rule: alt.Chart = (
        alt.Chart(theme.values(pl.DataFrame({"at": [usd]})))
        .mark_rule(color=paint, strokeWidth=2, strokeDash=[5, 4] if dashed else [1, 0])
        .encode(x=alt.X("at:Q"))
    )
    return rule


def tornado_grid(appraisal: Appraisal) -> Grid:
    """Table both ends of each assumption."""
    columns = [Column(name="Assumption"), Column(name="Low end"), Column(name="Signing adds", figures=True)]
    columns += [Column(name="High end"), Column(name="Signing adds", figures=True), Column(name="Answer")]

    def side(one: Side) -> list[str]:
        return [one.setting, NOTHING if one.value_usd is None else change(one.value_usd)]

    rows = [
        [one.name, *side(one.low), *side(one.high), "flips" if one.low.flips or one.high.flips else "holds"]
        for one in appraisal.swings
    ]
    return Grid(caption="The ends of each assumption's range", columns=columns, rows=rows, folded=True)


# ── the sheet ────────────────────────────────────────────────────────────────────────────────────────────────────────
def who_gives(one: ClauseWorth) -> str:
    """Say who would have to give a clause."""
    return "they give" if one.asked else "we give"


def sheet(appraisal: Appraisal) -> Figure:
    """Draw what each clause is worth when it is moved by its step."""
    rows = [
        {"clause": one.clause, "step": one.step, "gives": who_gives(one), "usd": one.worth_usd}
        for one in appraisal.clauses
    ]
    frame = pl.DataFrame(rows).with_columns(told=told_money("usd"))
    divisor, unit = money_unit(max(map(abs, frame["usd"])))
    unclear = any(one.unclear for one in appraisal.clauses)
    paints = {"they give": theme.paint(0), "we give": theme.paint(1)}
    axis = alt.Axis(
        title=f"Worth to us, {unit}",
        labelExpr=theme.label_expression(divisor),
        tickCount=alt.ExprRef(expr="ceil(width / 90)"),
    )
    bars = (
        alt.Chart(theme.values(frame))
        .mark_bar()
        .encode(
            x=alt.X("usd:Q", axis=axis),
            y=alt.Y("clause:N", sort=[one.clause for one in appraisal.clauses], axis=theme.name_axis("Clause")),
            color=alt.Color("gives:N", scale=alt.Scale(domain=list(paints), range=list(paints.values())), legend=None),
            tooltip=[
                alt.Tooltip("clause:N", title="Clause"),
                alt.Tooltip("step:N", title="Moved to"),
                alt.Tooltip("gives:N", title="Who gives"),
                alt.Tooltip("told:N", title="Worth to us"),
            ],
        )
    )
    return Figure(
        key=key_of(appraisal, "sheet"),
        question="Which clause is worth negotiating?",
        says=say_sheet(appraisal),
        spec=theme.finish(theme.layered(bars, rule_at(0.0, theme.MUTED)), ROW_HEIGHT * len(rows)),
        csv=theme.csv(frame.drop("told")),
        legend=[
            Key(label="they would have to give it", paint=paints["they give"]),
            Key(label="ours to give", paint=paints["we give"]),
        ],
        note="Each clause is moved alone, by a stated step, and everything is planned anew. A step is a usual size of "
        "a concession (assumption), not a forecast." + (f" {sums.UNCLEAR}" if unclear else ""),
    )


def say_sheet(appraisal: Appraisal) -> str:
    """Say which clause is worth most, and what flips the answer."""
    best = appraisal.clauses[0]
    first = f"Worth most is {best.clause} ({best.step}): {change(best.worth_usd)}."
    if not appraisal.flip:
        return f"{first} No single change that was tried flips the answer."
    return f"{first} The smallest change that flips the answer: {appraisal.flip}."


def sheet_grid(appraisal: Appraisal) -> Grid:
    """Table each clause: how far it is moved, who gives, what it is worth."""
    columns = [Column(name="Clause"), Column(name="Moved to"), Column(name="Who gives")]
    columns += [Column(name="Worth to us", figures=True), Column(name="Signing is then worth", figures=True)]
    columns += [Column(name="Answer")]
    rows = [
        [
            one.clause,
            one.step,
            who_gives(one),
            sums.say_worth(one),
            change(one.value_usd),
            "flips" if one.flips else "holds",
        ]
        for one in appraisal.clauses
    ]
    return Grid(caption="The sheet to negotiate from, the most valuable clause first", columns=columns, rows=rows)


# ── curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def curve(appraisal: Appraisal, name: str, points: list[PointOfCurve]) -> Figure:
    """Draw up to which fee each size, each day of delivery, or each day of signing, pays."""
    rows = [
        {
            "units": one.units,
            "signed": date.fromisoformat(one.sign_date),
            "delivered": date.fromisoformat(one.delivery_date),
            "percent": (one.break_even_fee_ratio or 0.0) * PERCENT,
            "value": NOTHING if one.value_usd is None else change(one.value_usd),
        }
        for one in points
    ]
    frame = pl.DataFrame(rows)
    day_of = {"start": "delivered", "signing": "signed"}.get(name)
    x = (
        alt.X("units:Q", axis=alt.Axis(title="Units signed on the first day", tickCount=4), scale=alt.Scale(zero=True))
        if day_of is None
        else alt.X(f"{day_of}:T", axis=theme.time_axis(frame[day_of], frame[day_of]))
    )
    most = max(*frame["percent"], PERCENT)
    y = alt.Y(
        "percent:Q", axis=theme.amount_axis("Break-even fee, % of the fee asked"), scale=alt.Scale(domain=[0, most])
    )
    tips = [
        alt.Tooltip("units:Q", title="Units", format=",.3~f"),
        alt.Tooltip("signed:T", title="Signed on", format="%d %b %Y"),
        alt.Tooltip("delivered:T", title="Delivery promised from", format="%d %b %Y"),
        alt.Tooltip("percent:Q", title="Break-even fee, % of the one asked", format=",.1f"),
        alt.Tooltip("value:N", title="Value at the fee asked"),
    ]
    base = alt.Chart(theme.values(frame))
    line = base.mark_line(color=theme.paint(0), strokeWidth=2, point={"filled": True, "size": 60}).encode(
        x=x, y=y, tooltip=tips
    )
    asked = (
        alt.Chart(theme.values(pl.DataFrame({"at": [float(PERCENT)]})))
        .mark_rule(color=theme.MUTED, strokeDash=[5, 4], strokeWidth=2)
        .encode(y=alt.Y("at:Q"))
    )
    best = max(points, key=lambda one: one.break_even_fee_ratio or 0.0)
    where = {
        "size": f"{number(best.units)} units",
        "start": f"delivered from {day(best.delivery_date)}",
        "signing": f"signed on {day(best.sign_date)}",
    }[name]
    return Figure(
        key=key_of(appraisal, name),
        question=QUESTIONS[name],
        says=f"The highest fee that pays is {share(best.break_even_fee_ratio or 0.0)} of the one asked: {where}.",
        spec=theme.finish(theme.layered(line, asked), SMALL_HEIGHT),
        csv=theme.csv(frame),
        legend=[
            Key(label="fee at which it is worth nothing", paint=theme.paint(0), shape="line"),
            Key(label="the fee asked", paint=theme.MUTED, shape="dash"),
        ],
        note=sums.HELD,
    )


def curve_grid(appraisal: Appraisal) -> Grid:
    """Table every point of all curves."""
    columns = [Column(name="Signed on"), Column(name="Delivered from"), Column(name="Units", figures=True)]
    columns += [Column(name="Signing adds", figures=True), Column(name="Break-even fee", figures=True)]
    rows = [
        (
            day(one.sign_date),
            day(one.delivery_date),
            number(one.units),
            NOTHING if one.value_usd is None else change(one.value_usd),
            NOTHING if one.break_even_fee_ratio is None else f"{share(one.break_even_fee_ratio)} of the fee",
        )
        for one in (*appraisal.sizes, *appraisal.starts, *appraisal.signings)
    ]
    told = [list(row) for row in dict.fromkeys(rows)]
    return Grid(
        caption="Value and break-even fee by size, and in full by day of delivery and of signing",
        columns=columns,
        rows=told,
    )


# ── months and regret ────────────────────────────────────────────────────────────────────────────────────────────────
def months(appraisal: Appraisal) -> Figure:
    """Draw what signing adds month by month; a period counts in the month in which it begins."""
    frame = sums.by_month(appraisal).with_columns(
        end=pl.col("month").dt.offset_by("1mo"),
        told=told_money("usd"),
        side=pl.when(pl.col("usd") < 0.0).then(pl.lit("costs")).otherwise(pl.lit("adds")),
    )
    divisor, unit = money_unit(max(map(abs, frame["usd"])))
    sides = alt.Scale(domain=["adds", "costs"], range=[theme.GOOD, theme.BAD])
    chart = (
        alt.Chart(theme.values(frame))
        .mark_bar(stroke=theme.PAPER, strokeWidth=1)
        .encode(
            x=alt.X("month:T", axis=theme.time_axis(frame["month"], frame["end"])),
            x2="end:T",
            y=alt.Y("usd:Q", axis=theme.amount_axis(f"Added to mean net value, {unit}", divisor)),
            y2=alt.Y2Datum(0),
            color=alt.Color("side:N", scale=sides, legend=None),
            tooltip=[
                alt.Tooltip("month:T", title="Month", format="%b %Y"),
                alt.Tooltip("told:N", title="Signing adds"),
            ],
        )
    )
    return Figure(
        key=key_of(appraisal, "months"),
        question="When does signing pay, and when does it cost?",
        says=sums.say_months(appraisal),
        spec=theme.finish(chart, SMALL_HEIGHT),
        csv=theme.csv(frame.select("month", "usd")),
        legend=[Key(label="signing adds", paint=theme.GOOD), Key(label="signing costs", paint=theme.BAD)],
        note="Mean over scenarios, discounted; a period counts in the month in which it begins.",
    )


def regret(appraisal: Appraisal) -> Figure:
    """Draw what each choice falls short of the best one, branch by branch."""
    rows = [
        {"branch": one.branch, "percent": one.probability * PERCENT, "choice": sums.CHOICES.get(name, name), "usd": usd}
        for one in appraisal.branches
        for name, usd in one.regret_usd.items()
    ]
    frame = pl.DataFrame(rows)
    divisor, unit = money_unit(max(frame["usd"].to_list()))
    shown = frame.with_columns(amount=pl.col("usd") / divisor, told=pl.col("usd").map_elements(money, pl.String))
    mean = sums.mean_regrets(appraisal)
    best = min(mean, key=lambda name: mean[name])
    order = [sums.CHOICES[name] for name in sums.CHOICES if name in mean]
    branches = list(dict.fromkeys(frame["branch"].to_list()))
    return Figure(
        key=key_of(appraisal, "regret"),
        question="Which choice would be regretted in which future?",
        says=f"On average least is regretted by: {sums.CHOICES.get(best, best)} ({money(mean[best])}).",
        spec=theme.finish(heats.heat(shown, ("choice", order), ("branch", branches)), ROW_HEIGHT * len(branches)),
        csv=theme.csv(frame),
        legend=[
            Key(label="the best choice there", paint=theme.HEAT[0]),
            Key(label=f"regret, {unit}; the stronger the paint, the more", paint=theme.HEAT[-2]),
        ],
        note="Regret is what a choice falls short of the best one, on average within a branch of growth and "
        f"a reading of the terms. {sums.say_missing(appraisal)}".rstrip(),
    )


def right_grid(appraisal: Appraisal) -> Grid:
    """Table the three plans that tell what the right to leave is worth."""
    right = appraisal.right
    if right is None:
        raise AssertionError("a right to leave is tabled where there is one")

    def told(usd: float | None, write: Callable[[float], str] = change) -> str:
        return NOTHING if usd is None else write(usd)

    rows = [
        ["Signing adds, if we may never leave", told(right.none_usd)],
        [f"Signing adds, with {number(right.notice_days)} days' notice", told(right.notice_usd)],
        ["Signing adds, if notice were given knowing the future", told(right.foresight_usd)],
        ["The right to leave is worth", told(right.right_usd)],
        ["It would be worth in foresight", told(right.right_in_foresight_usd)],
    ]
    columns = [Column(name="Plan"), Column(name="Amount", figures=True)]
    return Grid(caption="What our right to leave is worth", columns=columns, rows=rows)
