"""Count what happens, for whoever looks on: requests as they end, and once a second how things stand.

Comes in: cases that ended, and the state of a worker. Goes out: rows of numbers that any worker can tell of. A request
costs two looks into a table and some additions; no text is written on its way.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import cast

from offtake.route.columns import Host, Numbers
from offtake.route.desk import RequestDesk
from offtake.route.families import (
    CACHED,
    CONTENT_TYPE,
    COST_USD,
    COUNT,
    ENDED,
    ENDED_WIDTH,
    FAMILIES,
    FIRST_AT,
    FIRST_S,
    INPUT,
    MONDAY_NS,
    OUTPUT,
    RETRIES,
    TIMED,
    TIMED_WIDTH,
    TOKEN_AT,
    TOKEN_S,
    WEEK,
    WEEK_TOKENS,
    WEEK_USD,
    WEEK_WIDTH,
    WHOLE_AT,
    WHOLE_S,
    gathered,
    text_of,
)
from offtake.route.ledger.entry import Closed
from offtake.route.ledger.journal import Journal
from offtake.route.ledger.span import WEEK_NS, monday_ns
from offtake.route.office import Parts, Work
from offtake.route.seams import Call, Case, Head, Reply
from offtake.units import MS_PER_S, NS_PER_S

SERVED = "served"
OPERATIONS = {
    Call.CHAT: "chat",
    Call.RESPONSES: "chat",
    Call.MESSAGES: "chat",
    Call.COMPLETIONS: "text_completion",
    Call.EMBEDDINGS: "embeddings",
    Call.COUNT_TOKENS: "count_tokens",
}
FIRST_SUM, TOKEN_SUM, WHOLE_SUM = TOKEN_AT - 1, WHOLE_AT - 1, TIMED_WIDTH - 1


def names_of(case: Case) -> tuple[str, str]:
    """Return the names of a case's tenant and workload, under the files that it came under."""
    work = cast("Work", case.mark)
    return work.caller.who, work.parts.fleet.workloads[case.workload].name if case.workload >= 0 else ""


class Meter:
    """Count the requests of one worker, as its desk ends them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._parts: Parts | None = None  #: under which the keys below are numbered
        self._week: dict[tuple[object, ...], Numbers] = {}
        self._ended: dict[tuple[object, ...], Numbers] = {}
        self._timed: dict[tuple[object, ...], tuple[Numbers, float, float]] = {}

    def ended(self, case: Case, closed: Closed, now_ns: int) -> None:
        """Count a request."""
        work = cast("Work", case.mark)
        parts = work.parts
        if parts is not self._parts:
            self._parts = parts
            self._ended.clear()
            self._timed.clear()
            self._week.clear()
        key = (work.caller.who, case.workload, closed.pool, closed.outcome, closed.reason)
        row = self._ended.get(key)
        if row is None:
            labels = (*names_of(case), closed.pool, closed.outcome, closed.reason)
            row = self._ended[key] = self.host.row((ENDED, *labels), ENDED_WIDTH)
        row[COUNT] += 1.0
        row[INPUT] += closed.input_tokens
        row[OUTPUT] += closed.output_tokens
        row[COST_USD] += closed.cost_usd
        if closed.cached_tokens:
            row[CACHED] += closed.cached_tokens
        if closed.attempts > 1:
            row[RETRIES] += closed.attempts - 1
        if closed.pool:
            self._burn(case, closed)
        if closed.outcome == SERVED:
            self._time(case, closed, now_ns)

    def _burn(self, case: Case, closed: Closed) -> None:
        """Count what a contract brought this week."""
        key = (closed.pool, case.workload)
        row = self._week.get(key)
        if row is None:
            row = self._week[key] = self.host.row((WEEK, closed.pool, names_of(case)[1]), WEEK_WIDTH)
        if closed.end_ns >= row[MONDAY_NS] + WEEK_NS:
            row[WEEK_TOKENS] = row[WEEK_USD] = 0.0
            row[MONDAY_NS] = monday_ns(closed.end_ns)
        row[WEEK_TOKENS] += closed.input_tokens + closed.output_tokens
        row[WEEK_USD] += closed.cost_usd

    def _time(self, case: Case, closed: Closed, now_ns: int) -> None:
        """Count how long an answer took; the first token is seen only where it is streamed."""
        key = (case.workload, closed.pool, case.call)
        row, first_s, token_s = self._timed.get(key) or self._timed_row(key, case, closed)
        arrival_ns, first_ns = case.arrival_ns, case.first_ns
        whole = (now_ns - arrival_ns) / NS_PER_S
        row[WHOLE_AT + bisect_left(WHOLE_S, whole)] += 1.0
        row[WHOLE_SUM] += whole
        if not case.stream or first_ns < 0:
            return
        first = (first_ns - arrival_ns) / NS_PER_S
        row[FIRST_AT + bisect_left(FIRST_S, first)] += 1.0
        row[FIRST_SUM] += first
        gaps, gap = closed.output_tokens - 1, 0.0
        if gaps > 0:
            gap = (now_ns - first_ns) / (gaps * NS_PER_S)
            row[TOKEN_AT + bisect_left(TOKEN_S, gap)] += 1.0
            row[TOKEN_SUM] += gap
        if first <= first_s and gap <= token_s:
            row[0] += 1.0

    def _timed_row(self, key: tuple[object, ...], case: Case, closed: Closed) -> tuple[Numbers, float, float]:
        """Return the row of a workload at a pool, and the workload's limits, seconds."""
        labels = (names_of(case)[1], closed.pool, OPERATIONS[case.call])
        row = self.host.row((TIMED, *labels), TIMED_WIDTH)
        workload = cast("Work", case.mark).parts.fleet.workloads[case.workload]
        found = self._timed[key] = row, workload.ttft_ms_p95 / MS_PER_S, workload.tpot_ms_p95 / MS_PER_S
        return found


