"""Write down what became of every request, as one table.

Comes in: the ends of requests as the engine tells them. Goes out: a data frame, one row per request in order of
arrival, written as ``outcome.parquet``; the ends wait in a file without a name, so that a long load takes no memory,
and above a stated number of requests they are not kept at all. TTFT counts from arrival (or from the end of a deferral,
or the client's last try) and includes the round trip between user and site. The cost of a request is what is paid
because it was served, plus the chip-seconds it took at the price that is paid for them whether used or not; what nobody
took is idle cost, in ``summary``.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from offtake.fleet import Fleet
from offtake.performance.compiled import Rows
from offtake.policy.view import Reason
from offtake.rehearse.costs import Costs
from offtake.rehearse.state import ENDED, Status
from offtake.units import NS_PER_MS

NOWHERE = "none"  #: pool and site of a request that was not served
FRAME_ROWS = 262_144  #: of one batch on its way to the file


class Ends:
    """Keep the ends of up to ``most`` requests in a file without a name; beyond that, none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as this object
        weakref.finalize(self, self._file.close)

    @property
    def kept(self) -> bool:
        """Tell whether every end was kept."""
        return self.count <= self.most

    def keep(self, rows: Rows) -> None:
        """Keep some more."""
        self.count += len(rows)
        if self.kept:
            rows.tofile(self._file)
        else:
            self._file.truncate(0)

    def rows(self) -> Rows:
        """Return every row that was kept, in the order in which requests ended."""
        self._file.flush()
        if not self.kept or not self.count:
            return np.zeros(0, ENDED)
        return np.memmap(self._file, ENDED, "r")


