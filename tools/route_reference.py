"""Write the reference page of the router: its files, its headers, why it refuses, its ledger and its metrics.

Comes in: the records that read the router's files, and its source. Goes out: Markdown text, the same bytes each time.
A header or a reason that the source has and nobody described stops the generator, as one does that is described and
no longer there. It must never start a router.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tools.reference import (
    MADE,
    ROOT,
    SOURCE,
    body_of,
    field_notes,
    opening,
    parsed,
    prose,
    structs_in,
    table,
    type_words,
    unit_of,
)

ROUTE = SOURCE / "route"
#: What a client may see in the head of an answer.
HEADERS = {
    "x-request-id": "Name of the request, in the OpenAI dialect; the ledger's `request_id`.",
    "request-id": "The same, in the Anthropic dialect.",
    "x-offtake-pool": "Pool and upstream that answered; `#2` is the second upstream of a pool.",
    "x-offtake-model": "Model that answered, as its upstream calls it.",
    "x-offtake-reason": "Why it was not served: see Reasons.",
    "x-offtake-dropped": "Hints that the upstream's dialect has no words for; they change no word of an answer.",
    "x-offtake-counted": "An answer of the router itself, which is an estimate.",
    "retry-after": "Seconds after which asking again helps.",
    "retry-after-ms": "The same in milliseconds, which the OpenAI client reads.",
    "x-should-retry": "`false`: asking again does not help.",
}
#: What a client may say about its request.
ASKING_HEADERS = {
    "authorization": "`Bearer KEY`.",
    "x-api-key": "KEY, as Anthropic's clients send it.",
    "anthropic-version": "Tells `/v1/models` in which dialect to answer.",
    "traceparent": "Span of the client, below which the router's lies where spans are sent.",
    "x-offtake-workload": "Workload that it belongs to, where the key has several with that model; else the first one.",
}
INSIDE = {"x-offtake-parent"}  #: never goes anywhere
#: Reasons of the router's own, beside those of the policy, of limits and of failures.
REASONS = {
    "busy": "Every upstream that was tried says that it is busy.",
    "credential": "The upstream refuses the router's own credential.",
    "estimate": "It was served: the router counted the tokens, as no upstream of the caller's dialect could.",
    "faulty": "It cannot be served as it is, or not in the dialect that its pools speak.",
    "gone": "A new fleet was taken over that has no such workload any more.",
    "ledger": "It could not be written down, so it was not sent.",
    "upstream": "The upstream answered with an error of its own.",
}
LIMITS = {
    "requests_per_minute": "The tenant's requests of a minute are used up.",
    "tokens_per_minute": "Its tokens of a minute are.",
    "usd_per_day": "Its money of a day (UTC) is.",
}
PAGES = {
    "/v1/models": "Models that the key may ask for; `/v1/models/NAME` tells of one.",
    "/healthz": "200 while the process lives.",
    "/readyz": "200 while it takes requests, else 503 with the reasons.",
    "/live": "A page that shows pools, queues, prices, service levels, refusals, spend and contracts as they change.",
    "/live/events": "Its events, as JSON.",
    "/metrics": "OpenMetrics.",
}
OWN_COLUMNS = {
    "worker": "Process that wrote it.",
    "day": "Of the arrival, days since 1970.",
}


def pages() -> dict[Path, str]:
    """Make the page of this module."""
    return {ROOT / "docs" / "reference" / "route.md": route()}


def route() -> str:
    """Make the page of the router."""
    return f"{files()}{paths()}{headers()}{outcomes()}{reasons()}{ledger()}{metrics()}"


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def files() -> str:
    """Describe what the operator writes."""
    from offtake.route import config, keys  # noqa: PLC0415  # the rest of the tools work before the package does

    hints = typing.get_type_hints(config.ConfigFile)
    tables = [
        (f"[[{name}]]" if typing.get_origin(hint) is list else f"[{name}]", record)
        for name, hint in hints.items()
        for record in structs_in(hint)
    ]
    head = (
        f"# The router\n\n{MADE}\nHow it works: [how Offtake routes](../how-it-routes.md). How it is put to work: "
        "[go live](../go-live.md).\n\n## `route.toml`\n\n`offtake route RUN --init` writes one with every pool, "
        "`--check` tells every fault. Names of files and folders in it are taken from the folder in which it lies. "
        "What is left out has its default.\n\n"
    )
    parts = [head, settings(config.ConfigFile)]
    parts += [f"\n### `{name}`\n\n{about(record)}\n\n{settings(record)}" for name, record in tables]
    parts.append(
        "\n## `keys.toml`\n\n`offtake route RUN --new-key TENANT` adds a key, shows it once and keeps its hash.\n\n"
        f"### `[[key]]`\n\n{about(keys.KeyRow)}\n\n{settings(keys.KeyRow)}"
    )
    return "".join(parts)


def about(record: type[msgspec.Struct]) -> str:
    """Say what a table is for."""
    return opening(record.__doc__)


def settings(record: type[msgspec.Struct]) -> str:
    """Table the fields of a record that is read from a file, with their defaults."""
    notes, hints = field_notes(record), typing.get_type_hints(record)
    rows = []
    for field in msgspec.structs.fields(record):
        name, hint = field.name, hints[field.name]
        rows.append([f"`{name}`", kind_words(hint), unit_of(name, hint), default(field), prose(notes[name])])
    return table(["field", "type", "unit", "default", "meaning"], rows)


def kind_words(hint: Any) -> str:  # noqa: ANN401  # any annotation
    """Say what may be written for a field."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(hint))
    structs = [
        one for one in (hint, *typing.get_args(hint)) if isinstance(one, type) and issubclass(one, msgspec.Struct)
    ]
    return "tables" if structs and typing.get_origin(hint) is list else "table" if structs else type_words(hint)


