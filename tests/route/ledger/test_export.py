from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offtake.demand.formats import Binding
from offtake.demand.keys import Names
from offtake.demand.trace import read_trace
from offtake.errors import InputError
from offtake.performance.measurements import read_measured
from offtake.route.ledger.export import export_performance, export_trace
from offtake.route.ledger.rows import Entry, row_of
from offtake.route.ledger.span import Span
from offtake.route.ledger.store import Store
from tests.route.ledger.records import MONDAY_NS, S, closed, opened

NAMES = Names(("code", "chat"), ("us", "eu"), ("umbrella", "acme"))


def put(store: Store, name: str, at_s: float, opening: dict[str, object], end: dict[str, object] | None) -> None:
    begin = opened(name, at_s, **opening)  # type: ignore[arg-type]  # values of a record
    done = None if end is None else closed(name, at_s + 2, **end)  # type: ignore[arg-type]  # the same
    store.write([row_of(Entry("w", begin, done))])


def test_the_trace_that_plan_and_rehearsal_read_holds_what_was_asked_for(store: Store, tmp_path: Path) -> None:
    put(store, "late", 7_200.5, {"workload": "code", "region": "us", "tenant": "umbrella"}, {"output_tokens": 30})
    put(store, "first", 3_600.0, {"session": 5}, {"output_tokens": 40, "cached_tokens": 64})
    put(store, "next", 3_700.0, {"session": 5}, {"output_tokens": 60, "cached_tokens": 64})
    unserved = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "pool": "", "attempts": 0}
    put(store, "refused", 3_800.0, {}, unserved | {"outcome": "refused"})
    put(store, "cut", 3_900.0, {}, {"outcome": "cut", "output_tokens": 70})
    put(store, "left", 3_950.0, {}, {"outcome": "left", "output_tokens": 3})
    put(store, "open", 4_000.0, {}, None)
    put(store, "faulty", 4_001.0, {}, {"outcome": "faulty"})
    put(store, "counting", 4_002.0, {"call": "count_tokens"}, {"output_tokens": 0})
    put(store, "unknown", 4_003.0, {"workload": "batch", "output_tokens_max": 0}, unserved | {"outcome": "failed"})
    done = export_trace(store, tmp_path / "trace.parquet", Span())
    assert (done.requests, done.left_out, done.filled, done.from_hour) == (7, 1, 3, 1.0)
    (batch,) = list(read_trace(tmp_path / "trace.parquet", binding=Binding(NAMES)))
    assert (batch.arrival_ns / S).tolist() == [0.0, 100.0, 200.0, 300.0, 350.0, 400.0, 3_600.5]
    assert batch.input_tokens.tolist() == [110, 110, 100, 110, 110, 100, 110]
    assert batch.output_tokens.tolist() == [40, 60, 50, 70, 3, 50, 30]
    assert batch.workload.tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert (batch.region.tolist()[-1], batch.tenant.tolist()[-1]) == (0, 0)
    assert batch.session.tolist() == [5, 5, -1, -1, -1, -1, -1]
    assert batch.shared_tokens.tolist() == [0, 64, 0, 0, 0, 0, 0]


def test_a_span_cuts_the_trace(store: Store, tmp_path: Path) -> None:
    for number in range(10):
        put(store, f"r{number}", 3_600.0 * number, {}, {})
    span = Span(MONDAY_NS + 3_600 * 2 * S, MONDAY_NS + 3_600 * 5 * S)
    assert export_trace(store, tmp_path / "trace.csv", span).requests == 3
    (batch,) = list(read_trace(tmp_path / "trace.csv", binding=Binding(NAMES)))
    assert batch.arrival_ns.tolist() == [0, 3_600 * S, 7_200 * S]
    with pytest.raises(InputError, match="holds no such request"):
        export_trace(store, tmp_path / "none.parquet", Span(0, MONDAY_NS))
    assert not list(tmp_path.glob("*none*"))


@pytest.mark.parametrize("name", ["measured.csv", "measured.parquet"])
def test_what_was_measured_is_what_the_fit_reads(store: Store, tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    ttft_ms = rng.uniform(50, 150, 500)
    tpot_ms = rng.uniform(5, 15, 500)
    rows = []
    for number in range(500):
        at_ns = MONDAY_NS + number * S
        first_ns = at_ns + int(ttft_ms[number] * 1_000_000)
        end_ns = first_ns + int(tpot_ms[number] * 39 * 1_000_000)
        end = closed(f"r{number}", end_ns=end_ns, first_ns=first_ns, output_tokens=40, input_tokens=100)
        rows.append(row_of(Entry("w", opened(f"r{number}", number), end)))
    rows.append(row_of(Entry("w", opened("whole", 9.5, stream=False), closed("whole", 11.0))))
    rows.append(row_of(Entry("w", opened("again", 9.6), closed("again", 11.0, attempts=2))))
    rows.append(row_of(Entry("w", opened("refused", 9.7), closed("refused", 11.0, outcome="refused"))))
    store.write(rows)
    done = export_performance(store, tmp_path / name, Span())
    assert (done.requests, done.left_out) == (500, 2)
    (found,) = read_measured(tmp_path / name, pool="a-one")
    assert found.ledger is not None
    np.testing.assert_allclose(found.ledger.ttft_ms, ttft_ms, atol=1e-5)
    np.testing.assert_allclose(found.ledger.tpot_ms, tpot_ms, atol=1e-5)
    assert len(found.points) == 2
