"""Draw the charts of a plan: each answers the question in its title, and says the answer in words as well.

Comes in: small frames from ``sums.py``. Goes out: :class:`~offtake.report.parts.Figure` records with
Vega-Lite specs. Legends are part of the page, not of the chart, so that they wrap on a telephone. It
reads no file and writes no HTML.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from offtake.report import sums, theme
from offtake.report.parts import Figure, Key
from offtake.report.words import day, listing, money, money_unit, number, power, power_unit, share
from offtake.units import PERCENT

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


def period_bars(frame: pl.DataFrame, y: alt.Y, paints: dict[str, str]) -> alt.Chart:
    """Draw bars from ``low`` to ``high``, as wide as their periods; the column ``series`` picks the paint."""
    times = theme.time_axis(frame["start"], frame["end"])
    scale = alt.Scale(domain=list(paints), range=list(paints.values()))
    bars: alt.Chart = (
        alt.Chart(theme.values(frame))
        .mark_bar(stroke=theme.PAPER, strokeWidth=0.5)
        .encode(
            x=alt.X("start:T", axis=times),
            x2=alt.X2("end:T"),
            y=y,
            y2=alt.Y2("low:Q"),
            color=alt.Color("series:N", scale=scale, legend=None),
        )
    )
    return bars


def capacity(frame: pl.DataFrame) -> Figure:
    """Draw delivered capacity by period, stacked by partner; what is not firm is hatched."""
    partners = frame["partner"].unique().sort().to_list()
    kinds = frame["firmness"].unique(maintain_order=True).to_list()
    place = {partner: number for number, partner in enumerate(partners)}
    rows = frame.with_columns(series=pl.concat_str(["partner", "firmness"], separator=", "))
    paints = {
        series: theme.paint(place[partner], theme.HATCHES.get(firmness, "letter"))
        for series, partner, firmness in rows.select("series", "partner", "firmness").unique(maintain_order=True).rows()
    }
    tips = [
        alt.Tooltip("partner:N", title="Partner"), alt.Tooltip("firmness:N", title="Firmness"),
        alt.Tooltip("told:N", title="Power"), alt.Tooltip("start:T", title="From", format="%d %b %Y"),
    ]  # fmt: skip
    divisor, unit = power_unit(max(frame.group_by("start").agg(pl.col("kw").sum())["kw"]))
    y = alt.Y("high:Q", axis=theme.amount_axis(f"Facility power delivered, {unit}", divisor))
    told = pl.col("kw").map_elements(power, return_dtype=pl.String)
    chart = period_bars(sums.stack(rows.with_columns(told=told), "kw"), y, paints)
    legend = [Key(label=partner, paint=theme.paint(place[partner])) for partner in partners]
    hatched = [kind for kind in kinds if theme.HATCHES.get(kind, "letter")]
    legend += [
        Key(label=f"{kind}, not firm", paint=f"url(#{theme.HATCHES.get(kind, 'letter')}-ink)") for kind in hatched
    ]
    return Figure(
        key="capacity",
        question="How much capacity does the plan have, from whom, and how firm is it?",
        says=say_capacity(frame),
        spec=theme.finish(chart.encode(tooltip=tips)),
        csv=theme.csv(frame),
        legend=legend,
        note="Mean over scenarios of what is kept and delivered, after slips, ramps and exits.",
    )


def say_capacity(frame: pl.DataFrame) -> str:
    """Say how capacity grows and how much of it is not firm in the end."""
    totals = frame.group_by("start").agg(pl.col("kw").sum()).sort("start")
    first, last = totals.row(0), totals.row(-1)
    end = frame.filter(pl.col("start") == last[0])
    loose = end.filter(pl.col("firmness") != "firm")["kw"].sum()
    biggest = end.group_by("partner").agg(pl.col("kw").sum()).sort("kw", "partner", descending=[True, False]).row(0)
    text = (
        f"From {power(first[1])} on {day(str(first[0]))} "
        f"to {power(last[1])} from {day(str(last[0]))}; "
        f"then the largest partner is {biggest[0]} with {share(biggest[1] / last[1]) if last[1] else 'nothing'}"
    )
    return f"{text}, and {share(loose / last[1])} of it is not firm." if loose else f"{text}, and all of it is firm."


def demand(frame: pl.DataFrame) -> Figure:
    """Draw requests per second wanted, with the band of the fan, over what is served."""
    times = theme.time_axis(frame["start"], frame["end"])
    base = alt.Chart(theme.values(sums.steps(frame))).encode(x=alt.X("start:T", axis=times))
    axis = theme.amount_axis("Requests per second, weekly mean", 1, "~s")
    tips = [
        alt.Tooltip("start:T", title="From", format="%d %b %Y"),
        *(
            alt.Tooltip(f"{name}:Q", title=f"{title}, requests per s", format=",.0f")
            for name, title in DEMAND_NAMES.items()
        ),
    ]
    band = base.mark_area(color=theme.paint(0), opacity=0.18, interpolate="step-after").encode(
        y=alt.Y("wanted_p10:Q", axis=axis), y2="wanted_p90:Q"
    )
    served = base.mark_area(color=theme.paint(2), opacity=0.55, interpolate="step-after").encode(
        y=alt.Y("served:Q", axis=axis)
    )
    refused = base.mark_area(color=theme.BAD, opacity=0.75, interpolate="step-after").encode(
        y=alt.Y("served:Q", axis=axis), y2="wanted:Q"
    )
    line = base.mark_line(color=theme.paint(0), strokeWidth=2, interpolate="step-after").encode(
        y=alt.Y("wanted:Q", axis=axis)
    )
    touch = base.mark_rule(opacity=0, strokeWidth=12).encode(tooltip=tips)
    return Figure(
        key="demand",
        question="Does the capacity meet demand?",
        says=say_demand(frame),
        spec=theme.finish(theme.layered(band, served, refused, line, touch)),
        csv=theme.csv(frame),
        legend=[
            Key(label="wanted, mean", paint=theme.paint(0), shape="line"),
            Key(
                label="wanted, 10th to 90th percentile", paint=f"color-mix(in srgb, {theme.paint(0)} 25%, transparent)"
            ),
            Key(label="served, mean", paint=f"color-mix(in srgb, {theme.paint(2)} 55%, transparent)"),
            Key(label="not served (refused or deferred)", paint=theme.BAD),
        ],
        note="All workloads together. The band adds up the workloads' percentiles, as if all grew together.",
    )


DEMAND_NAMES = {
    "wanted": "Wanted, mean",
    "wanted_p10": "Wanted, 10th percentile",
    "wanted_p90": "Wanted, 90th percentile",
    "served": "Served, mean",
    "refused": "Refused, mean",
}


def say_demand(frame: pl.DataFrame) -> str:
    """Say how demand grows and how much of it is refused where it is worst."""
    first, last = frame.row(0, named=True), frame.row(-1, named=True)
    shares = frame.with_columns(
        part=pl.when(pl.col("wanted") > 0.0).then(pl.col("refused") / pl.col("wanted")).otherwise(0.0)
    )
    worst = shares.sort("part", "start", descending=[True, False]).row(0, named=True)
    grows = f"Mean demand goes from {number(first['wanted'])} to {number(last['wanted'])} requests per second"
    if worst["part"] <= 0.0:
        return f"{grows}; on average none is refused."
    return f"{grows}; refusals are worst from {day(str(worst['start']))}, at {share(worst['part'])} of requests."


def refusals(frame: pl.DataFrame) -> Figure:
    """Draw the share of each workload's requests that is refused."""
    names = frame["workload"].unique(maintain_order=True).to_list()
    scale = alt.Scale(domain=names, range=[theme.paint(place) for place in range(len(names))])
    dashes = alt.Scale(domain=names, range=[DASHES[place % len(DASHES)] for place in range(len(names))])
    chart = (
        alt.Chart(theme.values(sums.steps(frame)))
        .mark_line(strokeWidth=2, interpolate="step-after")
        .encode(
            x=alt.X("start:T", axis=theme.time_axis(frame["start"], frame["end"])),
            y=alt.Y("refused_percent:Q", axis=theme.amount_axis("Requests refused, % of the workload's")),
            color=alt.Color("workload:N", scale=scale, legend=None),
            strokeDash=alt.StrokeDash("workload:N", scale=dashes, legend=None),
            tooltip=[
                alt.Tooltip("workload:N", title="Workload"),
                alt.Tooltip("refused_percent:Q", title="Refused, %", format=".1f"),
                alt.Tooltip("start:T", title="From", format="%d %b %Y"),
            ],
        )
    )
    peaks = frame.group_by("workload", maintain_order=True).agg(pl.col("refused_percent").max())
    most = [f"{name} {share(top / PERCENT)}" for name, top in peaks.rows() if top > 0.0]
    return Figure(
        key="refusals",
        question="Who is turned away, and when?",
        says=f"At worst: {listing(most)} of requests." if most else "No workload has a request refused, on average.",
        spec=theme.finish(chart, 180),
        csv=theme.csv(frame),
        legend=[
            Key(label=name, paint=theme.paint(place), shape="line" if place % len(DASHES) == 0 else "dash")
            for place, name in enumerate(names)
        ],
        note="Mean over scenarios and over the hours of the week.",
    )