def default(field: msgspec.structs.FieldInfo) -> str:
    """Say what counts where a field is left out."""
    if field.required:
        return "**required**"
    value = field.default if field.default is not msgspec.NODEFAULT else None
    if isinstance(value, bool):
        return f"`{value}`".lower()
    return f"`{value}`" if value not in {None, ""} and not isinstance(value, msgspec.Struct) else ""


# ── what is asked and answered ───────────────────────────────────────────────────────────────────────────────────────
def paths() -> str:
    """Table what may be asked for."""
    from offtake.route.dialects.asked import CALLS  # noqa: PLC0415  # the rest of the tools work before the package does

    there = {path for name in ("pages", "operating") for path in re.findall(r"b\"(/\S+)\": ", source_of(name))}
    complete("pages", set(PAGES) - {"/v1/models"}, there)
    rows = [[f"`POST {path.decode()}`", f"`{call.name.lower()}` in the ledger"] for path, call in CALLS.items()]
    rows += [[f"`GET {path}`", meaning] for path, meaning in PAGES.items()]
    return (
        f"\n## Paths\n\n{table(['path', 'meaning'], rows)}\n*The gate.* `/live` and `/metrics` tell of all "
        "tenants. They open to a key with `operate = true`, sent as a client sends it or as the password that a "
        "browser asks for. While no key has it, they open at a loopback address only.\n"
    )


def headers() -> str:
    """Table the headers of requests and answers that are the router's."""
    text = source()
    said = set(re.findall(r"x-offtake-\w+", text))
    known = HEADERS | ASKING_HEADERS
    complete("headers", {name for name in known if name.startswith("x-offtake-")}, said - INSIDE)
    complete("headers", {name for name in known if name in text}, set(known))
    asked, answered = (
        table(["header", "meaning"], [[f"`{name}`", meaning] for name, meaning in each.items()])
        for each in (ASKING_HEADERS, HEADERS)
    )
    return (
        f"\n## Headers\n\nOf a request:\n\n{asked}\nOther headers of a request go on to the upstream, but for those of "
        f"its connection, its credentials and those that only a proxy may say. Of an answer:\n\n{answered}"
    )


def outcomes() -> str:
    """Table how a request may end."""
    rows = commented("Outcome", {"SERVED": "answered to the end"})
    return f"\n## Outcomes\n\n{table(['outcome', 'meaning'], rows)}"


