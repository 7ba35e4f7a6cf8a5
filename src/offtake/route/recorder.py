"""Write down every decision of a worker as it is made, so that it can be made again and set beside another policy's.

Comes in: entries of a decider's log. Goes out: files, one for each worker and fleet. Nothing waits for them: they are
written at each tick, and what cannot be written is left out and said once.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

_LOG = logging.getLogger(__name__)


class Recorder:
    """Hold the log of one decider."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.decisions"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._parts: list[bytes] = []
        self.keep = self._parts.append
        self.broken = False

    def flush(self) -> None:
        """Write what was kept since the last time."""
        if not self._parts:
            return
        data = b"".join(self._parts)
        self._parts.clear()
        if self.broken:  # a log with a hole in it could not be read
            return
        try:
            self.broken = os.write(self._file, data) != len(data)
        except OSError:
            self.broken = True
        if self.broken:
            _LOG.error("decisions are no longer written down: %s has no room", self.path)

    def close(self) -> None:
        """Write the rest, and write no more."""
        self.flush()
        os.close(self._file)
