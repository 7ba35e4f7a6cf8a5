"""Be one worker of a router: read what it needs, serve, take over new files, and end without breaking a stream.

Comes in: a run folder, the router's file, a socket, and signals. Goes out: answers, until it is told to stop. SIGTERM
and SIGINT drain it; SIGHUP lets it read fleet, configuration and keys again, and go on with the old ones if the new are
faulty.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from offtake.errors import Fault, InputError, OfftakeError
from offtake.fleet import Fleet, read_fleet
from offtake.route.clock import Clock, fresh_name
from offtake.route.config import Config, ConfigFile, Listen, read_config
from offtake.route.decider import Decider, Settings
from offtake.route.decider import Worker as Seat
from offtake.route.desk import RequestDesk
from offtake.route.health import Health
from offtake.route.http1 import Limits
from offtake.route.keys import Keyring, read_keys
from offtake.route.ledger.journal import Journal, Rules
from offtake.route.office import Parts
from offtake.route.operating import Operations
from offtake.route.pages import health_pages
from offtake.route.places import upstreams_of
from offtake.route.recorder import Recorder
from offtake.route.seams import Upstream
from offtake.route.serve import Server
from offtake.route.shared import Size, make_block, open_block
from offtake.units import NS_PER_HOUR, NS_PER_S

TICK_S = 0.01  #: between two looks at what the other workers have
_LOG = logging.getLogger(__name__)


class Files(NamedTuple):
    """Name the files of a router, and what was asked for beside them: a port of -1 and 0 workers are the file's.

    ``speed`` is how much quicker time passes beside mock pools, ``hour`` that of the fleet's week at which it begins
    (-1: now).
    """

    run: Path
    config: Path
    shadow: str = ""
    port: int = -1
    workers: int = 0
    speed: float = 1.0
    hour: float = -1.0


class Setup(NamedTuple):
    """Hold what the files of a router say, checked."""

    fleet: Fleet
    config: Config
    keyring: Keyring
    upstreams: list[Upstream]


def read_setup(files: Files, environment: Mapping[str, str]) -> Setup:
    """Read and check all files of a router.

    Raises
    ------
    InputError
        With every fault of the first file that has any, and of the keys and credentials together.
    """
    fleet = read_fleet(files.run / "plan" / "fleet.json")
    config = read_config(files.config, fleet, lambda file: asked_for(files, file))
    faults: list[Fault] = []
    keyring, upstreams = Keyring({}), list[Upstream]()
    try:
        keyring = read_keys(config.beside(config.file.keys), config.file.tenant)
    except InputError as error:
        faults += error.faults
    try:
        upstreams = upstreams_of(config, fleet, environment)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)
    return Setup(fleet, config, keyring, upstreams)


def asked_for(files: Files, file: ConfigFile) -> ConfigFile:
    """Return a configuration with what was asked for on the command line."""
    port = file.listen.port if files.port < 0 else files.port
    listen = msgspec.structs.replace(file.listen, port=port, workers=files.workers or file.listen.workers)
    return msgspec.structs.replace(file, listen=listen, shadow=files.shadow or file.shadow)


def limits_of(listen: Listen) -> Limits:
    """Return what the bytes take at most."""
    return Limits(
        head_bytes=listen.header_bytes_max,
        body_bytes=listen.body_bytes_max,
        answer_body_bytes=listen.answer_bytes_max,
        connections=listen.connections_max,
        idle_ns=round(listen.idle_s * NS_PER_S),
    )


def tls_of(config: Config) -> ssl.SSLContext | None:
    """Return how the router proves to clients who it is; None without TLS.

    Raises
    ------
    InputError
        If certificate or key cannot be read, or do not go together.
    """
    listen = config.file.listen
    if not listen.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.beside(listen.tls_certificate), config.beside(listen.tls_key))
    except (OSError, ssl.SSLError) as error:
        mend = "Give a certificate chain and its key as PEM files."
        raise InputError(
            [Fault(str(config.path), f"TLS cannot be used: {error.strerror}", mend, row="listen")]
        ) from None
    return context


def begun_of(files: Files, fleet: Fleet) -> int | None:
    """Return the wall clock at which the router's time begins, ns since 1970; None: now."""
    if files.hour < 0:
        return None
    monday = datetime.fromisoformat(fleet.week).replace(tzinfo=UTC)
    return round(monday.timestamp() * NS_PER_S + files.hour * NS_PER_HOUR)


class Place(NamedTuple):
    """Say which of how many workers of a host this is, and where they count for each other."""

    number: int = 0
    workers: int = 1
    scratch: Path = Path()

    def seat(self, fleet: Fleet, *, fresh: bool) -> Seat:
        """Return the worker's place in the counts for a fleet; one worker alone needs none."""
        if self.workers == 1:
            return Seat()
        names = "\n".join([*(pool.name for pool in fleet.pools), *(each.name for each in fleet.workloads)])
        path = self.scratch / f"counts-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
        size = Size(self.workers, len(fleet.pools), len(fleet.workloads))
        if not path.exists():
            own = path.with_name(f"{path.name}-{self.number}")
            make_block(own, size)
            with suppress(FileExistsError):  # another worker was quicker
                path.hardlink_to(own)
            own.unlink()
        return Seat(self.number, open_block(path, size), fresh)