def reasons() -> str:
    """Table why a request was not served."""
    from offtake.policy.view import Reason  # noqa: PLC0415  # the rest of the tools work before the package does
    from offtake.route.desk import REFUSALS  # noqa: PLC0415  # the same

    said = set(re.findall(r"reason=\"(\w+)\"|or \"(\w+)\"\n|work\.reason = OK, \"(\w+)\"", source_of("desk")))
    complete("reasons", set(REASONS), {word for words in said for word in words if word})
    own = [[f"`{name}`", meaning] for name, meaning in (REASONS | LIMITS).items()]
    policy = [[f"`{Reason(reason).name.lower()}`", f"{status}: {text}"] for reason, (status, text) in REFUSALS.items()]
    plain = {
        "CONNECT_TIME": "no connection in time",
        "TOTAL_TIME": "it was not whole in time",
        "TOO_LARGE": "its answer was too large",
    }
    failures = commented("Failure", plain, without=("STATUS",))
    return (
        "\n## Reasons\n\nIn the ledger's `reason` and in `x-offtake-reason`. By the policy "
        f"([policies](policy.md)), with the status that a client sees:\n\n{table(['reason', 'meaning'], policy)}\n"
        f"By the router:\n\n{table(['reason', 'meaning'], own)}\nBy the last attempt, where all failed:\n\n"
        f"{table(['reason', 'meaning'], failures)}"
    )


def commented(name: str, plain: dict[str, str], without: Iterable[str] = ()) -> list[list[str]]:
    """Table the members of an enumeration of the seams, each with the comment behind it."""
    path = "route/seams.py"
    lines = (SOURCE / path).read_text("utf-8").splitlines()
    rows = []
    for node in body_of(parsed(path), name):
        member, _, comment = lines[node.lineno - 1].strip().partition("  # ")
        word = member.partition(" = ")[0]
        if word.isupper() and word not in without:
            rows.append([f"`{word.lower()}`", comment or plain[word]])
    return rows


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────
def ledger() -> str:
    """Table the columns of the ledger."""
    from offtake.route.ledger import rows  # noqa: PLC0415  # the rest of the tools work before the package does
    from offtake.route.ledger.entry import Closed, Opened  # noqa: PLC0415  # the same

    begin, end = field_notes(Opened), field_notes(Closed)
    notes = OWN_COLUMNS | begin | end | {rows.ESTIMATE: begin["input_tokens"]}
    cells = [
        [f"`{name}`", type_words(kind), ledger_unit(name, kind), prose(notes[name])]
        for name, kind in rows.KINDS.items()
    ]
    return (
        "\n## The ledger\n\nTable `requests`, one row for each request that was let in, by `request_id`. Times count "
        "from 1970, UTC. What was asked and answered is never in it.\n\n"
        f"{table(['column', 'type', 'unit', 'meaning'], cells)}"
    )


def ledger_unit(name: str, kind: type) -> str:
    """Read a unit off a column's name."""
    return "" if name == "day" else unit_of(name, kind)


def metrics() -> str:
    """Table the metrics."""
    from offtake.route.families import FAMILIES  # noqa: PLC0415  # the rest of the tools work before the package does

    cells = [
        [
            f"`{family.name}{'_total' if family.kind == 'counter' else ''}`",
            family.kind,
            ", ".join(f"`{label}`" for label in family.labels),
            family.help,
        ]
        for family in FAMILIES.values()
    ]
    return (
        "\n## Metrics\n\nAt `/metrics`, over all workers of a host; `examples/route/grafana.json` draws them.\n\n"
        f"{table(['metric', 'kind', 'labels', 'meaning'], cells)}"
    )


# ── reading source ───────────────────────────────────────────────────────────────────────────────────────────────────
def source() -> str:
    """Give the source of the router, whole."""
    return "".join(path.read_text("utf-8") for path in sorted(ROUTE.rglob("*.py")))


def source_of(name: str) -> str:
    """Give the source of one module."""
    return (ROUTE / f"{name}.py").read_text("utf-8")


def complete(what: str, described: set[str], there: set[str]) -> None:
    """Stop where something is there and not described, or described and not there."""
    if described != there:
        raise ValueError(f"{what} of the router: {', '.join(sorted(described ^ there))}")
