"""Move the journals into the database: in batches, each request once, whatever dies in between.

Comes in: the folder of the journals, and a way to open the database. Goes out: rows, and an empty folder. A segment is
taken away only once its rows are committed; what is read twice is written once. While the database is away the journals
grow and nothing else happens. One process drains a folder at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

from offtake.route.ledger.entry import Record
from offtake.route.ledger.folder import DAMAGED, DRAINER, LOCK, lock_if_free, segments
from offtake.route.ledger.frames import frames_in, next_frame, salt_of
from offtake.route.ledger.rows import Entry, add, row_of
from offtake.route.ledger.store import AwayError, Store

READ_BYTES = 1_048_576  #: of a segment at a time: about 3,000 requests, and one transaction
PAUSE_S = 0.2  #: between two looks at the folder
WAIT_S, WAIT_S_MAX = 0.2, 30.0  #: for a database that is away: doubled each time


class Segment:
    """Read one segment as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0  #: bytes whose records are committed
        self.damaged = False  #: something in it was not a record
        self._salt = salt_of(path.name)

    def read(self, *, final: bool) -> tuple[list[Record], int]:
        """Return the next records and where they end; in a ``final`` segment what is torn is passed over."""
        with self.path.open("rb") as file:
            file.seek(self.at)
            data = file.read(READ_BYTES)
            found = list(frames_in(data, self._salt))
            if not found and final:
                data += file.read()  # to find what comes after the damage
                return self._after_damage(data)
        return [frame.record for frame in found], self.at + (found[-1].end if found else 0)

    def remove(self) -> None:
        """Take the segment away, once its rows are committed; one that is damaged is only put aside."""
        if self.damaged:
            self.path.replace(self.path.with_suffix(DAMAGED))
        else:
            self.path.unlink()

    def _after_damage(self, data: bytes) -> tuple[list[Record], int]:
        """Return the records behind what is torn, if there are any; nothing written is thrown away unread."""
        begin = next_frame(data, 0, self._salt)
        self.damaged |= any(data[:begin] if begin >= 0 else data)
        if begin < 0:
            return [], self.at
        found = list(frames_in(data[begin:], self._salt))
        return [frame.record for frame in found], self.at + begin + found[-1].end


class Drainer:
    """Empty one folder of journals into one database."""

    def __init__(self, folder: Path, opener: Callable[[], Store]) -> None:
        self.folder, self.opener = folder, opener
        self.store: Store | None = None
        self.open: dict[Path, Segment] = {}
        self.rows = 0  #: written so far
        self.error = ""  #: why the database cannot be reached; empty if it can

    def drain(self) -> int:
        """Move what the journals hold by now, and return the rows written; 0 if another process drains the folder.

        Raises
        ------
        AwayError
            Where the database cannot be reached; nothing is lost, and it is worth trying again.
        InputError
            Where it is no ledger.
        OSError
            Where the folder cannot be read.
        """
        before = self.rows
        with lock_if_free(self.folder, DRAINER) as free:
            found = segments(self.folder) if free else {}
            there = {path for paths in found.values() for path in paths}
            self.open = {path: segment for path, segment in self.open.items() if path in there}
            for worker, paths in found.items():
                with lock_if_free(self.folder, worker) as dead:
                    self._drain_worker(worker, paths, dead=dead)
        return self.rows - before

    def run(self, stop: Event) -> None:
        """Drain until told to stop, and once more then; wait for a database that is away.

        Raises
        ------
        InputError
            Where the database is no ledger.
        OSError
            Where the folder cannot be read.
        """
        wait_s = WAIT_S
        try:
            while True:
                last = stop.is_set()
                try:
                    self.drain()
                    pause_s, wait_s, self.error = PAUSE_S, WAIT_S, ""
                except AwayError as error:
                    self.error = str(error)
                    self.close()
                    pause_s, wait_s = wait_s, min(2 * wait_s, WAIT_S_MAX)
                if last:
                    return
                stop.wait(pause_s)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the database."""
        if self.store is not None:
            self.store.close()
        self.store = None

    def _drain_worker(self, worker: str, paths: list[Path], *, dead: bool) -> None:
        """Move one worker's records; of a dead one nothing is left behind."""
        if dead:  # it may have written after the folder was read
            paths = segments(self.folder)[worker]
        for path in paths:
            segment = self.open.setdefault(path, Segment(path))
            final = dead or path is not paths[-1]
            while self._move(worker, segment, final=final):
                pass
        if dead:
            self._store().lose(worker)
        for path in paths if dead else paths[:-1]:
            self.open.pop(path).remove()
        if dead:
            (self.folder / f"{worker}{LOCK}").unlink()

    def _move(self, worker: str, segment: Segment, *, final: bool) -> bool:
        """Write the next records of a segment; False if there were none."""
        records, end = segment.read(final=final)
        entries: dict[str, Entry] = {}
        for record in records:
            add(entries, worker, record)
        if entries:
            self._store().write([row_of(entry) for entry in entries.values()])
            self.rows += len(entries)
        segment.at = end
        return bool(entries)

    def _store(self) -> Store:
        """Return the database, opened where it is not."""
        if self.store is None:
            self.store = self.opener()
        return self.store
