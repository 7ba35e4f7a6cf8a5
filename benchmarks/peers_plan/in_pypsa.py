"""State in PyPSA what it can state of the plan: what to sign, and what to serve with it in every scenario.

Comes in: the arrays of ``part_of`` a problem, each with its axes. Goes out: PyPSA's linopy model. Cells and workloads
are buses; a vintage is an extendable generator whose output follows its deliveries, a lane a link, refusal a generator
at the workload. Snapshots are blocks of periods. It runs in an environment of its own and imports nothing of Offtake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pypsa

from benchmarks.peers_plan.arrays import read
from benchmarks.peers_plan.in_linopy import hand_over

if TYPE_CHECKING:
    import linopy
    import xarray as xr

__all__ = ["hand_over", "read", "state"]
PACKAGES = ("pypsa", "linopy", "highspy")
Data = dict[str, np.ndarray]
S_PER_HOUR = 3600.0
ANY = 1e9  # more chips or requests/s than there are


def state(data: dict[str, xr.DataArray]) -> linopy.Model:
    """Return the model that PyPSA states."""
    network = pypsa.Network()
    values = {name: array.values for name, array in data.items()}
    scenarios, periods, blocks, workloads = values["demand_rps"].shape
    network.set_snapshots(range(periods * blocks))
    hours = values["discount"] * values["period_hours"]
    network.snapshot_weightings["objective"] = np.outer(hours, values["block_share"]).ravel()
    network.add("Bus", names("cell", values["cells.site"].size))
    network.add("Bus", names("workload", workloads))
    generators(network, values)
    links(network, values)
    network.set_scenarios(dict(zip(names("s", scenarios), values["probability"].tolist(), strict=True)))
    in_scenarios(network, values)
    return network.optimize.create_model()


def names(kind: str, count: int) -> list[str]:
    """Name the elements of an axis."""
    return [f"{kind}{index:04d}" for index in range(count)]


def generators(network: pypsa.Network, values: Data) -> None:
    """Add what may be signed, what is asked and what is refused."""
    count, workloads = values["vintages.offer"].size, values["value_usd"].size
    d = {name: values[f"deliveries.{name}"] for name in ("vintage", "cell", "used_usd_per_chip_hour")}
    cell, use_usd = np.zeros(count, dtype=int), np.zeros(count)
    cell[d["vintage"]], use_usd[d["vintage"]] = d["cell"], d["used_usd_per_chip_hour"]
    paid = np.einsum("vst,s,t->v", values["vintages.paid_usd"], values["probability"], values["discount"])
    at_once = values["vintages.prepay_usd"] * values["discount"][values["vintages.sign_period"]]
    most = values["vintages.units_max"]
    network.add(
        "Generator",
        names("vintage", count),
        bus=np.array(names("cell", values["cells.site"].size))[cell],
        p_nom_extendable=True,
        p_nom_min=np.where(values["vintages.signed"], most, 0.0),
        p_nom_max=most,
        capital_cost=paid + at_once,
        marginal_cost=use_usd,
    )
    network.add("Load", names("asked", workloads), bus=names("workload", workloads))
    refusal = values["refusal_usd"] * S_PER_HOUR
    network.add(
        "Generator", names("refused", workloads), bus=names("workload", workloads), p_nom=ANY, marginal_cost=refusal
    )


def links(network: pypsa.Network, values: Data) -> None:
    """Add the lanes, from chips of a cell to requests/s of a workload."""
    cells, workloads = names("cell", values["cells.site"].size), names("workload", values["value_usd"].size)
    network.add(
        "Link",
        names("lane", values["lanes.cell"].size),
        bus0=np.array(cells)[values["lanes.cell"]],
        bus1=np.array(workloads)[values["lanes.workload"]],
        p_nom=ANY,
    )


def in_scenarios(network: pypsa.Network, values: Data) -> None:
    """Set what differs between scenarios: deliveries, demand, and what a chip of a lane does and earns."""
    scenarios, periods, blocks, workloads = values["demand_rps"].shape
    count = values["vintages.offer"].size
    chips = np.zeros((periods, scenarios, count))
    d = [values[f"deliveries.{name}"] for name in ("period", "scenario", "vintage")]
    chips[tuple(d)] = values["deliveries.chips"]
    columns = [
        pd.MultiIndex.from_product([names("s", scenarios), names(kind, size)], names=["scenario", "name"])
        for kind, size in (("vintage", count), ("asked", workloads))
    ]
    delivered = np.repeat(chips.reshape(periods, -1), blocks, axis=0)
    network.generators_t.p_max_pu = pd.DataFrame(delivered, network.snapshots, columns[0])
    demand = values["demand_rps"].transpose(1, 2, 0, 3).reshape(periods * blocks, -1)
    network.loads_t.p_set = pd.DataFrame(demand, network.snapshots, columns[1])
    goodput, cell = values["lanes.goodput_rps_per_chip"].T, values["lanes.cell"]  # [scenario, lane]
    energy = (values["cells.kw_per_chip"] * values["cells.usd_per_kwh"])[cell]
    earned = (values["lanes.usd_per_request"] - values["value_usd"][values["lanes.workload"]]) * S_PER_HOUR * goodput
    network.links["efficiency"] = goodput.ravel()
    network.links["marginal_cost"] = (earned + energy).ravel()
