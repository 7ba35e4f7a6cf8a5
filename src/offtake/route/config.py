"""Read what the operator writes: where each pool is to be reached, who may ask for what, and the router's limits.

Comes in: ``route.toml`` and the fleet it is for. Goes out: a checked ``Config``, or every fault at once. Nothing else
names an address: a request can go to an upstream of this file and to no other place. Secrets are not in it: an
upstream's credential is the name of an environment variable or of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.policy.view import Policy
from offtake.units import BYTES_PER_MB

MEND = "Write it as docs/reference/route.md says, or start from the file that `offtake route RUN --init` writes."
HEADER_BYTES_MAX = 65_536
HEADER_BYTES_LEAST = 1_024
PORT_MAX = 65_535


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where the router listens, and how much it takes."""

    host: str = "127.0.0.1"  #: Address to bind.
    port: int = 8080  #: Port to bind; 0 takes a free one.
    workers: int = 0  #: Processes; 0: one for each core.
    tls_certificate: str = ""  #: File of the certificate chain (PEM); empty: no TLS.
    tls_key: str = ""  #: File of its private key.
    connections_max: int = 10_000  #: Open connections of one worker.
    header_bytes_max: int = HEADER_BYTES_MAX  #: Longest head of a request.
    body_bytes_max: int = 32 * BYTES_PER_MB  #: Longest body of a request.
    answer_bytes_max: int = 1_024 * BYTES_PER_MB  #: Longest answer of an upstream.
    idle_s: float = 75.0  #: A connection without a request is closed after this long.
    drain_s: float = 30.0  #: How long open answers may go on once the router is told to stop.


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say how long one attempt at an upstream may take."""

    connect_s: float = 2.0  #: To a connection.
    first_s: float = 60.0  #: To the first byte of the answer.
    between_s: float = 60.0  #: Between two pieces of it.
    total_s: float = 900.0  #: To its end.


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say how often an attempt that failed before the first byte is made again elsewhere."""

    attempts_max: int = 3  #: Attempts of one request.
    budget_share: float = 0.1  #: Each request earns this share of a retry; 0: none is made.
    hedge_share: float = 0.0  #: Interactive requests that may be sent twice when their first token is late.


class Breaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say when an upstream is left alone, and when it is tried again. A client's mistake (4xx) never counts."""

    failures: int = 5  #: In a row, after which it is left alone.
    open_s: float = 1.0  #: For so long, doubled each time, up to half a minute.
    probe_s: float = 0.5  #: Between two looks at an upstream's health path and metrics.


class Ledger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where the record of every request is kept."""

    url: str = "sqlite:ledger.db"  #: `sqlite:FILE` or `postgresql://…`.
    journal: str = "journal"  #: Folder of what is not in the ledger yet.
    durable: Literal["process", "power"] = "process"  #: `power`: wait until the disk says that it is written.
    keep_days: int = 400  #: Rows older than this are dropped when the ledger is swept.


class Tracing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say whether spans are sent, and where to."""

    otlp_url: str = ""  #: OTLP over HTTP, such as http://127.0.0.1:4318; empty: no spans.
    share: float = 1.0  #: Of requests that are traced.


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what is written down for people and their tools; never a word or a key of a request."""

    form: Literal["text", "json"] = "text"  #: Of the program's own lines.
    access: str = ""  #: File with a line of JSON for each request; `-`: standard error; empty: none.


class UpstreamRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where a pool is reached; a pool may have several."""

    pool: str  #: Name in the fleet.
    url: str  #: Such as `https://10.0.0.1:8000`; a path is put before `/v1/…`.
    dialect: Literal["openai", "anthropic"] = "openai"  #: What it speaks.
    model: str = ""  #: What it calls the model; empty: as the fleet does.
    key_env: str = ""  #: Environment variable that holds its credential.
    key_file: str = ""  #: File that holds it.
    ask_usage: bool = False  #: Ask OpenAI streams for their usage; their clients see one chunk more, without choices.
    on_leave: Literal["abort", "drain"] = "abort"  #: When a client leaves: stop it, or read to the end and book it.
    health: str = ""  #: Path that answers 200 while it is well; empty: its answers alone tell.
    metrics: str = ""  #: Path of its own metrics (vLLM, SGLang, TensorRT-LLM); empty: none.
    tls_authority: str = ""  #: File of the authority that signs its certificate; empty: those of the system.
    connections_max: int = 1_024  #: Open connections of one worker to it.
    limits: Limits | None = None  #: Its own time limits; left out: those of the file.


class TenantRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what a customer may ask for, and how much of it."""

    name: str  #: Key of the tenant.
    workloads: list[str]  #: Workloads of the fleet; the first that has the asked model is taken.
    requests_per_minute: float = 0.0  #: Most, 0: any.
    tokens_per_minute: float = 0.0  #: Most, prompt and answer, 0: any.
    usd_per_day: float = 0.0  #: Most, from 00:00 UTC, 0: any.


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold ``route.toml`` as it is written."""

    region: str = ""  #: User region of the fleet that this router answers; empty: the first.
    policy: str = "bid_price"  #: As in `offtake rehearse --policy`.
    shadow: str = ""  #: A second policy, whose choices are only written down.
    decisions: str = ""  #: Folder in which every decision is written down; empty: only beside a shadow.
    keys: str = "keys.toml"  #: File of the clients' keys, as hashes.
    listen: Listen = Listen()  #: Where it listens, and how much it takes.
    limits: Limits = Limits()  #: Time limits of an attempt.
    retry: Retry = Retry()  #: Attempts after one that failed.
    breaker: Breaker = Breaker()  #: When an upstream is left alone.
    ledger: Ledger = Ledger()  #: Where requests are written down.
    state: str = "state"  #: Folder of what the workers of this host count together.
    shared: str = ""  #: `valkey://…` of limits shared by several routers; empty: each keeps its own.
    tracing: Tracing = Tracing()  #: Spans.
    log: Log = Log()  #: Lines of the log.
    queue_max: int = 1_000  #: Requests of one workload that may wait in one worker.
    queue_s: float = 30.0  #: How long a request may wait here; one that can wait longer is told when to come again.
    models: dict[str, str] = {}  #: Other names of models: what a client says to what the fleet says.
    upstream: list[UpstreamRow] = []  #: Where pools are reached; each pool needs one.
    tenant: list[TenantRow] = []  #: Who may ask.


class Config(NamedTuple):
    """Hold a checked file and where it lies; relative names in it are taken from there."""

    file: ConfigFile
    path: Path
    region: int
    policy: Policy
    shadow: Policy | None

    @property
    def decisions(self) -> Path | None:
        """Return the folder of decisions, if they are written down."""
        name = self.file.decisions or ("decisions" if self.shadow is not None else "")
        return self.beside(name) if name else None

    def beside(self, name: str) -> Path:
        """Return a file that the configuration names."""
        return self.path.parent / name


def read_config(path: Path, fleet: Fleet, changed: Callable[[ConfigFile], ConfigFile] = lambda file: file) -> Config:
    """Read and check ``route.toml`` against the fleet it is for, after what is ``changed`` in it for this run.

    Raises
    ------
    InputError
        With one fault for each thing that is wrong.
    """
    try:
        file = changed(msgspec.toml.decode(path.read_bytes(), type=ConfigFile))
    except OSError as error:
        mend = "`offtake route RUN --init` writes one to fill in."
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", mend)]) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError([Fault(str(path), f"the file is not a router's: {error}", MEND)]) from None
    faults = [
        Fault(str(path), problem, mend, row=where, value=value) for where, problem, value, mend in check(file, fleet)
    ]
    faults += [fault for row in file.upstream for fault in secret_faults(path, row)]
    if faults:
        raise InputError(faults)
    region = fleet.regions.index(file.region) if file.region else 0
    shadow = Policy[file.shadow.upper()] if file.shadow else None
    return Config(file, path, region, Policy[file.policy.upper()], shadow)


