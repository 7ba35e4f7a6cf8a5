"""Resolve a portfolio's ``deployments`` row into the step table, limits and chips of one replica.

Comes in: the checked portfolio tables. Goes out: one :class:`Deployment` for each (model, chip). ``table:NAME`` takes
a table as it is; ``ratio:CHIP*FACTOR`` takes that of a known chip of the same model, each chip being FACTOR times as
fast, so that times shrink by FACTOR × chips / known chips and the KV cache follows the memory; ``user:FILE.csv`` takes
goodputs that were measured (columns ``workload``, ``goodput_rps`` per replica, ``like``: the table whose shape is
used) and leaves the scale to be fitted. A deployment's ``name`` holds all of that (``TABLE*SPEED@BLOCKS``), so that a
fleet file that names it can be rehearsed alone. This module must never know a fleet, a fee or a demand.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from offtake.errors import Fault, InputError
from offtake.performance.library import StoredTable, shipped_names
from offtake.performance.model import ModelSpec, Served, find_model, weight_bytes
from offtake.performance.named import load_base, sped_up
from offtake.performance.roofline import Claim, Hardware, decode_step_ns_bound, refuse_implausible
from offtake.schema.columns import Confidence
from offtake.schema.settings import ModelRow
from offtake.schema.tables import ChipRow, DeploymentRow
from offtake.units import BYTES_PER_GB

FILE = "deployments.csv"
USER_COLUMNS = ("workload", "goodput_rps", "like")
MEMORY_SHARE = 0.9  #: of a chip's memory that an engine takes (vLLM's default), where no memory model says better
ORDER = list(Confidence)

Key = tuple[str, str]


@dataclass(frozen=True)
class Deployment:
    """Hold how one replica of a model on a chip behaves, and how far that can be trusted.

    ``stored`` holds the step table (ns) and limits; ``measured_rps[workload]`` holds goodputs of one replica that
    the user measured, with ``fitted`` false until the table's scale was found from them; ``stated`` says where
    the user stated a speed, so that an impossible one can be refused there.
    """

    model: str
    name: str
    hardware: Hardware
    served: Served
    stored: StoredTable
    confidence: Confidence
    measured_rps: Mapping[str, float] = field(default_factory=dict)
    fitted: bool = True
    stated: Claim | None = None

    @property
    def chips_per_replica(self) -> int:
        """Return the chips that one replica takes."""
        return self.hardware.chips_per_replica

    @property
    def extrapolated(self) -> bool:
        """Tell whether its step times were extrapolated from data sheets, not measured."""
        return bool(self.stored.provenance.get("extrapolated", False))

    def faster(self, speed: float, kv_blocks: int | None = None) -> Deployment:
        """Return the deployment ``speed`` times as fast, with other KV blocks if given; the name says so."""
        stored = sped_up(self.stored, speed, kv_blocks)
        return replace(self, stored=stored, name=stored.name)


class Rows(Protocol):
    """Name the parts of a checked portfolio that are needed here (``schema.portfolio.Tables`` has them)."""

    @property
    def folder(self) -> str:
        """Return the portfolio's folder, where tables and measurements may lie."""

    @property
    def models(self) -> tuple[ModelRow, ...]:
        """Return the served models."""

    @property
    def chips(self) -> tuple[ChipRow, ...]:
        """Return the chips."""

    @property
    def deployments(self) -> tuple[DeploymentRow, ...]:
        """Return the rows to resolve."""


class _Context(NamedTuple):
    """Hold what the rows refer to."""

    tables: Rows
    folder: Path
    rows: dict[Key, DeploymentRow]


def resolve_all(tables: Rows) -> dict[Key, Deployment]:
    """Resolve every row of ``deployments``, by (model, chip).

    Raises
    ------
    InputError
        With every fault found: an unknown table or chip, a table of another model, too few chips for the weights,
        steps faster than the memory can be read.
    """
    context = _Context(tables, Path(tables.folder), {(row.model, row.chip): row for row in tables.deployments})
    found: dict[Key, Deployment] = {}
    faults: list[Fault] = []
    for key, row in context.rows.items():
        try:
            found[key] = _possible(_resolve(context, row), row)
        except InputError as error:
            faults += [_at_row(fault, row) for fault in error.faults]
    if faults:
        raise InputError(faults)
    return found


