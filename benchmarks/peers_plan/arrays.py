"""Read a problem's arrays where Offtake is not, each with the names of its axes.

Comes in: an archive of ``in_offtake.write``. Goes out: labelled arrays, each by the name of its field. Whatever is
counted in USD is in millions: the peers know no units, so that their reader takes care of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from pathlib import Path

USD = 1e6
AXES = {
    "probability": "scenario",
    "period_hours": "period",
    "discount": "period",
    "block_share": "block",
    "demand_rps": "scenario period block workload",
    "value_usd": "workload",
    "refusal_usd": "workload",
    "deferrable": "workload",
    "power_kw": "scenario period block site",
    "link_bytes_per_s": "site",
    "exclusive": "set offer",
    "cells": "cell",
    "lanes": "lane",
    "lanes.goodput_rps_per_chip": "lane scenario",
    "vintages": "vintage",
    "vintages.paid_usd": "vintage scenario period",
    "vintages.cancel_usd": "vintage scenario period",
    "vintages.renewed": "vintage period",
    "vintages.terminal_usd": "vintage scenario",
    "vintages.firm_kw": "vintage period",
    "vintages.group_kw": "vintage period group",
    "deliveries": "delivery",
    "deliveries.group_member": "delivery group",
    "jobs": "job",
    "jobs.speed": "job cell",
    "jobs.floor_chips": "period",
    "limits.group_cap": "group",
    "limits.group_cap_from": "group",
    "limits.survive_group": "group",
    "limits.critical": "workload",
    "limits.budget_usd": "year",
    "limits.period_year": "period",
}


def read(path: Path) -> dict[str, xr.DataArray]:
    """Return the arrays of a file by name."""
    found = {}
    with np.load(path) as arrays:
        for name, values in arrays.items():
            axes = AXES.get(name, AXES.get(name.split(".")[0], "") if values.ndim else "").split()
            found[name] = labelled(values / USD if "usd" in name else values, *axes)
    return found


def labelled(values: np.ndarray, *axes: str) -> xr.DataArray:
    """Label an array: each axis has its name, its elements their numbers."""
    coordinates = {axis: np.arange(size) for axis, size in zip(axes, np.shape(values), strict=True)}
    return xr.DataArray(values, coordinates, axes)
