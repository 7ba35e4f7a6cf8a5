"""Show how policies compare on the same requests: value in time, with what is known of the differences, and the rest.

Comes in: :class:`~offtake.rehearse.compare.Comparison` records. Goes out: a chart and a table. Intervals are those of
the differences to the first policy, load by load, so that the luck of a load cancels. What was not stationary on some
load is marked wherever it stands.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from offtake.rehearse.compare import Comparison
from offtake.report import theme
from offtake.report.parts import Column, Figure, Grid, Key, Part, Section, Sentences
from offtake.report.verdicts import beside, doubts, marked, policy_name
from offtake.report.words import NOTHING, listing, money, plural, share, short, tally
from offtake.units import PERCENT

ROW_HEIGHT = 40  # two lines of text


def section(comparisons: Mapping[str, Comparison]) -> Section:
    """Show each comparison that was made, the main one first."""
    parts: list[Part] = []
    for name, comparison in comparisons.items():
        if len(comparisons) > 1:
            parts.append(Sentences(sentences=[f"In the rehearsal {name.replace('_', ' ')}:"]))
        parts += [introduction(comparison), value_in_time(comparison, name), policy_grid(comparison)]
    return Section(key="policies", heading="How policies compare", parts=parts)


def introduction(comparison: Comparison) -> Sentences:
    """Say what was compared, and which of it holds for its own length alone."""
    several = plural(len(comparison.seeds), "load")
    loads = "load" if len(comparison.seeds) == 1 else several
    what = (
        f"{len(comparison.rows)} policies, each on the same {loads} of {tally(comparison.requests)} requests, "
        f"worth {money(comparison.offered_usd)} if all are served in time."
    )
    told = [what]
    if len(comparison.seeds) == 1:
        told.append("One load shows no spread, so no interval stands beside a difference.")
    return Sentences(sentences=told + doubts(comparison), tone="bad" if doubts(comparison) else "plain")


def value_in_time(comparison: Comparison, name: str) -> Figure:
    """Draw each policy's value in time, with the interval of its difference to the first."""
    frame, first = values_frame(comparison), policy_name(comparison.rows[0])
    spread = "The line is the 95% interval of the difference to it. " if len(comparison.seeds) > 1 else ""
    legend = [Key(label="mean of the loads", paint=theme.paint(0), shape="dot")]
    if spread:
        legend.append(Key(label=f"95% interval of the difference to {first}", paint=theme.paint(0), shape="line"))
    legend.append(Key(label=first, paint=theme.MUTED, shape="line"))
    if comparison.hindsight_usd is not None:
        legend.append(Key(label="no policy can serve more (hindsight)", paint=theme.paint(1), shape="dash"))
    return Figure(
        key="policies-value" if name == "main" else f"policies-value-{name}",
        question="Which policy serves the most value in time?",
        says=say_values(comparison),
        spec=theme.finish(values_chart(frame, comparison), ROW_HEIGHT * frame.height),
        csv=theme.csv(frame.drop("label", "told")),
        legend=legend,
        note=f"Each policy beside {first} on the same loads. {spread}{cut_off(frame)}".strip(),
    )


def values_frame(comparison: Comparison) -> pl.DataFrame:
    """Return a row for each policy: value in time and the ends of its interval, in per cent of the value offered."""
    whole = comparison.offered_usd or 1.0
    zero = comparison.rows[0].means["value_in_time_usd"]
    rows = []
    for row in comparison.rows:
        difference, mean = row.differences["value_in_time_usd"], row.means["value_in_time_usd"]
        low, high = (
            PERCENT * (mean if end is None else zero + end) / whole for end in (difference.low, difference.high)
        )
        name, hindsight = marked(policy_name(row), row), row.hindsight_share
        label = name if hindsight is None else f"{name}|{share(hindsight)} of hindsight"
        told = NOTHING if row is comparison.rows[0] else beside(difference, whole)
        rows.append((policy_name(row), PERCENT * mean / whole, low, high, hindsight, row.status, label, told))
    names = ["policy", "percent", "low", "high", "hindsight_share", "status", "label", "told"]
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def least_of(frame: pl.DataFrame) -> float:
    """Return where the scale begins: at zero, unless all that is shown lies far from it."""
    least, most = min(frame["low"]), max(frame["high"])
    return 0.0 if 0.0 <= least < most - least else least


def cut_off(frame: pl.DataFrame) -> str:
    """Say that the scale does not begin at zero, where it does not."""
    return "The scale does not begin at zero." if least_of(frame) > 0.0 else ""