class Worker:
    """Hold one worker at its ``place``."""

    def __init__(self, files: Files, setup: Setup, place: Place) -> None:
        self.files, self.setup, self.place = files, setup, place
        self.clock = Clock(files.speed, begun_of(files, setup.fleet))
        ledger = setup.config.file.ledger
        rules = Rules(power=ledger.durable == "power")
        self.journal = Journal(setup.config.beside(ledger.journal), fresh_name(), rules)
        self.operations = Operations(setup.fleet, setup.config, self.clock)
        decider, self.recorder = self._deciding(setup, fresh=True)
        self.desk = RequestDesk(self._parts(setup, decider))
        self.changing, self.changes = asyncio.Lock(), set[asyncio.Task[None]]()
        self.stop = asyncio.Event()

    def _deciding(self, setup: Setup, *, fresh: bool) -> tuple[Decider, Recorder | None]:
        """Make what decides, and what writes it down; nothing else changes by it."""
        folder = setup.config.decisions
        recorder = Recorder(folder, fresh_name()) if folder is not None else None
        settings = Settings(
            self.clock.begun_wall_ns,
            policy=setup.config.policy,
            shadow=setup.config.shadow,
            worker=self.place.seat(setup.fleet, fresh=fresh),
            folder=self.files.run,
            keep=recorder.keep if recorder is not None else None,
        )
        return Decider(setup.fleet, settings), recorder

    def _parts(self, setup: Setup, decider: Decider) -> Parts:
        """Make what the desk works with."""
        return Parts(
            fleet=setup.fleet,
            config=setup.config,
            keyring=setup.keyring,
            decider=decider,
            health=Health(setup.upstreams, setup.config.file.breaker),
            book=self.journal,
            allowance=self.operations.limits(setup.config),
            clock=self.clock,
            watchers=self.operations.watchers,
            trace=self.operations.trace(),
            pages=health_pages(self.troubles, self.operations.notes)
            | self.operations.pages(setup.keyring, setup.config),
        )

    def troubles(self) -> Iterator[str]:
        """Yield why this worker should not be sent requests."""
        if self.desk.stopping:
            yield "it is stopping"
        if trouble := self.journal.trouble():
            yield f"the journal cannot be written: {trouble}"
        if not any(self.desk.up_share):
            yield "no pool can be reached"
        yield from self.operations.troubles()

    async def serve(self, sock: socket.socket, ready: Callable[[], None]) -> int:
        """Serve on a bound socket until told to stop; return how many answers were cut at the end."""
        server = Server(self.desk, self.clock, limits_of(self.setup.config.file.listen))
        await server.start(sock, tls_of(self.setup.config))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        ticking = asyncio.create_task(self._tick(os.getppid()))
        self.operations.begin(self.desk, self.journal, lambda: server.connections)
        ready()
        await self.stop.wait()
        self.desk.stopping = True
        drain_ns = round(self.setup.config.file.listen.drain_s * NS_PER_S)
        cut = await server.drain(self.clock.now_ns() + drain_ns)
        ticking.cancel()
        self.journal.close()
        self.operations.close()
        if self.recorder is not None:
            self.recorder.close()
        _LOG.info("worker %d ended; %d answers were cut", self.place.number, cut)
        return cut

    async def _tick(self, parent: int) -> None:
        """Look at what the other workers have; stop if the supervisor is gone."""
        while True:
            self.desk.parts.decider.tick(self.clock.now_ns())
            self.operations.tick(self.clock.now_ns())
            if self.recorder is not None:
                self.recorder.flush()
            if os.getppid() != parent:
                self.stop.set()
            await asyncio.sleep(TICK_S)

    def reload(self) -> None:
        """Read the files again, and go on with what they say; with the old ones if they are faulty."""
        task = asyncio.get_running_loop().create_task(self._take_over())
        self.changes.add(task)
        task.add_done_callback(self.changes.discard)

    async def _take_over(self) -> None:
        """Make ready beside the requests what the files say now, and then change to it at once."""
        async with self.changing:
            try:
                setup, decider, recorder = await asyncio.to_thread(self._read_again)
            except OfftakeError as error:
                for line in str(error).splitlines():
                    _LOG.error("not taken over: %s", line)
                return
            parts, before = self._parts(setup, decider), self.recorder
            self.setup = setup
            self.operations.change(setup.config)
            self.desk.change(parts, self.clock.now_ns())
            self.recorder = recorder
            if before is not None:
                before.close()
            _LOG.info("took over the fleet of %s and %s", setup.fleet.week, self.files.config)

    def _read_again(self) -> tuple[Setup, Decider, Recorder | None]:
        """Read the files, and make what decides by them."""
        setup = read_setup(self.files, os.environ)
        return setup, *self._deciding(setup, fresh=False)
