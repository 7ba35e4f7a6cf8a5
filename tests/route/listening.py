"""Rehearse a small fleet without the compiler and write down all that its engine asks the policy, and tells it.

Run with NUMBA_DISABLE_JIT=1: ``python -m tests.route.listening POLICY SEED FILE``. The log is one of
``route.decisions``, as the live router writes it, but nothing of the router has a part in it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from offtake.fleet import Fleet
from offtake.policy.admit import admit
from offtake.policy.choose import choose
from offtake.policy.update import update
from offtake.policy.view import NO_POOL, NO_RETRY_NS, Choice, Event, Policy, Reason, Request
from offtake.rehearse import engine, loss, scaling
from offtake.rehearse.options import Options
from offtake.rehearse.run import Drive, run
from offtake.rehearse.state import new_engine
from offtake.rehearse.tally import new_tally
from offtake.rehearse.timeline import Action, Kind
from offtake.route.decisions import FORMAT, Asked, Entry, Header, framed
from tests.rehearse.fleets import load, small_deployments, small_fleet, workload

REQUESTS, SPACING_NS = 500, 1e6
LOST = [Action(200_000_000, Kind.LOST, 0, 1.0), Action(300_000_000, Kind.LOST, 0, 0.0)]


def heard_fleet() -> Fleet:
    """Make a fleet whose workloads are worth different things, and one of which can wait."""
    loads = [
        workload("chat", ttft_ms_p95=150.0, admit_share_min=0.2),
        workload("code", residency="us", value_usd_per_request=0.002, deferral_hours=0.02),
    ]
    return msgspec.structs.replace(small_fleet(), workloads=loads)


def listen(entries: list[Entry]) -> None:
    """Have the engine's calls written down as they are made."""

    def admitting(view: Any, request: Request, now_ns: int) -> int:
        reason = admit(view, request, now_ns)
        if reason != Reason.NONE:
            told = Choice(NO_POOL, int(reason), 0.0, NO_RETRY_NS)
            entries.append(Asked(plain(request), int(now_ns), 0.0, (), told, None))
        return reason

    def choosing(policy: int, view: Any, request: Request, now_ns: int, u: float) -> Choice:
        made = choose(policy, view, request, now_ns, u)
        told = Choice(int(made.pool), int(made.reason), float(made.margin_usd), int(made.retry_after_ns))
        entries.append(Asked(plain(request), int(now_ns), float(u), (), told, None))
        return made

    def updating(view: Any, event: Event) -> None:
        update(view, event)
        entries.append(Event(*(int(each) for each in event)))

    for module in (engine, loss, scaling):
        vars(module).update(update=updating)
    vars(engine).update(admit=admitting, choose=choosing)


def plain(request: Request) -> Request:
    return Request(*(int(each) for each in request))


def main(policy: Policy, seed: int, path: Path) -> None:
    fleet = heard_fleet()
    header = Header(FORMAT, fleet.name, fleet.week, fleet.seed, 0, 0.0, int(policy), None)
    entries: list[Entry] = [header]
    listen(entries)
    drive = Drive(new_engine(fleet, small_deployments(1), Options(policy=policy)), new_tally(fleet, 0))
    run(drive, [load(seed, REQUESTS, SPACING_NS)], LOST, seed, lambda _: None)
    path.write_bytes(b"".join(framed(entry) for entry in entries))


if __name__ == "__main__":
    main(Policy[sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3]))
