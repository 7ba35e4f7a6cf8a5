"""Show how the plan fared in rehearsal: who was served in time, who was refused, at which cost, by which policy.

Comes in: :class:`~offtake.rehearse.summary.Summary` records. Goes out: sentences, charts and tables. Where a
group of requests was not stationary no percentile exists, and none is shown; the word stands in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from offtake.rehearse.outcome import NOWHERE
from offtake.rehearse.summary import Group, PoolLoad, Summary
from offtake.report import happenings, theme
from offtake.report.parts import Column, Figure, Grid, Key, KeyFigure, Part, Section, Sentences, Tone
from offtake.report.verdicts import WHY, in_time, overall, policy_name, sound, thinned, wait
from offtake.report.words import NOTHING, day, duration, listing, money, number, plural, share, tally
from offtake.units import PERCENT

CAPACITY_ERROR_MOST = 0.1
GOAL = 0.95  # the share of requests that a workload's times are stated for
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
ENDS = ("served in time", "served late", "served, in time or not cannot be told", "refused", "failed")
END_PAINTS = ("var(--series-3)", "var(--series-2)", "url(#option-ink)", "var(--bad)", "var(--series-7)")
ROW_HEIGHT = 32
MARK_HEIGHT = 8


def section(summaries: Mapping[str, Summary]) -> Section:
    """Show the first rehearsal in full, and beside it the others in a line each."""
    parts: list[Part] = []
    if summaries:
        main = next(iter(summaries.values()))
        charts = [fates(main), attainment(main)]
        parts += [verdict(main), *(chart for chart in charts if chart is not None)]
        parts += [group_grid(main), *happenings.tables(main), *comparison(summaries), pool_grid(main)]
        parts.append(Sentences(sentences=main.checks, bullets=True, fold=f"{plural(len(main.checks), 'check')} held"))
    return Section(key="rehearsal", heading="How it serves in rehearsal", parts=parts)


def key_figure(summary: Summary) -> KeyFigure:
    """Choose the one figure of a rehearsal: the share served in time, or that none exists."""
    if not sound(summary.status):
        return KeyFigure(label="In rehearsal", value=summary.status, note=WHY[summary.status], tone="bad")
    notes = [f"of {tally(summary.total.requests)} requests served within their times", thinned(summary)]
    notes += ["on extrapolated step times"] if summary.extrapolated else []
    note = ", ".join(filter(None, notes))
    good: Tone = "good" if summary.total.share_within_slo >= GOAL else "caution"
    return KeyFigure(label="In rehearsal", value=share(summary.total.share_within_slo), note=note, tone=good)


def warnings(summary: Summary) -> list[str]:
    """Say what step times nobody measured, and where thinning has bent the fleet so far that waits mean little."""
    known = happenings.extrapolated(summary)
    bent = [pool.pool for pool in summary.pools if abs(pool.capacity_error) > CAPACITY_ERROR_MOST]
    if not bent:
        return known
    text = (
        f"The rehearsal is thinned to 1 in {summary.thin}, which changes the capacity of {listing(bent)} by more than "
    )
    return [*known, f"{text}{share(CAPACITY_ERROR_MOST)}: rehearse more requests before relying on waits and refusals."]


def verdict(summary: Summary) -> Sentences:
    """Say first whether the rehearsal is one to believe, then how it went."""
    total = summary.total
    hours = "hour" if number(summary.hours) == "1" else "hours"
    how = (
        f"{tally(total.requests)} requests over {number(summary.hours)} {hours} of the week of {day(summary.week)}, "
        f"under the policy {policy_name(summary)}: {share(total.share_served)} served, "
        f"{share(rate(total.refused, total))} refused, {share(rate(total.failed, total))} failed."
    )
    told = [how]
    if sound(summary.status):
        told.append(f"{share(total.share_within_slo)} of all requests were served within their times.")
    else:
        groups = [group.workload for group in summary.workloads if not sound(group.status)]
        which = f" ({listing(groups)})" if groups else ""
        told.insert(
            0,
            f"{summary.status.capitalize()}{which}: {WHY[summary.status]}. "
            "Neither a share in time nor a percentile can be told.",
        )
    if not summary.complete:
        told.append(f"The run was interrupted at {share(summary.done_share)}.")
    if summary.scenario:
        told.append(f"Rehearsed under the plan's scenario {summary.scenario}.")
    if summary.lost_sites:
        told.append(f"Lost on the way: {listing(summary.lost_sites)}.")
    if summary.thin > 1:
        told.append(f"Thinned: {summary.thin_error}.")
    left = money(total.value_in_time_usd - summary.cost_usd)
    idle = f"of which idle {money(summary.idle_usd)}"
    lasting = "" if sound(summary.status) else " while this lasted"
    told.append(
        f"Value served in time{lasting} {money(total.value_in_time_usd)}, "
        f"cost {money(summary.cost_usd)} ({idle}), left {left}."
    )
    return Sentences(sentences=told, tone="plain" if sound(summary.status) and summary.complete else "bad")


def rate(part: int, group: Group) -> float:
    """Return the share of a group's requests."""
    return part / group.requests if group.requests else 0.0