def known_hardware(deployment: Deployment) -> Hardware:
    """Return the chips that the step table was measured on, or the deployment's own where the table does not say."""
    notes = deployment.stored.provenance
    if "chip" not in notes:
        return deployment.hardware
    own = deployment.hardware.chip
    chip = own.model_copy(update={"chip": notes["system"], "name": notes["system"], **notes["chip"]})
    return Hardware(chip, int(notes["tensor_parallel"]))


def _resolve(context: _Context, row: DeploymentRow) -> Deployment:
    """Resolve one row by its source of step times."""
    kind, _, rest = row.performance.partition(":")
    if kind == "table":
        return _from_table(context, row, rest)
    if kind == "ratio":
        return _from_ratio(context, row, rest)
    return _from_user(context, row, rest)


def _possible(deployment: Deployment, row: DeploymentRow) -> Deployment:
    """Refuse step times below what reading weights and KV cache takes (a node taken for a chip, a ratio too bold)."""
    table, limits = deployment.stored.table, deployment.stored.limits
    batch, context = np.meshgrid(table.batch_grid, table.context_grid, indexing="ij")
    held = batch * context <= limits.kv_blocks * limits.block_tokens
    bound_ns = decode_step_ns_bound(deployment.served, deployment.hardware, batch, context)
    share = float(np.min(np.where(held, table.decode_step_ns / bound_ns, np.inf)))
    if share >= 1:
        return deployment
    problem = f"its decode steps are {1 / share:.2g} times faster than {row.chip}'s memory can be read"
    mend = "Check chips_per_replica, the factor, and the chip's memory bandwidth."
    raise InputError([_fault(row, problem, mend, "performance", row.performance)])


def _from_table(context: _Context, row: DeploymentRow, name: str) -> Deployment:
    """Take a table as it is."""
    stored = load_base(name, context.folder)
    chips = int(stored.provenance.get("tensor_parallel", row.chips_per_replica))
    if chips != row.chips_per_replica:
        mend = f"Write {chips}, or take a table for {row.chips_per_replica} chips."
        problem = f"table {name} is for {chips} chips per replica"
        raise InputError([_fault(row, problem, mend, "chips_per_replica", str(row.chips_per_replica))])
    served = _served(context, row, stored)
    confidence = _weakest(row.confidence, Confidence(stored.provenance.get("confidence", "assumption")))
    return Deployment(row.model, stored.name, _hardware(context, row), served, stored, confidence)


def _from_ratio(context: _Context, row: DeploymentRow, rest: str) -> Deployment:
    """Scale the table of a known chip; an assumption."""
    known_chip, _, text = rest.partition("*")
    known_row = context.rows.get((row.model, known_chip))
    if known_row is None or not known_row.performance.startswith("table:"):
        mend = f"Name a chip for which {FILE} gives {row.model} a table."
        raise InputError([_fault(row, f"{known_chip} has no table for this model", mend, "performance", rest)])
    factor = float(text)
    if not (factor > 0 and math.isfinite(factor)):
        raise InputError(
            [_fault(row, "the factor must be above 0", "Write 1.5 for half as fast again.", "performance")]
        )
    known = _resolve(context, known_row)
    hardware = _hardware(context, row)
    speed = factor * hardware.chips_per_replica / known.chips_per_replica
    blocks = _kv_blocks(known, hardware)
    if blocks < 1:
        problem = f"the weights do not fit {hardware.chips_per_replica} chips of {row.chip}"
        raise InputError([_fault(row, problem, "Use more chips per replica.", "chips_per_replica")])
    faster = known.faster(speed, blocks)
    stated = Claim(0.0, FILE, row.at, "performance")
    refuse_implausible(factor, hardware, known_hardware(known), stated)
    return replace(faster, hardware=hardware, confidence=Confidence.ASSUMPTION, stated=stated)


