"""Draw the charts of chance and scarcity: what each scenario brings, what is scarce, what rests on assumptions.

The same kind of module as ``figures.py``, for charts that are not about time.
"""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import polars as pl

from offtake.plan.result import Appraisal, Mark, PlanResult
from offtake.report import theme
from offtake.report.parts import Figure, Key
from offtake.report.words import change, count, listing, money, money_unit, number, plural, share
from offtake.units import PERCENT

DOT_LEAST, DOT_MOST = 30, 260  # areas of the least and the most likely scenario, in square pixels
LANES = 3  # the dots of one branch are spread over so many lines
ROW_HEIGHT = 54
CELL_HEIGHT = 30
LABEL_WIDTH = 58
BLOCKS_LABELLED = 8  # with more blocks than this a cell is too narrow for its figure
CONFIDENCES = ("confirmed", "reported", "estimate", "assumption")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Mark one value across a strip of dots."""

    at: float
    label: str
    paint: str
    dashed: bool = False


def strip(frame: pl.DataFrame, title: str, rules: list[Rule], *, by_sign: bool) -> alt.LayerChart:
    """Draw one dot for each scenario, one row for each growth branch; the likelier, the larger."""
    lanes = frame.sort("usd", "scenario").with_columns(
        lane=pl.int_range(pl.len()).over("branch") % LANES,
        told=pl.col("usd").map_elements(change if by_sign else money, return_dtype=pl.String),
        side=pl.when(pl.col("usd") < 0.0).then(pl.lit("below zero")).otherwise(pl.lit("above zero")),
    )
    sides = alt.Scale(domain=["above zero", "below zero"], range=[theme.GOOD, theme.BAD])
    branches = frame["branch"].unique(maintain_order=True).to_list()
    divisor, unit = money_unit(max(map(abs, [*frame["usd"], *(rule.at for rule in rules)])))
    count_of_ticks = alt.ExprRef(expr="ceil(width / 80)")
    axis = alt.Axis(title=f"{title}, {unit}", labelExpr=theme.label_expression(divisor), tickCount=count_of_ticks)
    dots = (
        alt.Chart(theme.values(lanes))
        .mark_circle(opacity=0.75, stroke=theme.PAPER, strokeWidth=0.5, clip=False)
        .encode(
            x=alt.X("usd:Q", axis=axis),
            y=alt.Y("branch:N", sort=branches, axis=theme.name_axis("Demand growth")),
            yOffset=alt.YOffset("lane:O"),
            size=alt.Size("percent:Q", scale=alt.Scale(zero=True, range=[DOT_LEAST, DOT_MOST]), legend=None),
            color=alt.Color("side:N", scale=sides, legend=None) if by_sign else alt.value(theme.paint(0)),
            tooltip=[
                alt.Tooltip("scenario:N", title="Scenario"),
                alt.Tooltip("description:N", title="What happens"),
                alt.Tooltip("told:N", title=title),
                alt.Tooltip("percent:Q", title="Probability, %", format=".1f"),
            ],
        )
    )
    lines = [
        alt.Chart(theme.values(pl.DataFrame({"at": [rule.at]})))
        .mark_rule(color=rule.paint, strokeWidth=2, strokeDash=[5, 4] if rule.dashed else [1, 0])
        .encode(x=alt.X("at:Q"))
        for rule in rules
    ]
    return theme.layered(dots, *lines)


def keys(rules: list[Rule]) -> list[Key]:
    """Explain the rules of a strip."""
    return [Key(label=rule.label, paint=rule.paint, shape="dash" if rule.dashed else "line") for rule in rules]


def net_value(frame: pl.DataFrame, plan: PlanResult) -> Figure:
    """Draw the net value of the plan in each scenario, with the mean and the mean of the worst."""
    worst = f"mean of the worst {share(1.0 - plan.risk_alpha)}"
    rules = [
        Rule(at=plan.mean_net_usd, label=f"mean: {money(plan.mean_net_usd)}", paint=theme.INK),
        Rule(at=-plan.cvar_loss_usd, label=f"{worst}: {money(-plan.cvar_loss_usd)}", paint=theme.BAD,
             dashed=True),
    ]  # fmt: skip
    low, high = min(frame["usd"]), max(frame["usd"])
    losing = frame.filter(pl.col("usd") < 0.0)["percent"].sum()
    loss = f"The chance of a loss is {share(float(losing) / PERCENT)}." if losing else "No scenario ends in a loss."
    rows = frame["branch"].n_unique()
    return Figure(
        key="outcomes",
        question="What does the plan bring, from the worst future to the best?",
        says=f"From {money(low)} to {money(high)} net over {plural(frame.height, 'scenario')}; {worst}: "
        f"{money(-plan.cvar_loss_usd)}. {loss}",
        spec=theme.finish(strip(frame, "Net value", rules, by_sign=False), ROW_HEIGHT * rows),
        csv=theme.csv(frame),
        legend=[Key(label="one scenario; the likelier, the larger", paint=theme.paint(0), shape="dot"), *keys(rules)],
    )


def offer_value(frame: pl.DataFrame, appraisal: Appraisal) -> Figure:
    """Draw what signing one offer adds or costs in each scenario."""
    mean = appraisal.mean_difference_usd
    rules = [
        Rule(at=0.0, label="no difference", paint=theme.MUTED),
        Rule(at=mean, label=f"mean: {change(mean)}", paint=theme.INK, dashed=True),
    ]
    title = "Difference"
    rows = frame["branch"].n_unique()
    return Figure(
        key=f"appraisal-{appraisal.offer}",
        question=f"In which futures does signing {appraisal.name or appraisal.offer} pay?",
        says=say_offer_value(frame, appraisal),
        spec=theme.finish(strip(frame, title, rules, by_sign=True), ROW_HEIGHT * rows),
        csv=theme.csv(frame),
        legend=[
            Key(label="signing pays", paint=theme.GOOD, shape="dot"),
            Key(label="signing costs", paint=theme.BAD, shape="dot"),
            *keys(rules),
        ],
        note="The plan with the offer less the plan without it: one dot for each scenario; the likelier, the larger.",
    )


def say_offer_value(frame: pl.DataFrame, appraisal: Appraisal) -> str:
    """Say how likely signing is to prove right, and in which branches of growth."""
    mean = (pl.col("usd") * pl.col("percent")).sum() / pl.col("percent").sum()
    branches = frame.group_by("branch", maintain_order=True).agg(mean=mean)
    pays = branches.filter(pl.col("mean") > 0.0)["branch"].to_list()
    text = f"Signing proves right with probability {share(appraisal.proves_right_share)}"
    if not pays:
        return f"{text}; in no branch of growth does it pay on average."
    counted = "the branch" if len(pays) == 1 else "the branches"
    where = "in every branch of growth" if len(pays) == branches.height else f"in {counted} {listing(pays)}"
    return f"{text}; on average it pays {where}."


def prices(frame: pl.DataFrame) -> Figure:
    """Draw the price of a busy chip-hour by place and block of the week, with the figure in each cell."""
    places = frame["place"].unique(maintain_order=True).to_list()
    blocks = frame["block"].unique(maintain_order=True).to_list()
    dearest = frame.sort("price", "place", descending=[True, False]).row(0, named=True)
    limits = heat_limits(frame["price"].to_list())
    base = alt.Chart(theme.values(frame)).encode(
        x=alt.X("block:N", sort=blocks, axis=block_axis(len(blocks))),
        y=alt.Y("place:N", sort=places, axis=theme.name_axis("Site · chip")),
    )
    tips = [
        alt.Tooltip("place:N", title="Site · chip"),
        alt.Tooltip("block:N", title="Block"),
        alt.Tooltip("price:Q", title="$ per chip-hour", format=",.3f"),
    ]
    cells = base.mark_rect(stroke=theme.PAPER, strokeWidth=2).encode(color=by_heat(theme.HEAT, limits), tooltip=tips)
    labels = base.mark_text(fontSize=12).encode(
        text=alt.Text("price:Q", format=".2f"), color=by_heat(theme.HEAT_TEXT, limits), tooltip=tips
    )
    chart = theme.layered(cells, labels) if len(blocks) <= BLOCKS_LABELLED else theme.layered(cells)
    return Figure(
        key="prices",
        question="Where and when are chips scarce?",
        says=f"Dearest is {dearest['place']} in block {dearest['block']}: "
        f"a busy chip-hour there takes ${number(dearest['price'])} from other work, mean over the horizon.",
        spec=theme.finish(chart.resolve_scale(color="independent"), CELL_HEIGHT * len(places)),
        csv=theme.csv(frame),
        legend=heat_keys(limits),
        note="Shadow prices of a busy chip-hour: the chip, its power beyond idling, and its link. They say what is "
        "scarce, not what an offer is worth.",
    )


def block_axis(blocks: int) -> alt.Axis:
    """Return an axis of blocks whose labels are short where the cells are narrow."""
    label = f"width < {blocks * LABEL_WIDTH} ? replace(datum.label, 'block ', '') : datum.label"
    return alt.Axis(
        title="Block of the week", labelExpr=label, labelAngle=0, labelOverlap="greedy", domain=False, ticks=False
    )


def heat_limits(prices_usd: list[float]) -> list[float]:
    """Return the prices at which the paint changes: as many cells between each two, so that one hides none."""
    above = pl.Series([price for price in prices_usd if price > 0.0]).round_sig_figs(2)
    shares = [place / len(theme.HEAT) for place in range(1, len(theme.HEAT))]
    return [float(above.quantile(share, "higher") or 0.0) for share in shares]


def by_heat(paints: tuple[str, ...], limits: list[float]) -> alt.Color:
    """Choose a paint by price."""
    return alt.Color("price:Q", scale=alt.Scale(type="threshold", domain=limits, range=list(paints)), legend=None)


def heat_keys(limits: list[float]) -> list[Key]:
    """Explain the least, the middle and the dearest paint."""
    middle = len(limits) // 2
    return [
        Key(label=f"under ${number(limits[0])} per chip-hour", paint=theme.HEAT[0]),
        Key(label=f"${number(limits[middle - 1])} to ${number(limits[middle])}", paint=theme.HEAT[middle]),
        Key(label=f"${number(limits[-1])} and over", paint=theme.HEAT[-1]),
    ]


def marks(rows: list[Mark]) -> Figure:
    """Draw how much of the figures, of the fees and of the firm power rests on each mark of confidence."""
    rows = [row for row in rows if row.figures]
    names = [name for name in CONFIDENCES if any(row.confidence == name for row in rows)]
    names += [row.confidence for row in rows if row.confidence not in CONFIDENCES]
    of = {"figures": "figures_share", "fees": "fees_share", "firm power": "kw_share"}
    frame = pl.DataFrame(
        {
            "of": [thing for thing in of for _ in rows],
            "confidence": [row.confidence for _ in of for row in rows],
            "percent": [float(getattr(row, column)) * PERCENT for column in of.values() for row in rows],
            "place": [names.index(row.confidence) for _ in of for row in rows],
        }
    )
    paints = {name: theme.CONFIDENCE_PAINTS[place % len(theme.CONFIDENCE_PAINTS)] for place, name in enumerate(names)}
    chart = (
        alt.Chart(theme.values(frame))
        .mark_bar(stroke=theme.PAPER, strokeWidth=1)
        .encode(
            x=alt.X(
                "percent:Q",
                scale=alt.Scale(domain=[0, PERCENT]),
                axis=alt.Axis(title="Share, %", tickCount=5, format="~f"),
            ),
            y=alt.Y("of:N", sort=list(of), axis=theme.name_axis("Share of")),
            color=alt.Color("confidence:N", scale=alt.Scale(domain=names, range=list(paints.values())), legend=None),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("of:N", title="Share of"),
                alt.Tooltip("confidence:N", title="Confidence"),
                alt.Tooltip("percent:Q", title="%", format=".1f"),
            ],
        )
    )
    total = sum(row.figures for row in rows)
    weak = next((row for row in rows if row.confidence == "assumption"), None)
    says = f"Of {count(total)} figures none is an assumption."
    if weak is not None:
        says = (
            f"{share(weak.figures_share)} of {count(total)} figures are assumptions; on them rest "
            f"{share(weak.fees_share)} of the fees and {share(weak.kw_share)} of the firm power."
        )
    return Figure(
        key="marks",
        question="How much rests on assumptions?",
        says=says,
        spec=theme.finish(chart, CELL_HEIGHT * len(of)),
        csv=theme.csv(frame.drop("place")),
        legend=[Key(label=name, paint=paint) for name, paint in paints.items()],
    )
