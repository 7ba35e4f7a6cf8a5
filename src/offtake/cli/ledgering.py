"""Offer the verb that reads what the router wrote down: who asked, what it cost, and what contracts are used up.

Comes in: a run folder. Goes out: tables, a trace, measured performance. Rooms are imported inside the verb.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offtake.cli.shell import AsJson, RunFolder, app, emit, show
from offtake.errors import Fault, InputError
from offtake.units import NS_PER_DAY, NS_PER_S

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from offtake.fleet import Fleet
    from offtake.report.notices import Notice
    from offtake.route.config import Ledger
    from offtake.route.ledger.burn import Burn
    from offtake.route.ledger.export import Exported
    from offtake.route.ledger.span import Span
    from offtake.route.ledger.store import Store
    from offtake.route.ledger.sums import Sum

BY = ("outcome", "tenant", "workload", "pool")


@app.command()
def ledger(
    run: RunFolder,
    since: Annotated[str, typer.Option(help="First day or time (UTC), such as 2026-06-01 or 2026-06-01T12:00.")] = "",
    until: Annotated[str, typer.Option(help="Day or time (UTC) at which to stop.")] = "",
    export: Annotated[
        Path | None, typer.Option(help="Write what was asked for as a trace: Parquet, or CSV by its name.")
    ] = None,
    performance: Annotated[
        Path | None, typer.Option(help="Write what was measured, for `offtake performance fit`: CSV, or Parquet.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The router's file; RUN/route.toml by default.")] = None,
    url: Annotated[str, typer.Option(help="Where the ledger is; as in the router's file by default.")] = "",
    sweep: Annotated[bool, typer.Option("--sweep", help="First drop what is older than `ledger.keep_days`.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add up the ledger: requests, outcomes, tokens and spend, what contracts are used up, and notice dates.

    What a router that died left in its journals is taken in first. Use against contracts is that of the week of the
    last request, or of --since and --until; a time that has not come yet does not count.
    """
    from offtake.route.config import read_ledger
    from offtake.route.ledger.sums import sums

    now_ns = time.time_ns()
    span = span_of(since, until)
    file = config or run / "route.toml"
    where = read_ledger(file)
    store = reached(file.parent, where, url)
    try:
        swept = store.sweep(now_ns // NS_PER_DAY - where.keep_days) if sweep else 0
        trace, measured = exported(store, span, export, performance)
        found = {key: sums(store, key, span) for key in BY}
        burns = burnt(store, run, span, now_ns)
    finally:
        store.close()
    notices = noticed(run, datetime.fromtimestamp(now_ns / NS_PER_S, UTC).date())
    if as_json:
        emit("ledger", sums=found, contracts=burns, notices=notices, trace=trace, measured=measured, swept=swept)
        return
    show(*told(found, burns, notices), *files_told(export, trace, performance, measured))


def span_of(since: str, until: str) -> Span:
    """Read both ends of a span; what is not said is without end."""
    from offtake.route.ledger.span import EVER_NS, Span

    faults: list[Fault] = []
    begin, end = (time_of(text, flag, faults) for flag, text in (("--since", since), ("--until", until)))
    if faults:
        raise InputError(faults)
    return Span(begin or 0, EVER_NS if end is None else end)


def time_of(text: str, flag: str, faults: list[Fault]) -> int | None:
    """Return a time, ns since 1970; a faulty one is remembered."""
    if not text:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        faults.append(Fault(flag, "is no time", "Write 2026-06-01 or 2026-06-01T12:00, UTC.", value=text))
        return None
    return round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()) * NS_PER_S


def reached(folder: Path, where: Ledger, url: str) -> Store:
    """Open the ledger of a router whose file is in ``folder``, with what is still in its journals."""
    from offtake.route.ledger.drain import Drainer
    from offtake.route.ledger.folder import segments
    from offtake.route.ledger.opening import SQLITE, open_store

    address, journal = url or where.url, folder / where.journal
    written = bool(segments(journal))
    if address.startswith(SQLITE) and not (folder / address.removeprefix(SQLITE)).is_file() and not written:
        mend = "Route something first with `offtake route`, or give the run folder of a router."
        raise InputError([Fault(str(folder), "the folder holds no ledger", mend)])
    if written:
        drainer = Drainer(journal, lambda: open_store(address, folder))
        try:
            drainer.drain()
        finally:
            drainer.close()
    return open_store(address, folder)


def exported(
    store: Store, span: Span, trace: Path | None, measured: Path | None
) -> tuple[Exported | None, Exported | None]:
    """Write the files that were asked for."""
    from offtake.route.ledger.export import export_performance, export_trace

    return (
        export_trace(store, trace, span) if trace is not None else None,
        export_performance(store, measured, span) if measured is not None else None,
    )


