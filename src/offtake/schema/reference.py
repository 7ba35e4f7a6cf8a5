"""Write the reference of the portfolio's files, and its JSON Schema, from the declared columns.

Comes in: the record classes. Goes out: Markdown and JSON text, the same bytes each time.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from offtake.schema.settings import LISTS, SECTIONS, PortfolioToml
from offtake.schema.tables import REQUIRED, TABLES, Row

COMMON = ("confidence", "marks", "source", "note")
HEAD = """# Portfolio: files and columns

A portfolio is a folder. `portfolio.toml` holds the settings; each table is a CSV file, so that it can be
edited in a spreadsheet and kept in git. This page is made from the same declarations that check the files.
A row whose first cell begins with `#` is a comment. Dates are written 2026-05-31; power as `300 MW` or a number
of kW; money as `1.25 bn` or a number of US dollars; lists as `a; b`; pairs as `h100=0.7; gb200=0.3`.
CSV files whose names begin with `user-` are yours and are not read as tables.

Every row may carry these four columns:

"""


def markdown() -> str:
    """Return the reference page."""
    parts = [HEAD, columns_table(Row, COMMON), "\n## portfolio.toml\n"]
    for name, record in SECTIONS.items():
        brackets = f"[[{name}]]" if name in LISTS else f"[{name}]"
        needed = "" if PortfolioToml.model_fields[name].is_required() else " (may be left out)"
        parts.append(f"\n### `{brackets}`{needed}\n\n{record.about}\n\n{columns_table(record, own_columns(record))}")
    parts.append("\n## Tables\n")
    for name, record in TABLES.items():
        needed = "" if name in REQUIRED else " (may be left out)"
        parts.append(f"\n### `{name}.csv`{needed}\n\n{record.about}\n\n{columns_table(record, own_columns(record))}")
    return "".join(parts)


def own_columns(record: type[Row]) -> tuple[str, ...]:
    """Return the columns of a record beyond those of every row."""
    return tuple(name for name in record.model_fields if name not in {*COMMON, "at"})


def columns_table(record: type[Row], names: tuple[str, ...]) -> str:
    """Return the Markdown table of some columns of a record."""
    lines = ["| column | unit | bounds | default | meaning |", "|---|---|---|---|---|"]
    schema = record.model_json_schema()
    for name in names:
        field = record.model_fields[name]
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        bounds = bounds_text(schema["properties"][name], schema, extra)
        key = " (key)" if name in record.key else ""
        cells = [f"`{name}`{key}", str(extra.get("unit", "")), bounds, default_text(field), str(field.description)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def default_text(field: FieldInfo) -> str:
    """Return how a blank cell is read."""
    if field.default is PydanticUndefined:
        return "**required**"
    value = field.default
    if value is None or value in ("", (), {}):
        return "blank"
    return str(value).lower() if isinstance(value, bool) else str(value)


def bounds_text(prop: dict[str, Any], schema: dict[str, Any], extra: dict[str, Any]) -> str:
    """Return the bounds of a column in a few signs."""
    if "refers" in extra:
        return f"one of `{extra['refers']}`"
    for option in prop.get("anyOf", [prop]):
        found = option_text(
            {**schema.get("$defs", {}).get(str(option.get("$ref", "")).rsplit("/", 1)[-1], {}), **option}
        )
        if found:
            return found
    return ""


def option_text(option: dict[str, Any]) -> str:
    """Return the bounds of one JSON Schema type."""
    if "enum" in option:
        return ", ".join(map(str, option["enum"]))
    if "const" in option:
        return str(option["const"])
    signs = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}
    found = [f"{sign}{option[name]:g}" for name, sign in signs.items() if name in option]
    if found:
        return ", ".join(found)
    words = {"boolean": "true or false", "integer": "whole number"}
    return "date" if option.get("format") == "date" else words.get(str(option.get("type")), "")


def json_schema() -> str:
    """Return the JSON Schema of a whole portfolio: the TOML sections, and each table as a list of rows."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Offtake portfolio",
        "type": "object",
        "properties": {
            "portfolio.toml": PortfolioToml.model_json_schema(),
            **{
                f"{name}.csv": {"type": "array", "items": record.model_json_schema()} for name, record in TABLES.items()
            },
        },
        "required": ["portfolio.toml", *[f"{name}.csv" for name in REQUIRED]],
    }
    return json.dumps(document, indent=1, default=default_json) + "\n"


def default_json(value: object) -> object:
    """Return a default value as JSON."""
    return value.isoformat() if isinstance(value, date) else str(value)