def money_flow(frame: pl.DataFrame) -> Figure:
    """Draw value above zero and costs below, by period, with the net as a line."""
    parts = frame["part"].unique(maintain_order=True).to_list()
    paints = {part: theme.paint(place) for place, part in enumerate(parts)}
    told = pl.col("usd_per_month").map_elements(money, return_dtype=pl.String)
    rows = sums.stack(frame.with_columns(series="part", told=told), "usd_per_month")
    divisor, unit = money_unit(max(map(abs, [*rows["high"], 0.0])))
    axis = theme.amount_axis(f"{unit} per month", divisor)
    bars = period_bars(rows, alt.Y("high:Q", axis=axis), paints).encode(
        tooltip=[
            alt.Tooltip("part:N", title="Part"),
            alt.Tooltip("told:N", title="A month"),
            alt.Tooltip("start:T", title="From", format="%d %b %Y"),
        ]
    )
    net = frame.group_by("start", "end").agg(net=pl.col("usd_per_month").sum()).sort("start")
    line = (
        alt.Chart(theme.values(sums.steps(net)))
        .mark_line(color=theme.INK, strokeWidth=2, interpolate="step-after")
        .encode(x="start:T", y=alt.Y("net:Q", axis=axis))
    )
    days = (net["end"] - net["start"]).dt.total_days()
    mean, last = float((net["net"] * days).sum()) / float(days.sum()), float(net["net"][-1])
    return Figure(
        key="money",
        question="Where does the money come from and go to?",
        says=f"Net of all costs the plan brings {money(mean)} a month on average, and {money(last)} at the end.",
        spec=theme.finish(theme.layered(bars, line)),
        csv=theme.csv(frame),
        legend=[Key(label=part, paint=paint) for part, paint in paints.items()]
        + [Key(label="net", paint=theme.INK, shape="line")],
        note="Mean over scenarios, as a rate per month so that weeks and months compare.",
    )