def burnt(store: Store, run: Path, span: Span, now_ns: int) -> list[Burn]:
    """Return how far contracts are used; nothing where there is no fleet or no request."""
    from offtake.route.ledger.burn import burn_down
    from offtake.route.ledger.span import WEEK_NS, Span, monday_ns
    from offtake.route.ledger.sums import last_arrival_ns, uses

    last_ns, fleet = last_arrival_ns(store, span), fleet_of(run)
    if last_ns is None or fleet is None:
        return []
    begin_ns = span.since_ns or monday_ns(last_ns)
    end_ns = min(span.until_ns, now_ns if span.since_ns else begin_ns + WEEK_NS, now_ns)
    week = Span(begin_ns, max(end_ns, last_ns + 1))
    return burn_down(fleet, uses(store, week), week)


def fleet_of(run: Path) -> Fleet | None:
    """Return the fleet that was routed under, if it lies in the run folder."""
    from offtake.fleet import read_fleet

    path = next((path for path in (run / "fleet.json", run / "plan" / "fleet.json") if path.is_file()), None)
    return None if path is None else read_fleet(path)


def noticed(run: Path, today: date) -> list[Notice]:
    """Return when contracts can be left; nothing where there is no plan."""
    from offtake.report.notices import read_notices

    return read_notices(run, today) if (run / "plan" / "plan.json").is_file() else []


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────
def told(found: dict[str, list[Sum]], burns: list[Burn], notices: list[Notice]) -> list[RenderableType]:
    """Return the tables of a ledger."""
    from offtake.report.terminal import answered
    from offtake.report.words import count, money, plural

    requests = sum(each.requests for each in found["outcome"])
    served = sum(each.served for each in found["outcome"])
    spent = sum(each.cost_usd for each in found["outcome"])
    title = f"{plural(requests, 'request')}, {count(served)} served, {money(spent)} paid by use."
    shown: list[RenderableType] = [answered(title, sums_table(found))]
    if burns:
        shown += ["", burns_table(burns)]
    ending = [each for each in notices if each.out_from or each.term_over]
    if ending:
        shown += ["", notices_table(ending)]
    return shown


def sums_table(found: dict[str, list[Sum]]) -> Table:
    """Table requests, tokens and spend by each key."""
    from rich.text import Text

    from offtake.report.terminal import table
    from offtake.report.words import NOTHING, count, money, tally

    figures = ("Requests", "Served", "Prompts", "Answers", "Cached", "Counted", "Spend")
    made = table([("By", False), ("", False), *((name, True) for name in figures)])
    for key, rows in found.items():
        for place, each in enumerate(rows):
            cells = [
                key if place == 0 else "",
                each.name or NOTHING,
                count(each.requests),
                count(each.served),
                *(tally(tokens) for tokens in (each.input_tokens, each.output_tokens, each.cached_tokens)),
                count(each.counted),
                money(each.cost_usd),
            ]
            made.add_row(*map(Text, cells))
        made.add_section()
    return made


def burns_table(burns: list[Burn]) -> Table:
    """Table how far each contract is used."""
    from rich.text import Text

    from offtake.report.terminal import settled, table
    from offtake.report.words import NOTHING, money, number, short, tally

    figures = ("Hours", "Chip-h\nthere", "At work", "Tokens", "Of the\nplan", "Paid\nanyway", "Paid\nby use")
    made = table([("Contract", False), *((name, True) for name in figures)])
    for each in burns:
        cells = [
            each.contract,
            number(each.hours),
            tally(each.chip_hours_there) if each.chip_hours_there else NOTHING,
            short(each.used_share) if each.chip_hours_there else NOTHING,
            tally(each.tokens),
            short(each.planned_share) if each.tokens_planned else NOTHING,
            money(each.fee_usd),
            money(each.use_usd),
        ]
        made.add_row(*map(Text, cells))
    return settled(made)


def notices_table(notices: list[Notice]) -> Table:
    """Table when contracts can be left."""
    from rich.text import Text

    from offtake.report.terminal import settled, table
    from offtake.report.words import NOTHING, count

    made = table([("Contract", False), ("Kept until", False), ("Out from", False), ("Term over", False)])
    made.add_column(Text("Notice by"), header_style="dim")
    made.add_column(Text("Days left"), justify="right", header_style="dim")
    for each in notices:
        days = NOTHING if each.days_left is None else count(each.days_left)
        cells = [each.contract, each.kept_until, each.out_from, each.term_over, each.notice_by]
        made.add_row(*(Text(cell or NOTHING) for cell in cells), Text(days))
    return settled(made)


def files_told(
    trace: Path | None, asked: Exported | None, measured: Path | None, clear: Exported | None
) -> list[RenderableType]:
    """Say what was written."""
    from offtake.report.words import count, plural

    lines: list[RenderableType] = []
    if asked is not None:
        filled = f"; {plural(asked.filled, 'answer')} filled in, by workload" if asked.filled else ""
        left = f"; {count(asked.left_out)} left out" if asked.left_out else ""
        hour = f"{asked.from_hour:.2f}".rstrip("0").rstrip(".")
        lines += ["", f"Trace: {trace}: {plural(asked.requests, 'request')}{filled}{left}. It begins at hour {hour}."]
    if clear is not None:
        left = f"; {count(clear.left_out)} left out (not streamed, or tried again)" if clear.left_out else ""
        lines += ["", f"Measured: {measured}: {plural(clear.requests, 'request')}{left}."]
    return lines