def values_chart(frame: pl.DataFrame, comparison: Comparison) -> alt.LayerChart:
    """Draw a mark and an interval for each policy, a line at the first, and one that no policy can pass."""
    bound = comparison.hindsight_usd
    top = None if bound is None else PERCENT * bound / (comparison.offered_usd or 1.0)
    scale = alt.Scale(
        domain=[least_of(frame), max([*frame["high"], *([] if top is None else [top])])], zero=False, nice=True
    )
    x_axis = alt.Axis(title="Value served in time, % of the value offered", tickCount=5, format="~f", labelFlush=False)
    names = theme.name_axis("Policy").copy()
    names.labelExpr = "split(datum.label, '|')"
    base = alt.Chart(theme.values(frame)).encode(y=alt.Y("label:N", sort=frame["label"].to_list(), axis=names))
    spans = base.mark_rule(color=theme.paint(0), strokeWidth=2).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    marks = base.mark_point(filled=True, size=90, opacity=1, color=theme.paint(0)).encode(
        x=alt.X("percent:Q", scale=scale, axis=x_axis),
        tooltip=[
            alt.Tooltip("policy:N", title="Policy"),
            alt.Tooltip("percent:Q", title="Value in time, %", format=".2f"),
            alt.Tooltip("told:N", title="Against the first, points"),
            alt.Tooltip("status:N", title="Verdict"),
        ],
    )
    lines = [upright(frame["percent"][0], theme.MUTED, [1, 0])]
    lines += [] if top is None else [upright(top, theme.paint(1), [5, 4])]
    return theme.layered(*lines, spans, marks)


def upright(at: float, colour: str, dashes: list[int]) -> alt.Chart:
    """Draw an upright line."""
    chart: alt.Chart = (
        alt.Chart(theme.values(pl.DataFrame({"at": [at]})))
        .mark_rule(color=colour, strokeWidth=1.5, strokeDash=dashes)
        .encode(x="at:Q")
    )
    return chart


def say_values(comparison: Comparison) -> str:
    """Say how much the first policy serves, and which others are known to serve more or less."""
    whole, first = comparison.offered_usd or 1.0, comparison.rows[0]
    hindsight = first.hindsight_share
    of_most = "" if hindsight is None else f", {share(hindsight)} of what hindsight could have served"
    text = (
        f"{policy_name(first)} serves {share(first.means['value_in_time_usd'] / whole)} of the value in time{of_most}"
    )
    others = [(policy_name(row), row.differences["value_in_time_usd"]) for row in comparison.rows[1:]]
    more = [name for name, gap in others if gap.low is not None and gap.low > 0.0]
    less = [name for name, gap in others if gap.high is not None and gap.high < 0.0]
    unknown = [name for name, _ in others if name not in {*more, *less}]
    clauses = [
        f"{listing(names)} {word}"
        for names, word in ((more, "serve more"), (less, "serve less"), (unknown, "cannot be told from it"))
        if names
    ]
    return f"{text}; {'; '.join(clauses)}." if clauses else f"{text}."


def policy_grid(comparison: Comparison) -> Grid:
    """Table every policy: value, cost, refusals, fairness, and the share in time of each kind of workload."""
    kinds, whole = list(comparison.rows[0].attainment), comparison.offered_usd or 1.0
    names = ["Value in time", f"Against {policy_name(comparison.rows[0])}, points", "Of hindsight", "Cost", "Refused"]
    names += ["Fairness", *kinds]
    columns = [Column(name="Policy", whole=True), *(Column(name=name, figures=True) for name in names)]
    rows = [
        [
            policy_name(row),
            marked(short(row.means["value_in_time_usd"] / whole), row),
            NOTHING if row is comparison.rows[0] else beside(row.differences["value_in_time_usd"], whole),
            NOTHING if row.hindsight_share is None else marked(short(row.hindsight_share), row),
            money(row.means["cost_usd"]),
            share(row.means["share_refused"]),
            f"{row.means['fairness']:.3f}",
            *(marked(short(row.attainment[kind]), row) for kind in kinds),
        ]
        for row in comparison.rows
    ]
    caption = (
        "Policies on the same loads (value in time: share of the value offered; fairness: Jain's index of the shares "
        "served to tenants, 1 if all are equal; of each kind of workload, the requests in time)"
    )
    return Grid(caption=caption, columns=columns, rows=rows)
