"""Say once how kernels are compiled: to machine code, kept on disk, without reference counting.

Comes in: a function on NamedTuples of arrays and on numbers that allocates nothing. Goes out: its compiled form.
``kernel`` is compiled into its callers, ``entry`` is a door from Python. Numba counts references on every touch of an
array, atomically; in these loops that is nine tenths of the time (measured: 0.85 against 8.3 million requests a
second), and needless because the caller in Python holds every array. ``_nrt=False`` turns it off; a
kernel that allocates then fails to compile, which is a promise kept, not a loss.

Numba looks only at a function's own file to tell whether its code on disk is stale, but these functions are compiled
into one another. The stamp of every module that holds kernels is therefore added to the version that Numba compares.
"""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., object]")

Rows: TypeAlias = Any  #: an array of a structured dtype, or a row of one: types for NumPy do not know its fields

PACKAGE = Path(__file__).parent.parent
KERNELS = (
    "performance/compiled.py",
    "performance/blocks.py",
    "performance/closed_loop.py",
    "performance/dense.py",
    "performance/disaggregated.py",
    "performance/heap.py",
    "performance/lines.py",
    "performance/prefix.py",
    "performance/replica*.py",
    "performance/schedule.py",
    "performance/steps.py",
    "policy/*.py",
    "rehearse/actions.py",
    "rehearse/ahead.py",
    "rehearse/capacity.py",
    "rehearse/engine.py",
    "rehearse/loss.py",
    "rehearse/outcome.py",
    "rehearse/queues.py",
    "rehearse/scaling.py",
    "rehearse/sessions.py",
    "rehearse/slots.py",
    "rehearse/state.py",
    "rehearse/tally.py",
    "rehearse/timeline.py",
    "rehearse/told.py",
    "rehearse/verify.py",
)


def kernel(function: _Function) -> _Function:
    """Compile ``function`` into its callers."""
    return cast("_Function", _stamped(_compile(forceinline=True, **INNER, **OPTIONS)(function)))


def entry(function: _Function) -> _Function:
    """Compile ``function`` as a door from Python; another thread may make the next batch meanwhile."""
    return cast("_Function", _stamped(_compile(nogil=True, no_cfunc_wrapper=True, **OPTIONS)(function)))


def aside(function: _Function) -> _Function:
    """Compile ``function`` on its own, for what its callers rarely do: they stay small and quick to compile."""
    return cast("_Function", _stamped(_compile(**INNER, **OPTIONS)(function)))


def sources_stamp() -> str:
    """Return a digest of name, time of change and size of every module that holds kernels."""
    modules = sorted(path for pattern in KERNELS for path in PACKAGE.glob(pattern))
    stats = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in modules]
    return f"{zlib.crc32(repr(stats).encode()):08x}"


def _compile(**options: object) -> Callable[[object], Any]:
    """Return what compiles a function so; numba comes with the first kernel, so that the names here stay light."""
    return cast("Callable[[object], Any]", importlib.import_module("numba").njit(**options))


def _stamped(dispatcher: Any) -> Any:  # noqa: ANN401  # a dispatcher, or the plain function when compiling is off
    """Make the code on disk stale when any kernel's source has changed."""
    file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if file is not None:
        file._version = f"{file._version} {STAMP}"  # noqa: SLF001  # numba has no door for it
    return dispatcher


OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}
#: No door from Python: one would hold a copy of all that the function calls, at each level of the calls anew.
INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
STAMP = sources_stamp()
