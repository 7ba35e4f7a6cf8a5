"""Name every metric of the router, and write them in the text format of OpenMetrics 1.0.

Comes in: the rows of all workers. Goes out: text. A row of requests holds several counters at once, and one of times
several histograms, so that a request touches two rows; here they are told apart. Names of generative AI are those of
OpenTelemetry's conventions, their dots as underlines, with the buckets that the conventions give.

Sources: OpenMetrics 1.0 (RFC draft of 2020-11); OpenTelemetry semantic conventions for generative AI metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isnan
from typing import NamedTuple

from offtake.route.columns import Row
from offtake.route.limits import DENIED, LEASE, REACHED, RENEWED_S, ROW, SHARE

FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
WHOLE_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
BOUNDS = (FIRST_S, TOKEN_S, WHOLE_S)

ENDED = "ended"  #: row by tenant, workload, pool, outcome and reason
ENDED_WIDTH = 6
COUNT, INPUT, OUTPUT, CACHED, COST_USD, RETRIES = range(ENDED_WIDTH)

TIMED = "timed"  #: row by workload, pool and operation: how many kept their SLO; of each histogram counts, then the sum
FIRST_AT = 1
TOKEN_AT = FIRST_AT + len(FIRST_S) + 2
WHOLE_AT = TOKEN_AT + len(TOKEN_S) + 2
TIMED_WIDTH = WHOLE_AT + len(WHOLE_S) + 2
HISTOGRAMS = (FIRST_AT, TOKEN_AT, WHOLE_AT)

WEEK = "week"  #: row by pool and workload: the Monday it began, and what was taken since
WEEK_WIDTH = 3
MONDAY_NS, WEEK_TOKENS, WEEK_USD = range(WEEK_WIDTH)

CONTENT_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
BIG = 2.0**53  #: whole numbers above it are not told from their neighbours


class Family(NamedTuple):
    """Describe one metric; ``joined`` says how the workers' gauges become one."""

    name: str
    kind: str  #: `counter`, `gauge` or `histogram`
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    joined: str = "sum"  #: `sum`, `max` or `mean`


WHO = ("tenant", "workload", "pool")
TIMES = ("workload", "pool", "gen_ai_operation_name")
FAMILIES = {
    family.name: family
    for family in (
        Family("offtake_requests", "counter", "Requests that ended.", (*WHO, "outcome", "reason")),
        Family("offtake_tokens", "counter", "Tokens, as providers count them.", (*WHO, "direction")),
        Family("offtake_cost_usd", "counter", "What was paid because requests were served.", WHO, "usd"),
        Family("offtake_retries", "counter", "Attempts beyond the first.", WHO),
        Family("offtake_slo_met", "counter", "Streamed answers within their workload's limits.", TIMES),
        Family(
            "gen_ai_server_time_to_first_token_seconds",
            "histogram",
            "From arrival to the first byte of a streamed answer.",
            TIMES,
            "seconds",
        ),
        Family(
            "gen_ai_server_time_per_output_token_seconds",
            "histogram",
            "Between tokens of a streamed answer after the first.",
            TIMES,
            "seconds",
        ),
        Family(
            "gen_ai_server_request_duration_seconds", "histogram", "From arrival to the last byte.", TIMES, "seconds"
        ),
        Family("offtake_limited", "counter", "Requests refused by a limit of their tenant.", ("tenant",)),
        Family("offtake_limit_share", "gauge", "This host's share of a tenant's limits.", ("tenant",), "", "max"),
        Family("offtake_limit_store_up", "gauge", "Whether the store of shared limits is reached.", (), "", "mean"),
        Family("offtake_in_flight", "gauge", "Requests at an upstream.", ("pool", "upstream")),
        Family("offtake_upstream_up", "gauge", "Share of workers that send to it.", ("pool", "upstream"), "", "mean"),
        Family("offtake_waiting", "gauge", "Requests that wait at the router.", ("workload",)),
        Family("offtake_pool_price_usd", "gauge", "Bid price of a unit of need now.", ("pool",), "usd", "mean"),
        Family("offtake_pool_pressure", "gauge", "Load over what just keeps the SLO.", ("pool",), "", "max"),
        Family("offtake_pool_replicas_up", "gauge", "Replicas that take requests.", ("pool",), "", "max"),
        Family("offtake_engine_running", "gauge", "Requests that engines say run.", ("pool",), "", "max"),
        Family("offtake_engine_waiting", "gauge", "Requests that engines say wait.", ("pool",), "", "max"),
        Family("offtake_shadow_decisions", "counter", "Decisions beside the shadow's.", ("chosen", "shadow")),
        Family("offtake_connections", "gauge", "Open connections of clients."),
        Family("offtake_journal_open", "gauge", "Requests whose end is not in the journal."),
        Family("offtake_journal_failing", "gauge", "Workers that cannot write their journal."),
        Family("offtake_workers", "gauge", "Workers that are alive."),
        Family("offtake_rows_lost", "gauge", "Rows of metrics without room."),
        Family("process_cpu_seconds", "counter", "Processor time of all workers.", (), "seconds"),
        Family("process_resident_memory_bytes", "gauge", "Memory of all workers.", (), "bytes"),
    )
}

