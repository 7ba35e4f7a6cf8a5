"""Records of requests, and a way to read the ledger back."""

from __future__ import annotations

from pathlib import Path

from offtake.route.ledger.entry import Closed, Opened
from offtake.route.ledger.rows import COLUMNS, Value
from offtake.route.ledger.store import Store

MONDAY_NS = 1_780_272_000_000_000_000  # 2026-06-01 00:00 UTC
S = 1_000_000_000


def opened(name: str, at_s: float = 0.0, **other: Value) -> Opened:
    fields: dict[str, Value] = {
        "request_id": name,
        "arrival_ns": MONDAY_NS + int(at_s * S),
        "tenant": "acme",
        "key": "main",
        "workload": "chat",
        "call": "chat",
        "model_asked": "big",
        "region": "eu",
        "stream": True,
        "session": -1,
        "input_tokens": 100,
        "output_tokens_max": 500,
    }
    return Opened(**(fields | other))  # type: ignore[arg-type]  # names are checked by the struct


def closed(name: str, at_s: float = 2.0, **other: Value) -> Closed:
    fields: dict[str, Value] = {
        "request_id": name,
        "end_ns": MONDAY_NS + int(at_s * S),
        "first_ns": MONDAY_NS + int((at_s - 1) * S),
        "outcome": "served",
        "reason": "",
        "status": 200,
        "pool": "a-one",
        "upstream": "a-one#0",
        "contract": "offer-1+offer-2",
        "model": "big",
        "attempts": 1,
        "input_tokens": 110,
        "output_tokens": 40,
        "cached_tokens": 10,
        "counted": False,
        "cost_usd": 0.001,
        "bid_usd": 0.0005,
        "margin_usd": 0.01,
        "policy": "bid_price",
    }
    return Closed(**(fields | other))  # type: ignore[arg-type]  # names are checked by the struct


def rows_of(store: Store) -> dict[str, dict[str, Value]]:
    found = [dict(zip(COLUMNS, row, strict=True)) for row in store.read("SELECT * FROM requests")]
    named = {str(row["request_id"]): row for row in found}
    assert len(named) == len(found)
    return named


def segments_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.log"))