def fates(summary: Summary) -> Figure | None:
    """Draw what becomes of each workload's requests, where there were any."""
    groups = summary.workloads
    if not groups:
        return None
    rows = [
        (group.workload, end, part * PERCENT, place)
        for group in groups
        for place, (end, part) in enumerate(zip(ENDS, ends_of(group), strict=True))
    ]
    frame = pl.DataFrame(rows, schema=["workload", "end", "percent", "place"], orient="row")
    scale = alt.Scale(domain=list(ENDS), range=list(END_PAINTS))
    axis = alt.Axis(title="Requests, % of the workload's", tickCount=5, format="~f")
    chart = (
        alt.Chart(theme.values(frame))
        .mark_bar(stroke=theme.PAPER, strokeWidth=1)
        .encode(
            x=alt.X("percent:Q", scale=alt.Scale(domain=[0, PERCENT]), axis=axis),
            y=alt.Y("workload:N", sort=[group.workload for group in groups], axis=theme.name_axis("Workload")),
            color=alt.Color("end:N", scale=scale, legend=None),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("workload:N", title="Workload"),
                alt.Tooltip("end:N", title="End"),
                alt.Tooltip("percent:Q", title="%", format=".2f"),
            ],
        )
    )
    met = {end for _, end, percent, _ in rows if percent > 0.0}
    return Figure(
        key="fates",
        question="What becomes of each workload's requests?",
        says=say_fates(groups),
        spec=theme.finish(chart, ROW_HEIGHT * len(groups)),
        csv=theme.csv(frame.drop("place")),
        legend=[Key(label=end, paint=paint) for end, paint in zip(ENDS, END_PAINTS, strict=True) if end in met],
        note="A refusal counts as a miss. In an overloaded run these shares depend on how long it lasts."
        if not sound(summary.status)
        else "A refusal counts as a miss.",
    )


def say_fates(groups: list[Group]) -> str:
    """Say which workload fares worst, and of which it cannot be told."""
    judged = [group for group in groups if sound(group.status)]
    untold = [f"{group.workload} ({group.status})" for group in groups if not sound(group.status)]
    told = [f"What share is served in time cannot be told of {listing(untold)}."] if untold else []
    if judged:
        worst = min(judged, key=lambda group: group.share_within_slo)
        named = f"{'Of the others ' if untold else ''}{worst.workload} fares worst"
        refused = share(rate(worst.refused, worst))
        told.append(f"{named}: {share(worst.share_within_slo)} served in time, {refused} refused.")
    return " ".join(told)


def ends_of(group: Group) -> tuple[float, float, float, float, float]:
    """Return the shares of a group's requests that end in each of ``ENDS``."""
    lost = (rate(group.refused, group), rate(group.failed, group))
    if not sound(group.status):
        return 0.0, 0.0, group.share_served, *lost
    return group.share_within_slo, max(group.share_served - group.share_within_slo, 0.0), 0.0, *lost


def attainment(summary: Summary) -> Figure | None:
    """Draw the share served within its times by site and workload, where that is stationary."""
    cells = [cell for cell in summary.cells if cell.site != NOWHERE]
    good = [cell for cell in cells if sound(cell.status)]
    if not good:
        return None
    frame = pl.DataFrame(
        {
            "site": [cell.site for cell in good],
            "workload": [cell.workload for cell in good],
            "percent": [cell.share_within_slo * PERCENT for cell in good],
            "requests": [cell.requests for cell in good],
        }
    )
    names = list(dict.fromkeys(group.workload for group in summary.workloads))
    shown = [name for name in names if name in set(frame["workload"])]
    paints = {name: theme.paint(names.index(name)) for name in shown}
    shapes = {name: SHAPES[names.index(name) % len(SHAPES)] for name in shown}
    low = min(*frame["percent"], GOAL * PERCENT)
    least = min(good, key=lambda cell: cell.share_within_slo)
    height = frame["site"].n_unique() * (MARK_HEIGHT * len(shown) + ROW_HEIGHT // 2)
    return Figure(
        key="attainment",
        question="Where are requests answered within their times?",
        says=f"Least at {least.site} for {least.workload}: {share(least.share_within_slo)} of the requests sent there.",
        spec=theme.finish(attainment_chart(frame, paints, shapes, low), height),
        csv=theme.csv(frame),
        legend=[Key(label=name, paint=paints[name], shape=legend_shape(shapes[name])) for name in shown]
        + [Key(label=f"{share(GOAL)}, the share that the times are stated for", paint=theme.MUTED, shape="dash")],
        note=f"Of the requests sent to each site.{left_out(cells)}",
    )


def left_out(cells: list[Group]) -> str:
    """Say which workloads a chart of sites leaves out, where and why."""
    where: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if not sound(cell.status):
            where.setdefault((cell.workload, cell.status), []).append(cell.site)
    told = [f"{workload} at {listing(sites)} ({status})" for (workload, status), sites in where.items()]
    return f" Left out: {'; '.join(told)}." if told else ""


def attainment_chart(frame: pl.DataFrame, paints: dict[str, str], shapes: dict[str, str], low: float) -> alt.LayerChart:
    """Draw a mark for each workload at each site; shape and colour tell the workload."""
    names = list(paints)
    axis = alt.Axis(title="Served within their times, %", tickCount=5, format="~f")
    marks = (
        alt.Chart(theme.values(frame))
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            x=alt.X("percent:Q", scale=alt.Scale(domain=[low, PERCENT], nice=True, zero=False), axis=axis),
            y=alt.Y("site:N", axis=theme.name_axis("Site")),
            yOffset=alt.YOffset("workload:N", sort=names),
            color=alt.Color("workload:N", scale=alt.Scale(domain=names, range=list(paints.values())), legend=None),
            shape=alt.Shape("workload:N", scale=alt.Scale(domain=names, range=list(shapes.values())), legend=None),
            tooltip=[
                alt.Tooltip("site:N", title="Site"),
                alt.Tooltip("workload:N", title="Workload"),
                alt.Tooltip("percent:Q", title="Within their times, %", format=".2f"),
                alt.Tooltip("requests:Q", title="Requests", format=",.0f"),
            ],
        )
    )
    goal = (
        alt.Chart(theme.values(pl.DataFrame({"goal": [GOAL * PERCENT]})))
        .mark_rule(color=theme.MUTED, strokeDash=[5, 4])
        .encode(x="goal:Q")
    )
    return theme.layered(goal, marks)


