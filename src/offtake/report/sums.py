"""Make from a run's tables the figures that charts show: sums by partner and period, shares, weighted means.

Comes in: the records and Parquet tables of a plan. Goes out: small frames, one row for each mark of a
chart, with its numbers in the house units or %, and decisions in the order in which people ask. It knows
no chart and no page.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from offtake.plan.result import Appraisal, BranchRegret, ClauseWorth, Decision
from offtake.report.words import change, day, listing, money, number, share
from offtake.units import HOURS_PER_DAY, HOURS_PER_MONTH, PERCENT

CHOICES = {
    "sign": "sign",
    "amend": "sign amended",
    "part": "take part",
    "ration": "leave and ration",
    "wait": "wait",
}
OTHERS = "all others"
API = "api"  # what stands for a chip where capacity is priced by the token
FIRMNESS = ("firm", "option", "letter", "talks")
UNCLEAR = "~: no more than the solver's gap leaves open; a smaller --gap tells."
COST_PARTS: Mapping[str, str] = {
    "value_served": "value served",
    "fees": "fees owed",
    "used_fees": "fees for use",
    "energy": "energy",
    "request_fees": "egress and token fees",
    "refusal": "refusals",
    "training_missed": "training missed",
    "terminal_value": "terms beyond the horizon",
}
HELD = (
    "Each point holds its plan as it is at the fee asked. The answer's fee is planned anew at each fee tried, taking "
    "another part or keeping it for another time: so it may be higher."
)
EARNED = ("value_served", "terminal_value")


def by_interest(decisions: list[Decision]) -> list[Decision]:
    """Put what is decided now before what is signed already, and the dearest first."""
    order = {"sign": 0, "sign part": 1, "wait": 2, "leave": 3, "keep": 4}
    return sorted(decisions, key=lambda each: (order.get(each.action, len(order)), -each.fees_usd, each.offer))


def signed_when(decision: Decision) -> str:
    """Say when an offer is signed: already, on a day, or later in a share of the futures; empty if never."""
    if decision.action == "keep":
        return "already"
    first, *others = decision.sign_date.split(", ")
    later = f" ({share(decision.later_share)})" if decision.later_share > 0.0 else ""
    return ("from " if others else "") + day(first) + later


def spans(frame: pl.DataFrame, end: date | None = None) -> pl.DataFrame:
    """Return each period with its first day and the first day after it: columns period, start, end."""
    periods = frame.select("period", "start").unique().sort("period")
    if periods.height == 0:
        return periods.with_columns(end=pl.col("start"))
    starts = periods["start"].to_list()
    last = starts[-1] + (starts[-1] - starts[-2] if len(starts) > 1 else timedelta(weeks=1))
    return periods.with_columns(end=pl.Series([*starts[1:], max(end or last, starts[-1])], dtype=pl.Date))


def capacity_by_partner(capacity: pl.DataFrame, end: date | None, partners_max: int) -> pl.DataFrame:
    """Return kW by period, partner and firmness; beyond ``partners_max`` the smallest partners are put together.

    Partners without power of their own, such as token-priced APIs, are left out.

    Columns: start, end, partner (an Enum, from the largest partner to the smallest), firmness, kw.
    """
    capacity = capacity.filter(pl.col("kw_mean").max().over("provider") > 0.0)
    size = (
        capacity.group_by("provider").agg(pl.col("kw_mean").sum()).sort("kw_mean", "provider", descending=[True, False])
    )
    names = size["provider"].to_list()
    kept = names if len(names) <= partners_max else names[: partners_max - 1]
    partners = kept if kept == names else [*kept, OTHERS]
    level = {name: place for place, name in enumerate(FIRMNESS)}
    return (
        capacity.with_columns(
            partner=pl.when(pl.col("provider").is_in(kept)).then("provider").otherwise(pl.lit(OTHERS))
        )
        .group_by("period", "partner", "firmness")
        .agg(kw=pl.col("kw_mean").sum())
        .join(spans(capacity, end), on="period")
        .sort(
            "period",
            pl.col("partner").cast(pl.Enum(partners)),
            pl.col("firmness").replace_strict(level, default=len(level), return_dtype=pl.Int64),
        )
        .select("start", "end", pl.col("partner").cast(pl.Enum(partners)), "firmness", "kw")
    )


def stack(frame: pl.DataFrame, value: str) -> pl.DataFrame:
    """Add ``low`` and ``high``: where each row stands in the stack of its ``start``; parts below zero go downwards."""
    below = pl.col(value) < 0.0
    high = frame.with_columns(high=pl.col(value).cum_sum().over("start", below))
    return high.with_columns(low=pl.col("high") - pl.col(value))


def steps(frame: pl.DataFrame) -> pl.DataFrame:
    """Repeat the last period's rows at its end, so that a stepped line covers it; the column ``end`` goes."""
    last = frame.filter(pl.col("start") == pl.col("start").max()).with_columns(start=pl.col("end"))
    return pl.concat([frame, last]).drop("end")


