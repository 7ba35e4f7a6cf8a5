"""The policy as machine code decides bit for bit as the compiled doors do, and needs no compiler to be called."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from offtake.errors import OfftakeError
from offtake.policy.doors import decide, late_by_load, update
from offtake.policy.machine import Code, Kept, Machine, _loaded, compiled, load, machine_of, slots_of, symbol
from offtake.policy.view import NO_POOL, Answer, Event, EventKind, Policy, Reason, Request
from tests.policy.test_seam import raw, view


def happening(rng: np.random.Generator, now_ns: int) -> Event:
    """Return anything that may happen at one of the four pools."""
    kind, pool, load = int(rng.integers(1, 9)), int(rng.integers(0, 4)), int(rng.integers(0, 2))
    size, tokens = int(rng.integers(1, 4)), int(rng.integers(-50, 200))
    return Event(kind, pool, load, size, tokens, int(rng.integers(1, 10**9)), now_ns)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", list(Policy))
def test_choices_and_views_are_those_of_the_doors_to_the_last_bit(policy: Policy, seed: int) -> None:
    rng, ours, theirs = np.random.default_rng([seed, 21]), view(), view()
    machine, reasons = machine_of(ours), set()
    for step in range(1_500):
        now_ns = step * 7_000_000
        tokens, kind = int(rng.integers(1, 400)), int(rng.integers(0, 2))
        last_ns = now_ns + int(rng.integers(0, 40_000_000_000)) if kind else now_ns
        request = Request(kind, int(rng.integers(0, 2)), tokens, 0, tokens + 20, int(rng.integers(-1, 30)), last_ns)
        u = float(rng.random())
        choice = machine.decide(int(policy), request, now_ns, u)
        assert choice == decide(theirs, int(policy), request, now_ns, u)
        reasons.add(choice.reason)
        event = Event(EventKind.DECLINED, NO_POOL, kind, 1, 0, 0, now_ns)
        if choice.pool != NO_POOL:
            event = Event(EventKind.ROUTED, choice.pool, kind, 1, tokens, 0, now_ns)
        for told in (event, happening(rng, now_ns)):
            machine.update(told)
            update(theirs, told)
        ttft_ns, tpot_ns = int(rng.integers(0, 10**9)), float(rng.random()) * 2e8
        answer = Answer(kind, tokens, int(rng.integers(0, 10**8)), ttft_ns, tpot_ns)
        assert machine.late_by_load(step % 4, answer) == late_by_load(theirs, step % 4, answer)
    assert raw(ours) == raw(theirs)
    assert Reason.NONE in reasons


def test_llvm_loads_the_same_code_where_it_cannot_be_put_into_memory_as_it_is() -> None:
    kept = msgspec.msgpack.decode(compiled().read_bytes(), type=Kept)
    addresses, engine = _loaded(kept.object_file)
    door = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_size_t)
    decide_, late_, update_ = (door(addresses[symbol(name)]) for name in ("decide", "late_by_load", "update"))
    one, other = Machine(view(), Code(decide_, late_, update_, engine)), machine_of(view())
    for step in range(200):
        request = Request(step % 2, 0, 10 + step, 0, 50 + step, step % 7, -1)
        choice = one.decide(0, request, step, (step % 10) / 10)
        assert choice == other.decide(0, request, step, (step % 10) / 10)
        for machine in (one, other):
            machine.update(Event(EventKind.ROUTED, step % 4, step % 2, 1, 10 + step, 0, step))
    assert raw(one.view) == raw(other.view)


@pytest.mark.slow
def test_the_code_is_made_once_by_a_process_of_its_own_and_needs_no_compiler_then(tmp_path: Path) -> None:
    program = "import sys; from offtake.policy.machine import compiled, load; load(compiled()); print(*sys.modules)"
    for times in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("compiling" in done.stderr) == (times == 0)
        assert not {"numba", "llvmlite"} & set(done.stdout.split())
    assert len(list((tmp_path / "offtake").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "offtake").write_text("a file where the folder belongs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OfftakeError, match="cannot be compiled into"):
        compiled()


def test_a_file_that_is_no_code_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(compiled().read_bytes()[:1_000])
    with pytest.raises(OfftakeError, match="delete it"):
        load(tmp_path / "half")


def test_an_array_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        slots_of(np.zeros((4, 4))[:, 1])
