"""Lay arrays out for the cache of a processor, and ask for lines of it before they are needed.

In a large fleet each event finds its replica, its heap and its requests outside every cache, and waits for them one
after the other; asked for at once they come side by side. Comes in: shapes, arrays, places. Goes out: arrays that begin
on a line of 64 bytes, in huge pages where the system gives them, and hints that change no result. This module must
never know what an array holds.
"""

from __future__ import annotations

import mmap
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.core.extending import intrinsic

Rows = np.ndarray[Any, Any]
Compiled = Any  # of the compiler

LINE_BYTES = 64  #: of every common processor
TO_WRITE_NEAR = (1, 3, 1)  #: what LLVM is told of a hint: it will be written, into the nearest cache, and is data
HUGE_BYTES = 2**21  #: smallest array that is worth huge pages: one of them


def zeros_in_lines(shape: tuple[int, ...], dtype: np.dtype[Any], lead_bytes: int = 0) -> Rows:
    """Return zeros that begin ``lead_bytes`` after the begin of a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    held = _pages(size + 2 * LINE_BYTES)
    begin = -held.ctypes.data % LINE_BYTES + lead_bytes
    return held[begin : begin + size].view(dtype).reshape(shape)


def _pages(size: int) -> Rows:
    """Return zeroed bytes, in huge pages where there are many."""
    if size < HUGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(size, np.uint8)
    pages = mmap.mmap(-1, size)
    pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def in_lines(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the same row, filled up to whole lines."""
    fields: Any = dtype.fields
    names = list(fields)
    formats, offsets = [fields[name][0] for name in names], [fields[name][1] for name in names]
    size = -(-dtype.itemsize // LINE_BYTES) * LINE_BYTES
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size, "aligned": True})


def odd_lines(count: int, item_bytes: int) -> int:
    """Return the least number of items, ``count`` or more, that fill an odd number of lines.

    Rows of a power of two would all begin in the same few sets of a cache and push each other out.
    """
    each = LINE_BYTES // item_bytes
    lines = -(-count // each)
    return (lines + 1 - lines % 2) * each


def _look_ahead(_typing: Compiled, array: Compiled, _row: Compiled, _byte: Compiled) -> tuple[Compiled, Compiled]:
    """Ask for the line ``byte`` bytes into ``array[row]``."""

    def build(context: Compiled, builder: Compiled, signature: Compiled, given: Compiled) -> Compiled:
        code: Any = cgutils
        ir = code.ir
        held = context.make_array(signature.args[0])(context, builder, given[0])
        stride = builder.extract_value(held.strides, 0)
        line = code.pointer_add(builder, held.data, builder.add(builder.mul(given[1], stride), given[2]))
        line = builder.bitcast(line, code.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [code.voidptr_t, *[code.int32_t] * 3])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [code.voidptr_t], kind)
        builder.call(hint, [line, *(ir.Constant(code.int32_t, each) for each in TO_WRITE_NEAR)])
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64), build


def _no_hint(_array: Rows, _row: int, byte: int) -> int:
    """Return the byte asked for, where nothing is compiled."""
    return byte


CONFIG: Any = numba.config
look_ahead: Any = _no_hint if CONFIG.DISABLE_JIT else intrinsic(_look_ahead)
