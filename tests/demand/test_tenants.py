from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from offtake.demand.generate import TraceSpec, generate
from offtake.demand.profile import load_profile
from offtake.demand.request import concat
from offtake.demand.tenants import RANK, SHARE, tenant_lookup, tenant_shares
from offtake.errors import InputError
from tests.demand.real import real_trace


def test_the_embedded_shares_are_those_of_the_measured_clients() -> None:
    rates = pl.read_parquet(real_trace("servegen-client-rates.parquet")).filter(pl.col("model") == "m-large")
    by_client = (
        rates.group_by("client").agg(pl.col("rate_rps").cast(pl.Float64).sum())["rate_rps"].sort(descending=True)
    )
    measured = np.cumsum(by_client.to_numpy()) / by_client.sum()
    assert measured.size == RANK[-1]
    assert pytest.approx([measured[rank - 1] for rank in RANK[1:]], abs=1e-4) == SHARE[1:]
    assert np.abs(np.cumsum(tenant_shares(RANK[-1])) - measured).max() < 0.013


@pytest.mark.parametrize("tenants", [1, 2, 10, 162])
def test_shares_sum_to_one_and_fall(tenants: int) -> None:
    shares = tenant_shares(tenants)
    assert shares.size == tenants
    assert shares.sum() == pytest.approx(1.0)
    assert np.all(np.diff(shares) <= 2e-4)  # the measured shares are rounded to 1e-4


@pytest.mark.parametrize("tenants", [0, 163])
def test_numbers_of_tenants_that_were_not_measured_are_refused(tenants: int) -> None:
    with pytest.raises(InputError, match="Give 1 to 162 tenants"):
        tenant_shares(tenants)


def test_the_table_gives_each_tenant_its_share() -> None:
    table = tenant_lookup(10, 5)
    assert table.dtype == np.int16
    counts = np.bincount(table, minlength=15)[5:] / table.size
    assert counts == pytest.approx(tenant_shares(10), abs=2e-5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_made_requests_belong_to_tenants_by_their_shares_and_nothing_else_changes(seed: int) -> None:
    spec = TraceSpec(profile=load_profile("chat"), rate_rps_mean=100, duration_s=1_000, seed=seed)
    alone = concat(list(generate(spec)))
    shared = concat(list(generate(TraceSpec(**{**vars(spec), "tenants": 50, "tenant_first": 7}))))
    assert alone.tenant.max() == 0
    pairs: Any = zip(alone[:5], shared[:5], strict=True)
    assert all(np.array_equal(mine, other) for mine, other in pairs)
    counts = np.bincount(shared.tenant, minlength=57)
    assert counts[:7].sum() == 0
    assert counts[7] / counts.sum() == pytest.approx(0.1605 / 0.9366, abs=0.006)
