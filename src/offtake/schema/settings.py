"""List every setting of ``portfolio.toml``, with its unit, bounds and meaning.

The same kind of record as in ``tables.py``, for what is a setting rather than a table: the horizon, the
models, the workloads, how demand grows, the limits of policy and the weight of risk.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from offtake.schema.columns import Amounts, CalendarDate, Name, Names, column
from offtake.schema.tables import Amount, Money, Row, Share
from offtake.units import HOURS_PER_WEEK


class RegionRow(Row):
    """Describe a region in which users live."""

    key = ("region",)
    about = "Regions in which users live."

    region: Name = column("Short name.")
    name: str = column("Full name.", default="")


class ModelRow(Row):
    """Describe a served model."""

    key = ("model",)
    about = "Served models. A closed model names the open model that stands in for its step times."

    model: Name = column("Short name.")
    stand_in: str = column("Open model whose measured step times are used.")
    context_tokens_max: int = column("Longest context.", "tokens", 131072, gt=0)


class WorkloadRow(Row):
    """Describe one stream of requests."""

    key = ("workload",)
    about = "Streams of requests."

    workload: Name = column("Short name.")
    model: Name = column("The model it asks for.", refers="model.model")
    kind: Literal["interactive", "agentic", "batch", "internal"] = column("Class of service.")
    profile: str = column("Profile of arrivals and lengths, as `offtake check` lists them.")
    rate_rps: float = column("Weekly mean rate at the start of the horizon.", "requests per s", ge=0, le=1e9)
    regions: Amounts = column("Share of each user region; sums to 1.", "share")
    ttft_ms_p95: float = column("Time to first token that 95 % of requests must meet.", "ms", gt=0)
    tpot_ms_p95: float = column("Time per output token that 95 % of requests must meet.", "ms", gt=0)
    value_usd_per_request: Amount = column("Value of serving one request.", "USD per request")
    refusal_usd_per_request: Amount = column("Cost of refusing one, beyond the value lost.", "USD per request", 0.0)
    deferral_hours: Amount = column("How long it may wait; 24 or more may move within the week.", "h", 0.0)
    residency: str = column("Zone it must stay in, or any.", default="any")
    security: int = column("Least security class of the site.", "class", 0, ge=0, le=3)
    critical: bool = column(
        "Whether it must survive the loss of any one partner, where that limit is set.", default=False
    )
    grows: bool = column("Whether it follows the growth fan.", default=True)


class GrowthRow(Row):
    """Describe one branch of the growth fan."""

    key = ("branch",)
    about = "Branches of demand growth."

    branch: Name = column("Short name.")
    weight: Share = column("Weight; the branches sum to 1.", "share")
    per_year: float = column("Demand after a year, over demand now.", "ratio", gt=0, le=1000)
    stress_per_year: float | None = column(
        "Growth during the stress, instead.", "ratio per year", None, gt=0, le=100000
    )
    stress_from: CalendarDate | None = column("First day of the stress.", "date", None)
    stress_days: int = column("Length of the stress.", "days", 0, ge=0, le=4000)


class NodeRow(Row):
    """Describe one node of a scenario tree of the user's own."""

    key = ("node",)
    about = (
        "Nodes of a scenario tree of your own: from its first day on everybody knows that it has come about. Without "
        "any, the tree is made from what the drawn scenarios show."
    )

    node: Name = column("Short name.")
    parent: str = column("The node that it follows; blank for those that part first.", default="")
    start: CalendarDate = column("First day on which it is known.", "date")
    weight: Share = column("Its chance once its parent has come about; those of one parent sum to 1.", "share")
    demand_factor: float = column(
        "What it multiplies the demand of every workload by, from that day on, beside its parents.",
        "ratio",
        1.0,
        gt=0,
        le=1000,
    )


class ShockRow(Row):
    """Describe a kind of demand shock."""

    key = ("shock",)
    about = "Sudden surges of demand."

    shock: Name = column("Short name.")
    per_year: float = column("How often.", "events per year", ge=0, le=365)
    multiplier: float = column("Demand during it, over demand without.", "ratio", gt=0, le=1000)
    days: float = column("How long.", "days", gt=0, le=365)


