"""Read a portfolio folder: every fault at once, or every record checked.

Comes in: a folder with ``portfolio.toml`` and CSV tables. Goes out: :class:`Tables`, or one ``InputError``
holding each fault with file, row, column and mend. It reads; what a column may hold is in ``tables.py``
and ``settings.py``, and what must agree between rows is in ``check.py``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tomllib
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from offtake.errors import Fault, InputError
from offtake.schema.check import check_tables, unsafe_files
from offtake.schema.portfolio import Tables
from offtake.schema.settings import LISTS, SECTIONS, Limits, PortfolioToml, Risk, Settings
from offtake.schema.tables import REQUIRED, TABLES, Row

TOML_NAME = "portfolio.toml"
R = TypeVar("R", bound=Row)


def read_folder(folder: Path) -> Tables:
    """Read and check a portfolio folder.

    Rows that begin with ``#`` are comments; row numbers are those a spreadsheet shows.

    Raises
    ------
    InputError
        With every fault of every file.
    """
    tables, faults, _ = read_loosely(folder)
    if faults:
        raise InputError(faults)
    return tables


def read_loosely(folder: Path) -> tuple[Tables, list[Fault], set[str]]:
    """Return what is sound of a folder, every fault, and the files that no further check can rely on.

    Raises
    ------
    InputError
        Where there is no such folder.
    """
    faults: list[Fault] = []
    hashes: dict[str, str] = {}
    if not folder.is_dir():
        mend = "Give the path of a folder that holds portfolio.toml; `offtake init DIR` writes a starter."
        raise InputError([Fault(str(folder), "there is no such folder", mend)])
    parsed = read_toml(folder, faults, hashes)
    rows: dict[str, tuple[Row, ...]] = {}
    for table, record in TABLES.items():
        rows[table] = read_table(folder / f"{table}.csv", record, faults, hashes)
    faults += unknown_files(folder)
    tables = assemble(folder, parsed, rows, hashes)
    faulty = {fault.file for fault in faults}
    return tables, faults + check_tables(tables, faulty), unsafe_files(tables, faulty)


def assemble(
    folder: Path, parsed: dict[str, tuple[Row, ...]], rows: dict[str, tuple[Row, ...]], hashes: dict[str, str]
) -> Tables:
    """Return the record of the whole folder from its parsed sections and tables."""
    fields: dict[str, Any] = dict(rows)
    for section, plural in PLURALS.items():
        fields[plural] = parsed[section]
    for section, field in SINGLE.items():
        fields[field] = parsed[section][0] if parsed[section] else PLACEHOLDER[section]
    return Tables(folder=str(folder), hashes=dict(sorted(hashes.items())), **fields)


PLURALS = {
    "region": "regions",
    "model": "models",
    "workload": "workloads",
    "growth": "growth",
    "node": "nodes",
    "shock": "shocks",
    "concentration": "concentration",
}
SINGLE = {"portfolio": "settings", "limits": "limits", "risk": "risk"}
PLACEHOLDER: dict[str, Row] = {
    "portfolio": Settings(name="none", start=date.min, end=date.max),
    "limits": Limits(),
    "risk": Risk(),
}


def read_bytes(path: Path, faults: list[Fault], hashes: dict[str, str]) -> str | None:
    """Return the text of a file and note its hash, or add a fault and return None."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        faults.append(Fault(path.name, f"the file cannot be read ({error.strerror})", "Put the file into the folder."))
        return None
    except UnicodeDecodeError:
        faults.append(Fault(path.name, "the file is not UTF-8 text", "Save it again as CSV UTF-8."))
        return None
    hashes[path.name] = hashlib.sha256(data).hexdigest()
    return text


def read_toml(folder: Path, faults: list[Fault], hashes: dict[str, str]) -> dict[str, tuple[Row, ...]]:
    """Return the records of each section of ``portfolio.toml``; faulty records are left out."""
    found: dict[str, tuple[Row, ...]] = dict.fromkeys(SECTIONS, ())
    text = read_bytes(folder / TOML_NAME, faults, hashes)
    if text is None:
        return found
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        faults.append(Fault(TOML_NAME, f"the file is not TOML: {error}", "Mend the line that it names."))
        return found
    faults += [
        Fault(TOML_NAME, f"there is no section {name!r}", nearest(name, SECTIONS), row=f"[{name}]")
        for name in document
        if name not in SECTIONS
    ]
    for name, record in SECTIONS.items():
        found[name] = read_section(name, record, document.get(name), faults)
    return found


def read_section(name: str, record: type[Row], given: object, faults: list[Fault]) -> tuple[Row, ...]:
    """Return the records of one section, list or single."""
    if given is None:
        if PortfolioToml.model_fields[name].is_required():
            brackets = f"[[{name}]]" if name in LISTS else f"[{name}]"
            faults.append(
                Fault(TOML_NAME, f"the section {brackets} is missing", f"Add it: {record.about}", row=brackets)
            )
        return ()
    wanted = list if name in LISTS else dict
    if not isinstance(given, wanted) or (wanted is list and not all(isinstance(one, dict) for one in given)):
        brackets = f"[[{name}]]" if name in LISTS else f"[{name}]"
        faults.append(Fault(TOML_NAME, "the section has the wrong form", f"Head it with {brackets}.", row=name))
        return ()
    rows = given if isinstance(given, list) else [given]
    places = [f"[[{name}]] {i + 1}" if name in LISTS else f"[{name}]" for i in range(len(rows))]
    made = [make(record, row, TOML_NAME, place, faults) for row, place in zip(rows, places, strict=True)]
    return tuple(row.model_copy(update={"at": i + 1}) for i, row in enumerate(made) if row is not None)


