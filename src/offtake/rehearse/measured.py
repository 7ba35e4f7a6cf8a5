"""Hold the measured figures that events lean on, computed from public data.

*Chip failures*: the 419 unexpected interruptions of the training of Llama 3 405B on 16,384 H100 in 54 days (Grattafiori
et al., *The Llama 3 Herd of Models*, arXiv 2407.21783, table 5): one per 50,677 chip-hours, of which 35 were network
switches or cables. *Satellite*: round trips of 25 RIPE Atlas probes on Starlink to one address every quarter of an
hour, 28 and 29 April 2023, from hgreenstein/Starlink-Latency-Analysis: 2,425 pings, 27 lost; only the quantiles of the
2,398 that came back are kept. Goes out: numbers. This module must never know a fleet.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offtake.units import HOURS_PER_DAY

Floats = npt.NDArray[np.float64]

CHIP_FAILURES = 419
CHIP_FAILURES_SWITCH = 35  #: of them, network switch or cable
CHIP_HOURS = 16_384 * 54 * HOURS_PER_DAY
CHIP_FAILURES_PER_CHIP_HOUR = CHIP_FAILURES / CHIP_HOURS
SWITCH_SHARE = CHIP_FAILURES_SWITCH / CHIP_FAILURES

SATELLITE_RANKS = (0.0, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0)  #: per cent
SATELLITE_RTT_MS = (18.31, 22.45, 25.2, 26.97, 32.14, 40.83, 52.55, 69.46, 88.64, 153.22, 295.62)
SATELLITE_LOSS_SHARE = 27 / 2_425
SATELLITE_INTERVAL_S = 15.0  #: how often a terminal is given a satellite anew (assumption: as is said of Starlink)
RETRANSMIT_MS = 200.0  #: TCP_RTO_MIN of Linux, HZ/5 in include/net/tcp.h


def satellite_rtt_ms(u: Floats) -> Floats:
    """Return round trips at the ranks ``u`` (0 to 1) of the measured distribution, straight lines between quantiles."""
    return np.interp(u * 100.0, SATELLITE_RANKS, SATELLITE_RTT_MS)


def retransmit_ms(loss_share: float) -> float:
    """Return the mean time that lost packets add to a round trip: each attempt is lost with the same chance."""
    return loss_share / (1.0 - loss_share) * RETRANSMIT_MS
