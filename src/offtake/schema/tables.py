"""List every column of every CSV table of a portfolio, with its unit, bounds and meaning.

One frozen record class per table; this is the single list from which the reader, the reference
documentation and the JSON Schema are made. It holds declarations only: no reading, no cross-checks.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from offtake.schema.columns import (
    Amounts,
    CalendarDate,
    Confidence,
    Marks,
    MoneyUsd,
    Name,
    Names,
    PowerKw,
    column,
)
from offtake.units import HOURS_PER_YEAR

Share = Annotated[float, Field(ge=0, le=1)]
AMOUNT_MAX = 1e12  # beyond what anybody signs; above it a double loses cents
Amount = Annotated[float, Field(ge=0, le=AMOUNT_MAX)]
Money = Annotated[MoneyUsd, Field(ge=0, le=AMOUNT_MAX)]


class Row(BaseModel):
    """Hold what every row carries: where it stood, how sure it is, and who says so."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)
    key: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = ""

    at: int = Field(default=0, exclude=True)
    confidence: Confidence = column(
        "How far the row's figures can be trusted; blank means assumption.", default=Confidence.ASSUMPTION
    )
    marks: Marks = column("Figures of this row that differ in confidence, as column=mark; column=mark.", default={})
    source: str = column("Where the figures come from: addresses or documents, parted by ' | '.", default="")
    note: str = column("Anything a reader should know.", default="")


class ProviderRow(Row):
    """Describe a partner that sells capacity."""

    key = ("provider",)
    about = "Partners that sell or lend capacity."

    provider: Name = column("Short name, used by the other tables.")
    name: str = column("Full name.")
    kind: Literal[
        "hyperscaler", "neocloud", "chip maker", "aerospace", "sovereign", "landlord", "developer", "own", "api"
    ] = column(
        "Kind of partner.",
    )
    competes: bool = column("Whether it sells or owns a product that competes with the buyer.", default=False)
    guarantor: str = column("Who stands behind its promises.", default="")
    groups: Names = column("Correlated-loss groups it belongs to, as kind:name; kind:name.", default=())


class SiteRow(Row):
    """Describe a place where chips stand."""

    key = ("site",)
    about = "Places where chips stand, and the end points of token-priced APIs."

    site: Name = column("Short name, used by the other tables.")
    name: str = column("Full name and place.")
    residency: str = column("Residency zone that data in it stays in, such as US or EU.")
    security: int = column("Security class: 0 open, 1 standard, 2 isolated, 3 attested.", "class", 1, ge=0, le=3)
    grid: str = column("Power grid or balancing area.", default="")
    lat: float | None = column("Latitude.", "degrees", None, ge=-90, le=90)
    lon: float | None = column("Longitude.", "degrees", None, ge=-180, le=180)
    power_kw_max: PowerKw = column("Largest facility power the buyer may draw; may be written 300 MW.", "kW", ge=0)
    pue: float = column(
        "Power usage effectiveness, where the chips' kW leave it out; 1 where they include it.",
        "ratio",
        1.0,
        ge=1,
        le=3,
    )
    curtailment_hours_per_year: float = column(
        "Hours a year in which the grid may cut the site.", "h per year", 0.0, ge=0, le=HOURS_PER_YEAR
    )
    curtailment_event_hours: float = column(
        "Length of one curtailment: so many hours come and go together, and their number in a year is left to chance; "
        "0 plans with the mean. The default is the mean of Norris et al., Rethinking Load Growth, Duke, 2025.",
        "h",
        2.0,
        ge=0,
        le=HOURS_PER_YEAR,
    )
    curtailment_share: Share = column("Share of power lost in a curtailed hour.", "share", 1.0)
    energy_usd_per_mwh: Amount = column(
        "Energy the buyer pays beside the fee; 0 where the fee holds it.", "USD per MWh", 0.0
    )
    egress_usd_per_gb: Amount = column("Price of data sent out.", "USD per GB", 0.0)
    loss_per_year: float = column(
        "Hazard that the site is lost for good (permit, injunction, fire).", "events per year", 0.0, ge=0, le=10
    )
    groups: Names = column("Correlated-loss groups it belongs to, as kind:name; kind:name.", default=())


class PowerRow(Row):
    """Describe one step of a site's power cap."""

    key = ("site", "date")
    about = "Steps of a site's power cap over time; without rows the cap of `sites` holds throughout."

    site: Name = column("The site.", refers="sites.site")
    date: CalendarDate = column("Day from which the cap holds.", "date")
    power_kw: PowerKw = column("Facility power the buyer may draw from then on; may be written 300 MW.", "kW", ge=0)