class LedgerOnly(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what ``route.toml`` says of the ledger, whatever else it says."""

    ledger: Ledger = Ledger()


def read_ledger(path: Path) -> Ledger:
    """Read where the ledger of a router is; without a file, where it is by default.

    Raises
    ------
    InputError
        Where the file is not a router's.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=LedgerOnly).ledger
    except FileNotFoundError:
        return Ledger()
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError([Fault(str(path), f"the file is not a router's: {error}", MEND)]) from None


Found = tuple[str, str, str | None, str]  #: where, what is wrong, the value, how to mend it


def check(file: ConfigFile, fleet: Fleet) -> Iterator[Found]:
    """Yield every fault of a file that can be read."""
    policies = [policy.name.lower() for policy in Policy]
    yield from one_of("policy", file.policy, policies)
    if file.shadow:
        yield from one_of("shadow", file.shadow, policies)
    if file.region:
        yield from one_of("region", file.region, fleet.regions)
    for name, model in file.models.items():
        yield from one_of(f"models.{name}", model, sorted({workload.model for workload in fleet.workloads}))
    yield from numbers(file)
    if bool(file.listen.tls_certificate) != bool(file.listen.tls_key):
        yield "listen", "a certificate and its key go together", None, "Give both tls_certificate and tls_key, or none."
    if not file.ledger.url.startswith(("sqlite:", "postgresql://", "postgres://")):
        yield "ledger.url", "is no ledger", file.ledger.url, "Write sqlite:FILE or postgresql://USER@HOST/DATABASE."
    yield from upstream_faults(file.upstream, fleet)
    yield from tenant_faults(file.tenant, fleet)


def one_of(where: str, value: str, known: Sequence[str]) -> Iterator[Found]:
    """Yield a fault where a name is not among those known."""
    if value not in known:
        near = get_close_matches(value, known, 1)
        mend = f"Did you mean {near[0]!r}?" if near else f"Write one of: {', '.join(known)}."
        yield where, "is not known", value, mend


def numbers(file: ConfigFile) -> Iterator[Found]:
    """Yield a fault for every number that cannot be."""
    listen, retry, breaker = file.listen, file.retry, file.breaker
    checks = [
        ("listen.port", listen.port, 0 <= listen.port <= PORT_MAX, f"a port from 0 to {PORT_MAX}"),
        ("listen.workers", listen.workers, listen.workers >= 0, "0 or more processes"),
        ("listen.connections_max", listen.connections_max, listen.connections_max > 0, "at least 1"),
        (
            "listen.header_bytes_max",
            listen.header_bytes_max,
            listen.header_bytes_max >= HEADER_BYTES_LEAST,
            "at least 1024 bytes",
        ),
        ("listen.body_bytes_max", listen.body_bytes_max, listen.body_bytes_max > 0, "at least 1 byte"),
        ("listen.answer_bytes_max", listen.answer_bytes_max, listen.answer_bytes_max > 0, "at least 1 byte"),
        ("listen.idle_s", listen.idle_s, listen.idle_s > 0, "more than 0 seconds"),
        ("listen.drain_s", listen.drain_s, listen.drain_s >= 0, "0 seconds or more"),
        ("retry.attempts_max", retry.attempts_max, retry.attempts_max >= 1, "at least 1 attempt"),
        ("retry.budget_share", retry.budget_share, 0 <= retry.budget_share <= 1, "a share from 0 to 1"),
        ("retry.hedge_share", retry.hedge_share, 0 <= retry.hedge_share <= 1, "a share from 0 to 1"),
        ("breaker.failures", breaker.failures, breaker.failures >= 1, "at least 1"),
        ("breaker.open_s", breaker.open_s, breaker.open_s > 0, "more than 0 seconds"),
        ("breaker.probe_s", breaker.probe_s, breaker.probe_s > 0, "more than 0 seconds"),
        ("queue_s", file.queue_s, file.queue_s >= 0, "0 seconds or more"),
        ("queue_max", file.queue_max, file.queue_max >= 0, "0 or more requests"),
        ("tracing.share", file.tracing.share, 0 <= file.tracing.share <= 1, "a share from 0 to 1"),
        ("ledger.keep_days", file.ledger.keep_days, file.ledger.keep_days >= 1, "at least 1 day"),
        *limit_checks("limits", file.limits),
        *(
            each
            for index, row in enumerate(file.upstream)
            for each in limit_checks(f"upstream[{index}].limits", row.limits)
        ),
    ]
    for where, value, good, wanted in checks:
        if not good:
            yield where, f"must be {wanted}", str(value), "Change the number, or leave it out."


def limit_checks(where: str, limits: Limits | None) -> list[tuple[str, float, bool, str]]:
    """Return what must hold of time limits."""
    if limits is None:
        return []
    return [
        (f"{where}.{name}", value, value > 0, "more than 0 seconds")
        for name, value in msgspec.structs.asdict(limits).items()
    ]


def upstream_faults(rows: Sequence[UpstreamRow], fleet: Fleet) -> Iterator[Found]:
    """Yield what is wrong with the upstreams, and each pool that has none."""
    pools = [pool.name for pool in fleet.pools]
    for index, row in enumerate(rows):
        where = f"upstream[{index}]"
        yield from one_of(f"{where}.pool", row.pool, pools)
        if not is_address(row.url):
            yield (
                f"{where}.url",
                "is no address of an upstream",
                row.url,
                "Write http://HOST:PORT or https://HOST[:PORT][/PATH].",
            )
        if row.key_env and row.key_file:
            yield where, "has two credentials", None, "Keep key_env or key_file."
        for name in ("health", "metrics"):
            path = getattr(row, name)
            if path and not (path.startswith("/") and path.isascii() and path.isprintable() and " " not in path):
                yield f"{where}.{name}", "is no path", path, "Write one such as /health; it is put after the url."
        if row.connections_max < 1:
            yield (
                f"{where}.connections_max",
                "must be at least 1",
                str(row.connections_max),
                "Change the number, or leave it out.",
            )
    for name in pools:
        if all(row.pool != name for row in rows):
            yield (
                "upstream",
                f"pool {name} has no upstream",
                None,
                "Add an [[upstream]] with its url, or plan without it.",
            )


def is_address(url: str) -> bool:
    """Tell whether ``url`` is one at which an upstream can be reached, with nothing in it that has no place there."""
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and bare and plain


def tenant_faults(rows: Sequence[TenantRow], fleet: Fleet) -> Iterator[Found]:
    """Yield what is wrong with the tenants."""
    workloads = [workload.name for workload in fleet.workloads]
    names = [row.name for row in rows]
    for index, row in enumerate(rows):
        where = f"tenant[{index}]"
        if names.index(row.name) != index:
            yield f"{where}.name", "is there twice", row.name, "Give each tenant its own name."
        if not row.workloads:
            yield f"{where}.workloads", "names no workload", None, f"Write some of: {', '.join(workloads)}."
        for name in row.workloads:
            yield from one_of(f"{where}.workloads", name, workloads)
        for name in ("requests_per_minute", "tokens_per_minute", "usd_per_day"):
            if getattr(row, name) < 0:
                yield f"{where}.{name}", "must not be negative", str(getattr(row, name)), "Write 0 for no limit."


def secret_faults(path: Path, row: UpstreamRow) -> list[Fault]:
    """Return a fault where a credential's file is not there; what is in it is never told."""
    file = path.parent / row.key_file
    if not row.key_file or file.is_file():
        return []
    return [
        Fault(str(path), f"the credential of pool {row.pool} is not there", f"Put it into {file}.", column="key_file")
    ]
