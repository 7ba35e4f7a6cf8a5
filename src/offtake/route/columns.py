"""Keep numbers by name where every worker of the host can read them, and where they outlive the one who wrote them.

Comes in: names, and numbers to add. Goes out: rows of numbers, of this worker and of all. Each worker writes a file of
its own, mapped into memory, and reads those of the others: no number has two writers. The next worker that takes a
file goes on from what it finds there, so that what is counted up never falls back. Room is taken beforehand: a full
disk cannot end a worker here.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from offtake.errors import Fault, InputError
from offtake.route.clock import fresh_name

Key: TypeAlias = tuple[str, ...]
Numbers: TypeAlias = "memoryview[float]"
FILE_BYTES = 2 * 1_048_576  #: of one worker: more than 5,000 rows
FORMAT = 0x4F46_5430_3031  #: first number of a file of this form
SUFFIX = ".columns"
NUMBER_BYTES = 8
HEAD = 4  #: numbers before the first row: the form, where the rows end, the writer's process, spare
_FORM, _END, _PROCESS = range(3)
WORKERS_MAX = 1_024  #: files looked at for a free one


class Row(NamedTuple):
    """Hold a row and who wrote it; ``alive`` says whether its writer is."""

    key: Key
    numbers: Numbers
    alive: bool


class Column:
    """Read the rows of one file, as they come to be."""

    def __init__(self, file: int) -> None:
        self.bytes = memoryview(mmap.mmap(file, FILE_BYTES))
        self.ints, self.floats = self.bytes.cast("q"), self.bytes.cast("d")
        self.rows: dict[Key, Numbers] = {}
        self.at = HEAD  #: first number that was not read yet
        self.look()

    def look(self) -> None:
        """Read the rows that came since."""
        if self.ints[_FORM] != FORMAT:
            return
        end = min(self.ints[_END], FILE_BYTES // NUMBER_BYTES)
        while self.at < end:
            size, width = self.ints[self.at], self.ints[self.at + 1]
            begin = self.at + 2 + cells(size)
            name = bytes(self.bytes[(self.at + 2) * NUMBER_BYTES : (self.at + 2) * NUMBER_BYTES + size])
            self.rows[tuple(msgspec.json.decode(name, type=list[str]))] = self.floats[begin : begin + width]
            self.at = begin + width

    def alive(self) -> bool:
        """Tell whether the writer's process is there."""
        process = self.ints[_PROCESS]
        if self.ints[_FORM] != FORMAT or process <= 0:
            return False
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def cells(size: int) -> int:
    """Return how many numbers' room so many bytes take."""
    return -(-size // NUMBER_BYTES)


class Host:
    """Hold the numbers of one worker, and read those of all that use the same folder.

    Raises
    ------
    InputError
        If the folder cannot be written, or its disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.name, self._file = free_file(folder)
        except OSError as error:
            mend = "Check the folder, its rights and the room on the disk, or name another as `state`."
            raise InputError([Fault(str(folder), f"nothing can be counted there: {error.strerror}", mend)]) from None
        self.own = Column(self._file)
        if self.own.ints[_FORM] != FORMAT:
            self.own.ints[_END] = HEAD
            self.own.ints[_FORM] = FORMAT
        self.own.ints[_PROCESS] = os.getpid()
        self.others: dict[str, Column] = {}
        self.lost = 0  #: rows for which there was no room
        self.look()

    def row(self, key: Key, width: int) -> Numbers:
        """Return a row of this worker, all nothing where it is new; without room one that nobody else reads."""
        own = self.own
        found = own.rows.get(key)
        if found is not None and len(found) == width:
            return found
        name = msgspec.json.encode(key)
        begin = own.at + 2 + cells(len(name))
        if (begin + width) * NUMBER_BYTES > FILE_BYTES:
            self.lost += 1
            found = memoryview(bytearray(width * NUMBER_BYTES)).cast("d")
        else:
            own.ints[own.at], own.ints[own.at + 1] = len(name), width
            start = (own.at + 2) * NUMBER_BYTES
            own.bytes[start : start + len(name)] = name
            found = own.floats[begin : begin + width]
            own.at = begin + width
            own.ints[_END] = own.at  # from now on others see it
        own.rows[key] = found
        return found

    def look(self) -> None:
        """Find the others, and their new rows; call it now and then."""
        for path in self.folder.glob(f"*{SUFFIX}"):
            if path.name != self.name and path.name not in self.others:
                with path.open("r+b") as file:
                    if os.fstat(file.fileno()).st_size >= FILE_BYTES:
                        self.others[path.name] = Column(file.fileno())
        for column in self.others.values():
            column.look()

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all, this worker's first."""
        for key, numbers in list(self.own.rows.items()):
            yield Row(key, numbers, alive=True)
        for column in self.others.values():
            alive = column.alive()
            for key, numbers in column.rows.items():
                yield Row(key, numbers, alive)

    def of_others(self, key: Key) -> list[Numbers]:
        """Return what the others have under a name."""
        return [column.rows[key] for column in self.others.values() if key in column.rows]

    def identity(self) -> str:
        """Return a name of the folder that no other host draws, the same for all its workers."""
        path = self.folder / "host"
        own = path.with_name(f"{path.name}-{self.name}")
        own.write_text(fresh_name())
        with suppress(FileExistsError):  # another worker was quicker, or it was there before
            path.hardlink_to(own)
        own.unlink()
        return path.read_text()

    def close(self) -> None:
        """Write no more; another worker may go on with the file."""
        if self._file >= 0:
            self.own.ints[_PROCESS] = 0
            fcntl.flock(self._file, fcntl.LOCK_UN)  # the map holds the file open
            os.close(self._file)
        self._file = -1


def free_file(folder: Path) -> tuple[str, int]:
    """Lock the first file that no living worker writes, and take its room; return its name and what holds it.

    Raises
    ------
    OSError
        Where it cannot be written.
    """
    for number in range(WORKERS_MAX):
        name = f"{number:03d}{SUFFIX}"
        file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(file, 0, FILE_BYTES)
        except BlockingIOError:
            os.close(file)
        except BaseException:
            os.close(file)
            raise
        else:
            return name, file
    raise OSError(errno.EBUSY, "too many workers write there")
