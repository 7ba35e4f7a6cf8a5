from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from offtake.errors import InputError
from offtake.route.clock import Clock
from offtake.route.columns import Host
from offtake.route.config import TenantRow
from offtake.route.dialects.usage import Usage
from offtake.route.entries import Bill
from offtake.route.leases import Keeper, Store, is_mine, lock_of, unrenewed
from offtake.route.limits import LEASE, LEASE_WIDTH, SHARE, Allowances
from offtake.units import NS_PER_DAY, NS_PER_S
from tests.route.waiting import until

SERVER = next(filter(None, map(shutil.which, ("valkey-server", "redis-server"))), None)
NOON_NS = 20_000 * NS_PER_DAY + NS_PER_DAY // 2
pytestmark = pytest.mark.skipif(SERVER is None, reason="neither valkey-server nor redis-server is installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.begin()

    def begin(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([str(SERVER), *options], stdout=subprocess.DEVNULL)
        assert until(self.listens)

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    found.end()


class Router(NamedTuple):
    """One host: two workers, and the keeper of its leases."""

    workers: list[Allowances]
    keeper: Keeper

    def look(self, now_ns: int) -> None:
        for worker in self.workers:
            worker.host.look()
            worker.look(now_ns)

    def share(self) -> float:
        return self.keeper.host.row((LEASE, "t"), LEASE_WIDTH)[SHARE]


def router(folder: Path, server: Server, name: str, **limits: float) -> Router:
    rows = [TenantRow(name="t", workloads=["w"], **limits)]
    workers = [Allowances(rows, Host(folder / name), NOON_NS, shared=True) for _ in range(2)]
    return Router(workers, Keeper(workers[0].host, rows, Store(server.url, "fleet", name), Clock()))


def drive(routers: list[Router], demand: list[float], seconds: int, begin_s: int = 0) -> list[int]:
    """Ask every router for so many requests a second, and count what is granted; leases live on."""
    chance = np.random.default_rng([23, len(routers), seconds])
    granted = [0] * len(routers)
    for step in range(begin_s * 100, (begin_s + seconds) * 100):
        now_ns = step * NS_PER_S // 100
        for at, each in enumerate(routers):
            if step % 20 == 7 * at:
                each.keeper.renew(NOON_NS + now_ns)
            each.look(now_ns)
            for _ in range(int(chance.poisson(demand[at] / 100))):
                granted[at] += each.workers[int(chance.integers(2))].take(0, 10, now_ns) is None
    return granted


@pytest.mark.slow
def test_two_routers_with_leases_never_take_more_than_the_limit_and_leave_little(
    tmp_path: Path, server: Server
) -> None:
    routers = [router(tmp_path, server, name, requests_per_minute=600) for name in ("one", "two")]
    first = sum(drive(routers, [30.0, 30.0], 60))
    assert first <= 600 + 600
    then = sum(drive(routers, [30.0, 30.0], 60, 60))
    assert 0.97 * 600 <= then <= 1.01 * 600
    for each in routers:
        each.keeper.store.close()


@pytest.mark.slow
def test_the_share_of_a_router_goes_to_where_the_requests_are(tmp_path: Path, server: Server) -> None:
    routers = [router(tmp_path, server, name, requests_per_minute=600) for name in ("one", "two", "three")]
    granted = drive(routers, [30.0, 0.5, 0.0], 60)
    shares = [each.share() for each in routers]
    assert sum(shares) <= 1.0 + 1e-6
    assert shares[0] > 0.85
    assert granted[0] > 0.85 * 600
    assert granted[1] >= 20  # the small one gets all it asks for
    for each in routers:
        each.keeper.store.close()


@pytest.mark.slow
def test_while_the_store_is_away_routers_go_on_with_their_last_share_and_say_so(tmp_path: Path, server: Server) -> None:
    routers = [router(tmp_path, server, name, requests_per_minute=600) for name in ("one", "two")]
    rows = routers[0].keeper.tenants
    assert unrenewed(routers[0].workers[0].host, rows) == (["t"], [])
    drive(routers, [30.0, 30.0], 60)
    assert unrenewed(routers[0].workers[1].host, rows) == ([], [])
    server.end()
    away = sum(drive(routers, [30.0, 30.0], 60, 60))
    assert 0.9 * 600 <= away <= 1.01 * 600
    assert unrenewed(routers[0].workers[1].host, rows) == ([], ["t"])
    server.begin()
    back = sum(drive(routers, [30.0, 30.0], 60, 120))
    assert 0.9 * 600 <= back <= 1.01 * 600
    assert unrenewed(routers[0].workers[1].host, rows) == ([], [])
    for each in routers:
        each.keeper.store.close()


def test_a_days_money_is_one_for_all_routers_however_often_it_is_told(tmp_path: Path, server: Server) -> None:
    routers = [router(tmp_path, server, name, usd_per_day=1.0) for name in ("one", "two")]
    for each in routers:
        each.workers[0].settle(0, 1, Bill(Usage(0, 0), counted=False, cost_usd=0.6), 0)
    for _ in range(5):
        for each in routers:
            each.keeper.renew(NOON_NS)
            each.look(0)
    day = NOON_NS // NS_PER_DAY
    assert [round(each.workers[1].tenants[0].usd(day), 9) for each in routers] == [1.2, 1.2]
    denied = routers[0].workers[1].take(0, 1, 0)
    assert denied is not None
    assert denied.limit == "usd_per_day"
    for each in routers:
        each.keeper.store.close()


def test_without_a_lease_nothing_limited_is_let_through(tmp_path: Path, server: Server) -> None:
    one = router(tmp_path, server, "one", requests_per_minute=600)
    one.look(0)
    assert one.workers[0].take(0, 1, 0) is not None
    one.keeper.store.close()


def test_one_worker_of_a_host_keeps_the_leases(tmp_path: Path) -> None:
    held = [lock_of(tmp_path).open("w") for _ in range(2)]
    assert [is_mine(file.fileno()) for file in held] == [True, False]
    held[0].close()
    assert is_mine(held[1].fileno())
    held[1].close()


def test_an_address_that_is_no_store_is_told_without_a_traceback() -> None:
    with pytest.raises(InputError, match="`shared` is no store"):
        Store("http://127.0.0.1:1", "fleet", "one")
