"""Build the step table that a person asks for by model, chip, engine and chips, once.

Comes in: a :class:`Wanted`. Goes out: the table, kept in a folder under a name that says what it is; one that is there
already, built from the same choice, is taken as it is. From measured kernels where there are any; from the chip's data
sheet alone only where that is asked for, under a name that says so. This module must never know a price.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from offtake.errors import Fault, InputError
from offtake.performance.extrapolate import extrapolated
from offtake.performance.library import StoredTable, content_hash, load_table, save_table
from offtake.performance.model import Served, find_model
from offtake.performance.roofline import Hardware
from offtake.performance.silicon import SiliconChoice, build_table
from offtake.performance.silicon_engine import VERSIONS
from offtake.schema.tables import ChipRow

BITS_OF = ((r"fp4|int4", 4), (r"fp8|int8", 8))  #: what a checkpoint's name tells
BITS_FULL = 16  #: of a weight where the name tells nothing


class Wanted(NamedTuple):
    """Name a deployment: checkpoint, chip, engine, chips of a replica, chips that experts are split over, bits.

    ``weight_bits`` and ``kv_bits`` 0: what the checkpoint's name tells, and a KV cache in 8 bits where the weights have
    fewer than 16. ``name``: of the table; made from the rest when it is empty.
    """

    model: str
    chip: str
    backend: str = "vllm"
    chips: int = 1
    experts: int = 1
    weight_bits: int = 0
    kv_bits: int = 0
    name: str = ""


def build(wanted: Wanted, folder: Path, sheet: ChipRow | None = None) -> tuple[StoredTable, bool]:
    """Build a table into ``folder``, or take it from there; return it, and whether it was built now.

    ``sheet``: the data sheet to extrapolate from; None asks for measured kernels.

    Raises
    ------
    InputError
        If the combination has no data (the nearest that have some are named), the weights do not fit, or the name is
        taken by another table.
    """
    wanted = with_bits(wanted)
    name = wanted.name or name_of(wanted, roofline=sheet is not None)
    if sheet is not None:
        served = Served(find_model(wanted.model, "MODEL"), wanted.weight_bits, wanted.kv_bits)
        made = extrapolated(name, served, Hardware(sheet, wanted.chips))
        return _kept(made, folder)
    choice = choice_of(wanted)
    kept = load_table(folder, name) if (folder / f"{name}.json").exists() else None
    if kept is not None and kept.provenance.get("choice") == choice._asdict():
        return kept, False
    if kept is not None:
        raise InputError([_taken(name)])
    made = build_table(name, choice)
    save_table(made, folder)
    return made, True


def with_bits(wanted: Wanted) -> Wanted:
    """Fill in the bits of weights and KV cache."""
    told = (bits for pattern, bits in BITS_OF if re.search(pattern, wanted.model.lower()))
    weight_bits = wanted.weight_bits or next(told, BITS_FULL)
    kv_bits = wanted.kv_bits or (BITS_FULL if weight_bits == BITS_FULL else BITS_FULL // 2)
    return wanted._replace(weight_bits=weight_bits, kv_bits=kv_bits)


def name_of(wanted: Wanted, *, roofline: bool) -> str:
    """Return a name that says what the table is of."""
    model = wanted.model.rsplit("/", 1)[-1].lower()
    experts = f"-ep{wanted.experts}" if wanted.experts > 1 else ""
    engine = "roofline" if roofline else wanted.backend
    return re.sub(r"[^a-z0-9_.+-]+", "-", f"{model}-{wanted.chip}-tp{wanted.chips}{experts}-{engine}")


def choice_of(wanted: Wanted) -> SiliconChoice:
    """Return the deployment in the words of the measured kernels.

    Raises
    ------
    InputError
        If no such engine was measured.
    """
    if wanted.backend not in VERSIONS:
        mend = f"Use one of {', '.join(VERSIONS)}."
        raise InputError([Fault("--backend", "no such engine was measured", mend, value=wanted.backend)])
    choice = SiliconChoice(
        wanted.model,
        wanted.chip,
        wanted.chips,
        backend=wanted.backend,
        backend_version=VERSIONS[wanted.backend],
        expert_parallel=wanted.experts,
        weight_bits=wanted.weight_bits,
        kv_bits=wanted.kv_bits,
    )
    try:
        return choice._replace(stand_in=find_model(wanted.model).name)
    except InputError:  # a table of a model that no portfolio can stand in for yet: still good to look at
        return choice


def sheet_of(chips: Sequence[ChipRow], chip: str) -> ChipRow:
    """Return a chip's data sheet from a portfolio.

    Raises
    ------
    InputError
        If the portfolio has no such chip.
    """
    found = next((row for row in chips if row.chip == chip), None)
    if found is None:
        mend = f"Use one of {', '.join(row.chip for row in chips)}, or add it."
        raise InputError([Fault("chips.csv", "there is no such chip", mend, column="chip", value=chip)])
    return found


def _kept(made: StoredTable, folder: Path) -> tuple[StoredTable, bool]:
    """Keep a table, unless the same one is there already."""
    if not (folder / f"{made.name}.json").exists():
        save_table(made, folder)
        return made, True
    kept = load_table(folder, made.name)
    if content_hash(kept.table, kept.limits) != content_hash(made.table, made.limits):
        raise InputError([_taken(made.name)])
    return kept, False


def _taken(name: str) -> Fault:
    """Return the fault of a name that another table has."""
    return Fault(f"{name}.json", "another table has this name", "Give --name, or another --out.", value=name)
