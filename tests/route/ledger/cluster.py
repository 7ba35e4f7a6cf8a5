"""Start a PostgreSQL of our own, kill it, and start it again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVED_AS = ("postgres", "nobody")  # PostgreSQL refuses to run as root


def program(name: str) -> str:
    """Find a program of the server, or skip the test."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if asked := shutil.which("pg_config"):
        places.append(
            Path(subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
        )
    found = next((str(place / name) for place in places if (place / name).exists()), shutil.which(name))
    if found is None:
        pytest.skip(f"PostgreSQL is not installed: no {name}")
    return found


class Cluster:
    """One server in a folder of its own, reached by a socket in that folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            names = {each.pw_name for each in pwd.getpwall()}
            name = next((name for name in SERVED_AS if name in names), None)
            if name is None:
                pytest.skip("there is no user as whom PostgreSQL could run")
            self.user = pwd.getpwnam(name)
            shutil.chown(folder, name)
        self.url = f"postgresql://tester@/postgres?host={folder}"
        assert self.run("initdb", "-D", str(folder / "data"), "-U", "tester", "-A", "trust", "--no-sync")

    def run(self, name: str, *arguments: str) -> bool:
        """Run a program of the server as its user, and tell whether it went well."""
        command = [program(name), *arguments]
        quiet = subprocess.DEVNULL
        if self.user is None:
            done = subprocess.run(command, cwd=self.folder, check=False, stdout=quiet, stderr=quiet)
        else:
            done = subprocess.run(
                command,
                cwd=self.folder,
                check=False,
                stdout=quiet,
                stderr=quiet,
                user=self.user.pw_uid,
                group=self.user.pw_gid,
                extra_groups=[],
            )
        return done.returncode == 0

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self.folder / "log"
        data = str(self.folder / "data")
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        assert self.run("pg_ctl", "start", "-w", "-D", data, "-l", str(log), "-o", options)

    def kill(self) -> None:
        """Kill the server at once."""
        number = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(number, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server if it runs."""
        self.run("pg_ctl", "stop", "-m", "immediate", "-w", "-D", str(self.folder / "data"))


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Give a server that runs, and take it away."""
    program("initdb")
    with tempfile.TemporaryDirectory(prefix="offtake-pg-", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder))
        made.start()
        try:
            yield made
        finally:
            made.stop()
