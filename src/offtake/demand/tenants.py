"""Say how unequal customers are: the share of the traffic that each brings, largest first.

Comes in: a number of tenants. Goes out: their shares, and a table from which a tenant is drawn by one look-up. The
shares are measured; that a request's tenant is drawn for itself, so that no customer bunches, is an assumption.
It must never know a workload.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from offtake.errors import Fault, InputError

DRAWS = 65_536  #: places of the table: a share is exact to 1 in 65,536

# Cumulative share of the traffic of the largest clients of model m-large, the mean of 14 days: computed from the rates
# of its 162 clients in 600 s windows, alibaba/ServeGen f891d11 (Apache-2.0), arXiv 2505.09999. Straight lines between
# these ranks miss no client's cumulative share by more than 0.013.
RANK = (0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 40, 50, 70, 100, 130, 162)
SHARE = (
    *(0.0, 0.1605, 0.2322, 0.2985, 0.3649, 0.4276, 0.5355, 0.6322, 0.712, 0.7829),
    *(0.8583, 0.9049, 0.9366, 0.9737, 0.9924, 0.9986, 1.0),
)
TENANTS_MAX = RANK[-1]

Floats = NDArray[np.float64]


def tenant_shares(tenants: int) -> Floats:
    """Return ``share[tenant]``, largest first, as those of the so many largest clients; they sum to 1.

    Raises
    ------
    InputError
        When there are none, or more than were measured.
    """
    if not 1 <= tenants <= TENANTS_MAX:
        mend = f"Give 1 to {TENANTS_MAX} tenants."
        raise InputError([Fault("tenants", "the number cannot be", mend, value=str(tenants))])
    share = np.diff(np.interp(np.arange(tenants + 1), RANK, SHARE))
    return np.asarray(share / share.sum())


@lru_cache
def tenant_lookup(tenants: int, first: int) -> NDArray[np.int16]:
    """Return a table whose entries, drawn evenly, are tenants from ``first`` on with their shares."""
    draws = (np.arange(DRAWS) + 0.5) / DRAWS
    return (first + np.searchsorted(np.cumsum(tenant_shares(tenants))[:-1], draws)).astype(np.int16)