def block_weights(demand: pl.DataFrame, shares: Mapping[str, float] | None) -> pl.DataFrame:
    """Add ``weight``: the share of the week that each row's block takes; alike where the shares are not known."""
    blocks = demand["block"].unique(maintain_order=True).to_list()
    known = shares is not None and set(blocks) <= set(shares)
    weights = {block: shares[block] if shares and known else 1.0 / len(blocks) for block in blocks}
    return demand.with_columns(weight=pl.col("block").replace_strict(weights, return_dtype=pl.Float64))


def demand_by_period(demand: pl.DataFrame, shares: Mapping[str, float] | None, end: date | None) -> pl.DataFrame:
    """Return weekly mean requests per second, all workloads together.

    Columns: start, end, wanted, wanted_p10, wanted_p90, served, refused. The quantiles are the sums of the
    workloads' quantiles: right where all workloads grow together, too wide where they do not.
    """
    names = {
        "wanted": "rps_mean",
        "wanted_p10": "rps_p10",
        "wanted_p90": "rps_p90",
        "served": "served_mean",
        "refused": "refused_mean",
    }
    return (
        block_weights(demand, shares)
        .group_by("period")
        .agg(**{new: (pl.col(old) * pl.col("weight")).sum() for new, old in names.items()})
        .join(spans(demand, end), on="period")
        .sort("period")
        .select("start", "end", *names)
    )


def refused_by_workload(demand: pl.DataFrame, shares: Mapping[str, float] | None, end: date | None) -> pl.DataFrame:
    """Return the share of each workload's requests that is refused: start, end, workload, refused_percent."""
    weighed = [(pl.col(name) * pl.col("weight")).sum() for name in ("refused_mean", "rps_mean")]
    return (
        block_weights(demand, shares)
        .group_by("period", "workload", maintain_order=True)
        .agg(*weighed)
        .with_columns(
            refused_percent=pl.when(pl.col("rps_mean") > 0.0)
            .then(pl.col("refused_mean") / pl.col("rps_mean") * PERCENT)
            .otherwise(0.0)
        )
        .join(spans(demand, end), on="period")
        .sort("period", maintain_order=True)
        .select("start", "end", "workload", "refused_percent")
    )


def money_by_period(cost: pl.DataFrame, end: date | None) -> pl.DataFrame:
    """Return the mean over scenarios of each part of money, as a rate in $ a month; costs are below zero.

    Columns: start, end, part, usd_per_month. Parts that are nil throughout are left out.
    """
    days = (pl.col("end") - pl.col("start")).dt.total_days()
    month_days = HOURS_PER_MONTH / HOURS_PER_DAY
    sign = pl.when(pl.col("part").is_in(EARNED)).then(1.0).otherwise(-1.0)
    order = {part: place for place, part in enumerate(COST_PARTS)}
    return (
        cost.group_by("period", "part")
        .agg(usd=(pl.col("usd") * pl.col("probability")).sum())
        .filter(pl.col("usd").abs().max().over("part") > 0.0)
        .join(spans(cost, end), on="period")
        .filter(days > 0)
        .sort("period", pl.col("part").replace_strict(order, default=len(order), return_dtype=pl.Int64))
        .with_columns(usd_per_month=sign * pl.col("usd") / days * month_days)
        .with_columns(pl.col("part").replace(dict(COST_PARTS)))
        .select("start", "end", "part", "usd_per_month")
    )


def scarcity(prices: pl.DataFrame, capacity: pl.DataFrame | None, end: date | None, rows_max: int) -> pl.DataFrame:
    """Return the mean price of a busy chip-hour by place and block, dearest places first: place, block, price.

    It is that of the chip, of its power beyond idling and of its link, as in the bid prices. The mean is over periods
    by their length. Only places where the plan has chips are shown: elsewhere a price is that of a first chip, which no
    limit holds back. Places whose price is nil in every block are left out, and so are token-priced APIs, which
    have no chips.
    """
    if capacity is not None:
        held = capacity.filter(pl.col("kw_mean") > 0.0).select("site", "chip").unique()
        prices = prices.join(held, on=["site", "chip"], how="semi", maintain_order="left")
    days = (pl.col("end") - pl.col("start")).dt.total_days()
    chips = (
        prices.filter(pl.col("family") == "work", pl.col("chip") != API)
        .join(spans(prices, end).select("period", "end"), on="period")
        .with_columns(days=days, place=pl.concat_str(["site", "chip"], separator=" · "))
        .group_by("place", "block", maintain_order=True)
        .agg(price=(pl.col("price") * pl.col("days")).sum() / pl.col("days").sum())
    )
    best = chips.group_by("place").agg(pl.col("price").max()).filter(pl.col("price") > 0.0)
    best = best.sort("price", "place", descending=[True, False]).head(rows_max)
    return best.select("place").join(chips, on="place", how="left", maintain_order="left_right")


