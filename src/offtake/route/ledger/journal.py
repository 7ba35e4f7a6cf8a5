"""Write down what happens to requests where the router's death cannot undo it.

Comes in: records, in the order in which they happened. Goes out: True once a record is kept, False if it cannot be; a
later record may succeed. Each worker has a journal of its own, in segments. A record is one write into a file whose
room was taken beforehand: when the disk is full, new requests are refused, while those that are open can still be
closed. This module must never wait for a database.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from offtake.errors import Fault, InputError
from offtake.route.ledger.entry import Closed, Opened, Record
from offtake.route.ledger.folder import new_lock, segment_name
from offtake.route.ledger.frames import frame_of, salt_of
from offtake.units import NS_PER_S, S_PER_MINUTE

CLOSED_BYTES = 1_024  #: room kept for the end of each open request (assumption: names of pools and offers are shorter)


class Rules(NamedTuple):
    """Say how a journal is cut, and how sure a record must be.

    With ``power`` the end of a request is kept only when the disk says so; it costs one ``fdatasync`` for each.
    """

    power: bool = False
    segment_bytes: int = 16_777_216
    segment_ns: int = S_PER_MINUTE * NS_PER_S
    room_bytes: int = 1_048_576  #: taken at a time


USUAL = Rules()


class Journal:
    """Keep the records of one worker; ``worker`` must be a name that was never used before (``clock.fresh_name``)."""

    def __init__(self, folder: Path, worker: str, rules: Rules = USUAL) -> None:
        self.folder, self.worker, self.rules = folder, worker, rules
        self.open = 0  #: requests whose end is still to come
        self.error = ""  #: why a request could not be kept; empty once one can
        self._file, self._number, self._salt = -1, 0, 0
        self._at = self._room = 0
        self._since_ns = 0
        self._lock = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = new_lock(folder, worker)
            self._rotate(CLOSED_BYTES)
        except OSError as error:
            self.close()
            mend = "Check the folder, its rights and the room on the disk, or name another as `ledger.journal`."
            raise InputError([Fault(str(folder), f"the journal cannot be written: {error.strerror}", mend)]) from None

    def opened(self, record: Opened) -> bool:
        """Keep a record before its request is sent; False if it, or the request's end, could not be kept."""
        if record.arrival_ns - self._since_ns > self.rules.segment_ns:
            self._since_ns = record.arrival_ns
            self._cut()
        kept = self._write(record, (self.open + 1) * CLOSED_BYTES)
        self.open += kept
        return kept

    def closed(self, record: Closed) -> bool:
        """Keep a record before the last bytes are passed on; False if it cannot be kept."""
        self.open = max(self.open - 1, 0)
        return self._write(record, 0) and (not self.rules.power or self._sync())

    def trouble(self) -> str:
        """Say why nothing can be written, or nothing; what failed before is tried again first."""
        if self.error:
            spare = (self.open + 1) * CLOSED_BYTES
            try:
                if self._at + CLOSED_BYTES + spare > self._room:
                    self._grow(CLOSED_BYTES, spare)
                self.error = ""
            except OSError as error:
                self.error = error.strerror or str(error)
        return self.error

    def close(self) -> None:
        """Write no more; whoever empties the folder may take the segments for finished."""
        for held in (self._file, self._lock):
            if held >= 0:
                os.close(held)
        self._file = self._lock = -1

    def _write(self, record: Record, spare: int) -> bool:
        """Write a record, if so much room is left behind it."""
        data = frame_of(record, self._salt)
        try:
            if self._at + len(data) + spare > self._room:
                self._grow(len(data), spare)
                data = frame_of(record, self._salt)
            written = os.pwrite(self._file, data, self._at)
        except OSError as error:
            self.error = error.strerror or str(error)
            return False
        if written != len(data):  # the next record is written over it
            self.error = f"{written} of {len(data)} bytes could be written"
            return False
        self._at += written
        if spare:  # an end that can be written does not tell that there is room for more
            self.error = ""
        return True

    def _grow(self, size: int, spare: int) -> None:
        """Take more room: behind this segment, or as a new one."""
        if self._at and self._at + size > self.rules.segment_bytes:
            self._rotate(size + spare)
            return
        more = max(self.rules.room_bytes, size + spare)
        try:
            os.posix_fallocate(self._file, self._room, more)
            self._room += more
        except OSError:  # perhaps it is only this file that must not grow
            if not self._at:
                raise
            self._rotate(size + spare)

    def _cut(self) -> None:
        """Begin a new segment because this one is old; if that cannot be, this one goes on."""
        if self._at:
            try:
                self._rotate((self.open + 1) * CLOSED_BYTES)
            except OSError as error:
                self.error = error.strerror or str(error)

    def _rotate(self, needed: int) -> None:
        """Begin a new segment with so much room; until that is there, the old one stays."""
        name = segment_name(self.worker, self._number + 1)
        path, room = self.folder / name, max(self.rules.room_bytes, needed)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, room)
            if self.rules.power:
                self._sync_folder()
        except BaseException:
            os.close(file)
            path.unlink()
            raise
        if self._file >= 0:
            self._finish()
        self._file, self._number, self._salt = file, self._number + 1, salt_of(name)
        self._at, self._room = 0, room

    def _finish(self) -> None:
        """Close a segment, and give back the room that it did not need."""
        with suppress(OSError):  # what was written stays
            os.ftruncate(self._file, self._at)
        if self.rules.power:
            self._sync()
        os.close(self._file)

    def _sync(self) -> bool:
        """Wait until the disk has everything that was written."""
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self.error = error.strerror or str(error)
            return False
        return True

    def _sync_folder(self) -> None:
        """Wait until the disk knows the names of the segments."""
        held = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(held)
        finally:
            os.close(held)
