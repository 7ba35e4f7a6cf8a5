"""Make the rows of a portfolio that performance reads; the chips' figures are those of NVIDIA's data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from offtake.schema.settings import ModelRow
from offtake.schema.tables import ChipRow, DeploymentRow


def chip_row(chip: str, memory_gb: float, bandwidth_gb_s: float, tflops: float) -> ChipRow:
    return ChipRow(
        chip=chip,
        name=chip,
        facility_kw=1.4,
        memory_gb=memory_gb,
        memory_bandwidth_gb_s=bandwidth_gb_s,
        peak_tflops=tflops,
    )


H100 = chip_row("h100", 80, 3350, 1979)
H200 = chip_row("h200", 141, 4800, 1979)
GB200 = chip_row("gb200", 186, 8000, 10_000)
TPU = chip_row("tpu", 192, 7370, 4614)


@dataclass(frozen=True)
class Rows:
    """Be the parts of a portfolio that deployments are resolved from."""

    folder: str
    models: tuple[ModelRow, ...]
    chips: tuple[ChipRow, ...]
    deployments: tuple[DeploymentRow, ...]


def deployment_row(chip: str, chips: int, performance: str, model: str = "assistant", at: int = 2) -> DeploymentRow:
    return DeploymentRow.model_validate(
        {"at": at, "model": model, "chip": chip, "chips_per_replica": chips, "performance": performance}
    )


def portfolio(*deployments: DeploymentRow, stand_in: str = "Llama-3.1-70B", folder: str = ".") -> Rows:
    model = ModelRow(model="assistant", stand_in=stand_in)
    return Rows(folder, (model,), (H100, H200, GB200, TPU), deployments)