def outcomes(scenarios: pl.DataFrame) -> pl.DataFrame:
    """Return each scenario's net value: scenario, branch, description, percent, usd."""
    return scenarios.select(
        "scenario",
        "description",
        branch="growth_branch",
        percent=pl.col("probability") * PERCENT,
        usd="net_usd",
    )


def differences(
    names: list[str], probability: list[float], usd: list[float], scenarios: pl.DataFrame | None
) -> pl.DataFrame:
    """Return what an offer adds in each scenario: scenario, branch, description, percent, usd."""
    frame = pl.DataFrame({"scenario": names, "probability": probability, "net_usd": usd}, strict=False)
    frame = frame.cast({"probability": pl.Float64, "net_usd": pl.Float64})
    if scenarios is None:
        return outcomes(frame.with_columns(growth_branch=pl.lit("all scenarios"), description=pl.lit("")))
    told = scenarios.select("scenario", "growth_branch", "description")
    joined = frame.join(told, on="scenario", how="left", maintain_order="left")
    return outcomes(
        joined.with_columns(pl.col("growth_branch").fill_null("not named"), pl.col("description").fill_null(""))
    )


def say_worth(one: ClauseWorth) -> str:
    """Write what a clause is worth, marked where the solver leaves as much open."""
    return marked_change(one.worth_usd, unclear=one.unclear)


def marked_change(usd: float, *, unclear: bool) -> str:
    """Write a difference, marked where the solver leaves as much open."""
    return f"{'~' if unclear else ''}{change(usd)}"


def say_swings(appraisal: Appraisal) -> str:
    """Say what moves the answer most, and what flips it."""
    widest = appraisal.swings[0]
    flips = [f"{one.name} ({side.setting})" for one in appraisal.swings for side in (one.low, one.high) if side.flips]
    what = f"The answer leans most on this assumption: {widest.name} (it moves the value by {money(widest.swing_usd)})."
    return f"{what} It flips with {listing(flips)}." if flips else f"{what} No assumption flips it within its range."


# ── months and regret ────────────────────────────────────────────────────────────────────────────────────────────────
def by_month(appraisal: Appraisal) -> pl.DataFrame:
    """Return what signing adds month by month: month, usd; a period counts in the month in which it begins."""
    return (
        pl.DataFrame({"start": appraisal.period_names, "usd": appraisal.difference_by_period_usd}, strict=False)
        .with_columns(pl.col("start").str.to_date(), pl.col("usd").cast(pl.Float64))
        .with_columns(month=pl.col("start").dt.truncate("1mo"))
        .group_by("month", maintain_order=True)
        .agg(pl.col("usd").sum())
    )


def say_months(appraisal: Appraisal) -> str:
    """Say in which month signing does best, and in which worst."""
    frame = by_month(appraisal).sort("usd")
    worst, best = frame.row(0, named=True), frame.row(-1, named=True)
    return (
        f"Best is {best['month']:%B %Y} ({change(best['usd'])}), worst {worst['month']:%B %Y} ({change(worst['usd'])})."
    )


def mean_regrets(appraisal: Appraisal) -> dict[str, float]:
    """Return the mean regret of each choice."""
    names = dict.fromkeys(name for one in appraisal.branches for name in one.regret_usd)
    return {name: sum(one.probability * one.regret_usd.get(name, 0.0) for one in appraisal.branches) for name in names}


def worst_regrets(appraisal: Appraisal) -> dict[str, BranchRegret]:
    """Return the branch in which each choice is regretted most."""
    return {
        name: max(appraisal.branches, key=lambda one: one.regret_usd.get(name, 0.0)) for name in mean_regrets(appraisal)
    }


def say_missing(appraisal: Appraisal) -> str:
    """Say which choices there are not, and why; empty where there are all."""
    some = [f"{CHOICES.get(name, name)} ({why})" for name, why in appraisal.no_choice.items()]
    return f"Not to be chosen: {'; '.join(some)}." if some else ""


def say_curves(appraisal: Appraisal) -> list[str]:
    """Say up to which share of the fee asked each size, day of delivery and day of signing pays, a line each."""
    curves = {
        "size": [(number(one.units), one) for one in appraisal.sizes],
        "delivery": [(day(one.delivery_date), one) for one in appraisal.starts],
        "signing": [(day(one.sign_date), one) for one in appraisal.signings],
    }
    lines = []
    for name, points in curves.items():
        told = [f"{at} {share(one.break_even_fee_ratio)}" for at, one in points if one.break_even_fee_ratio is not None]
        if len(told) > 1:
            lines.append(f"by {name}: {', '.join(told)}")
    return lines
