"""Time the ledger: what a request's two records take of a worker, and how quickly journals become rows.

The records are of the usual length; the journal lies on the machine's disk. Rows go into a new SQLite file, about 4,000
in each transaction. With ``durable = "power"`` the end of a request waits for the disk, so its time is the clock's.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks.harness import Figure
from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.entry import Closed, Opened
from offtake.route.ledger.journal import USUAL, Journal
from offtake.route.ledger.sqlite import SqliteStore

PAIRS, SURE_PAIRS, TURNS = 50_000, 200, 3
BEGUN_NS, SPACING_NS, ANSWER_NS = 1_780_000_000_000_000_000, 300_000, 2_000_000_000


def pairs(count: int) -> list[tuple[Opened, Closed]]:
    """Return the two records of many requests."""
    return [pair(f"req_0123456789abcdef{number:08x}", BEGUN_NS + SPACING_NS * number) for number in range(count)]


def pair(name: str, at_ns: int) -> tuple[Opened, Closed]:
    """Return the two records of one request."""
    opened = Opened(
        request_id=name,
        arrival_ns=at_ns,
        tenant="acme",
        key="main",
        workload="chat-us",
        call="chat",
        model_asked="frontier",
        region="us",
        stream=True,
        session=-1,
        input_tokens=1_100,
        output_tokens_max=4_096,
    )
    closed = Closed(
        request_id=name,
        end_ns=at_ns + ANSWER_NS,
        first_ns=at_ns + ANSWER_NS // 10,
        outcome="served",
        reason="",
        status=200,
        pool="east/h100/frontier",
        upstream="east/h100/frontier#0",
        contract="lease-2026",
        model="frontier",
        attempts=1,
        input_tokens=1_155,
        output_tokens=211,
        cached_tokens=0,
        counted=False,
        cost_usd=0.0,
        bid_usd=0.0004,
        margin_usd=0.01,
        policy="bid_price",
    )
    return opened, closed


def written(journal: Journal, records: list[tuple[Opened, Closed]]) -> None:
    """Write the records of all requests."""
    kept = sum(journal.opened(opened) and journal.closed(closed) for opened, closed in records)
    assert kept == len(records), "every record is kept"


def turn(folder: Path, records: list[tuple[Opened, Closed]]) -> tuple[float, float, float, float]:
    """Return the CPU seconds of writing, those of draining, its seconds by the clock, and the bytes of the journal."""
    journal = Journal(folder / "journal", "worker")
    begin = process_time()
    written(journal, records)
    write_s = process_time() - begin
    journal.close()
    size = sum(path.stat().st_size for path in (folder / "journal").glob("*.log"))
    drainer = Drainer(folder / "journal", lambda: SqliteStore(folder / "ledger.db"))
    begin, clock = process_time(), perf_counter()
    rows = drainer.drain()
    drain_s, wall_s = process_time() - begin, perf_counter() - clock
    drainer.close()
    assert rows >= len(records), "every request has its row"
    return write_s, drain_s, wall_s, float(size)


def sure_s(folder: Path) -> float:
    """Return the seconds of one request where its end waits for the disk."""
    journal = Journal(folder, "sure", USUAL._replace(power=True))
    records = pairs(SURE_PAIRS)
    begin = perf_counter()
    written(journal, records)
    spent_s = perf_counter() - begin
    journal.close()
    return spent_s / SURE_PAIRS


def run() -> list[Figure]:
    """Return what the ledger takes of a worker, and what its drainer can do."""
    records, turns = pairs(PAIRS), []
    for _ in range(TURNS):
        with TemporaryDirectory() as folder:
            turns.append(turn(Path(folder), records))
    write_s, drain_s, wall_s, size = (min(column) for column in zip(*turns, strict=True))
    with TemporaryDirectory() as folder:
        sure = sure_s(Path(folder))
    return [
        Figure("both records of a request, CPU", write_s / PAIRS * 1e6, "µs"),
        Figure("bytes of the journal for each request", size / PAIRS, "bytes"),
        Figure("rows into SQLite for each CPU second", PAIRS / drain_s, "rows/s", at_least=True),
        Figure("rows into SQLite for each second", PAIRS / wall_s, "rows/s", at_least=True),
        Figure("a request whose end waits for the disk (`power`)", sure * 1e3, "ms"),
    ]
