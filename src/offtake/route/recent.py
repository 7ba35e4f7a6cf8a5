"""Keep the last requests of every worker where all of them can read them, for whoever looks on.

Comes in: cases that ended. Goes out: the last of them, newest first, over all workers. Each worker writes a ring of its
own; a reader passes over what is being written. A request's words are never among it, nor its key.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from offtake.errors import Fault, InputError
from offtake.route.columns import SUFFIX, Host
from offtake.route.ledger.entry import Closed
from offtake.route.metrics import names_of
from offtake.route.seams import Case
from offtake.units import NS_PER_MS, NS_PER_S

RING_SUFFIX = ".recent"
SLOTS, SLOT_BYTES = 128, 512
BYTES = SLOTS * SLOT_BYTES
HEAD_BYTES = 4  #: of a slot: how long what is in it is; 0 while it is written
KEPT = 100  #: of all workers together


class Recent(NamedTuple):
    """Describe a request that ended."""

    end_s: float
    request_id: str
    tenant: str
    workload: str
    pool: str
    outcome: str
    reason: str
    attempts: int
    bid_usd: float
    margin_usd: float
    cost_usd: float
    first_ms: float  #: below 0: nothing came, or it was not streamed
    whole_ms: float
    input_tokens: int
    output_tokens: int


class Ring:
    """Keep the last requests of one worker."""

    def __init__(self, host: Host) -> None:
        self.folder, self._at = host.folder, 0
        path = self.folder / host.name.replace(SUFFIX, RING_SUFFIX)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, BYTES)
                self._map = memoryview(mmap.mmap(file, BYTES))
            finally:
                os.close(file)
        except OSError as error:
            mend = "Check the folder, its rights and the room on the disk, or name another as `state`."
            raise InputError([Fault(str(path), f"it cannot be written: {error.strerror}", mend)]) from None
        self._encode = msgspec.json.Encoder().encode

    def ended(self, case: Case, closed: Closed, now_ns: int) -> None:
        """Keep a request."""
        tenant, workload = names_of(case)
        streamed = case.stream and case.first_ns >= 0
        data = self._encode(
            (
                closed.end_ns / NS_PER_S,
                closed.request_id,
                tenant,
                workload,
                closed.pool,
                closed.outcome,
                closed.reason,
                closed.attempts,
                closed.bid_usd,
                closed.margin_usd,
                closed.cost_usd,
                (case.first_ns - case.arrival_ns) / NS_PER_MS if streamed else -1.0,
                (now_ns - case.arrival_ns) / NS_PER_MS,
                closed.input_tokens,
                closed.output_tokens,
            )
        )
        size = len(data)
        if size > SLOT_BYTES - HEAD_BYTES:
            return
        at = self._at
        self._at = (at + SLOT_BYTES) % BYTES
        ring = self._map
        ring[at : at + HEAD_BYTES] = b"\0\0\0\0"
        ring[at + HEAD_BYTES : at + HEAD_BYTES + size] = data
        ring[at : at + HEAD_BYTES] = size.to_bytes(HEAD_BYTES, "little")

    def all(self) -> list[Recent]:
        """Return the last requests of all workers, the newest first."""
        found = [one for path in self.folder.glob(f"*{RING_SUFFIX}") for one in read(path)]
        return sorted(found, key=lambda one: -one.end_s)[:KEPT]


def read(path: Path) -> list[Recent]:
    """Return what is in a ring; a slot that is being written is passed over."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    found: list[Recent] = []
    for at in range(0, len(data), SLOT_BYTES):
        size = int.from_bytes(data[at : at + HEAD_BYTES], "little")
        if 0 < size <= SLOT_BYTES - HEAD_BYTES:
            try:
                found.append(msgspec.json.decode(data[at + HEAD_BYTES : at + HEAD_BYTES + size], type=Recent))
            except msgspec.DecodeError:
                continue
    return found
