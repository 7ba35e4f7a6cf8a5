"""Show what every open offer is worth beside the others, and which of them stand in for each other.

Comes in: an :class:`~offtake.plan.result.OffersAppraisal`. Goes out: a section: a table and a small matrix. It reads no
file and writes no HTML.
"""

from __future__ import annotations

import polars as pl

from offtake.plan.result import OffersAppraisal
from offtake.report import heats, negotiation, theme
from offtake.report.parts import Column, Figure, Grid, Key, Part, Section
from offtake.report.words import change, money_unit, number


def section(found: OffersAppraisal | None) -> Section:
    """Show what every open offer is worth beside the others."""
    parts: list[Part] = []
    if found is not None and found.offers:
        parts.append(offers_grid(found))
        if found.pairs:
            parts.append(matrix(found))
    return Section(key="open-offers", heading="What each open offer is worth", parts=parts)


def offers_grid(found: OffersAppraisal) -> Grid:
    """Table the open offers, the most valuable first."""
    columns = [Column(name="Offer"), Column(name="Units in the best plan", figures=True)]
    columns += [Column(name="Worth", figures=True)]
    rows = [
        [one.name, f"{number(one.units)} of {number(one.units_max)}", change(one.worth_usd)] for one in found.offers
    ]
    caption = "What would be lost if one offer alone could not be signed"
    return Grid(caption=caption, columns=columns, rows=rows)


def matrix(found: OffersAppraisal) -> Figure:
    """Draw how every two offers stand to each other."""
    names = [one.offer for one in found.offers]
    rows = [
        {"one": a, "other": b, "usd": pair.together_usd, "kind": pair.kind}
        for pair in found.pairs
        for a, b in ((pair.one, pair.other), (pair.other, pair.one))
    ]
    frame = pl.DataFrame(rows)
    divisor, unit = money_unit(max(map(abs, frame["usd"].to_list())))
    told = pl.concat_str(["kind", pl.col("usd").map_elements(change, return_dtype=pl.String)], separator=", ")
    shown = frame.with_columns(amount=pl.col("usd") / divisor, told=told)
    strong = [pair for pair in found.pairs if pair.kind != "apart"]
    strong.sort(key=lambda pair: -abs(pair.together_usd))
    says = "No two of them stand in for each other, or need each other, beyond what the solver leaves open."
    if strong:
        first = strong[0]
        how = "stand in for each other" if first.kind == "substitutes" else "are worth more together"
        says = f"{first.one} and {first.other} {how}: losing both costs {change(first.together_usd)} more than apart."
    chart = heats.heat(shown, ("other", names), ("one", names))
    return Figure(
        key="pairs",
        question="Which offers stand in for each other?",
        says=says,
        spec=theme.finish(chart, negotiation.ROW_HEIGHT * len(names)),
        csv=theme.csv(frame),
        legend=[Key(label=f"{unit}; the stronger the paint, the more", paint=theme.HEAT[-2])],
        note="What losing both costs beyond what losing each alone does: above 0 they stand in for each other, below 0 "
        "each is worth more with the other.",
    )