class Gauges:
    """Tell once a second how a worker stands."""

    def __init__(self, host: Host, desk: RequestDesk, journal: Journal, connections: Callable[[], int]) -> None:
        self.host, self.desk, self.journal, self.connections = host, desk, journal, connections
        self._cpu_s = cpu_s()
        self._decider, self._shadowed = desk.parts.decider, desk.parts.decider.shadowed.copy()
        self._told = {key for key in host.own.rows if key[0] in FAMILIES and FAMILIES[key[0]].kind == "gauge"}

    def tell(self, now_ns: int) -> None:
        """Write down how things stand; of what is no more there, nothing is told."""
        told: set[tuple[str, ...]] = set()

        def put(value: float, *key: str) -> None:
            self.host.row(key, 1)[0] = value
            told.add(key)

        desk, parts = self.desk, self.desk.parts
        put(1.0, "offtake_workers")
        put(self.connections(), "offtake_connections")
        put(self.journal.open, "offtake_journal_open")
        put(float(bool(self.journal.error)), "offtake_journal_failing")
        put(self.host.lost, "offtake_rows_lost")
        put(resident_bytes(), "process_resident_memory_bytes")
        for number, workload in enumerate(parts.fleet.workloads):
            put(desk.queues.waiting[number], "offtake_waiting", workload.name)
        for number, pool in enumerate(parts.fleet.pools):
            seen = parts.decider.view.pools[number]
            put(float(seen["price_usd"]), "offtake_pool_price_usd", pool.name)
            put(float(seen["pressure"]), "offtake_pool_pressure", pool.name)
            put(float(seen["replicas_up"]), "offtake_pool_replicas_up", pool.name)
            for patient in parts.health.of_pool.get(number, ()):
                name = patient.upstream.name
                put(patient.in_flight, "offtake_in_flight", pool.name, name)
                put(float(patient.well(now_ns)), "offtake_upstream_up", pool.name, name)
        for key in self._told - told:
            self.host.row(key, 1)[0] = nan
        self._told = told
        self._add()

    def _add(self) -> None:
        """Count on what is counted elsewhere."""
        used_s = cpu_s()
        self.host.row(("process_cpu_seconds",), 1)[0] += used_s - self._cpu_s
        self._cpu_s = used_s
        decider = self.desk.parts.decider
        if decider is not self._decider:
            self._decider, self._shadowed = decider, decider.shadowed * 0
        change = decider.shadowed - self._shadowed
        self._shadowed = decider.shadowed.copy()
        names = [*(pool.name for pool in decider.fleet.pools), ""]
        for chosen, other in zip(*change.nonzero(), strict=True):
            key = ("offtake_shadow_decisions", names[chosen], names[other])
            self.host.row(key, 1)[0] += float(change[chosen, other])


def metrics_page(host: Host) -> Callable[[Head], Reply]:
    """Return the page that tells all metrics of the host."""

    def page(head: Head) -> Reply:
        del head
        host.look()
        headers = ((b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store"))
        return Reply(200, headers, text_of(gathered(host.rows())))

    return page


def cpu_s() -> float:
    """Return the processor time of this process, seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes() -> float:
    """Return the memory of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return 0.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
