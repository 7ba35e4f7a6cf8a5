"""Put together what looks on while a worker serves, and what it keeps in common with the other workers.

Comes in: the worker's files and what happens. Goes out: limits, pages and watchers for the desk, and what they need
done in the background. Nothing here stands in the way of a request: what waits for anybody is a thread or a task.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from threading import Event, Thread

from offtake.fleet import Fleet
from offtake.route.clock import Clock
from offtake.route.columns import Host
from offtake.route.config import Config
from offtake.route.desk import RequestDesk
from offtake.route.gate import gated
from offtake.route.keys import Keyring
from offtake.route.leases import Keeper, Store, is_mine, lock_of, unrenewed
from offtake.route.ledger.journal import Journal
from offtake.route.limits import Allowances
from offtake.route.live import Live, document
from offtake.route.logs import AccessLog, write_json
from offtake.route.metrics import Gauges, Meter, metrics_page
from offtake.route.office import Page, Watcher
from offtake.route.recent import Ring
from offtake.route.scrape import Applier, Looker
from offtake.route.seams import Case, Feed, Head, Reply
from offtake.route.tracing import Tracer
from offtake.units import NS_PER_S

LOOK_NS = NS_PER_S  #: between two looks for new workers and new rows
APPLY_NS = NS_PER_S // 10  #: between two looks at what was seen of upstreams
REST = 0.1  #: least pause between two rounds, in the time between two looks
JOIN_S = 2.0  #: how long a thread is waited for at the end
_LOG = logging.getLogger(__name__)


class Operations:
    """Hold what looks on in one worker.

    Raises
    ------
    InputError
        If the folder of the common counts cannot be written, or the store of shared limits is none.
    """

    def __init__(self, fleet: Fleet, config: Config, clock: Clock) -> None:
        self.clock = clock
        self.host = Host(config.beside(config.file.state))
        self.config = config
        self._store = Store(config.file.shared, fleet.name, self.host.identity()) if config.file.shared else None
        self.keeper = Keeper(self.host, config.file.tenant, self._store, clock) if self._store else None
        self._stop = Event()
        self._threads: list[Thread] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._applier: Applier | None = None
        self._look_ns = self._apply_ns = 0
        self._desk: RequestDesk | None = None
        self._gauges: Gauges | None = None
        self.ring = Ring(self.host)
        self.live: Live | None = None
        self.watchers: list[Watcher] = [Meter(self.host), self.ring]
        file = config.file
        self.tracer = Tracer(file.tracing) if file.tracing.otlp_url else None
        self.access = AccessLog(config.beside(file.log.access)) if file.log.access else None
        self.watchers += [each for each in (self.tracer, self.access) if each is not None]
        if file.log.form == "json":
            write_json()

    def limits(self, config: Config) -> Allowances:
        """Return the limits of a configuration."""
        now_ns = self.clock.now_ns()
        rows, begun_ns = config.file.tenant, self.clock.begun_wall_ns
        return Allowances(rows, self.host, begun_ns, now_ns=now_ns, shared=bool(config.file.shared))

    def trace(self) -> Callable[[Case], Head] | None:
        """Return what gives a request the head that its upstream shall see; None without spans."""
        return self.tracer.head if self.tracer is not None else None

    def change(self, config: Config) -> None:
        """Go on with another configuration; the store of shared limits stays until the router begins anew."""
        if config.file.shared != self.config.file.shared:
            _LOG.warning("another store of shared limits is taken only when the router begins anew")
        self.config = config
        if self.keeper is not None:
            self.keeper.tenants = config.file.tenant

    def pages(self, keyring: Keyring, config: Config) -> dict[bytes, Page]:
        """Return the pages for those who operate the router."""
        live = {b"/live": self._live_page, b"/live/events": self._live_events}
        return gated({b"/metrics": metrics_page(self.host), **live}, keyring, config.file.listen)

    def _live_page(self, head: Head) -> Reply | Feed:
        """Return the live page."""
        del head
        return document()

    def _live_events(self, head: Head) -> Reply | Feed:
        """Return its events, once the worker serves."""
        return self.live.events(head) if self.live is not None else Reply(503, (), b"")

    def begin(self, desk: RequestDesk, journal: Journal, connections: Callable[[], int]) -> None:
        """Begin what goes on in the background."""
        self.live = Live(self.host, self.ring, desk)
        self._applier = Applier(self.host, self.clock, desk)
        self._tasks.append(asyncio.create_task(self._look_on(desk)))
        self._desk, self._gauges = desk, Gauges(self.host, desk, journal, connections)
        if self.keeper is not None:
            self._threads.append(Thread(target=self.keeper.run, args=(self._stop,), name="leases", daemon=True))
        if self.access is not None:
            self._threads.append(Thread(target=self.access.run, args=(self._stop,), name="access log", daemon=True))
        for thread in self._threads:
            thread.start()

    async def _look_on(self, desk: RequestDesk) -> None:
        """Look at upstreams again and again, while no other worker of the host does."""
        looker = Looker(self.host, self.clock)
        held = os.open(lock_of(self.host.folder, "looker"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                begun_ns, health = self.clock.now_ns(), desk.parts.health
                probe_s = health.rules.probe_s
                if is_mine(held):
                    await looker.round([patient.upstream for patient in health.by_name.values()], probe_s)
                await asyncio.sleep(max(probe_s - (self.clock.now_ns() - begun_ns) / NS_PER_S, probe_s * REST))
        finally:
            os.close(held)

    def tick(self, now_ns: int) -> None:
        """Look at what the other workers did; call it every 10 ms."""
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_NS
            self.host.look()
            if self._gauges is not None:
                self._gauges.tell(now_ns)
            if self.live is not None:
                self.live.tell(now_ns)
        allowance = self._desk.parts.allowance if self._desk is not None else None
        if self._applier is not None and now_ns >= self._apply_ns:
            self._apply_ns = now_ns + APPLY_NS
            self._applier.apply(now_ns)
        if isinstance(allowance, Allowances):
            allowance.look(now_ns)

    def troubles(self) -> Iterator[str]:
        """Yield why the worker should not be sent requests."""
        if self.keeper is not None and (none := unrenewed(self.host, self.keeper.tenants)[0]):
            yield f"the store of shared limits was never reached: {', '.join(none)} may not ask"

    def notes(self) -> Iterator[str]:
        """Yield what is not well, though requests are served."""
        if self.keeper is not None and unrenewed(self.host, self.keeper.tenants)[1]:
            yield "the store of shared limits is away: this host goes on with its last share"

    def close(self) -> None:
        """End what goes on in the background."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        for thread in self._threads:
            thread.join(JOIN_S)
        if self.tracer is not None:
            self.tracer.close()
        self.host.close()
