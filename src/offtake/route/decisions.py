"""Write and read the log of a decider: every request, choice and event, so that any choice can be made again.

Comes in: entries. Goes out: bytes that can be put one after another, each entry with its length before it, and the
entries again. This module must never decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import msgspec

from offtake.policy.view import Choice, Event, Request

FORMAT = "offtake-decisions-1"
LENGTH_BYTES = 4


class Header(NamedTuple):
    """Say what decided: ``start_hour`` is the hour of the week at ns 0."""

    format: str
    fleet: str
    week: str
    seed: int
    worker: int
    start_hour: float
    policy: int
    shadow: int | None


class Asked(NamedTuple):
    """Hold one decision: ``u`` broke ties, the pools of ``without`` were passed over, ``other`` is the shadow's."""

    request: Request
    now_ns: int
    u: float
    without: tuple[int, ...]
    choice: Choice
    other: Choice | None


class Learned(NamedTuple):
    """Hold what a decider took over of a pool from an older one, by the names of ``POOL_VIEW``."""

    pool: int
    values: dict[str, float]


Entry: TypeAlias = Header | Asked | Event | Learned

KINDS: tuple[type[Entry], ...] = (Header, Asked, Event, Learned)
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_ENCODE = msgspec.msgpack.Encoder().encode
_ENTRY = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_DECODERS = [msgspec.msgpack.Decoder(kind) for kind in KINDS]


def framed(entry: Entry) -> bytes:
    """Return an entry as bytes, its length before it."""
    data = _ENCODE((_NUMBER[type(entry)], entry))
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def entries_of(log: bytes) -> Iterator[Entry]:
    """Yield the entries of a log; one that was cut off at the end is left out."""
    at = 0
    while at + LENGTH_BYTES <= len(log):
        end = at + LENGTH_BYTES + int.from_bytes(log[at : at + LENGTH_BYTES], "little")
        if end > len(log):
            return
        number, raw = _ENTRY.decode(log[at + LENGTH_BYTES : end])
        yield _DECODERS[number].decode(raw)
        at = end