def read_table(path: Path, record: type[R], faults: list[Fault], hashes: dict[str, str]) -> tuple[R, ...]:
    """Return the records of one CSV table; faulty rows are left out, a missing optional table is empty."""
    if not path.exists():
        if path.stem in REQUIRED:
            faults.append(Fault(path.name, "the file is missing", f"Add it: {record.about}"))
        return ()
    text = read_bytes(path, faults, hashes)
    if text is None:
        return ()
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    rows: list[R] = []
    try:
        for cells in lines:
            number = lines.line_num
            if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if not header_is_good(header, record, path.name, number, faults):
                    return ()
                continue
            row = read_row(header, cells, record, (path.name, number), faults)
            if row is not None:
                rows.append(row)
    except csv.Error as error:
        faults.append(
            Fault(path.name, f"the file is not CSV: {error}", "Check its quotes and commas.", row=lines.line_num)
        )
    if header is None:
        faults.append(Fault(path.name, "the file is empty", f"Give a header row with {', '.join(record.key)}, …"))
    return tuple(rows)


def header_is_good(header: list[str], record: type[Row], file: str, number: int, faults: list[Fault]) -> bool:
    """Check the header row and add a fault for each unknown, repeated or missing column."""
    before = len(faults)
    known = columns_of(record)
    if len(header) == 1 and header[0].count(";") > 0:
        mend = "Save it as CSV with commas between cells and points in numbers."
        faults.append(Fault(file, "the cells are parted by semicolons", mend, row=number))
        return False
    faults += [
        Fault(file, f"there is no column {name!r}", nearest(name, known), row=number, column=name)
        for name in header
        if name not in known
    ]
    faults += [
        Fault(file, "the column stands twice", "Keep one of them.", row=number, column=name)
        for name in sorted({name for name in header if header.count(name) > 1})
    ]
    for name, field in record.model_fields.items():
        if field.is_required() and name not in header:
            mend = f"Add it: {field.description}"
            faults.append(Fault(file, "the column is missing", mend, row=number, column=name))
    return len(faults) == before


def read_row(
    header: list[str], cells: list[str], record: type[R], where: tuple[str, int], faults: list[Fault]
) -> R | None:
    """Return one record from the cells of one row, or add its faults."""
    file, number = where
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        mend = "Put text that holds a comma into double quotes."
        faults.append(Fault(file, f"the row has {len(cells)} cells, the header {len(header)}", mend, row=number))
        return None
    given = {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}
    made = make(record, given, file, number, faults)
    return None if made is None else made.model_copy(update={"at": number})


def make(record: type[R], given: dict[str, Any], file: str, row: int | str, faults: list[Fault]) -> R | None:
    """Return the checked record, or add one fault for each thing wrong with it."""
    if "at" in given:
        faults.append(Fault(file, "there is no column 'at'", "Leave it out.", row=row, column="at"))
        return None
    fields = record.model_fields
    flags = [name for name, value in given.items() if isinstance(value, bool) and name in fields]
    wrong = [name for name in flags if fields[name].annotation is not bool]
    faults += [
        Fault(file, "true or false stands where a value is meant", f"Meaning: {fields[name].description}", row, name)
        for name in wrong
    ]
    if wrong:
        return None
    try:
        return record.model_validate(given)
    except ValidationError as errors:
        faults += [fault_of(error, record, file, row) for error in errors.errors()]
        return None


def fault_of(error: ErrorDetails, record: type[Row], file: str, row: int | str) -> Fault:
    """Turn one validation error into a fault in the user's words."""
    column = str(error["loc"][0]) if error["loc"] else None
    known = columns_of(record)
    if error["type"] == "extra_forbidden" and column is not None:
        return Fault(file, f"there is no setting {column!r}", nearest(column, known), row=row, column=column)
    if column is None or column not in known:
        return Fault(file, error["msg"], "Mend the row.", row=row)
    field = record.model_fields[column]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f" [{extra['unit']}]" if extra.get("unit") else ""
    meaning = f"{field.description}{unit}"
    if error["type"] == "missing":
        return Fault(file, "the value is missing", f"Give it: {meaning}", row=row, column=column)
    if error["type"] == "literal_error":
        words = [word.strip(" '") for word in str(error["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        mend = nearest(str(error["input"]), words)
        return Fault(file, "the word is not one of those known", mend, row, column, str(error["input"]))
    problem = error["msg"].removeprefix("Value error, ")
    problem = problem[:1].lower() + problem[1:]
    return Fault(file, problem, f"Meaning: {meaning}", row=row, column=column, value=str(error["input"]))


def columns_of(record: type[Row]) -> list[str]:
    """Return the columns that a user may write."""
    common = [name for name in Row.model_fields if name != "at"]
    return [name for name in record.model_fields if name not in Row.model_fields] + common


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a mend that names the nearest known name, or lists them all."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def unknown_files(folder: Path) -> list[Fault]:
    """Return a fault for each CSV file in the folder that is no table and no data file of the user's."""
    names = [f"{table}.csv" for table in TABLES]
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.csv")):
        if path.name not in names and not path.name.startswith("user-"):
            mend = nearest(path.name, names) + " Data files of your own begin with user-."
            faults.append(Fault(path.name, "no table has this name", mend))
    return faults
