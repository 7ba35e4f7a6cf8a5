from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from offtake.route.ledger.opening import open_store
from offtake.route.ledger.store import Store
from tests.route.ledger.cluster import Cluster, cluster


@pytest.fixture(scope="package")
def server() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = "sqlite:ledger.db" if request.param == "sqlite" else request.getfixturevalue("server").url
    found = open_store(url, tmp_path)
    found.sweep(2**31)
    yield found
    found.close()