class ConcentrationRow(Row):
    """Describe a limit on one correlated-loss group."""

    key = ("group",)
    about = "Limits on the share of firm power that one correlated-loss group may hold."

    group: str = column("The group, as kind:name; * for each partner.")
    share_max: Share = column("Largest share of firm kW.", "share")
    start: CalendarDate | None = column("Day from which it holds; blank for the whole horizon.", "date", None)


class Limits(Row):
    """Hold the limits of policy."""

    about = "Limits of policy; leave a setting out for no limit."

    budget_usd_per_year: Money | None = column(
        "Largest spend in a calendar year; of a year in the plan only in part, that part.", "USD per year", None
    )
    prepay_usd_max: Money | None = column("Largest sum of prepayments.", "USD", None)
    survive_share: Share = column(
        "Share of the critical workloads' expected demand that must be served without any one partner.", "share", 0.0
    )
    survive_groups: Names = column(
        "Correlated-loss groups to be survived beside each partner, as kind:name; kind:* for every group of a kind.",
        default=(),
    )
    research_floor_chips: Amount = column("Training chips of speed 1 that run in every period.", "chips", 0.0)


class Risk(Row):
    """Hold the weight of risk."""

    about = "How much bad outcomes weigh: maximise mean value less weight × CVaR of the loss."

    weight: float = column("Weight of CVaR.", "ratio", 0.0, ge=0, le=100)
    alpha: float = column("Level of CVaR: the mean of the worst (1 − alpha).", "share", 0.9, ge=0, lt=1)


class Settings(Row):
    """Hold the settings of the whole portfolio."""

    about = "The horizon and how finely it is planned."

    name: Name = column("Short name of the portfolio.")
    title: str = column("The question in a sentence.", default="")
    question: str = column(
        "The offer that the question is about; appraised by default.", default="", refers="offers.offer"
    )
    start: CalendarDate = column("First day of the horizon.", "date")
    end: CalendarDate = column("Last day of the horizon.", "date")
    currency: Literal["USD"] = column("Currency; only USD.", default="USD")
    weeks_first: int = column("Weeks planned week by week before months begin.", "weeks", 0, ge=0, le=520)
    blocks: int = column("Blocks that the hours of the week are grouped into.", "blocks", 4, ge=1, le=HOURS_PER_WEEK)
    scenarios: int = column("Scenarios in the fan.", "scenarios", 12, ge=1, le=100000)
    stages: int = column(
        "Dates, beside the first, at which news may change what is decided; 0: all is decided today.",
        "dates",
        3,
        ge=0,
        le=100,
    )
    branches: int = column("Nodes that one node parts into at such a date, at most.", "nodes", 3, ge=2, le=100)
    seed: int = column("Seed of every random draw.", "seed", 1, ge=0)
    signing_every_months: int = column("Months between the signing dates considered.", "months", 3, ge=1, le=120)
    discount_per_year: Share = column("Discount rate.", "share per year", 0.0)


class PortfolioToml(BaseModel):
    """Hold ``portfolio.toml`` whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    portfolio: Settings
    region: tuple[RegionRow, ...]
    model: tuple[ModelRow, ...]
    workload: tuple[WorkloadRow, ...]
    growth: tuple[GrowthRow, ...] = ()
    node: tuple[NodeRow, ...] = ()
    shock: tuple[ShockRow, ...] = ()
    concentration: tuple[ConcentrationRow, ...] = ()
    limits: Limits = Limits()
    risk: Risk = Risk()


SECTIONS: dict[str, type[Row]] = {
    "portfolio": Settings,
    "region": RegionRow,
    "model": ModelRow,
    "workload": WorkloadRow,
    "growth": GrowthRow,
    "node": NodeRow,
    "shock": ShockRow,
    "concentration": ConcentrationRow,
    "limits": Limits,
    "risk": Risk,
}
LISTS = ("region", "model", "workload", "growth", "node", "shock", "concentration")
