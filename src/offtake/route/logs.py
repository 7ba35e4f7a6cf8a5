"""Write what happens as lines of JSON: one for each event, and if asked for one for each request.

Comes in: the program's own log records, and cases that ended. Goes out: lines, by a thread, because a reader that stops
reading must stop nobody else; what it does not take is dropped and counted. Neither words nor keys of a request are
ever in a line.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import msgspec

from offtake.errors import Fault, InputError
from offtake.route.ledger.entry import Closed
from offtake.route.metrics import names_of
from offtake.route.seams import Case
from offtake.units import NS_PER_MS, NS_PER_S

LINES_MAX = 10_000  #: that wait to be written
PAUSE_S = 0.05  #: between two writings


class JsonLines(logging.Formatter):
    """Write a record of the log as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": time_text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def write_json() -> None:
    """Let every handler of the program's log write lines of JSON."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())


class AccessLog:
    """Write one line for each request; ``-`` is the standard error.

    Raises
    ------
    InputError
        If the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.lost = 0  #: lines that nobody took in time
        self._lines: deque[bytes] = deque()
        self._encode = msgspec.json.Encoder().encode
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.dup(sys.stderr.fileno()) if path.name == "-" else os.open(path, flags, 0o640)
        except OSError as error:
            mend = "Name a file that can be written, or leave log.access out."
            raise InputError([Fault(str(path), f"the log cannot be written: {error.strerror}", mend)]) from None

    def ended(self, case: Case, closed: Closed, now_ns: int) -> None:
        """Keep the line of a request until it is written."""
        if len(self._lines) >= LINES_MAX:
            self.lost += 1
            return
        tenant, workload = names_of(case)
        fields = {
            "time": time_text(closed.end_ns / NS_PER_S),
            "event": "request",
            "id": closed.request_id,
            "tenant": tenant,
            "workload": workload,
            "call": case.call.name.lower(),
            "model": case.model,
            "pool": closed.pool,
            "upstream": closed.upstream,
            "outcome": closed.outcome,
            "reason": closed.reason,
            "status": closed.status,
            "attempts": closed.attempts,
            "first_ms": (case.first_ns - case.arrival_ns) / NS_PER_MS if case.first_ns >= 0 else None,
            "whole_ms": (now_ns - case.arrival_ns) / NS_PER_MS,
            "input_tokens": closed.input_tokens,
            "output_tokens": closed.output_tokens,
            "cost_usd": closed.cost_usd,
        }
        self._lines.append(self._encode(fields) + b"\n")

    def run(self, stop: Event) -> None:
        """Write until told to stop, and what is left then."""
        while not stop.wait(PAUSE_S):
            self.flush()
        self.flush()
        os.close(self._file)

    def flush(self) -> None:
        """Write what waits; what cannot be written is lost."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            self.lost += len(lines)


def time_text(seconds: float) -> str:
    """Return a time since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
