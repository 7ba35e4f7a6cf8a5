"""Call the policy as machine code, without the compiler that made it: for processes that must be small and ready soon.

Comes in: a view. Goes out: the choices of ``policy.doors``, bit for bit, because the code is compiled from them (once,
by ``make_machine``, in a process of its own). All that a call needs stands in one block of memory, whose address is its
only argument: eight places for the result, then the view's arrays as Numba passes them, then the numbers.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import subprocess  # the compiler runs in a process of its own, which gives its memory back
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from os import environ
from pathlib import Path
from struct import Struct
from typing import NamedTuple, TypeAlias

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from offtake.errors import OfftakeError
from offtake.files import cache_folder
from offtake.policy.view import Answer, Choice, Event, Request, View

PACKAGE = Path(__file__).parent.parent
SOURCES = (
    *(f"policy/{name}.py" for name in ("admit", "baselines", "choose", "doors", "price", "update", "view")),
    "policy/machine.py",
    "policy/make_machine.py",
    "performance/compiled.py",
    "units.py",
)
DOORS = ("decide", "late_by_load", "update")
RESULTS = 8  #: places for a result at the beginning of the block
NUMBERS = 10  #: most numbers that a door takes beside the view
COMPILE_S_MAX = 600.0

Door: TypeAlias = Callable[[int], int]

_ASKED, _TOLD, _ANSWERED = Struct("=9qd"), Struct("=7q"), Struct("=5qd")
_CHOICE, _COUNT = Struct("=qqdq"), Struct("=q")
_LOG = logging.getLogger(__name__)


class Machine:
    """Hold a view and the code that decides on it; nothing is allocated by a call but its answer."""

    def __init__(self, view: View, code: Code) -> None:
        self.view = view  # it must live as long as its addresses are used
        self._code = code
        held = [slot for column in view for slot in slots_of(column)]
        self._block = np.zeros(RESULTS + len(held) + NUMBERS, np.int64)
        self._block[RESULTS : RESULTS + len(held)] = held
        self._bytes = self._block.data.cast("B")
        self._numbers = (RESULTS + len(held)) * self._block.itemsize
        self._address = self._block.ctypes.data

    def decide(self, policy: int, request: Request, now_ns: int, u: float) -> Choice:
        """Admit ``request`` and choose its pool; as ``policy.doors.decide``."""
        _ASKED.pack_into(self._bytes, self._numbers, policy, *request, now_ns, u)
        self._code.decide(self._address)
        return Choice._make(_CHOICE.unpack_from(self._bytes))

    def update(self, event: Event) -> None:
        """Apply ``event`` to the view; as ``policy.doors.update``."""
        _TOLD.pack_into(self._bytes, self._numbers, *event)
        self._code.update(self._address)

    def late_by_load(self, pool: int, answer: Answer) -> int:
        """Return 1 if the load of ``pool`` made an answer late; as ``policy.doors.late_by_load``."""
        _ANSWERED.pack_into(self._bytes, self._numbers, pool, *answer)
        self._code.late_by_load(self._address)
        return int(_COUNT.unpack_from(self._bytes)[0])


class Code(NamedTuple):
    """Hold the loaded functions, and the engine that keeps their memory."""

    decide: Door
    late_by_load: Door
    update: Door
    engine: llvm.ExecutionEngine


def machine_of(view: View) -> Machine:
    """Return the machine that decides on ``view``; its code is compiled first where that was never done.

    Raises
    ------
    OfftakeError
        If it cannot be compiled or kept.
    """
    return Machine(view, load(compiled()))


def compiled() -> Path:
    """Return the file of the policy's machine code for this processor; make it if it is not there.

    Raises
    ------
    OfftakeError
        If it cannot be compiled or kept.
    """
    path = cache_folder() / f"policy-{stamp()}.o"
    if not path.is_file():
        _LOG.warning("compiling the policy for this processor, once; this takes about ten seconds")
        _make(path)
    return path


def _make(path: Path) -> None:
    """Compile in a process of its own: Numba takes 60 MB and more, and they go with it."""
    command = [sys.executable, "-m", "offtake.policy.make_machine", str(path)]
    whole = {**environ, "NUMBA_DISABLE_JIT": "0"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, env=whole, capture_output=True, text=True, check=False, timeout=COMPILE_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OfftakeError(f"the policy cannot be compiled into {path}: {error}") from None
    if done.returncode != 0 or not path.is_file():
        last = done.stderr.strip().splitlines()[-1:] or ["no word of why"]
        raise OfftakeError(f"the policy cannot be compiled into {path}: {last[0]}")


def stamp() -> str:
    """Return a digest of all that the machine code follows from: sources, versions and processor."""
    digest = hashlib.blake2b(digest_size=12)
    for name in SOURCES:
        digest.update((PACKAGE / name).read_bytes())
    made_by = (version("numba"), llvmlite.__version__, np.__version__, sys.implementation.cache_tag)
    digest.update(repr((made_by, llvm.get_process_triple(), llvm.get_host_cpu_name())).encode())
    digest.update(llvm.get_host_cpu_features().flatten().encode())
    return digest.hexdigest()


@cache
def load(path: Path) -> Code:
    """Load the machine code of a file into this process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(path.read_bytes()))
    engine.finalize_object()
    door = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_size_t)  # the GIL is kept: a call takes microseconds
    decide, late_by_load, update = (door(engine.get_function_address(symbol(name))) for name in DOORS)
    return Code(decide, late_by_load, update, engine)


def symbol(name: str) -> str:
    """Return the name of a door in the machine code."""
    return f"offtake_{name}"


def slots_of(column: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> list[int]:
    """Return an array as Numba passes it: no owner twice, items, bytes of one, address, shape, strides."""
    if not column.flags.c_contiguous:
        raise ValueError("the code reads contiguous arrays")
    return [0, 0, column.size, column.itemsize, column.ctypes.data, *column.shape, *column.strides]