class Outcome(NamedTuple):
    """Hold the ends of a rehearsal's requests, and what is needed to tell their names, limits and costs."""

    ends: Ends
    fleet: Fleet
    costs: Costs

    def frame(self) -> pl.DataFrame:
        """Return the whole table."""
        return pl.concat([outcome_frame(self.ends.rows()[:0], self), *self.frames()])

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the table in parts, in order of arrival."""
        rows = self.ends.rows()
        order = np.argsort(rows["serial"], kind="stable")
        for start in range(0, len(order), FRAME_ROWS):
            yield outcome_frame(rows[order[start : start + FRAME_ROWS]], self)

    def write(self, path: Path) -> None:
        """Write the table as Parquet, whole or not at all."""
        part = path.with_name(f".{path.name}.part")

        def source(*_asked: object) -> Iterator[pl.DataFrame]:
            return self.frames()

        lazy = register_io_source(source, schema=outcome_frame(np.zeros(0, ENDED), self).schema)
        lazy.sink_parquet(part, compression="zstd")
        part.replace(path)


def outcome_frame(rows: Rows, outcome: Outcome) -> pl.DataFrame:
    """Return one row per request; -1 stands for a time that there is none of.

    Columns
    -------
    arrival_ns
        Time from the first instant of the load.
    workload, kind, region
        What it is and where its user is.
    tenant
        Whose it is.
    site, pool
        Where it was sent last; ``none`` if nowhere.
    status
        ``served``, ``refused`` or ``failed``.
    reason
        Why it was not served; see the policies.
    attempts, tries
        Times it was offered to the policy, and times its client asked again.
    input_tokens, output_tokens
        Its lengths; of a failed one, the answer that it was given.
    asked_tokens
        Its answer at full length; longer than ``output_tokens`` where the context ended it, or a failure.
    cached_tokens
        Of the prompt, found in a prefix cache.
    deferred_ms
        Time it was put off before it entered a pool.
    queue_ms
        Time in the pool before it ran.
    ttft_ms
        Time to first token from arrival, or from the end of a deferral, round trip included.
    tpot_ms
        Time per output token after the first.
    e2e_ms
        Time from arrival to the last token, round trip included.
    entered_ns, finish_ns
        When it entered its pool, and when it left or was refused.
    within_ttft, within_tpot, within_slo
        Whether it was served with the first in time, the rest fast enough, and both.
    retry_after_ms
        When trying again would help, as the policy told it on refusing or deferring.
    value_usd
        Its value, if it was served.
    cost_usd
        What was paid because it was served, plus ``held_usd``.
    held_usd
        Fee of the chip time it took, of chips that are paid whether used or not.
    """
    fleet, served = outcome.fleet, rows["status"] == Status.SERVED
    pool, workload = rows["pool"].astype(np.int64), rows["workload"].astype(np.int64)
    ttft_ns, tpot_ns, e2e_ns = _times_ns(rows)
    within_ttft = served & (ttft_ns <= _of([w.ttft_ms_p95 * NS_PER_MS for w in fleet.workloads], workload))
    within_tpot = served & (tpot_ns <= _of([w.tpot_ms_p95 * NS_PER_MS for w in fleet.workloads], workload))
    held_usd, used_usd = _costs_usd(rows, outcome.costs, served)
    return pl.DataFrame(
        {
            "arrival_ns": rows["arrival_ns"].astype(np.int64),
            "workload": _names([w.name for w in fleet.workloads], workload),
            "kind": _names([w.kind for w in fleet.workloads], workload),
            "region": _names(fleet.regions, rows["region"].astype(np.int64)),
            "tenant": rows["tenant"].astype(np.int16),
            "site": _names([p.site for p in fleet.pools], pool),
            "pool": _names([p.name for p in fleet.pools], pool),
            "status": _names([status.name.lower() for status in Status], rows["status"].astype(np.int64)),
            "reason": _names([reason.name.lower() for reason in Reason], rows["reason"].astype(np.int64)),
            "attempts": rows["attempts"].astype(np.int16),
            "tries": rows["tries"].astype(np.int16),
            "input_tokens": rows["input_tokens"].astype(np.int32),
            "output_tokens": rows["output_tokens"].astype(np.int32),
            "asked_tokens": rows["asked_tokens"].astype(np.int32),
            "cached_tokens": rows["cached_tokens"].astype(np.int32),
            "deferred_ms": (rows["released_ns"] - rows["arrival_ns"]) / NS_PER_MS,
            "queue_ms": np.where(served, (rows["start_ns"] - rows["released_ns"]) / NS_PER_MS, -1.0),
            "ttft_ms": np.where(served, ttft_ns / NS_PER_MS, -1.0),
            "tpot_ms": np.where(served, tpot_ns / NS_PER_MS, -1.0),
            "e2e_ms": np.where(served, e2e_ns / NS_PER_MS, -1.0),
            "entered_ns": rows["entered_ns"].astype(np.int64),
            "finish_ns": rows["finish_ns"].astype(np.int64),
            "within_ttft": within_ttft,
            "within_tpot": within_tpot,
            "within_slo": within_ttft & within_tpot,
            "retry_after_ms": np.where(rows["retry_after_ns"] > 0, rows["retry_after_ns"] / NS_PER_MS, -1.0),
            "value_usd": _of([w.value_usd_per_request for w in fleet.workloads], workload) * served,
            "cost_usd": used_usd + held_usd,
            "held_usd": held_usd,
        }
    )


def _times_ns(rows: Rows) -> tuple[Rows, Rows, Rows]:
    """Return TTFT, TPOT and the time to the last token; TTFT and the last with the round trip."""
    gaps = np.maximum(rows["output_tokens"] - 1, 1)
    return (
        rows["first_token_ns"] - rows["released_ns"] + rows["rtt_ns"],
        (rows["finish_ns"] - rows["first_token_ns"]) / gaps,
        rows["finish_ns"] - rows["arrival_ns"] + rows["rtt_ns"],
    )


def _costs_usd(rows: Rows, costs: Costs, served: Rows) -> tuple[Rows, Rows]:
    """Return the fee of the chip time that each request took, and what is paid only because it was served."""
    pool, workload = rows["pool"], rows["workload"]
    tokens = np.stack([rows["input_tokens"], rows["output_tokens"]], axis=-1) * served[:, None]
    chip_s = (costs.chip_s_per_token[pool, workload] * tokens).sum(axis=1)
    used_usd = costs.used_usd[pool] * chip_s + (costs.token_usd[pool] * tokens).sum(axis=1)
    return costs.held_usd[pool] * chip_s, used_usd


def _of(values: list[float], index: Rows) -> Rows:
    """Return ``values`` by index; index -1 takes any, and is masked by the caller."""
    return np.array(values, np.float64)[index]


def _names(names: list[str], index: Rows) -> pl.Series:
    """Return a column of names, held as small integers; index -1 is nowhere."""
    kinds = list(dict.fromkeys([*names, NOWHERE]))
    place = {name: at for at, name in enumerate(kinds)}
    code = np.array([place[name] for name in [*names, NOWHERE]], np.uint32)[index]
    return pl.Series(kinds, dtype=pl.Enum(kinds)).gather(pl.Series(code))
