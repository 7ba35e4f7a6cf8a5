"""Keep step tables as data: small arrays in one file, where they come from in another beside it.

Comes in: a table with its limits and provenance, or the name of one that ships with the package. Goes out: the same,
checked against its content hash. ``NAME.npz`` holds the arrays of ``steps.StepTable``; ``NAME.json`` holds the limits,
the provenance and the hash. This module must never know how a table was measured or who uses it.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import zipfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from offtake.errors import Fault, InputError
from offtake.files import write_whole
from offtake.performance.dense import faults_of_limits
from offtake.performance.steps import ReplicaLimits, Scheduler, StepTable

FORMAT = "offtake-steps-1"
TABLE_BYTES_MAX = 200_000
NOTHING = np.zeros(())  #: a host's share that a file does not tell
HOSTS = ("sequence_ns", "launch_ns", "uncaptured_ns", "request_ns")
LATER = (*HOSTS, "end_grid", "chunk_grid", "chunk_ns")  #: lacking in older files; hashed only where they are not 0


class StoredTable(NamedTuple):
    """Hold a named table, its limits, and what is known of where they come from."""

    name: str
    table: StepTable
    limits: ReplicaLimits
    provenance: dict[str, Any]


def shipped_names() -> list[str]:
    """List the tables that ship with the package."""
    folder = files("offtake.performance") / "data"
    return sorted(entry.name.removesuffix(".npz") for entry in folder.iterdir() if entry.name.endswith(".npz"))


def load_shipped(name: str) -> StoredTable:
    """Load a table that ships with the package.

    Raises
    ------
    InputError
        If there is none of that name; the nearest names are given.
    """
    names = shipped_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise InputError([Fault("step tables", "no table of this name", f"Try {', '.join(close)}.", value=name)])
    folder = files("offtake.performance") / "data"
    return _parse(name, (folder / f"{name}.npz").read_bytes(), (folder / f"{name}.json").read_text(encoding="utf-8"))


def load_table(folder: Path, name: str) -> StoredTable:
    """Load ``NAME.npz`` and ``NAME.json`` from a user's folder."""
    try:
        arrays = (folder / f"{name}.npz").read_bytes()
        return _parse(name, arrays, (folder / f"{name}.json").read_text(encoding="utf-8"))
    except OSError as error:
        mend = "A step table is two files, NAME.npz and NAME.json; build them with tools/build_step_tables.py."
        raise InputError([Fault(name, f"the table cannot be read: {error.strerror}", mend)]) from None


class Listed(NamedTuple):
    """Tell a table in one line: what it is of, and where it is kept."""

    name: str
    checkpoint: str
    system: str
    backend: str
    chips: int
    kv_tokens: int
    confidence: str
    kept: str


def listed(folder: Path | None = None) -> list[Listed]:
    """List the tables that ship with the package, then those in a folder; a file that is no table is left out."""
    shipped = [_told(load_shipped(name), "package") for name in shipped_names()]
    names = sorted(path.stem for path in folder.glob("*.npz")) if folder is not None and folder.is_dir() else []
    own = []
    for name in names:
        with suppress(InputError):
            own.append(_told(load_table(folder or Path(), name), str(folder)))
    return shipped + own


def _told(stored: StoredTable, kept: str) -> Listed:
    """Tell a table in one line."""
    notes = stored.provenance
    return Listed(
        stored.name,
        str(notes.get("checkpoint", "")),
        str(notes.get("system", "")),
        str(notes.get("backend", "")),
        int(notes.get("tensor_parallel", 1)),
        stored.limits.kv_blocks * stored.limits.block_tokens,
        str(notes.get("confidence", "assumption")),
        kept,
    )


