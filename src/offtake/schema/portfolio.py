"""Hold a whole checked portfolio folder as records: what the reader returns and the rooms above take.

It holds values only; each list keeps the order of its file.
"""

from __future__ import annotations

from dataclasses import dataclass

from offtake.schema.settings import (
    ConcentrationRow,
    GrowthRow,
    Limits,
    ModelRow,
    NodeRow,
    RegionRow,
    Risk,
    Settings,
    ShockRow,
    WorkloadRow,
)
from offtake.schema.tables import (
    ChipRow,
    DeploymentRow,
    ExitRow,
    LinkRow,
    OfferRow,
    PowerRow,
    ProviderRow,
    SiteRow,
    TrainingRow,
    TrancheRow,
)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Hold every record of a portfolio folder, its path, and the SHA-256 of each file read (``hashes[file]``)."""

    folder: str
    hashes: dict[str, str]
    settings: Settings
    limits: Limits
    risk: Risk
    regions: tuple[RegionRow, ...]
    models: tuple[ModelRow, ...]
    workloads: tuple[WorkloadRow, ...]
    growth: tuple[GrowthRow, ...]
    nodes: tuple[NodeRow, ...]
    shocks: tuple[ShockRow, ...]
    concentration: tuple[ConcentrationRow, ...]
    providers: tuple[ProviderRow, ...]
    sites: tuple[SiteRow, ...]
    power: tuple[PowerRow, ...]
    links: tuple[LinkRow, ...]
    chips: tuple[ChipRow, ...]
    deployments: tuple[DeploymentRow, ...]
    offers: tuple[OfferRow, ...]
    tranches: tuple[TrancheRow, ...]
    exits: tuple[ExitRow, ...]
    training: tuple[TrainingRow, ...]
