"""Send a span for each request, in OpenTelemetry's conventions for generative AI; off unless an address is given.

Comes in: cases, as they arrive and as they end. Goes out: spans, by a thread of the OpenTelemetry SDK that drops what
its receiver does not take, and a ``traceparent`` for the upstream, so that its spans lie below ours. A request's words
are never in a span.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

from offtake.errors import Fault, InputError
from offtake.route.config import Tracing
from offtake.route.ledger.entry import Closed
from offtake.route.metrics import OPERATIONS, names_of
from offtake.route.seams import Case, Head

PARENT = b"traceparent"
ASKED = b"x-offtake-parent"  #: where the client's is kept; headers of this name never go upstream
TRACE_BYTES, SPAN_BYTES = 16, 8
SAMPLED = 0x01
VERSION_PARTS = 4
TIMEOUT_S = 5


class Parent(NamedTuple):
    """Hold what a client says of its own span."""

    trace_id: int
    span_id: int
    sampled: bool


def parent_of(value: bytes) -> Parent | None:
    """Return what a ``traceparent`` says (W3C Trace Context, level 1); None where it says nothing good."""
    parts = value.strip().split(b"-")
    lengths = [len(part) for part in parts]
    if len(parts) < VERSION_PARTS or lengths[:4] != [2, 2 * TRACE_BYTES, 2 * SPAN_BYTES, 2] or parts[0] == b"ff":
        return None
    if parts[0] == b"00" and len(parts) > VERSION_PARTS:
        return None
    text = b"".join(parts[:4])
    if not set(text) <= set(b"0123456789abcdef"):
        return None
    trace_id, span_id = int(parts[1], 16), int(parts[2], 16)
    return Parent(trace_id, span_id, bool(int(parts[3], 16) & SAMPLED)) if trace_id and span_id else None


def header_in(head: Head, name: bytes) -> bytes:
    """Return a header that must come once; empty if it does not."""
    found = [value for key, value in head.headers if key == name]
    return found[0] if len(found) == 1 else b""


class Ids:
    """Give the next span the numbers that were told to its upstream already."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        """Return the trace's."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return the span's."""
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """Tell that they are drawn from names that are."""
        return True


class Tracer:
    """Make a span of each request that is traced; ``exporter`` is where they go instead of the address.

    Raises
    ------
    InputError
        If OpenTelemetry is not installed.
    """

    def __init__(self, rules: Tracing, exporter: object = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            mend = "Install offtake[otel], or leave tracing.otlp_url out."
            raise InputError([Fault("route.toml", "OpenTelemetry is missing", mend, row="tracing")]) from None
        self.share, self._trace, self._ids = rules.share, trace, Ids()
        resource = Resource.create({"service.name": "offtake-router"})
        ids: Any = self._ids
        self._provider = TracerProvider(id_generator=ids, resource=resource, shutdown_on_exit=False)
        sink: Any = exporter
        if sink is None:
            sink = OTLPSpanExporter(endpoint=f"{rules.otlp_url.rstrip('/')}/v1/traces", timeout=TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(sink))
        self._tracer = self._provider.get_tracer("offtake.route")

    def head(self, case: Case) -> Head:
        """Return the head of a request as its upstream shall see it: below our span, if the request is traced."""
        given = header_in(case.head, PARENT)
        parent = parent_of(given)
        trace_id, span_id = numbers(case, parent)
        kept = tuple(each for each in case.head.headers if each[0] not in {PARENT, ASKED})
        if not self._is_traced(trace_id, parent):
            passed = ((PARENT, given),) if parent is not None else ()
            return case.head._replace(headers=(*kept, *passed))
        ours = b"00-%032x-%016x-01" % (trace_id, span_id)
        return case.head._replace(headers=(*kept, (PARENT, ours), (ASKED, given)))

    def ended(self, case: Case, closed: Closed, now_ns: int) -> None:
        """Make the span of a request."""
        if not any(name == ASKED for name, _ in case.head.headers):
            return
        parent = parent_of(header_in(case.head, ASKED))
        self._ids.trace_id, self._ids.span_id = numbers(case, parent)
        api, context = self._trace, None
        if parent is not None:
            flags = api.TraceFlags(SAMPLED)
            above = api.SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            context = api.set_span_in_context(api.NonRecordingSpan(above))
        begun_ns = closed.end_ns - (now_ns - case.arrival_ns)
        span = self._tracer.start_span(
            f"{OPERATIONS[case.call]} {case.model}",
            context=context,
            kind=api.SpanKind.SERVER,
            attributes=attributes_of(case, closed),
            start_time=begun_ns,
        )
        if closed.first_ns:
            span.add_event("offtake.first_token", timestamp=closed.first_ns)
        if closed.outcome != "served":
            span.set_status(api.StatusCode.ERROR, closed.reason or closed.outcome)
        span.end(closed.end_ns)

    def close(self) -> None:
        """Send what is left, and end."""
        self._provider.shutdown()

    def _is_traced(self, trace_id: int, parent: Parent | None) -> bool:
        """Tell whether a request is traced: as its client does, else by its share."""
        if parent is not None:
            return parent.sampled
        return (trace_id & (2**64 - 1)) < self.share * 2**64


def numbers(case: Case, parent: Parent | None) -> tuple[int, int]:
    """Return the numbers of a request's trace and span: its client's trace, else one that its name gives."""
    name = case.request_id.encode()
    trace = blake2b(name, digest_size=TRACE_BYTES, person=b"trace").digest()
    span = blake2b(name, digest_size=SPAN_BYTES, person=b"span").digest()
    return (parent.trace_id if parent is not None else int.from_bytes(trace)) or 1, int.from_bytes(span) or 1


def attributes_of(case: Case, closed: Closed) -> dict[str, str | int | float | bool]:
    """Return what a span says of a request."""
    tenant, workload = names_of(case)
    found: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": OPERATIONS[case.call],
        "gen_ai.request.model": case.model,
        "gen_ai.usage.input_tokens": closed.input_tokens,
        "gen_ai.usage.output_tokens": closed.output_tokens,
        "http.response.status_code": closed.status,
        "offtake.request_id": closed.request_id,
        "offtake.tenant": tenant,
        "offtake.workload": workload,
        "offtake.outcome": closed.outcome,
        "offtake.attempts": closed.attempts,
        "offtake.bid_usd": closed.bid_usd,
        "offtake.cost_usd": closed.cost_usd,
        "offtake.stream": case.stream,
    }
    if case.output_tokens_max:
        found["gen_ai.request.max_tokens"] = case.output_tokens_max
    if case.upstream is not None:
        found |= {
            "gen_ai.provider.name": case.upstream.dialect.name.lower(),
            "gen_ai.response.model": closed.model,
            "server.address": case.upstream.host,
            "server.port": case.upstream.port,
            "offtake.pool": closed.pool,
            "offtake.upstream": closed.upstream,
        }
    if closed.outcome != "served":
        found["error.type"] = closed.reason or closed.outcome
    return found
