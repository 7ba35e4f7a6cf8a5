"""Show how a router stands, in a browser, as it changes: one page, and one stream of events.

Comes in: the rows of all workers, once a second while anybody looks. Goes out: a page that asks nobody but this router,
and what it shows. Rates and shares are those of the last minute that was looked at.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from offtake.route.columns import Host
from offtake.route.desk import RequestDesk
from offtake.route.families import (
    FAMILIES,
    FIRST_S,
    MONDAY_NS,
    WEEK,
    WEEK_TOKENS,
    WEEK_USD,
    Gathered,
    gathered,
)
from offtake.route.ledger.burn import burn_down
from offtake.route.ledger.span import Span as WeekSpan
from offtake.route.ledger.span import monday_ns
from offtake.route.ledger.sums import Use
from offtake.route.limits import Allowances
from offtake.route.recent import Ring
from offtake.route.seams import Feed, Head, Reply
from offtake.units import NS_PER_DAY, NS_PER_S, S_PER_HOUR

WINDOW_S = 60
VIEWERS_MAX = 32
SERVED, REFUSED = "served", "refused"
STREAM = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
P95 = 0.95


class Span(NamedTuple):
    """Hold how things stood at the begin and at the end of a while, so many seconds apart."""

    before: Gathered
    now: Gathered
    seconds: float

    def change(self, name: str, **wanted: str) -> float:
        """Return by how much a counter grew, over all labels that are as wanted."""
        return sum(self.changes(name, "", **wanted).values())

    def changes(self, name: str, by: str, **wanted: str) -> dict[str, float]:
        """Return by how much a counter grew, by one of its labels."""
        from_labels = FAMILIES[name].labels
        found: dict[str, float] = {}
        for labels, values in self.now[name].items():
            told = dict(zip(from_labels, labels, strict=True))
            if all(told[label] == value for label, value in wanted.items()):
                old = self.before[name].get(labels, (0.0,))
                key = told.get(by, "")
                found[key] = found.get(key, 0.0) + values[0] - old[0]
        return found

    def counts(self, name: str, workload: str) -> list[float]:
        """Return by how much the buckets of a histogram grew."""
        found: list[float] = []
        for labels, values in self.now[name].items():
            if labels[0] == workload:
                old = self.before[name].get(labels, (0.0,) * len(values))
                grown = [value - was for value, was in zip(values[:-1], old[:-1], strict=True)]
                found = [one + other for one, other in zip(found, grown, strict=True)] if found else grown
        return found

    def level(self, name: str, *labels: str) -> float | None:
        """Return a gauge, summed over what is left open at the end; None if there is none."""
        found = [values[0] for each, values in self.now[name].items() if each[: len(labels)] == labels]
        return sum(found) if found else None


def quantile(counts: list[float], bounds: tuple[float, ...], share: float) -> float | None:
    """Return the bound of the bucket in which a share of all is reached; None of nothing, or beyond the last."""
    sofar, total = 0.0, sum(counts)
    for count, bound in zip(counts, bounds, strict=False):
        sofar += count
        if total and sofar >= share * total:
            return bound
    return None


class Live:
    """Show how a router stands to all who look at one worker."""

    def __init__(self, host: Host, ring: Ring, desk: RequestDesk) -> None:
        self.host, self.ring, self.desk = host, ring, desk
        self.viewers: dict[int, Callable[[bytes], None]] = {}
        self._number = 0
        self._seen: deque[tuple[int, Gathered]] = deque(maxlen=WINDOW_S + 1)

    def events(self, head: Head) -> Reply | Feed:
        """Return the stream of how things stand."""
        del head
        if len(self.viewers) >= VIEWERS_MAX:
            return Reply(503, ((b"retry-after", b"5"),), b"")

        def begin(send: Callable[[bytes], None]) -> Callable[[], None]:
            self._number += 1
            number = self._number
            self.viewers[number] = send
            send(b"retry: 2000\n\n")
            self.tell(self.desk.parts.clock.now_ns())

            def end() -> None:
                self.viewers.pop(number, None)

            return end

        return Feed(STREAM, begin)

    def tell(self, now_ns: int) -> None:
        """Tell everybody who looks how things stand; call it once a second."""
        if not self.viewers:
            self._seen.clear()
            return
        self.host.look()
        self._seen.append((now_ns, gathered(self.host.rows())))
        before_ns, before = self._seen[0]
        span = Span(before, self._seen[-1][1], max((now_ns - before_ns) / NS_PER_S, 1.0))
        data = b"data: " + msgspec.json.encode(self.state(span, now_ns)) + b"\n\n"
        for send in tuple(self.viewers.values()):
            send(data)

    def state(self, span: Span, now_ns: int) -> dict[str, Any]:
        """Return how things stand."""
        parts = self.desk.parts
        ended = span.changes("offtake_requests", "outcome")
        return {
            "fleet": parts.fleet.name,
            "week": parts.fleet.week,
            "policy": parts.config.policy.name.lower(),
            "at_s": parts.clock.wall_ns(now_ns) / NS_PER_S,
            "window_s": span.seconds,
            "workers": span.level("offtake_workers"),
            "connections": span.level("offtake_connections"),
            "rps": sum(ended.values()) / span.seconds,
            "served": ended.get(SERVED, 0.0),
            "ended": sum(ended.values()),
            "usd_per_hour": span.change("offtake_cost_usd") / span.seconds * S_PER_HOUR,
            "pools": [self._pool(span, number) for number in range(len(parts.fleet.pools))],
            "workloads": [self._workload(span, number) for number in range(len(parts.fleet.workloads))],
            "refusals": sorted(
                span.changes("offtake_requests", "reason", outcome=REFUSED).items(), key=lambda each: -each[1]
            ),
            "contracts": self._contracts(now_ns),
            "tenants": self._tenants(span, now_ns),
            "recent": self.ring.all(),
        }

    def _pool(self, span: Span, number: int) -> dict[str, Any]:
        """Return how a pool stands."""
        pool = self.desk.parts.fleet.pools[number]
        ups = [values[0] for labels, values in span.now["offtake_upstream_up"].items() if labels[0] == pool.name]
        return {
            "name": pool.name,
            "kind": pool.kind,
            "contract": "+".join(pool.offers),
            "up": sum(ups) / len(ups) if ups else None,
            "replicas": span.level("offtake_pool_replicas_up", pool.name) if pool.kind == "chips" else None,
            "in_flight": span.level("offtake_in_flight", pool.name),
            "engine_waiting": span.level("offtake_engine_waiting", pool.name),
            "pressure": span.level("offtake_pool_pressure", pool.name),
            "price_usd": span.level("offtake_pool_price_usd", pool.name),
            "rps": span.change("offtake_requests", pool=pool.name) / span.seconds,
            "cost_usd": sum(v[0] for labels, v in span.now["offtake_cost_usd"].items() if labels[2] == pool.name),
        }

    def _workload(self, span: Span, number: int) -> dict[str, Any]:
        """Return how a workload is served."""
        workload = self.desk.parts.fleet.workloads[number]
        ended = span.changes("offtake_requests", "outcome", workload=workload.name)
        counts = span.counts("gen_ai_server_time_to_first_token_seconds", workload.name)
        first = sum(counts)
        met = span.change("offtake_slo_met", workload=workload.name)
        p95_s = quantile(counts, FIRST_S, P95)
        return {
            "name": workload.name,
            "waiting": span.level("offtake_waiting", workload.name),
            "rps": sum(ended.values()) / span.seconds,
            "served": ended.get(SERVED, 0.0),
            "refused": ended.get(REFUSED, 0.0),
            "ended": sum(ended.values()),
            "slo": met / first if first else None,
            "first_s_p95": p95_s,
            "first_ms_limit": workload.ttft_ms_p95,
        }

    def _contracts(self, now_ns: int) -> list[dict[str, Any]]:
        """Return how far each contract was used since Monday; a pool without a contract has none."""
        fleet, wall_ns = self.desk.parts.fleet, self.desk.parts.clock.wall_ns(now_ns)
        since_ns, taken = monday_ns(wall_ns), dict[tuple[str, str], tuple[float, float]]()
        for key, numbers, _ in self.host.rows():
            if key[0] == WEEK and numbers[MONDAY_NS] == since_ns:
                tokens, usd = taken.get((key[1], key[2]), (0.0, 0.0))
                taken[key[1], key[2]] = tokens + numbers[WEEK_TOKENS], usd + numbers[WEEK_USD]
        uses = [
            Use(pool=pool, workload=workload, tokens=round(tokens), cost_usd=usd, requests=0)
            for (pool, workload), (tokens, usd) in taken.items()
        ]
        bound = msgspec.structs.replace(fleet, pools=[pool for pool in fleet.pools if pool.offers])
        return [
            {
                "name": burn.contract,
                "used": burn.used_share if burn.chip_hours_there else None,
                "planned": burn.planned_share if burn.tokens_planned else None,
                "tokens": burn.tokens,
                "fee_usd": burn.fee_usd,
                "use_usd": burn.use_usd,
            }
            for burn in burn_down(bound, uses, WeekSpan(since_ns, wall_ns))
        ]

    def _tenants(self, span: Span, now_ns: int) -> list[dict[str, Any]]:
        """Return what each tenant asked for, and spent today of what it may."""
        parts, allowance = self.desk.parts, self.desk.parts.allowance
        day = parts.clock.wall_ns(now_ns) // NS_PER_DAY
        usd = {one.name: one.usd(day) for one in allowance.tenants} if isinstance(allowance, Allowances) else {}
        return [
            {
                "name": row.name,
                "rps": span.change("offtake_requests", tenant=row.name) / span.seconds,
                "limited": span.change("offtake_limited", tenant=row.name),
                "today_usd": usd.get(row.name, 0.0),
                "limit_usd": row.usd_per_day,
            }
            for row in parts.config.file.tenant
        ]


@cache
def document() -> Reply:
    """Return the page, the same for everybody, with headers that let nothing run but what is in it."""
    text = files("offtake.route").joinpath("live.html").read_text("utf-8")
    inside = [re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style")]
    script, style = (" ".join(f"'sha256-{digest(each)}'" for each in found) for found in inside)
    rules = f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
    rules += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", rules.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
        (b"cache-control", b"no-store"),
    )
    return Reply(200, headers, text.encode())


def digest(text: str) -> str:
    """Return the hash by which a browser knows a script."""
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()