class LinkRow(Row):
    """Describe the way from a site to the users of one region."""

    key = ("site", "region")
    about = "Ways from sites to user regions."

    site: Name = column("The site.", refers="sites.site")
    region: Name = column("User region, as named in portfolio.toml.", refers="regions.region")
    kind: Literal["fibre", "satellite", "private", "internet"] = column("Kind of link.")
    bandwidth_gbit_s: float = column("Bandwidth the buyer may use.", "Gbit/s", gt=0)
    rtt_ms_median: float = column("Median round trip.", "ms", ge=0, le=5000)
    rtt_ms_p99: float = column(
        "99th percentile of the round trip; for the record, the plan uses the median.", "ms", ge=0, le=20000
    )
    availability: Share = column("Share of time the link works.", "share", 1.0)


class ChipRow(Row):
    """Describe a kind of chip."""

    key = ("chip",)
    about = "Kinds of chip."

    chip: Name = column("Short name, used by the other tables.")
    name: str = column("Full name.")
    facility_kw: PowerKw = column(
        "Facility power of one busy chip, with its share of server, network and cooling.", "kW", gt=0
    )
    idle_share: Share = column("Share of that power drawn when idle; the default is an assumption.", "share", 0.3)
    memory_gb: float = column("Memory of one chip.", "GB", gt=0)
    memory_bandwidth_gb_s: float = column("Memory bandwidth of one chip.", "GB/s", gt=0)
    peak_tflops: float = column("Peak dense rate at the precision served.", "TFLOP/s", gt=0)


class DeploymentRow(Row):
    """Say how fast a model runs on a chip."""

    key = ("model", "chip")
    about = "How a model runs on a chip: chips per replica and where its step times come from."

    model: Name = column("The model, as named in portfolio.toml.", refers="model.model")
    chip: Name = column("The chip.", refers="chips.chip")
    chips_per_replica: int = column("Chips that one replica takes.", "chips", gt=0, le=4096)
    performance: str = column(
        "Step times: table:NAME (shipped or built), ratio:CHIP*FACTOR (a known chip, times faster), or user:FILE.csv.",
        pattern=r"^(table:\S+|ratio:[A-Za-z0-9_.+-]+\*[0-9.]+|user:\S+)$",
    )
    throughput_sd: Share = column("Standard deviation of the throughput error, relative.", "share", 0.0)


class OfferRow(Row):
    """Describe the terms of one offer or signed contract."""

    key = ("offer",)
    about = "Offers and signed contracts: the commercial terms. What is delivered, where and when is in `tranches`."

    offer: Name = column("Short name, used by the other tables.")
    name: str = column("Full name.", default="")
    provider: Name = column("The partner.", refers="providers.provider")
    signed: bool = column("Whether it is signed already; a signed contract is kept at its largest size.", default=False)
    firmness: Literal["firm", "option", "letter", "talks"] = column("How firm it is.", default="firm")
    probability: Share = column("Chance that it can be had at all, once wanted.", "share", 1.0)
    sign_by: CalendarDate | None = column(
        "Last day to sign; blank for signed contracts and standing offers.", "date", None
    )
    units_min: float = column("Least number of units, if any is signed.", "units", 0.0, ge=0)
    units_max: float = column("Largest number of units.", "units", 1.0, gt=0, le=1e9)
    whole_units: bool = column("Whether only whole units may be signed.", default=False)
    all_or_nothing: bool = column("Whether it is the largest size or nothing.", default=False)
    term_days: int | None = column(
        "Length of the term, from first delivery; blank for beyond the horizon.", "days", None, gt=0
    )
    renewal_days: int = column(
        "Days for which the buyer may go on after the term; it may end that on any day, with the notice of `exits`.",
        "days",
        0,
        ge=0,
        le=36_500,
    )
    renewal_term_days: int | None = column(
        "Length of one renewal, counted from the latest day on which the term can end: they follow each other, and one "
        "that has begun is kept to its end; blank for one that may be ended on any day.",
        "days",
        None,
        gt=0,
        le=36_500,
    )
    renewal_fee_ratio: float = column("Fee after the term, over the fee within it.", "ratio", 1.0, ge=0, le=100)
    terminal_usd_per_chip_hour: float = column(
        "What a chip-hour of the term beyond the horizon is worth above its fee, if the unit is kept to the last day; "
        "below zero a burden. It is no payment: budgets and fees leave it out.",
        "USD per chip-hour",
        0.0,
        ge=-1e6,
        le=1e6,
    )
    fee_usd_per_chip_hour: Amount = column("Fee for each chip-hour of delivered capacity.", "USD per chip-hour", 0.0)
    fee_usd_per_month: Money = column("Fixed fee a month for each unit; may be written 1.25 bn.", "USD per month", 0.0)
    fee_usd_per_million_input_tokens: Amount = column("Token fee, input.", "USD per million tokens", 0.0)
    fee_usd_per_million_output_tokens: Amount = column("Token fee, output.", "USD per million tokens", 0.0)
    tokens_per_minute_max: Amount = column("Rate limit of a token-priced API, for each unit.", "tokens per minute", 0.0)
    take_or_pay_share: Share = column(
        "Share of the fee due whether used or not; a token-priced API is always paid by use.", "share", 1.0
    )
    prepay_share: Share = column(
        "Share of the first year's fee paid at signing and set off against later fees.", "share", 0.0
    )
    ramp_discount_share: Share = column("Share taken off the fee until the day below.", "share", 0.0)
    ramp_discount_until: CalendarDate | None = column("Last day of the ramp discount.", "date", None)
    late_remedy_share: Share = column(
        "Share of the fee not owed for capacity that is late; 1: only what is delivered is paid (an assumption).",
        "share",
        1.0,
    )
    reclaim_per_year: float = column(
        "Hazard that the provider uses an exit, once it may.", "events per year", 0.0, ge=0, le=10
    )
    exclusive_group: str = column("Offers with the same word here shut each other out.", default="")


