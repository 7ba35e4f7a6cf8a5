"""The waits that queueing theory gives, computed apart from any simulation.

A wait is told in mean services. M/M/c: Erlang (1917). M/D/c: the queue at moments one service apart is Lindley's chain,
and a customer waits at most x when those ahead fit into what c servers start by then (Crommelin 1932; Franx,
Operations Research Letters 29, 2001). M/G/c has no closed form; Tijms (A First Course in Stochastic Models, 2003, 9.6)
weighs the percentiles of the two by the squared coefficient of variation of the service.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import poisson

Floats = npt.NDArray[np.float64]

STATES = 1_000  # of the queue that are told apart: beyond lie less than 1e-12 of the time at the loads used here


def erlang_c(servers: int, load: float) -> float:
    """Return the chance to wait in M/M/c."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = servers * load * blocked / (n + servers * load * blocked)
    return blocked / (1.0 - load * (1.0 - blocked))


def wait_m_m_c(servers: int, load: float, share: float) -> float:
    """Return the wait that ``share`` of the customers of M/M/c do not exceed."""
    chance = erlang_c(servers, load)
    return max(0.0, math.log(chance / (1.0 - share)) / (servers * (1.0 - load)))


def queue_m_d_c(servers: int, load: float) -> Floats:
    """Return the chance of each length of the queue of M/D/c: that of max(0, length + arrivals - c)."""
    lengths = np.arange(STATES)
    come = poisson.pmf(lengths[:, None] - lengths[None, :] + servers, servers * load)
    come[0] = poisson.cdf(servers - lengths, servers * load)
    come -= np.eye(STATES)
    come[-1] = 1.0
    right = np.zeros(STATES)
    right[-1] = 1.0
    return np.linalg.solve(come, right)


def chance_m_d_c(servers: int, load: float) -> Callable[[float], float]:
    """Return the chance to wait at most x services in M/D/c, as a function of x."""
    queue = queue_m_d_c(servers, load)

    def chance(x: float) -> float:
        k = math.floor(x) + 1
        room = k * servers - 1 - np.arange(STATES)
        return float(queue @ poisson.cdf(room, servers * load * (k - x)))

    return chance


def wait_m_d_c(servers: int, load: float, share: float) -> float:
    """Return the wait that ``share`` of the customers of M/D/c do not exceed."""
    chance = chance_m_d_c(servers, load)
    if chance(0.0) >= share:
        return 0.0
    return float(brentq(lambda x: chance(x) - share, 0.0, 200.0, xtol=1e-10))


def wait_m_g_c(servers: int, load: float, share: float, variation_squared: float) -> float:
    """Return Tijms' approximation of the wait that ``share`` of the customers of M/G/c do not exceed."""
    even = wait_m_d_c(servers, load, share)
    return even + variation_squared * (wait_m_m_c(servers, load, share) - even)


def wait_g_m_1(erlang: int, load: float, share: float) -> float:
    """Return the wait that ``share`` of the customers of E_k/M/1 do not exceed (Gross and Harris, GI/M/1)."""
    rate = erlang * load
    busy = brentq(lambda s: (rate / (rate + 1.0 - s)) ** erlang - s, 1e-12, 1.0 - 1e-9)
    return float(math.log(busy / (1.0 - share)) / (1.0 - busy))