def save_table(stored: StoredTable, folder: Path) -> int:
    """Write ``NAME.npz`` and ``NAME.json``, whole or not at all, and return the bytes of the arrays' file.

    Raises
    ------
    ValueError
        If the arrays take more than 200 kB.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in stored.table._asdict().items()}
    np.savez_compressed(buffer, **arrays)
    if buffer.tell() > TABLE_BYTES_MAX:
        raise ValueError(f"{stored.name}: {buffer.tell()} bytes is more than {TABLE_BYTES_MAX}")
    notes = {
        "format": FORMAT,
        "name": stored.name,
        "limits": stored.limits._asdict(),
        "provenance": stored.provenance,
        "content_sha256": content_hash(stored.table, stored.limits),
    }
    write_whole(folder / f"{stored.name}.npz", buffer.getvalue())
    write_whole(folder / f"{stored.name}.json", (json.dumps(notes, indent=1) + "\n").encode())
    return buffer.tell()


def content_hash(table: StepTable, limits: ReplicaLimits) -> str:
    """Return the SHA-256 of the arrays and of the limits that are not left as they are.

    It does not depend on the file's packing or date.
    """
    digest = hashlib.sha256()
    for key, value in table._asdict().items():
        if key in LATER and not np.any(value):
            continue
        array = np.ascontiguousarray(value, dtype="<f8")
        digest.update(f"{key}{array.shape}".encode())
        digest.update(array.tobytes())
    usual = ReplicaLimits._field_defaults
    said = {name: int(value) for name, value in limits._asdict().items() if usual.get(name) != value}
    digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def table_faults(table: StepTable, limits: ReplicaLimits, file: str) -> list[Fault]:
    """Return every fault in the shapes, order and signs of a table."""
    grids = (table.token_grid, table.prefill_grid, table.batch_grid, table.context_grid)
    cells = (table.batch_grid.size, table.context_grid.size)
    stairs = (table.end_grid, table.chunk_grid)
    values = (table.token_ns, table.prefill_ns, table.decode_attention_ns, table.decode_step_ns, table.chunk_ns)
    checks = [
        (all(g.size > 1 and bool(np.all(np.diff(g) > 0)) for g in grids), "every grid must hold 2 rising points"),
        (table.token_ns.shape == table.token_grid.shape, "token_ns must be as long as token_grid"),
        (table.prefill_ns.shape == table.prefill_grid.shape, "prefill_ns must be as long as prefill_grid"),
        (table.decode_step_ns.shape == cells, "decode_step_ns must be batch by context"),
        (table.decode_attention_ns.shape == cells, "decode_attention_ns must be batch by context"),
        (all(bool(np.all(np.diff(g) > 0)) for g in stairs), "end_grid and chunk_grid must rise"),
        (table.chunk_ns.shape == tuple(g.size for g in stairs), "chunk_ns must be end by chunk"),
        (all(bool(np.all(np.isfinite(v)) and np.all(v >= 0)) for v in values), "times must be finite, not negative"),
        (bool(np.all(table.decode_step_ns > 0) and np.all(table.token_ns > 0)), "a step must take time"),
        (bool(np.all(np.diff(table.prefill_ns) >= 0)), "prefill_ns is cumulative and may not fall"),
        (not faults_of_limits(limits, file), "every limit must be positive"),
    ]
    mend = "Build the table again with tools/build_step_tables.py."
    return [Fault(file, f"the step table is not sound: {problem}", mend) for good, problem in checks if not good]


def _parse(name: str, arrays: bytes, notes: str) -> StoredTable:
    """Read and check the two files of a table."""
    mend = "Take both files from the same build."
    try:
        with np.load(io.BytesIO(arrays)) as stored:
            fields: dict[str, Any] = {
                key: np.array(stored[key], dtype=np.float64, order="C") for key in StepTable._fields if key in stored
            }
        described = json.loads(notes)
        host: dict[str, Any] = {key: float(fields.pop(key, NOTHING)) for key in ("overhead_ns", *HOSTS)}
        table = StepTable(**fields, **host)
        limits = ReplicaLimits(**{key: int(value) for key, value in described["limits"].items()})
        provenance = dict(described["provenance"])
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError([Fault(name, f"the files are not a step table: {error}", mend)]) from None
    faults = table_faults(table, limits, name)
    if described.get("content_sha256") != content_hash(table, limits):
        faults.append(Fault(name, "the arrays do not match the hash written beside them", mend))
    if faults:
        raise InputError(faults)
    if "scheduler" not in described["limits"]:
        limits = limits._replace(scheduler=scheduler_of(str(provenance.get("backend", ""))))
    return StoredTable(name, table, limits, provenance)


def scheduler_of(backend: str) -> Scheduler:
    """Return the scheduler of a backend by its name (``sglang 0.5.14``); vLLM's when it has none of its own here."""
    return Scheduler.__members__.get(backend.partition(" ")[0].upper(), Scheduler.VLLM)
