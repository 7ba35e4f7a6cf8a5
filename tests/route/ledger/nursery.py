"""Bear processes that write journals or drain them, and kill them at random moments.

``nursery.py write FOLDER SEED ROUNDS`` prints each acknowledged record, as `ROUND-NUMBER open` or `ROUND-NUMBER shut`.
``nursery.py drain FOLDER SEED ROUNDS`` prints nothing; a writer that lives goes on writing 10 requests each round.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from threading import Event

import numpy as np

from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.journal import Journal, Rules
from offtake.route.ledger.sqlite import SqliteStore
from tests.route.ledger.records import closed, opened

SMALL = Rules(segment_bytes=8_192, room_bytes=4_096)
OPEN_AT_ONCE = 5


def write(folder: Path, name: str, into: int) -> None:
    """Open and close requests for ever, five of them open at any time."""
    journal = Journal(folder / "journal", f"worker{name}", SMALL)
    number = 0
    while True:
        assert journal.opened(opened(f"{name}-{number}", number))
        os.write(into, f"{name}-{number} open\n".encode())
        if number >= OPEN_AT_ONCE:
            done = number - OPEN_AT_ONCE
            assert journal.closed(closed(f"{name}-{done}", output_tokens=done))
            os.write(into, f"{name}-{done} shut\n".encode())
        number += 1


def kill_writers(folder: Path, seed: int, rounds: int) -> None:
    """Kill writers after so many acknowledged records, and a little more."""
    rng = np.random.default_rng(seed)
    for name in range(rounds):
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            write(folder, str(name), into)
        os.close(into)
        wanted = int(rng.integers(1, 4_000))
        told = b""
        while len(told) < wanted:
            told += os.read(out, wanted - len(told))
        for _ in range(int(rng.integers(0, 3_000))):
            pass
        os.kill(child, signal.SIGKILL)
        while more := os.read(out, 65_536):
            told += more
        os.waitpid(child, 0)
        os.close(out)
        sys.stdout.write(told.decode())
        sys.stdout.flush()


def kill_drainers(folder: Path, seed: int, rounds: int) -> None:
    """Kill drainers after a random time, while a writer goes on."""
    rng = np.random.default_rng(seed)
    journal = Journal(folder / "journal", "alive", SMALL)
    for name in range(rounds):
        child = os.fork()
        if child == 0:
            Drainer(folder / "journal", lambda: SqliteStore(folder / "ledger.db")).run(Event())
        for number in range(10 * name, 10 * name + 10):
            assert journal.opened(opened(f"live-{number}", number))
            assert journal.closed(closed(f"live-{number}", output_tokens=number))
        select.select([], [], [], float(rng.uniform(0.0, 0.03)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os._exit(0)  # it dies as it lived: nothing is tidied


if __name__ == "__main__":
    work = {"write": kill_writers, "drain": kill_drainers}[sys.argv[1]]
    work(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
