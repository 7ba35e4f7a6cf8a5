"""Call the policy as machine code, without the compiler that made it: for processes that must be small and ready soon.

Comes in: a view. Goes out: the choices of ``policy.doors``, bit for bit, because the code is compiled from them (once,
by ``make_machine``, in a process of its own). All that a call needs stands in one block of memory, whose address is its
only argument: eight places for the result, then the view's arrays as Numba passes them, then the numbers. On Linux on
x86-64 the code is put into memory as it is; elsewhere LLVM loads it, which takes 40 MB more, most of it shared.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import logging
import mmap
import platform
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from os import environ
from pathlib import Path
from struct import Struct
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from offtake.errors import OfftakeError
from offtake.files import cache_folder
from offtake.policy.link import Linked
from offtake.policy.view import Answer, Choice, Event, Request, View

PACKAGE = Path(__file__).parent.parent
SOURCES = (
    *(f"policy/{name}.py" for name in ("admit", "baselines", "choose", "doors", "price", "update", "view")),
    "policy/link.py",
    "policy/machine.py",
    "policy/make_machine.py",
    "performance/compiled.py",
    "units.py",
)
MADE_BY = ("numba", "llvmlite", "numpy")
DOORS = ("decide", "late_by_load", "update")
RESULTS = 8  #: places for a result at the beginning of the block
NUMBERS = 10  #: most numbers that a door takes beside the view
COMPILE_S_MAX = 600.0
CPU_FILE = Path("/proc/cpuinfo")
CPU_LINES = ("vendor_id", "cpu family", "model", "flags")  #: what tells processors of Linux apart

Door: TypeAlias = Callable[[int], int]

_ASKED, _TOLD, _ANSWERED = Struct("=9qd"), Struct("=7q"), Struct("=5qd")
_CHOICE, _COUNT = Struct("=qqdq"), Struct("=q")
_LOG = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the policy's machine code as it lies on disk: laid out, or as an object file for LLVM to load."""

    laid_out: Linked | None
    object_file: bytes


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
    """Hold the loaded functions, and what keeps their memory."""

    decide: Door
    late_by_load: Door
    update: Door
    memory: object


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
    path = cache_folder() / f"policy-{stamp()}.code"
    if not path.is_file():
        _LOG.warning("compiling the policy for this processor, once; this takes about ten seconds")
        _make(path)
    return path


def _make(path: Path) -> None:
    """Compile in a process of its own: Numba takes 60 MB and more, and they go with it."""
    subprocess = importlib.import_module("subprocess")  # hardly ever needed
    command = [sys.executable, "-m", "offtake.policy.make_machine", str(path)]
    whole = {**environ, "NUMBA_DISABLE_JIT": "0"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, env=whole, capture_output=True, text=True, check=False, timeout=COMPILE_S_MAX)
        why = "" if done.returncode == 0 and path.is_file() else (done.stderr.strip() or "no word of why")
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        mend = "Set XDG_CACHE_HOME to a folder that can be written."
        raise OfftakeError(f"the policy cannot be compiled into {path}: {why.splitlines()[-1]}. {mend}")


def stamp() -> str:
    """Return a digest of all that the machine code follows from: sources, versions and processor."""
    digest = hashlib.blake2b(digest_size=12)
    for name in SOURCES:
        digest.update((PACKAGE / name).read_bytes())
    made_by = [version(name) for name in MADE_BY]
    digest.update(repr((made_by, sys.implementation.cache_tag, platform.system(), platform.machine())).encode())
    digest.update(_processor().encode())
    return digest.hexdigest()


def _processor() -> str:
    """Tell this processor from others, by what Linux or else LLVM says of it."""
    if CPU_FILE.is_file():
        first = CPU_FILE.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        known = [line for line in first if line.partition("\t")[0].strip() in CPU_LINES]
        if len(known) == len(CPU_LINES):
            return "\n".join(known)
    llvm = importlib.import_module("llvmlite.binding")
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


@cache
def load(path: Path) -> Code:
    """Load the machine code of a file into this process."""
    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=Kept)
    except msgspec.DecodeError:
        raise OfftakeError(f"{path} does not hold the policy's machine code: delete it, and it is made again") from None
    placed = None if kept.laid_out is None else _put(kept.laid_out)
    addresses, memory = placed or _loaded(kept.object_file)
    door = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_size_t)  # the GIL is kept: a call takes microseconds
    decide, late_by_load, update = (door(addresses[symbol(name)]) for name in DOORS)
    return Code(decide, late_by_load, update, memory)


def _put(code: Linked) -> tuple[dict[str, int], object] | None:
    """Put code into memory of its own, which is closed to writing before it runs; return where its doors are.

    None if this process does not show a function that the code calls.
    """
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in code.outside):
        return None
    memory = mmap.mmap(-1, len(code.code))
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = code.code
    for name, at in code.outside.items():
        address = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
        memory[at : at + _COUNT.size] = _COUNT.pack(address)
    if libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(len(code.code)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OfftakeError("this system lets no process make code: the policy cannot run")
    return {name: begin + at for name, at in code.inside.items()}, memory


def _loaded(object_file: bytes) -> tuple[dict[str, int], object]:
    """Have LLVM load an object file; return where its doors are."""
    llvm = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(object_file))
    engine.finalize_object()
    return {symbol(name): engine.get_function_address(symbol(name)) for name in DOORS}, engine


def symbol(name: str) -> str:
    """Return the name of a door in the machine code."""
    return f"offtake_{name}"


def slots_of(column: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> list[int]:
    """Return an array as Numba passes it: no owner twice, items, bytes of one, address, shape, strides."""
    if not column.flags.c_contiguous:
        raise ValueError("the code reads contiguous arrays")
    return [0, 0, column.size, column.itemsize, column.ctypes.data, *column.shape, *column.strides]
