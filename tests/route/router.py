"""A whole router as a user starts it: `offtake route RUN --demo` in a process of its own, on the small fleet."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx2 as httpx

from offtake.fleet import Fleet, write_fleet
from tests.rehearse.fleets import small_fleet
from tests.route.setup import tables
from tests.route.waiting import until

KEY = {"authorization": "Bearer ot-demo"}
ASK = {"model": "model", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}


def run_folder(folder: Path, fleet: Fleet | None = None) -> Path:
    """A run folder with a fleet and the tables that it names."""
    run = folder / "run"
    (run / "plan").mkdir(parents=True)
    write_fleet(fleet or small_fleet(), run / "plan" / "fleet.json")
    tables(run)
    return run


def offtake(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "offtake.cli", "route", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class Router:
    """A running router; it is ended with the block."""

    def __init__(self, run: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "offtake.cli", "route", str(run), "--port", "0", "--json", *arguments]
        self.run = run
        self.errors = run / "stderr.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        text = ""
        while not text.endswith("}\n") or text.count("{") != text.count("}"):
            line = self.process.stdout.readline()
            assert line, self.errors.read_text()
            text += line
        self.told: dict[str, Any] = json.loads(text)
        self.address = str(self.told["address"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """End every process at once, as a machine that loses its power does."""
        for pid in [self.process.pid, *self.children()]:  # first the one that would begin workers anew
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=KEY, timeout=10)

    def rows(self, wanted: int) -> list[dict[str, Any]]:
        """The ledger's rows, once there are so many."""

        def there() -> bool:
            found = rows_of(self.run)
            return len(found) >= wanted and all(row["outcome"] != "open" for row in found[:wanted])

        until(there)
        return rows_of(self.run)


def rows_of(run: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(run / "route-demo" / "ledger.db") as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM requests ORDER BY arrival_ns")]
    connection.close()
    return found
