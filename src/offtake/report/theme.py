"""Hold what every chart shares: colours as CSS variables, hatches for what is not firm, axes, Vega's config.

Colours are names of CSS variables, so that one chart serves light, dark and print without being drawn
again; the values are in ``page.css``. Series colours follow Okabe and Ito (2008), told apart by
colour-blind readers. It knows no run and no table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import Any

import altair as alt
import polars as pl

from offtake.report.parts import Spec
from offtake.units import DAYS_PER_YEAR

SERIES_COUNT = 8
INK, MUTED, GRID = "var(--ink)", "var(--muted)", "var(--grid)"
HEAT = tuple(f"var(--heat-{place})" for place in range(7))
HEAT_TEXT = (*["var(--heat-low-text)"] * 4, *["var(--heat-high-text)"] * 3)
GOOD, BAD, PAPER = "var(--good)", "var(--bad)", "var(--paper)"
HATCHES = {"firm": "", "option": "option", "letter": "letter", "talks": "letter"}
CONFIDENCE_PAINTS = ("var(--series-3)", "var(--series-1)", "var(--series-8)", "var(--series-2)")
AXIS_WIDTH = 52  # every chart's left axis, in pixels, so that panels one above the other line up
CHART_HEIGHT = 250
FIGURES_KEPT = 6  # significant digits in a chart's data

CONFIG: dict[str, Any] = {
    "background": None,
    "padding": {"left": 2, "right": 12, "top": 6, "bottom": 2},
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": INK,
        "gridColor": GRID,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "labelLimit": 170,
    },
    "legend": {"labelColor": MUTED, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12},
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": INK},
    "aria": False,
}


def paint(place: int, hatch: str = "") -> str:
    """Return the paint of the series at ``place``: a flat colour, or a hatch of it."""
    series = place % SERIES_COUNT + 1
    return f"url(#{hatch}-{series})" if hatch else f"var(--series-{series})"


def values(frame: pl.DataFrame) -> alt.InlineData:
    """Return a frame as inline data: dates as local midnight (Vega reads bare dates as UTC), six digits kept."""
    ready = frame.with_columns(
        pl.selectors.float().round_sig_figs(FIGURES_KEPT), pl.selectors.date().dt.strftime("%Y-%m-%dT00:00:00")
    )
    return alt.InlineData(values=ready.to_dicts())


def csv(frame: pl.DataFrame) -> str:
    """Return a frame as CSV text."""
    return frame.with_columns(pl.selectors.float().round_sig_figs(FIGURES_KEPT)).write_csv()


def time_axis(starts: Iterable[date], ends: Iterable[date]) -> alt.Axis:
    """Return an axis of dates with as many labels as there is room for."""
    length = max(ends) - min(starts)
    form = "%b %Y" if length.days > DAYS_PER_YEAR / 2 else "%d %b %Y"
    return alt.Axis(
        title="Date", format=form, grid=False, labelOverlap="greedy", labelFlush=True,
        tickCount=alt.ExprRef(expr="ceil(width / 90)"),
    )  # fmt: skip


def amount_axis(title: str, divisor: float = 1, form: str = ",~f") -> alt.Axis:
    """Return a left axis of amounts in units of ``divisor``, with its title set level above it."""
    return alt.Axis(
        title=title, labelExpr=label_expression(divisor, form), minExtent=AXIS_WIDTH, maxExtent=AXIS_WIDTH,
        domain=False, ticks=False, tickCount=5, titleAngle=0, titleAlign="left", titleAnchor="start",
        titleX=-AXIS_WIDTH, titleY=-14, titleBaseline="bottom",
    )  # fmt: skip


def label_expression(divisor: float, form: str = ",~f") -> str:
    """Return Vega's expression for the label of an amount in units of ``divisor``."""
    return f"datum.value === 0 ? '0' : format(datum.value / {divisor}, '{form}')"


def name_axis(title: str) -> alt.Axis:
    """Return a left axis of names."""
    return alt.Axis(
        title=title, domain=False, ticks=False, labelPadding=8, titleAngle=0, titleAlign="left", titleAnchor="start",
        titleX=0, titleY=-8, titleBaseline="bottom", labelLimit=160,
    )  # fmt: skip


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """Put charts over one another."""
    return alt.LayerChart(layer=list(charts))


def finish(chart: alt.Chart | alt.LayerChart, height: int | alt.Step = CHART_HEIGHT) -> Spec:
    """Return a chart's Vega-Lite spec: as wide as its place on the page, without Altair's own config."""
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    spec: Spec = json.loads(json.dumps(sized.to_dict(context={"pre_transform": False})))
    spec.pop("config", None)
    return spec
