"""Compile the policy's doors into one file of machine code: ``python -m offtake.policy.make_machine FILE``.

Comes in: ``policy.doors``. Goes out: an object file with a function for each of ``machine.DOORS``, which takes the
address of a block of memory and calls the door with what stands there. It is the one module of the router's floor and
below that must know how Numba passes arguments: a place for the result, one for an exception (none is ever raised), and
every array and record as its single numbers, eight bytes each.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import msgspec
from llvmlite import ir

from offtake.files import write_whole
from offtake.performance.compiled import OPTIONS
from offtake.policy import doors
from offtake.policy.link import Linked, UnknownCodeError, linked
from offtake.policy.machine import DOORS, RESULTS, Kept, symbol
from offtake.policy.view import POOL_VIEW, WORKLOAD_VIEW, Answer, Event, Request, View

PLACE = ir.IntType(64)
AXES = {
    "allowed": 2, "fit": 2, "rtt_ns": 2, "chip_s_per_token": 3, "need": 3, "load_ns": 2, "rate": 3, "running": 2,
    "weight": 3, "bid_usd": 2, "block_of_hour": 1, "clock_ns": 1,
}  # fmt: skip
WHOLE = ("fit", "rtt_ns", "load_ns", "running", "block_of_hour", "clock_ns")  #: arrays of int64


class Callee(NamedTuple):
    """Hold a compiled door: its library, its name there, and the types that Numba passes."""

    library: Any
    name: str
    kind: ir.FunctionType


def make(path: Path) -> None:
    """Compile every door and write the object file, whole or not at all."""
    lock: Any = importlib.import_module("numba.core.compiler_lock").global_compiler_lock
    with lock:
        callees = {name: _compiled(name) for name in DOORS}
        module = ir.Module("doors")
        for name, callee in callees.items():
            _step_in(module, symbol(name), callee)
        library = callees[DOORS[0]].library.codegen.create_library("doors")
        library.add_ir_module(module)
        for callee in callees.values():
            library.add_linking_library(callee.library)
        library.finalize()
        code = _emitted(library.get_llvm_str())
    kept = msgspec.msgpack.encode(Kept(laid_out=_laid_out(code), object_file=code))
    own = path.with_name(f"{path.name}.{os.getpid()}")  # another process may make the same
    write_whole(own, kept).replace(path)


def _laid_out(code: bytes) -> Linked | None:
    """Return an object file's code as it can be put into memory, or None where only LLVM can."""
    if platform.system() != "Linux":
        return None
    try:
        found = linked(code)
    except UnknownCodeError:
        return None
    return msgspec.structs.replace(found, inside={symbol(name): found.inside[symbol(name)] for name in DOORS})


def _emitted(assembly: str) -> bytes:
    """Return optimised code as an object file for this processor."""
    processor, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(cpu=processor, features=features, opt=3, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(llvm.parse_assembly(assembly)))


def _compiled(name: str) -> Callee:
    """Compile one door for views as ``policy.build`` makes them."""
    numba = importlib.import_module("numba")
    whole, number = numba.types.int64, numba.types.float64
    view = _view_type(numba)
    request, event = (numba.types.NamedUniTuple(whole, len(kind._fields), kind) for kind in (Request, Event))
    answer = numba.types.NamedTuple((whole, whole, whole, whole, number), Answer)
    taken = {
        "decide": (view, whole, request, whole, number),
        "late_by_load": (view, whole, answer),
        "update": (view, event),
    }
    function: Any = getattr(doors, name)
    options = {**OPTIONS, "cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(**options)(function.py_func)
    dispatcher.compile(taken[name])
    (result,) = dispatcher.overloads.values()
    described = result.fndesc
    passed = result.target_context.call_conv.get_function_type(described.restype, described.argtypes)
    return Callee(result.library, described.llvm_func_name, passed)


def _view_type(numba: ModuleType) -> object:
    """Return the type of a view: contiguous arrays, the rows of pools and workloads as records."""
    rows = {"pools": POOL_VIEW, "workloads": WORKLOAD_VIEW}
    found = []
    for name in View._fields:
        if name in rows:
            kind = numba.from_dtype(rows[name])
        elif name == "allowed":
            kind = numba.types.boolean
        else:
            kind = numba.types.int64 if name in WHOLE else numba.types.float64
        found.append(numba.types.Array(kind, AXES.get(name, 1), "C"))
    return numba.types.NamedTuple(tuple(found), View)


def _step_in(module: ir.Module, name: str, callee: Callee) -> None:
    """Add a function that calls ``callee`` with the result's place and the numbers that stand in a block of memory."""
    door = ir.Function(module, callee.kind, callee.name)
    outer = ir.Function(module, ir.FunctionType(ir.IntType(32), [PLACE.as_pointer()]), name)
    builder = ir.IRBuilder(outer.append_basic_block())

    def place(index: int, kind: ir.Type) -> ir.Value:
        return builder.bitcast(builder.gep(outer.args[0], [PLACE(index)]), kind.as_pointer())

    result, fault, *passed = callee.kind.args
    given = [builder.load(place(RESULTS + index, kind)) for index, kind in enumerate(passed)]
    builder.ret(builder.call(door, [place(0, result.pointee), builder.alloca(fault.pointee), *given]))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
