from __future__ import annotations

import errno
from pathlib import Path

import pytest

from offtake.errors import InputError
from offtake.policy.view import Event, EventKind, Policy, Request
from offtake.route.decider import Decider, Settings
from offtake.route.decisions import entries_of, framed
from offtake.route.judge import judge
from offtake.route.recorder import Recorder
from tests.rehearse.fleets import small_fleet
from tests.route.setup import tables

pytestmark = pytest.mark.slow


def recorded(folder: Path, shadow: Policy | None) -> Path:
    """Let a decider route 200 requests, all of which stay, and write it down."""
    recorder = Recorder(folder / "decisions", "one")
    settings = Settings(0, shadow=shadow, folder=tables(folder), keep=recorder.keep)
    decider = Decider(small_fleet(), settings)
    for number in range(200):
        request = Request(number % 2, 0, 100, 20, 120, -1, 0)
        choice = decider.choose(request, number)
        if choice.pool >= 0:
            decider.routed(request, int(choice.pool), number)
        else:
            decider.declined(number % 2, number)
    recorder.close()
    return recorder.path


def test_recorded_decisions_are_made_again_and_set_beside_the_shadows(tmp_path: Path) -> None:
    found = judge(small_fleet(), [recorded(tmp_path, Policy.ROUND_ROBIN)], tmp_path)
    assert (found.policy, found.shadow, found.logs, found.decisions) == ("bid_price", "round_robin", 1, 200)
    assert found.not_made_again == 0
    assert found.asked_of_shadow == 200
    assert 0 < sum(found.otherwise.values()) <= 200
    assert all(" → " in change for change in found.otherwise)


def test_a_log_that_was_changed_is_found_out(tmp_path: Path) -> None:
    path = recorded(tmp_path, None)
    entries = list(entries_of(path.read_bytes()))
    told = [entry for entry in entries if not (isinstance(entry, Event) and entry.kind == EventKind.ROUTED)]
    path.write_bytes(b"".join(framed(entry) for entry in told))
    assert judge(small_fleet(), [path], tmp_path).not_made_again > 0


def test_without_a_log_of_this_fleet_there_is_nothing_to_judge(tmp_path: Path) -> None:
    other = tmp_path / "other.decisions"
    other.write_bytes(b"")
    with pytest.raises(InputError, match="no decision of this fleet"):
        judge(small_fleet(), [other])


def test_a_full_disk_stops_the_log_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, "one")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        recorder.keep(b"x")
        recorder.flush()
    recorder.keep(b"y")
    recorder.close()
    assert recorder.broken
    assert recorder.path.read_bytes() == b""
