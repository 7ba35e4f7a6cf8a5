"""Run a router's processes: workers on one port, and what empties their journals into the ledger.

Comes in: the router's files, checked. Goes out: an exit code, when all have ended. Workers are forked before anything
runs in this process, so that they share its memory; each listens for itself (``SO_REUSEPORT``), and one that dies is
begun anew while the others go on. This process serves nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple

from offtake.errors import Fault, InputError
from offtake.policy.machine import compiled
from offtake.route.clock import Clock
from offtake.route.config import Config
from offtake.route.ledger.drain import Drainer
from offtake.route.ledger.opening import open_store
from offtake.route.loop import run
from offtake.route.worker import Files, Place, Setup, Worker, tls_of
from offtake.units import NS_PER_S

DRAINER_NICE = 10  #: what empties the journals may lag behind; answers may not
AGAIN_S = 1.0  #: after so long a process is begun anew that died as soon as it had begun
YOUNG_NS = 2 * NS_PER_S
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)
FAILED = 1
_LOG = logging.getLogger(__name__)


class Ready(NamedTuple):
    """Say that a router serves: where, by how many workers."""

    host: str
    port: int
    workers: int
    tls: bool


class Child(NamedTuple):
    """Hold a process that was begun: which worker it is (None for what empties the journals), and when."""

    pid: int
    seat: int | None
    begun_ns: int


def bound(config: Config) -> socket.socket:
    """Return a socket that keeps the port for the workers.

    Raises
    ------
    InputError
        If the address cannot be had.
    """
    listen = config.file.listen
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        if listen.port:  # whoever else listens with SO_REUSEPORT would share the port in silence
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((listen.host, listen.port))
        return reuse(family, (listen.host, listen.port))
    except OSError as error:
        where = f"{listen.host}:{listen.port}"
        mend = "End what listens there, or set listen.port (0 takes a free one)."
        raise InputError(
            [Fault(str(config.path), f"cannot listen: {error.strerror}", mend, "listen", value=where)]
        ) from None


def reuse(family: int, address: tuple[str, int]) -> socket.socket:
    """Return a socket bound to an address that others may be bound to as well."""
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        found.bind(address)
    except OSError:
        found.close()
        raise
    return found


class Supervisor:
    """Hold the processes of a router."""

    def __init__(self, files: Files, setup: Setup, workers: int) -> None:
        self.files, self.setup, self.workers = files, setup, workers
        self.sock = bound(setup.config)
        self.scratch = tempfile.TemporaryDirectory(prefix="offtake-route-")
        self.clock = Clock()
        self.children: dict[int, Child] = {}
        self.missing: list[int | None] = []  #: seats that are begun anew at the next alarm
        self.stopping = False
        self.ended_badly = False

    def run(self, ready: Callable[[Ready], None]) -> int:
        """Begin all processes, tell when they are ready, and wait until they have ended.

        Raises
        ------
        InputError
            If the ledger cannot be opened, or TLS cannot be used.
        """
        tls_of(self.setup.config)
        self._open_ledger()
        compiled()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._begin_drainer()
            for seat in range(self.workers):
                self._begin_worker(seat, wait=True)
            host, port = self.sock.getsockname()[:2]
            ready(Ready(host, port, self.workers, bool(self.setup.config.file.listen.tls_certificate)))
            return self._watch()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self.sock.close()
            self.scratch.cleanup()

    def _open_ledger(self) -> None:
        """Open the ledger once, so that a faulty one is told before anything runs."""
        config = self.setup.config
        open_store(config.file.ledger.url, config.path.parent).close()
        config.beside(config.file.ledger.journal).mkdir(parents=True, exist_ok=True)

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _begin_worker(self, seat: int, *, wait: bool = False) -> None:
        """Begin one worker; ``wait`` until it serves."""
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            self._be(lambda: self._work(seat, writing))
        os.close(writing)
        self.children[pid] = Child(pid, seat, self.clock.now_ns())
        if wait and not os.read(reading, 1):
            self.ended_badly = self.stopping = True
            self._tell_all(signal.SIGTERM)
        os.close(reading)

    def _begin_drainer(self) -> None:
        """Begin what empties the journals."""
        pid = os.fork()
        if not pid:
            self._be(self._drain)
        self.children[pid] = Child(pid, None, self.clock.now_ns())

    def _be(self, body: Callable[[], None]) -> None:
        """Be the process that was just begun, to its end."""
        code = FAILED
        try:
            body()
            code = 0
        finally:
            if code:
                _LOG.error("a process of the router failed", exc_info=True)
            os._exit(code)

    def _work(self, seat: int, ready: int) -> None:
        """Be a worker."""
        own = reuse(self.sock.family, self.sock.getsockname()[:2])

        async def serve() -> None:
            worker = Worker(self.files, self.setup, Place(seat, self.workers, Path(self.scratch.name)))
            await worker.serve(own, lambda: told(ready))

        run(serve)

    def _drain(self) -> None:
        """Be the process that empties the journals, until it is told to stop."""
        stop, config = Event(), self.setup.config
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.nice(DRAINER_NICE)
        ledger = config.file.ledger
        Drainer(config.beside(ledger.journal), lambda: open_store(ledger.url, config.path.parent)).run(stop)

    # ── until the end ────────────────────────────────────────────────────────────────────────────────────────────────
    def _watch(self) -> int:
        """Wait for signals, begin anew what died, and return the exit code when all have ended."""
        while self.children:
            got = signal.sigwait(SIGNALS)
            if got == signal.SIGHUP:
                self._tell_workers(signal.SIGHUP)
            elif got in {signal.SIGTERM, signal.SIGINT}:
                self._tell_workers(signal.SIGKILL if self.stopping else signal.SIGTERM)
                self.stopping = True
            elif got == signal.SIGALRM:
                self._begin_missing()
            self._bury()
            if self.stopping and self.children and all(child.seat is None for child in self.children.values()):
                self._tell_all(signal.SIGTERM)
        return FAILED if self.ended_badly else 0

    def _bury(self) -> None:
        """Learn who ended; who should not have is begun anew after a while."""
        for pid, child in list(self.children.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            del self.children[pid]
            if self.stopping:
                self.ended_badly |= status != 0
                continue
            _LOG.error("%s ended with status %d; it is begun anew", named(child), status)
            self.missing.append(child.seat)
            if self.clock.now_ns() - child.begun_ns < YOUNG_NS:
                signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            else:
                self._begin_missing()

    def _begin_missing(self) -> None:
        """Begin anew what ended and should not have."""
        missing, self.missing = self.missing, []
        for seat in missing if not self.stopping else ():
            if seat is None:
                self._begin_drainer()
            else:
                self._begin_worker(seat)

    def _tell_workers(self, number: int) -> None:
        """Send a signal to all workers."""
        for child in self.children.values():
            if child.seat is not None:
                os.kill(child.pid, number)

    def _tell_all(self, number: int) -> None:
        """Send a signal to all processes."""
        for child in self.children.values():
            os.kill(child.pid, number)


def told(pipe: int) -> None:
    """Tell the supervisor that a worker serves, if it waits for that; signals are listened to from now on."""
    with suppress(BrokenPipeError):
        os.write(pipe, b"1")
    os.close(pipe)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def named(child: Child) -> str:
    """Say which process it is."""
    return "what empties the journals" if child.seat is None else f"worker {child.seat}"