Labels = tuple[str, ...]


class Sample(NamedTuple):
    """Hold one value, or the counts of a histogram and its sum."""

    name: str
    labels: Labels
    values: tuple[float, ...]


def samples(row: Row) -> Iterator[Sample]:
    """Yield what one row tells; a gauge whose writer is no more tells nothing."""
    name, *rest = row.key
    labels, numbers = tuple(rest), row.numbers
    if name == ENDED:
        who = labels[:3]
        yield Sample("offtake_requests", labels, (numbers[COUNT],))
        for direction, at in (("input", INPUT), ("output", OUTPUT), ("cached", CACHED)):
            yield Sample("offtake_tokens", (*who, direction), (numbers[at],))
        yield Sample("offtake_cost_usd", who, (numbers[COST_USD],))
        yield Sample("offtake_retries", who, (numbers[RETRIES],))
    elif name == TIMED:
        yield Sample("offtake_slo_met", labels, (numbers[0],))
        names = (family.name for family in FAMILIES.values() if family.kind == "histogram")
        for histogram, at, bounds in zip(names, HISTOGRAMS, BOUNDS, strict=True):
            yield Sample(histogram, labels, tuple(numbers[at : at + len(bounds) + 2]))
    elif name == ROW:
        yield Sample("offtake_limited", labels, (numbers[DENIED],))
    elif name == LEASE and row.alive and numbers[RENEWED_S]:
        yield Sample("offtake_limit_share", labels, (numbers[SHARE],))
        yield Sample("offtake_limit_store_up", (), (numbers[REACHED],))
    elif name in FAMILIES and (FAMILIES[name].kind == "counter" or (row.alive and not isnan(numbers[0]))):
        yield Sample(name, labels, (numbers[0],))


Gathered = dict[str, dict[Labels, tuple[float, ...]]]


def gathered(rows: Iterable[Row]) -> Gathered:
    """Return the values of every metric by its labels, over all workers."""
    found: Gathered = {name: {} for name in FAMILIES}
    seen: dict[tuple[str, Labels], int] = {}
    for row in rows:
        for name, labels, values in samples(row):
            before = found[name].get(labels)
            number = seen[name, labels] = seen.get((name, labels), 0) + 1
            if before is None:
                found[name][labels] = values
                continue
            joined = FAMILIES[name].joined
            if joined == "max":
                found[name][labels] = (max(before[0], values[0]),)
            elif joined == "mean":
                found[name][labels] = (before[0] + (values[0] - before[0]) / number,)
            else:
                found[name][labels] = tuple(map(float.__add__, before, values))
    return found


def text_of(found: Gathered) -> bytes:
    """Write all metrics."""
    lines: list[str] = []
    for name, family in FAMILIES.items():
        if not found[name]:
            continue
        lines.append(f"# TYPE {name} {family.kind}")
        if family.unit:
            lines.append(f"# UNIT {name} {family.unit}")
        lines.append(f"# HELP {name} {family.help}")
        for labels, values in sorted(found[name].items()):
            pairs = [f'{label}="{escaped(value)}"' for label, value in zip(family.labels, labels, strict=True)]
            lines += histogram(name, pairs, values) if family.kind == "histogram" else [plain(family, pairs, values[0])]
    return "\n".join([*lines, "# EOF\n"]).encode()


def plain(family: Family, pairs: list[str], value: float) -> str:
    """Write one value."""
    total = "_total" if family.kind == "counter" else ""
    return f"{family.name}{total}{braced(pairs)} {number_text(value)}"


def histogram(name: str, pairs: list[str], values: tuple[float, ...]) -> list[str]:
    """Write one histogram, its buckets cumulated."""
    bounds = BOUNDS[[family.name for family in FAMILIES.values() if family.kind == "histogram"].index(name)]
    lines, sofar = [], 0.0
    for bound, value in zip((*(str(bound) for bound in bounds), "+Inf"), values[:-1], strict=True):
        sofar += value
        le = f'le="{bound}"'
        lines.append(f"{name}_bucket{braced([*pairs, le])} {number_text(sofar)}")
    lines.append(f"{name}_count{braced(pairs)} {number_text(sofar)}")
    lines.append(f"{name}_sum{braced(pairs)} {number_text(values[-1])}")
    return lines


def braced(pairs: list[str]) -> str:
    """Write labels."""
    return "{" + ",".join(pairs) + "}" if pairs else ""


def number_text(value: float) -> str:
    """Write a number, a whole one without its point."""
    return str(int(value)) if value == int(value) and abs(value) < BIG else repr(value)


def escaped(value: str) -> str:
    """Write the value of a label."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
