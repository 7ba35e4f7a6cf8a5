"""One event log through rehearsal and router gives identical choices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from offtake.performance.library import StoredTable, save_table
from offtake.policy.build import live_view
from offtake.policy.machine import machine_of
from offtake.policy.view import NO_POOL, Choice, Event, EventKind, Policy, Reason
from offtake.route.decisions import Asked, Header, entries_of
from offtake.route.replay import replay
from tests.rehearse.fleets import small_deployments
from tests.route.listening import heard_fleet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The step tables that the small fleet names, as files."""
    for name, (table, limits) in small_deployments(1).items():
        save_table(StoredTable(name, table, limits, {}), tmp_path)
    return tmp_path


def rehearsed(policy: Policy, seed: int, path: Path) -> bytes:
    """Return the log of a rehearsal, which runs alone and without a compiler."""
    command = [sys.executable, "-m", "tests.route.listening", policy.name, str(seed), str(path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=False)
    assert done.returncode == 0
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Policy.BID_PRICE, Policy.WEIGHTED, Policy.PREFIX_AFFINITY])
def test_the_log_of_a_rehearsal_gives_the_router_the_same_choices(policy: Policy, folder: Path) -> None:
    log = rehearsed(policy, 11, folder / "log")
    header, *entries = entries_of(log)
    assert isinstance(header, Header)
    machine = machine_of(live_view(heard_fleet(), header.start_hour, folder))
    again, made, happened = list[Choice](), list[Choice](), set[int]()
    for entry in entries:
        if isinstance(entry, Asked):
            made.append(entry.choice)
            again.append(machine.decide(header.policy, entry.request, entry.now_ns, entry.u))
        elif isinstance(entry, Event):
            machine.update(entry)
            happened.add(entry.kind)
    assert again == made
    assert len(made) >= 400
    assert len({choice.pool for choice in made} - {NO_POOL}) == 4
    assert happened >= set(EventKind) - {EventKind.ELSEWHERE, EventKind.DECLINED}
    if policy is Policy.BID_PRICE:
        assert {Reason.NONE, Reason.BELOW_BID} <= {choice.reason for choice in made}
    assert replay(heard_fleet(), log, folder) == []
