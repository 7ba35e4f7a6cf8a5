from __future__ import annotations

import numpy as np
import pytest

from offtake.demand.measure import measure, profile_of
from offtake.demand.profile import Source, check_profile
from offtake.demand.request import part, requests_of
from offtake.demand.trace import read_trace
from offtake.errors import InputError
from offtake.schema.columns import Confidence
from tests.demand.real import real_trace

MINE = (Source(part="all", source="my own log", licence="mine", confidence=Confidence.CONFIRMED),)


def test_a_clockwork_trace_has_no_variation() -> None:
    tokens = np.full(601, 100, dtype=np.int32)
    statistics = measure([requests_of(np.arange(601) * 500_000_000, tokens, tokens)])
    assert statistics.rate_rps == pytest.approx(2.0, rel=0.01)
    assert statistics.interarrival_cv == pytest.approx(0.0, abs=1e-6)
    assert statistics.dispersion[10] == 0.0
    assert statistics.spearman == 0.0


def test_the_batches_do_not_matter() -> None:
    random = np.random.default_rng(5)
    tokens = random.integers(1, 1000, 5000).astype(np.int32)
    whole = requests_of(np.sort(random.integers(0, 10**12, 5000)), tokens, tokens)
    one = measure([whole])
    many = measure([part(whole, start, start + 77) for start in range(0, 5000, 77)])
    assert (one.dispersion, one.spearman) == (many.dispersion, many.spearman)
    assert one.interarrival_cv == pytest.approx(many.interarrival_cv, rel=1e-12)
    assert one.input_tokens == many.input_tokens


def test_quantiles_of_lengths_are_lengths_that_occur() -> None:
    tokens = np.repeat(np.array([10, 20, 500], dtype=np.int32), [50, 40, 10])
    lengths = measure([requests_of(np.arange(100) * 10**9, tokens, tokens)]).input_tokens
    assert (lengths.quantile(0.25), lengths.quantile(0.5), lengths.quantile(0.75)) == (10, 10, 20)
    assert (lengths.tokens[0], lengths.tokens[-1], lengths.mean_measured) == (10, 500, 63)


def test_a_whole_week_gives_its_shape_from_monday() -> None:
    hours = np.arange(168)
    counts = np.where(hours == 5, 9, 3)  # the sixth hour of the trace is busy
    arrival_ns = np.repeat(hours * 3600 * 10**9, counts) + 1
    arrival_ns = np.append(np.sort(arrival_ns), [168 * 3600 * 10**9 + 1])
    tokens = np.ones(arrival_ns.size, dtype=np.int32)
    shape = measure([requests_of(arrival_ns, tokens, tokens)]).hour_of_week(start_hour_of_week=48)
    assert shape.argmax() == 53
    assert shape.mean() == pytest.approx(1.0)
    assert shape[53] == pytest.approx(9 / (510 / 168))


def test_too_few_requests_are_refused() -> None:
    tokens = np.ones(3, dtype=np.int32)
    with pytest.raises(InputError, match="3 requests are too few to measure"):
        measure([requests_of(np.arange(3), tokens, tokens)])


@pytest.mark.parametrize(
    "name, cv_dispersion_spearman, input_p50_p95_p99, output_p50_p95_p99",
    [
        ("azure-2023-code", (13.151, 13.19, -0.0215), (1469, 7303, 7436), (13, 90, 251)),
        ("azure-2023-conv", (1.094, 1.386, 0.0728), (1020, 4083, 4142), (129, 451, 601)),
    ],
)
def test_the_public_traces_measure_as_published(
    name: str,
    cv_dispersion_spearman: tuple[float, ...],
    input_p50_p95_p99: tuple[int, ...],
    output_p50_p95_p99: tuple[int, ...],
) -> None:
    statistics = measure(read_trace(real_trace(f"{name}.parquet")))
    found = (statistics.interarrival_cv, statistics.dispersion[1], statistics.spearman)
    assert found == pytest.approx(cv_dispersion_spearman, rel=5e-3)
    for lengths, expected in (
        (statistics.input_tokens, input_p50_p95_p99),
        (statistics.output_tokens, output_p50_p95_p99),
    ):
        assert [lengths.quantile(q) for q in (0.5, 0.95, 0.99)] == pytest.approx(expected, rel=5e-3)


def test_a_measured_trace_makes_a_valid_profile() -> None:
    statistics = measure(read_trace(real_trace("azure-2023-conv.parquet")))
    profile = profile_of(statistics, "mine", MINE, start_hour_of_week=90)
    assert check_profile(profile, "mine") == []
    assert set(profile.hour_of_week) == {1.0}