class TrancheRow(Row):
    """Describe one physical delivery under an offer."""

    key = ("offer", "tranche")
    about = "What each offer delivers: chips at a site from a day, with slip, ramp and qualification."

    offer: Name = column("The offer.", refers="offers.offer")
    tranche: Name = column("Short name of the tranche within the offer.")
    site: Name = column("Where it stands.", refers="sites.site")
    chip: str = column("The chip; blank for a token-priced API.", default="", refers="chips.chip")
    chips_per_unit: float = column("Chips that one unit of the offer brings here.", "chips per unit", 0.0, ge=0, le=1e9)
    substitute_chip: str = column(
        "Another chip that the provider may deliver here instead, for the same fee; blank: it may not.",
        default="",
        refers="chips.chip",
    )
    substitute_probability: Share = column("Chance that it does.", "share", 0.0)
    substitute_ratio: float = column(
        "Chips of the other kind that come for each one promised.", "ratio", 1.0, gt=0, le=1000
    )
    available: CalendarDate = column("First day of delivery as promised, if signed in time.", "date")
    lead_days: int = column("Days from signing to delivery at the earliest.", "days", 0, ge=0, le=4000)
    slip_days_min: int = column("Least slip.", "days", 0, ge=0, le=4000)
    slip_days_mode: int | None = column(
        "Likeliest slip (triangular); blank for a uniform slip.", "days", None, ge=0, le=4000
    )
    slip_days_max: int = column("Largest slip.", "days", 0, ge=0, le=4000)
    ramp_days: int = column("Days from first chip to last, in a straight line.", "days", 0, ge=0, le=4000)
    qualification_days: int = column("Days of testing before capacity counts.", "days", 0, ge=0, le=1000)


class ExitRow(Row):
    """Describe one way out of a contract, under one reading of its terms."""

    key = ("offer", "reading", "who")
    about = "Ways out of contracts. Where public terms conflict, several readings with weights that sum to 1."

    offer: Name = column("The offer.", refers="offers.offer")
    reading: Name = column("Short name of the reading of the terms.")
    weight: Share = column("Weight of this reading; the readings of one offer sum to 1.", "share", 1.0)
    who: Literal["buyer", "provider", "either"] = column("Who may leave.")
    exit_from: CalendarDate = column("First day on which the exit can take effect, notice included.", "date")
    notice_days: int = column("Notice.", "days", ge=0, le=4000)
    fee_usd_per_unit: Money = column(
        "What the side that leaves pays the other for each unit, where the term still runs; of the buyer, the most of "
        "any reading; may be written 1.25 bn.",
        "USD per unit",
        0.0,
    )


class TrainingRow(Row):
    """Describe a training job."""

    key = ("job",)
    about = "Training jobs."

    job: Name = column("Short name.")
    chip_hours: float = column("Size, in hours of a chip of speed 1.", "chip-hours", gt=0)
    chips: Amounts = column("Chips it may use with their speed, as h100=1; gb200=2.5.", "ratio")
    earliest: CalendarDate = column("First day.", "date")
    deadline: CalendarDate = column("Last day.", "date")
    gang_chips: Amount = column("Chips that must run together at one site; smaller sites are left out.", "chips", 0.0)
    single_site: bool = column("Whether it must stay at one site.", default=False)
    interruptible: bool = column(
        "Whether it may pause; if not, it trains alike at all hours and, begun, goes on until it is done.", default=True
    )
    value_usd: Money = column("Value of finishing in time.", "USD")
    residency: str = column("Zone it must stay in, or any.", default="any")
    security: int = column("Least security class of its site.", "class", 0, ge=0, le=3)


TABLES: dict[str, type[Row]] = {
    "providers": ProviderRow,
    "sites": SiteRow,
    "power": PowerRow,
    "links": LinkRow,
    "chips": ChipRow,
    "deployments": DeploymentRow,
    "offers": OfferRow,
    "tranches": TrancheRow,
    "exits": ExitRow,
    "training": TrainingRow,
}
REQUIRED = ("providers", "sites", "links", "chips", "deployments", "offers", "tranches")
