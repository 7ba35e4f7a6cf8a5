from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offtake.route.config import Tracing
from offtake.route.desk import RequestDesk
from offtake.route.seams import Case, Outcome, Sending
from offtake.route.tracing import Parent, Tracer, parent_of
from offtake.units import NS_PER_S
from tests.route.setup import desk_in
from tests.route.test_desk import BEARER, BODY, USAGE, post

memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="no OpenTelemetry here")
GIVEN = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def traced(folder: Path, share: float = 1.0) -> tuple[RequestDesk, Tracer, Any]:
    desk, exporter = desk_in(folder), memory.InMemorySpanExporter()
    tracer = Tracer(Tracing(otlp_url="http://127.0.0.1:1", share=share), exporter)
    desk.parts.watchers, desk.parts.trace = [tracer], tracer.head
    return desk, tracer, exporter


def serve(desk: RequestDesk, *headers: tuple[bytes, bytes]) -> Sending:
    case = desk.arrived(post(b"/v1/chat/completions", BEARER, *headers), BODY, 0)
    assert isinstance(case, Case)
    sending = desk.place(case, 0)
    assert isinstance(sending, Sending)
    desk.heard(case, 200, (), 0)
    desk.first(case, NS_PER_S)
    desk.ended(case, Outcome.SERVED, USAGE, 1, 2 * NS_PER_S)
    return sending


def parents(sending: Sending) -> list[bytes]:
    lines = [line for line in sending.head.split(b"\r\n") if line.lower().startswith(b"traceparent:")]
    return [line.split(b": ")[1] for line in lines]


def test_a_request_becomes_a_span_below_its_clients_and_above_its_upstreams(tmp_path: Path) -> None:
    desk, tracer, exporter = traced(tmp_path)
    sending = serve(desk, (b"traceparent", GIVEN))
    tracer.close()
    [span] = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert parents(sending) == [b"00-%032x-%016x-01" % (span.context.trace_id, span.context.span_id)]
    assert b"x-offtake" not in sending.head
    told = dict(span.attributes)
    assert (span.name, told["gen_ai.operation.name"], told["gen_ai.request.model"]) == ("chat model", "chat", "model")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (100, 50)
    assert (told["server.address"], told["offtake.outcome"], told["offtake.tenant"]) == ("127.0.0.1", "served", "acme")
    assert told["offtake.pool"] == desk.parts.fleet.pools[sending.upstream.pool].name
    assert span.end_time - span.start_time == 2 * NS_PER_S


def test_without_a_clients_span_ours_is_the_first_of_a_trace_of_its_own(tmp_path: Path) -> None:
    desk, tracer, exporter = traced(tmp_path)
    sent = [parents(serve(desk))[0] for _ in range(2)]
    tracer.close()
    spans = exporter.get_finished_spans()
    assert [span.parent for span in spans] == [None, None]
    assert [b"%032x" % span.context.trace_id for span in spans] == [each.split(b"-")[1] for each in sent]
    assert len(set(sent)) == 2


def test_what_is_not_traced_goes_on_as_it_came(tmp_path: Path) -> None:
    desk, tracer, exporter = traced(tmp_path, share=0.0)
    unsampled = GIVEN[:-2] + b"00"
    assert parents(serve(desk, (b"traceparent", unsampled))) == [unsampled]
    assert parents(serve(desk)) == []
    tracer.close()
    assert exporter.get_finished_spans() == ()


def test_a_client_cannot_say_what_only_the_router_says(tmp_path: Path) -> None:
    desk, tracer, exporter = traced(tmp_path, share=0.0)
    assert b"x-offtake" not in serve(desk, (b"x-offtake-parent", GIVEN)).head
    tracer.close()
    assert exporter.get_finished_spans() == ()


def test_no_words_and_no_key_are_in_a_span(tmp_path: Path) -> None:
    desk, tracer, exporter = traced(tmp_path)
    serve(desk)
    tracer.close()
    text = exporter.get_finished_spans()[0].to_json()
    assert "hello" not in text
    assert "ot-acme" not in text
    assert "upstream-secret" not in text


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        GIVEN + b"-more",
    ],
)
def test_a_parent_that_is_none_is_none(value: bytes) -> None:
    assert parent_of(value) is None


def test_a_parent_of_a_later_version_may_say_more() -> None:
    later = parent_of(b"01" + GIVEN[2:] + b"-more")
    assert later == Parent(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, sampled=True)
