"""Say what the ledger's table holds: one row for each request, what was known before it was sent and after it ended.

Comes in: records. Goes out: rows, the columns with their kinds, and the words of SQL that both databases understand.
A row is never closed twice: what is written again changes nothing. It must never know a database.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, cast

import msgspec

from offtake.route.ledger.entry import Closed, Opened, Record
from offtake.units import NS_PER_DAY

Value: TypeAlias = str | int | float | bool
Row: TypeAlias = tuple[Value, ...]

VERSION = 1  #: of the table; another one is not touched
OPEN, LOST = "open", "lost"
ESTIMATE = "input_tokens_estimate"  #: what an open record knows of the prompt

TO_OPEN = tuple(ESTIMATE if name == "input_tokens" else name for name in Opened.__struct_fields__[1:])
TO_CLOSE = Closed.__struct_fields__[1:]
KINDS: dict[str, type] = {"request_id": str, "worker": str, "day": int} | {
    name: field.type
    for struct, names in ((Opened, TO_OPEN), (Closed, TO_CLOSE))
    for name, field in zip(names, msgspec.structs.fields(struct)[1:], strict=True)
}
COLUMNS = tuple(KINDS)
INDEXES = {
    "requests_tenant_day": "(tenant, day)",
    "requests_pool_day": "(pool, day)",
    "requests_open": f"(worker) WHERE outcome = '{OPEN}'",
}

#: What a row becomes when its end is known: the end of a request is kept once, and any end is better than `lost`.
ON_CONFLICT = " ".join(
    (
        "ON CONFLICT (request_id) DO UPDATE SET",
        ", ".join(f"{name} = excluded.{name}" for name in TO_CLOSE),
        f"WHERE requests.outcome IN ('{OPEN}', '{LOST}') AND excluded.outcome <> '{OPEN}'",
    )
)
LOSE = (
    "UPDATE requests SET outcome = 'lost', input_tokens = input_tokens_estimate WHERE worker = ? AND outcome = 'open'"
)


class Entry(NamedTuple):
    """Hold what is known of a request by now, and which worker wrote it."""

    worker: str
    opened: Opened | None
    closed: Closed | None


def add(entries: dict[str, Entry], worker: str, record: Record) -> None:
    """Put a record beside what is known of its request."""
    known = entries.get(record.request_id)
    opened, closed = (None, None) if known is None else known[1:]
    if isinstance(record, Opened):
        opened = record
    else:
        closed = record
    entries[record.request_id] = Entry(worker, opened, closed)


def unknown_end(opened: Opened) -> Closed:
    """Return the end of a request that is open: nothing of it is known, and nobody but the router counted."""
    end = msgspec.structs.astuple(NO_END)
    return Closed(opened.request_id, *end[1:])


def unknown_beginning(closed: Closed) -> Opened:
    """Return the beginning of a request whose own record cannot be read."""
    begin = msgspec.structs.replace(NO_BEGINNING, request_id=closed.request_id, arrival_ns=closed.end_ns)
    return msgspec.structs.replace(begin, input_tokens=closed.input_tokens)


def row_of(entry: Entry) -> Row:
    """Return the row of a request."""
    opened = entry.opened or unknown_beginning(cast("Closed", entry.closed))  # an entry holds at least one
    closed = entry.closed or unknown_end(opened)
    day = opened.arrival_ns // NS_PER_DAY
    begin, end = msgspec.structs.astuple(opened), msgspec.structs.astuple(closed)
    return (opened.request_id, entry.worker, day, *begin[1:], *end[1:])


NO_BEGINNING = Opened("", 0, "", "", "", "", "", "", stream=False, session=-1, input_tokens=0, output_tokens_max=0)
NO_END = Closed(
    "",
    0,
    0,
    OPEN,
    "",
    0,
    "",
    "",
    "",
    "",
    0,
    0,
    0,
    0,
    counted=True,
    cost_usd=0.0,
    bid_usd=0.0,
    margin_usd=0.0,
    policy="",
)
