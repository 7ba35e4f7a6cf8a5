"""Write the files that a router begins with, and add keys to them.

Comes in: a fleet. Goes out: ``route.toml`` with a place for every pool, ``keys.toml``, and secrets, each shown once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from offtake.errors import Fault, InputError
from offtake.files import write_whole
from offtake.fleet import Fleet
from offtake.route.config import Config
from offtake.route.keys import PREFIX, key_text

HEAD = """# Where the pools of {name} are reached, and who may ask. docs/reference/route.md has every field.
# `offtake route RUN --check` says what is still missing; SIGHUP lets a running router read it again.
region = {region}
policy = "bid_price"

[listen]
host = "127.0.0.1"
port = {port}

[models]  # other names of models: what a client says = what the fleet says
"""
UPSTREAM = """
[[upstream]]
pool = {pool}
url = {url}
"""
PATHS = 'health = "/health"\nmetrics = "/metrics"\n'
API = """key_env = "{env}"
on_leave = "drain"  # this vendor bills the rest when a client leaves
"""
TENANT = """
[[tenant]]
name = {name}
workloads = {workloads}
"""


def route_text(fleet: Fleet, url_of: Callable[[int], str], port: int = 8080) -> str:
    """Return a ``route.toml`` that has every pool, with the address that ``url_of`` gives for each."""
    parts = [HEAD.format(name=fleet.name, region=quoted(fleet.regions[0]), port=port)]
    for index, pool in enumerate(fleet.pools):
        url = url_of(index)
        parts.append(UPSTREAM.format(pool=quoted(pool.name), url=quoted(url)))
        if pool.kind == "chips" and url:
            parts.append(PATHS)
        if pool.kind == "api" and not url:
            parts.append(API.format(env=variable(pool.provider)))
    names = [workload.name for workload in fleet.workloads]
    parts.append(TENANT.format(name='"everyone"', workloads=quoted(names)))
    return "".join(parts)


def variable(provider: str) -> str:
    """Return the environment variable in which a provider's credential is looked for."""
    return "".join(letter if letter.isalnum() else "_" for letter in provider.upper()) + "_API_KEY"


def quoted(value: str | Sequence[str]) -> str:
    """Return a value as TOML has it."""
    return msgspec.json.encode(value).decode()


def begin(folder: Path, fleet: Fleet, url_of: Callable[[int], str] = lambda _: "") -> Path:
    """Write ``route.toml`` and an empty ``keys.toml``; files that are there stay as they are.

    Raises
    ------
    InputError
        If there is a ``route.toml`` already.
    """
    path = folder / "route.toml"
    if path.exists():
        raise InputError([Fault(str(path), "the file is there already", "Change it, or move it away first.")])
    if not (folder / "keys.toml").exists():
        write_whole(folder / "keys.toml", b"# Hashes of keys; `offtake route RUN --new-key TENANT` adds one.\n")
    return write_whole(path, route_text(fleet, url_of).encode())


def add_key(config: Config, tenant: str, secret: str, name: str = "") -> Path:
    """Add a key of a tenant to the file of keys; only its hash is written.

    Raises
    ------
    InputError
        If there is no such tenant.
    """
    known = [row.name for row in config.file.tenant]
    if tenant not in known:
        mend = f"Write one of: {', '.join(known)}." if known else "Add a [[tenant]] first."
        raise InputError([Fault(str(config.path), "the tenant is not known", mend, column="tenant", value=tenant)])
    path = config.beside(config.file.keys)
    before = path.read_bytes() if path.exists() else b""
    written = write_whole(path, before + key_text(secret, tenant, name).encode())
    written.chmod(0o600)
    return written


def secret_of(fresh: str) -> str:
    """Return a new key, of what was drawn at random."""
    return PREFIX + fresh
