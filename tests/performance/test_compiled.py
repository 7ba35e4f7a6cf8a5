"""Kernels are compiled as promised: stale code is never used, and none of them allocates."""

from __future__ import annotations

import os

import numba
import numpy as np
import pytest

from offtake.performance.compiled import KERNELS, PACKAGE, STAMP, entry, sources_stamp
from offtake.performance.replica import boundary


def allocate(count: int) -> float:
    return float(np.ones(count).sum())


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_a_kernel_that_allocates_does_not_compile() -> None:
    with pytest.raises(numba.core.errors.NumbaError):
        entry(allocate)(3)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_code_on_disk_is_stamped_with_every_kernel() -> None:
    assert sources_stamp() == STAMP
    assert getattr(boundary, "_cache")._cache_file._version.endswith(STAMP)  # noqa: B009  # typed as a plain function


def test_every_module_with_kernels_is_in_the_stamp() -> None:
    stamped = {path for pattern in KERNELS for path in PACKAGE.glob(pattern)}
    users = {path for path in PACKAGE.rglob("*.py") if "performance.compiled import" in path.read_text("utf-8")}
    assert users
    assert users <= stamped
