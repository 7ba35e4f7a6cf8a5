"""Make the upstreams of a configuration: address, credential, time limits and trust; there are no others.

Comes in: a checked configuration, its fleet, and the environment. Goes out: one ``Upstream`` for each row, or every
fault at once. A credential is read here and goes into headers only; no message shows it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.route.config import Config, Limits, UpstreamRow
from offtake.route.seams import Dialect, Headers, Leave, Times, Upstream
from offtake.units import NS_PER_S

PORTS = {"http": 80, "https": 443}


def upstreams_of(config: Config, fleet: Fleet, environment: Mapping[str, str]) -> list[Upstream]:
    """Return the upstreams of a router.

    Raises
    ------
    InputError
        Where a credential or an authority's certificate cannot be read.
    """
    index = {pool.name: number for number, pool in enumerate(fleet.pools)}
    seen: dict[str, int] = {}
    found: list[Upstream] = []
    faults: list[Fault] = []
    for row in config.file.upstream:
        seen[row.pool] = seen.get(row.pool, 0) + 1
        pool = index[row.pool]
        try:
            found.append(upstream_of(config, row, fleet.pools[pool].model, (pool, seen[row.pool]), environment))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return found


def upstream_of(
    config: Config, row: UpstreamRow, model: str, place: tuple[int, int], environment: Mapping[str, str]
) -> Upstream:
    """Return the upstream of one row; ``place`` is its pool, and its number among those of the pool."""
    parts = urlsplit(row.url)
    limits = row.limits or config.file.limits
    pool, number = place
    return Upstream(
        pool=pool,
        name=row.pool if number == 1 else f"{row.pool}#{number}",
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        path=parts.path.rstrip("/").encode(),
        dialect=Dialect[row.dialect.upper()],
        model=row.model or model,
        headers=credential(row, secret_of(config, row, environment)),
        times=times_of(limits),
        leave=Leave[row.on_leave.upper()],
        tls=trust(config, row, parts),
        connections_max=row.connections_max,
        health=row.health.encode(),
        metrics=row.metrics.encode(),
        asks_usage=row.ask_usage,
    )


def times_of(limits: Limits) -> Times:
    """Return time limits in nanoseconds."""
    return Times(
        connect_ns=round(limits.connect_s * NS_PER_S),
        first_ns=round(limits.first_s * NS_PER_S),
        between_ns=round(limits.between_s * NS_PER_S),
        total_ns=round(limits.total_s * NS_PER_S),
    )


def secret_of(config: Config, row: UpstreamRow, environment: Mapping[str, str]) -> bytes:
    """Return the credential of an upstream; empty if it has none."""
    where = str(config.path)
    if row.key_env:
        if row.key_env not in environment:
            mend = f"Set {row.key_env} in the environment of the router."
            raise InputError([Fault(where, f"the credential of pool {row.pool} is not set", mend, column="key_env")])
        secret = environment[row.key_env]
    elif row.key_file:
        try:
            secret = config.beside(row.key_file).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            mend = f"Put it into {config.beside(row.key_file)}, readable by the router."
            problem = f"the credential of pool {row.pool} cannot be read"
            raise InputError([Fault(where, problem, mend, column="key_file")]) from None
    else:
        return b""
    secret = secret.strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        mend = "It must be one line of printable ASCII."
        raise InputError([Fault(where, f"the credential of pool {row.pool} cannot be sent in a header", mend)])
    return secret.encode()


def credential(row: UpstreamRow, secret: bytes) -> Headers:
    """Return the headers that prove to an upstream who asks."""
    if not secret:
        return ()
    if row.dialect == "anthropic":
        return ((b"x-api-key", secret),)
    return ((b"authorization", b"Bearer " + secret),)


def trust(config: Config, row: UpstreamRow, parts: SplitResult) -> ssl.SSLContext | None:
    """Return whom to believe that it is the upstream; None without TLS."""
    if parts.scheme != "https":
        return None
    authority = config.beside(row.tls_authority) if row.tls_authority else None
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError):
        mend = f"Put its certificate (PEM) into {authority}."
        problem = f"the authority of pool {row.pool} cannot be read"
        raise InputError([Fault(str(config.path), problem, mend, column="tls_authority")]) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