def _from_user(context: _Context, row: DeploymentRow, name: str) -> Deployment:
    """Take measured goodputs, and the shape of the table they name."""
    measured, like = _read_measured(context.folder / name, row)
    stored = load_base(like, context.folder)
    served = _served(context, row, stored)
    hardware = _hardware(context, row)
    base = Deployment(row.model, like, hardware, served, stored, row.confidence)
    speed = hardware.chips_per_replica / known_hardware(base).chips_per_replica
    stated = Claim(0.0, FILE, row.at, "performance")
    faster = base.faster(speed, _kv_blocks(base, hardware))
    return replace(faster, measured_rps=measured, fitted=False, stated=stated)


def _read_measured(path: Path, row: DeploymentRow) -> tuple[dict[str, float], str]:
    """Read the user's goodputs by workload, and the table whose shape they use."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        mend = f"Put a CSV there with the columns {', '.join(USER_COLUMNS)}."
        raise InputError([_fault(row, f"{path.name} cannot be read: {error}", mend, "performance")]) from None
    faults: list[Fault] = []
    measured: dict[str, float] = {}
    for number, cells in enumerate(rows, start=2):
        missing = [column for column in USER_COLUMNS if not (cells.get(column) or "").strip()]
        if missing:
            faults.append(Fault(path.name, "a cell is missing", "Fill it in.", row=number, column=missing[0]))
            continue
        rate = _positive(cells["goodput_rps"])
        if rate is None:
            mend = "Write the requests/s of one replica."
            faults.append(Fault(path.name, "not a positive number", mend, number, "goodput_rps", cells["goodput_rps"]))
            continue
        measured[cells["workload"].strip()] = rate
    shapes = {(cells.get("like") or "").strip() for cells in rows}
    if not faults and len(shapes) != 1:
        mend = f"Name one table in every row, such as {shipped_names()[0]}."
        faults.append(Fault(path.name, "the rows must all be like one table", mend, column="like"))
    if faults:
        raise InputError(faults)
    return measured, shapes.pop()


def _positive(text: str) -> float | None:
    """Return a positive finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number > 0 and math.isfinite(number) else None


def _served(context: _Context, row: DeploymentRow, stored: StoredTable) -> Served:
    """Return the model's facts in the table's format; refuse a table of another model."""
    stand_in = next(model.stand_in for model in context.tables.models if model.model == row.model)
    wanted = find_model(stand_in, "portfolio.toml")
    of_table: ModelSpec = find_model(str(stored.provenance.get("stand_in", wanted.name)), stored.name)
    if of_table.name != wanted.name:
        problem = f"the table is of {of_table.name}, but {row.model}'s stand-in is {wanted.name}"
        raise InputError([_fault(row, problem, "Take a table of the same model.", "performance", row.performance)])
    bits = (int(stored.provenance.get(key, 16)) for key in ("weight_bits", "kv_bits"))
    return Served(wanted, *bits)


def _hardware(context: _Context, row: DeploymentRow) -> Hardware:
    """Return the chip's data sheet and the chips of one replica."""
    chip = next(chip for chip in context.tables.chips if chip.chip == row.chip)
    return Hardware(chip, row.chips_per_replica)


def _kv_blocks(known: Deployment, hardware: Hardware) -> int:
    """Scale the known KV blocks by the memory that the weights leave free."""
    need = weight_bytes(known.served)
    free, free_known = (
        MEMORY_SHARE * one.chip.memory_gb * BYTES_PER_GB * one.chips_per_replica - need
        for one in (hardware, known_hardware(known))
    )
    return int(known.stored.limits.kv_blocks * free / free_known) if free > 0 and free_known > 0 else 0


def _weakest(*marks: Confidence) -> Confidence:
    """Return the mark that can be trusted least."""
    return max(marks, key=ORDER.index)


def _fault(row: DeploymentRow, problem: str, mend: str, column: str, value: str | None = None) -> Fault:
    """Return a fault at a row of ``deployments``."""
    return Fault(FILE, problem, mend, row=row.at, column=column, value=value)


def _at_row(fault: Fault, row: DeploymentRow) -> Fault:
    """Give a fault that knows no row of the portfolio the row that led to it."""
    if fault.row is not None or fault.file.endswith(".csv"):
        return fault
    return Fault(FILE, fault.problem, fault.mend, row=row.at, column="performance", value=fault.value)
