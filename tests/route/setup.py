"""Files of a small router: two pools of one model, two tenants, three keys."""

from __future__ import annotations

from pathlib import Path

from offtake.fleet import Fleet
from offtake.performance.library import StoredTable, save_table
from offtake.route.clock import Clock
from offtake.route.config import Config, read_config
from offtake.route.decider import Decider, Settings
from offtake.route.desk import RequestDesk
from offtake.route.entries import Bill
from offtake.route.health import Health
from offtake.route.keys import key_text, read_keys
from offtake.route.ledger.entry import Closed, Opened
from offtake.route.limits import Denied
from offtake.route.office import Parts
from offtake.route.seams import Dialect, Leave, Times, Upstream
from tests.rehearse.fleets import small_deployments, small_fleet

ROUTE = """
region = "{region}"

[[upstream]]
pool = "a-one"
url = "http://127.0.0.1:9001"

[[upstream]]
pool = "a-two"
url = "http://127.0.0.1:9002"
model = "served-name"

[[upstream]]
pool = "b-one"
url = "http://127.0.0.1:9003/base"
key_env = "B_KEY"

[[upstream]]
pool = "api"
url = "https://api.example.com"
on_leave = "drain"

[[tenant]]
name = "acme"
workloads = ["{first}", "{second}"]

[[tenant]]
name = "umbrella"
workloads = ["{second}"]
requests_per_minute = 60
"""
SECRETS = {"acme": "ot-acme", "umbrella": "ot-umbrella"}


def route_text(fleet: Fleet | None = None) -> str:
    fleet = fleet or small_fleet()
    first, second = (workload.name for workload in fleet.workloads)
    return ROUTE.format(region=fleet.regions[0], first=first, second=second)


def write_setup(folder: Path, text: str | None = None) -> Path:
    path = folder / "route.toml"
    path.write_text(route_text() if text is None else text)
    (folder / "keys.toml").write_text("".join(key_text(secret, tenant, "main") for tenant, secret in SECRETS.items()))
    return path


def config(folder: Path, text: str | None = None) -> Config:
    return read_config(write_setup(folder, text), small_fleet())


class Pages:
    """A ledger in memory, which can be full."""

    def __init__(self) -> None:
        self.open: list[Opened] = []
        self.shut: list[Closed] = []
        self.works = True

    def opened(self, record: Opened) -> bool:
        self.open += [record] * self.works
        return self.works

    def closed(self, record: Closed) -> bool:
        self.shut += [record] * self.works
        return self.works


class Free:
    """Limits that let everything through, and remember what was settled."""

    def __init__(self) -> None:
        self.denied: Denied | None = None
        self.settled: list[float] = []

    def take(self, tenant: int, tokens: int, now_ns: int) -> Denied | None:
        del tenant, tokens, now_ns
        return self.denied

    def settle(self, tenant: int, estimate: int, bill: Bill, now_ns: int) -> None:
        del tenant, estimate, now_ns
        self.settled.append(bill.cost_usd)


def tables(folder: Path) -> Path:
    """The step tables that the small fleet names, as files."""
    for name, (table, limits) in small_deployments(1).items():
        save_table(StoredTable(name, table, limits, {}), folder)
    return folder


def desk_in(folder: Path, fleet: Fleet | None = None, text: str | None = None) -> RequestDesk:
    fleet = fleet or small_fleet()
    folder.mkdir(exist_ok=True)
    settings = read_config(write_setup(folder, text), fleet)
    clock = Clock()
    times = Times(connect_ns=1, first_ns=1, between_ns=1, total_ns=1)
    names = [pool.name for pool in fleet.pools]
    upstreams = [
        Upstream(
            pool=names.index(row.pool),
            name=f"{row.pool}#0",
            host="127.0.0.1",
            port=9001 + index,
            path=b"",
            dialect=Dialect.OPENAI,
            model=row.model or "model",
            headers=((b"authorization", b"Bearer upstream-secret"),),
            times=times,
            leave=Leave.DRAIN if row.on_leave == "drain" else Leave.ABORT,
        )
        for index, row in enumerate(settings.file.upstream)
    ]
    return RequestDesk(
        Parts(
            fleet=fleet,
            config=settings,
            keyring=read_keys(folder / "keys.toml", settings.file.tenant),
            decider=Decider(fleet, Settings(clock.begun_wall_ns, folder=tables(folder))),
            health=Health(upstreams, settings.file.breaker),
            book=Pages(),
            allowance=Free(),
            clock=clock,
        )
    )
