"""Route the traffic that was rehearsed: the same requests, the same fleet, the same policy, through the live router.

`examples/three-contracts` is planned and rehearsed; then `offtake route --demo` serves the rehearsal's own requests
with mock pools, time passing at a quarter of its speed so that two cores suffice. Time to first token, refusals and
spend stand beside the rehearsal's. The mock pools take the mean pace that the policy knows of a pool at its load, where
the rehearsal steps every batch: its prompts hold up the answers beside them, and its replicas are told apart. That is
what the figures differ by.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from benchmarks.harness import Figure, Skipped
from offtake.fleet import read_fleet, write_fleet
from offtake.units import MS_PER_S, NS_PER_S

ROOT = Path(__file__).resolve().parent.parent
SPEED = 0.25
HOURS = 0.008
HOUR = "37"  # of the week: Tuesday afternoon in Europe
BYTES_PER_TOKEN = 4
PERCENTILES = (50, 95)
OK = 200


class Answered(NamedTuple):
    """Hold how one request went: status 0 if it failed, seconds of the fleet's own time."""

    status: int
    ttft_s: float
    events: int


def offtake(*arguments: str) -> None:
    """Run one verb to its end."""
    subprocess.run([sys.executable, "-m", "offtake.cli", *arguments], check=True, capture_output=True, cwd=ROOT)


def rehearsed(run: Path) -> pl.DataFrame:
    """Plan, and rehearse with all users in the router's own region; return what became of each request."""
    offtake("plan", "examples/three-contracts", "--out", str(run), "--trust", "none")
    path = run / "plan" / "fleet.json"
    fleet = read_fleet(path)
    only = [1.0] + [0.0] * (len(fleet.regions) - 1)
    here = [msgspec.structs.replace(workload, region_share=only) for workload in fleet.workloads]
    write_fleet(msgspec.structs.replace(fleet, workloads=here), path)
    offtake("rehearse", str(run), "--hours", str(HOURS), "--from-hour", HOUR, "--thin", "1")
    return pl.read_parquet(run / "rehearse" / "outcome.parquet")


async def ask(address: tuple[str, int], row: dict[str, Any], begun_s: float) -> Answered:
    """Send one request when it is due, and read its stream to the end."""
    due_s = begun_s + row["arrival_ns"] / NS_PER_S / SPEED
    await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
    words = "word" * max(1, row["input_tokens"] - 4)
    body = json.dumps(
        {
            "model": "assistant",
            "messages": [{"role": "user", "content": words}],
            "stream": True,
            "min_tokens": row["output_tokens"],
        }
    )
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ot-demo\r\n"
    head += f"x-offtake-workload: {row['workload']}\r\n"
    sent_s = time.perf_counter()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    status = int((await reader.readline()).split()[1])
    while await reader.readline() != b"\r\n":
        pass
    events, first_s = 0, 0.0
    while data := await reader.readline():
        if data.startswith(b"data: {"):
            events += 1
            first_s = first_s or time.perf_counter() - sent_s
    writer.close()
    return Answered(status, first_s * SPEED, events)


def routed(run: Path, rows: list[dict[str, Any]]) -> tuple[list[Answered], pl.DataFrame]:
    """Serve the requests with the live router; return what the clients saw, and the ledger."""
    command = [sys.executable, "-m", "offtake.cli", "route", str(run), "--demo", "--speed", str(SPEED), "--hour", HOUR]
    with subprocess.Popen(
        [*command, "--port", "0", "--workers", "1", "--json"], stdout=subprocess.PIPE, text=True
    ) as router:
        assert router.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            told += router.stdout.readline()
        port = int(json.loads(told)["address"].rpartition(":")[2])

        async def all_of_them() -> list[Answered]:
            begun_s = time.perf_counter() + 0.5
            return await asyncio.gather(*(ask(("127.0.0.1", port), row, begun_s) for row in rows))

        found = asyncio.run(all_of_them())
        router.send_signal(signal.SIGTERM)
        assert router.wait(60) == 0
    return found, ledger_of(run)


def ledger_of(run: Path) -> pl.DataFrame:
    """Return the requests that the ledger holds."""
    import sqlite3  # noqa: PLC0415  # only here

    with sqlite3.connect(run / "route-demo" / "ledger.db") as connection:
        cursor = connection.execute(
            "SELECT request_id, workload, outcome, pool, cost_usd, input_tokens, output_tokens FROM requests"
        )
        rows = cursor.fetchall()
    connection.close()
    names = ["request_id", "workload", "outcome", "pool", "cost_usd", "input_tokens", "output_tokens"]
    return pl.DataFrame(rows, schema=names, orient="row")


def run() -> list[Figure]:
    """Return live beside rehearsed."""
    if not hasattr(os, "fork"):
        raise Skipped("the router's workers are forked")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        outcome = rehearsed(where)
        rows = outcome.select("arrival_ns", "workload", "input_tokens", "output_tokens").to_dicts()
        found, ledger = routed(where, rows)
    assert len(ledger) == len(rows), "every request is in the ledger once"
    served = [one for one in found if one.status == OK]
    assert sum(one.events for one in served) >= sum(
        row["output_tokens"] for row, one in zip(rows, found, strict=True) if one.status == OK
    )
    figures = [Figure("requests", len(rows), "")]
    ttft_ms = np.array([one.ttft_s for one in served]) * MS_PER_S
    told_ms = outcome.filter(pl.col("status") == "served")["ttft_ms"].to_numpy()
    for percentile in PERCENTILES:
        figures.append(Figure(f"TTFT p{percentile}, live", float(np.percentile(ttft_ms, percentile)), "ms"))
        figures.append(Figure(f"TTFT p{percentile}, rehearsed", float(np.percentile(told_ms, percentile)), "ms"))
    refused = 1.0 - len(served) / len(found)
    figures.append(Figure("refused, live", refused, "of all"))
    figures.append(Figure("refused, rehearsed", float(np.mean(outcome["status"].to_numpy() != "served")), "of all"))
    figures.append(Figure("spend because of use, live", float(ledger["cost_usd"].sum()), "USD"))
    figures.append(
        Figure(
            "spend because of use, rehearsed",
            float((outcome["cost_usd"] - outcome["held_usd"]).to_numpy().sum()),
            "USD",
        )
    )
    for name in sorted(set(ledger["pool"])):
        figures.append(Figure(f"share at {name}, live", float(np.mean(ledger["pool"].to_numpy() == name)), "of all"))
        figures.append(
            Figure(
                f"share at {name}, rehearsed",
                float(np.mean(outcome["pool"].cast(pl.String).to_numpy() == name)),
                "of all",
            )
        )
    return figures
