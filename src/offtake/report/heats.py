"""Draw a table of amounts whose cells are painted, the larger the darker.

Comes in: a frame with an amount, its words and two names a row. Goes out: a chart. It knows neither plan nor page.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from offtake.report import theme


def heat(frame: pl.DataFrame, across: tuple[str, list[str]], down: tuple[str, list[str]]) -> alt.LayerChart:
    """Draw a table of amounts, the larger the darker; its figures stand in the cells."""
    most = max(map(abs, frame["amount"].to_list()))
    limits = [most * step / len(theme.HEAT) for step in range(1, len(theme.HEAT))]
    size = "abs(datum.amount)"
    base = (
        alt.Chart(theme.values(frame))
        .transform_calculate(size=size)
        .encode(
            x=alt.X(f"{across[0]}:N", sort=across[1], axis=over_axis()),
            y=alt.Y(f"{down[0]}:N", sort=down[1], axis=theme.name_axis("")),
            tooltip=[
                alt.Tooltip(f"{down[0]}:N", title=down[0].title()),
                alt.Tooltip(f"{across[0]}:N", title=across[0].title()),
                alt.Tooltip("told:N", title="Amount"),
            ],
        )
    )

    def paint(paints: tuple[str, ...]) -> alt.Color:
        return alt.Color("size:Q", scale=alt.Scale(type="threshold", domain=limits, range=list(paints)), legend=None)

    cells = base.mark_rect(stroke=theme.PAPER, strokeWidth=2).encode(color=paint(theme.HEAT))
    labels = base.mark_text(fontSize=12).encode(text=alt.Text("amount:Q", format=",.2~f"), color=paint(theme.HEAT_TEXT))
    layered: alt.LayerChart = theme.layered(cells, labels).resolve_scale(color="independent")
    return layered


def over_axis() -> alt.Axis:
    """Return an axis of names below a table; long names break into lines."""
    return alt.Axis(
        title=None,
        orient="bottom",
        labelAngle=0,
        labelLimit=90,
        domain=False,
        ticks=False,
        labelExpr="split(datum.label, ' ')",
    )
