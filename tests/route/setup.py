"""Files of a small router: two pools of one model, two tenants, three keys."""

from __future__ import annotations

from pathlib import Path

from offtake.fleet import Fleet
from offtake.route.config import Config, read_config
from offtake.route.keys import key_text
from tests.rehearse.fleets import small_fleet

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
