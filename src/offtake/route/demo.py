"""Try a router without any upstream: mock pools in a process of their own, and files that point at them.

Comes in: a run folder. Goes out: files of a router in a folder `route-demo` of it, while the mock pools run.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from offtake.fleet import Fleet, read_fleet
from offtake.policy.build import live_view
from offtake.policy.machine import compiled
from offtake.route.begin import begin
from offtake.route.keys import key_text
from offtake.route.loop import run
from offtake.route.mock import Mock
from offtake.route.worker import Files

DEMO_KEY = "ot-demo"  #: known to everybody; it opens nothing but mock pools on this machine
HOST = "127.0.0.1"


@contextmanager
def mocked(files: Files) -> Iterator[tuple[Files, Fleet, str]]:
    """Run mock pools, and give the files of a router that has them for its upstreams, and their address."""
    fleet = read_fleet(files.run / "plan" / "fleet.json")
    compiled()
    with socket.create_server((HOST, 0)) as sock:
        address = f"http://{HOST}:{sock.getsockname()[1]}"
        folder = files.run / "route-demo"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = begin(folder, fleet, lambda index: f"{address}/{index}")
        (folder / "keys.toml").write_text(key_text(DEMO_KEY, "everyone", "demo"))
        pid = os.fork()
        if not pid:
            serve(files, fleet, sock)
    try:
        yield files._replace(config=path), fleet, address
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def serve(files: Files, fleet: Fleet, sock: socket.socket) -> None:
    """Be the process of the mock pools."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def forever() -> None:
        mock = Mock(fleet, live_view(fleet, 0.0, files.run), files.speed)
        server = await asyncio.get_running_loop().create_server(mock.meet, sock=sock)
        await server.serve_forever()

    try:
        run(forever)
    finally:
        os._exit(1)
