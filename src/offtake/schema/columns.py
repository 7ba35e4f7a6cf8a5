"""Define the kinds of value a column may hold, and how a person may write them.

Comes in: the text of one cell (or a TOML value). Goes out: a plain Python value in the house unit:
kW, US dollars, dates, tuples of names. It knows no table and no file.
"""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from offtake.units import KW_PER_GW, KW_PER_MW, USD_PER_BILLION, USD_PER_MILLION

POWER = re.compile(r"^\s*([-+0-9.eE_,]+)\s*(kw|mw|gw)?\s*$", re.IGNORECASE)
MONEY = re.compile(r"^\s*\$?\s*([-+0-9.eE_,]+)\s*(k|m|bn)?\s*(usd)?\s*$", re.IGNORECASE)
KW_PER = {"": 1, "kw": 1, "mw": KW_PER_MW, "gw": KW_PER_GW}
USD_PER = {"": 1, "k": 1_000, "m": USD_PER_MILLION, "bn": USD_PER_BILLION}
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class Confidence(StrEnum):
    """Say how far a figure can be trusted; every figure carries one."""

    CONFIRMED = "confirmed"
    REPORTED = "reported"
    ESTIMATE = "estimate"
    ASSUMPTION = "assumption"


def parse_power_kw(value: object) -> object:
    """Return kW from a number, or from text such as ``300 MW``."""
    return parse_scaled(value, POWER, KW_PER, "write a power as 300 MW, 1.2 GW, or a number of kW")


def parse_money_usd(value: object) -> object:
    """Return US dollars from a number, or from text such as ``1.25 bn`` or ``$371,000,000``."""
    return parse_scaled(value, MONEY, USD_PER, "write money as 1250000000, 1.25 bn or $1,250,000,000 (US dollars)")


def parse_scaled(value: object, pattern: re.Pattern[str], scale: dict[str, int], help_text: str) -> object:
    """Return ``number × unit`` for text that fits ``pattern``; other types pass through."""
    if not isinstance(value, str):
        return value
    found = pattern.match(value)
    if found is None:
        raise ValueError(help_text)
    try:
        number = float(found.group(1).replace(",", "").replace("_", ""))
    except ValueError:
        raise ValueError(help_text) from None
    return number * scale[(found.group(2) or "").lower()]


def parse_names(value: object) -> object:
    """Return a tuple of names from ``a; b; c``."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(";") if part.strip())
    return value


def parse_amounts(value: object) -> object:
    """Return a mapping from ``h100=0.7; gb200=0.3``."""
    if not isinstance(value, str):
        return value
    parts = [part.partition("=") for part in value.split(";") if part.strip()]
    if any(not sign for _, sign, _ in parts):
        raise ValueError("write pairs as name=value; name=value")
    return {name.strip(): text.strip() for name, _, text in parts}


def parse_marks(value: object) -> object:
    """Return a mapping from ``fee_usd_per_month=estimate; reclaim_per_year=assumption``."""
    return parse_amounts(value)


Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
PowerKw = Annotated[float, BeforeValidator(parse_power_kw)]
MoneyUsd = Annotated[float, BeforeValidator(parse_money_usd)]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]
Amounts = Annotated[dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(parse_amounts)]
Marks = Annotated[dict[str, Confidence], BeforeValidator(parse_marks)]
CalendarDate = date


def column(meaning: str, unit: str = "", default: Any = ..., **bounds: Any) -> Any:  # noqa: ANN401  # pydantic.Field
    """Declare one column: what it means, its unit (empty for names and text), default and bounds.

    ``refers`` names the ``table.column`` whose values it must be one of.
    """
    extra: dict[str, Any] = {"unit": unit}
    refers = bounds.pop("refers", None)
    if refers is not None:
        extra["refers"] = refers
    return Field(default=default, description=meaning, json_schema_extra=extra, **bounds)