def group_grid(summary: Summary) -> Grid:
    """Table how each workload fared; where it was not stationary, the reason stands in place of its share."""
    names = ["Requests", "In time", "Refused", "Failed", "TTFT p50", "TTFT p95", "TTFT p99", "TPOT p95"]
    columns = [Column(name="Workload"), Column(name="Class"), *(Column(name=name, figures=True) for name in names)]
    rows = [
        [
            group.workload,
            group.kind,
            tally(group.requests),
            in_time(group),
            share(rate(group.refused, group)),
            share(rate(group.failed, group)),
            *waits(group),
        ]
        for group in summary.workloads
    ]
    return Grid(
        caption="Service by workload (TTFT: time to first token; TPOT: per token after it)", columns=columns, rows=rows
    )


def waits(group: Group) -> list[str]:
    """Write a group's percentiles, where there are any."""
    figures = (group.ttft_ms_p50, group.ttft_ms_p95, group.ttft_ms_p99, group.tpot_ms_p95)
    return [wait(group, figure) for figure in figures]


def comparison(summaries: Mapping[str, Summary]) -> list[Part]:
    """Table the rehearsals beside each other, where there are several."""
    if len(summaries) == 1:
        return []
    columns = [Column(name="Rehearsal"), Column(name="Policy"), Column(name="Verdict")]
    columns += [
        Column(name=name, figures=True) for name in ("In time", "Refused", "Failed", "Value in time", "Cost", "Left")
    ]
    rows = [
        [
            name.replace("_", " "),
            policy_name(each),
            each.status,
            in_time(overall(each)),
            share(rate(each.total.refused, each.total)),
            share(rate(each.total.failed, each.total)),
            money(each.total.value_in_time_usd),
            money(each.cost_usd),
            money(each.total.value_in_time_usd - each.cost_usd),
        ]
        for name, each in summaries.items()
    ]
    grid = Grid(caption="The same plan in each rehearsal", columns=columns, rows=rows)
    others = list(summaries.items())[1:]
    happened = [
        f"{name.replace('_', ' ')}: {each.sentence}." for name, other in others for each in other.events_applied
    ]
    return [grid, Sentences(sentences=happened, bullets=True)] if happened else [grid]


def pool_grid(summary: Summary) -> Grid:
    """Table how hard each pool worked, the busiest first."""
    columns = [Column(name="Pool"), Column(name="Site"), Column(name="Verdict")]
    columns += [
        Column(name=name, figures=True) for name in ("Requests", "Busy", "Planned load", "Mean queue", "Idle cost")
    ]
    rows = [pool_row(pool) for pool in sorted(summary.pools, key=lambda pool: (-pool.busy_share, pool.pool))]
    return Grid(caption=f"Load of {plural(len(rows), 'pool')}", columns=columns, rows=rows, folded=True)


def pool_row(pool: PoolLoad) -> list[str]:
    """Write the load of one pool."""
    return [
        pool.pool,
        pool.site,
        pool.status,
        tally(pool.requests),
        share(pool.busy_share),
        share(pool.load_planned),
        NOTHING if pool.queue_ms_mean is None else duration(pool.queue_ms_mean),
        money(pool.idle_usd),
    ]


def legend_shape(shape: str) -> str:
    """Return the shape that a legend draws for a Vega shape."""
    return {"circle": "dot"}.get(shape, shape)
