"""Say how much of a pool an event strikes: as a share of its chips, and as replicas.

Comes in: an event, a pool, the fleet that is simulated (1 in ``thin``). Goes out: shares and counts. What is unthinned
is rounded against the fleet, as a replica without one of its chips does not run; what is thinned is rounded to the
nearest, so that it is right in the mean. This module must never know an engine or a time.
"""

from __future__ import annotations

from math import ceil, floor

from offtake.fleet import Fleet, Pool
from offtake.rehearse.capacity import ALL
from offtake.rehearse.timeline import Curtailment, LateTranche, Reclaim, SlowReplica, Training
from offtake.schema.tables import Row

ROUNDING = 1e-9


def taken(pool: Pool, share: float, thin: int) -> int:
    """Return the replicas that a share of a pool's chips carried: a replica without one of its chips does not run."""
    if pool.kind == "api":
        return int(share > 0)
    exact = pool.replicas * share
    return round(exact) if thin > 1 else ceil(exact - ROUNDING)


def left(pool: Pool, share: float, thin: int) -> int:
    """Return the replicas that a share of a pool's power carries."""
    if pool.kind == "api":
        return ALL
    exact = pool.replicas * share
    return round(exact) if thin > 1 else floor(exact + ROUNDING)


def slow_count(pool: Pool, row: SlowReplica, thin: int) -> int:
    """Return how many replicas of a pool are slow."""
    exact = pool.replicas * row.share if row.share is not None else (row.count or 0) / thin
    return min(pool.replicas, round(exact) if thin > 1 else ceil(exact - ROUNDING))


def share_held(row: Reclaim | LateTranche, pool: Pool) -> float:
    """Return the share of a pool's chips that a partner takes back or has not brought."""
    if row.pool is not None:
        return row.share * (pool.name == row.pool)
    if row.offer not in pool.offers:
        return 0.0
    return row.share * (pool.offer_share[pool.offers.index(row.offer)] if pool.offer_share else 1 / len(pool.offers))


def share_powered(row: Curtailment, fleet: Fleet, thin: int) -> float:
    """Return the share of its replicas that the cap leaves every pool of the site."""
    if row.power_kw is None:
        return 1.0 - (row.cut_share or 0.0)
    here = [pool for pool in fleet.pools if pool.site == row.site and pool.kind == "chips"]
    whole_kw = sum(pool.replicas * pool.chips_per_replica * pool.kw_per_chip for pool in here) * thin
    return min(1.0, row.power_kw / whole_kw) if whole_kw > 0 else 1.0


def share_trained(row: Training, fleet: Fleet, thin: int) -> float:
    """Return the share of its chips that a training job takes of every pool of its site and chip."""
    here = [pool for pool in fleet.pools if (pool.site, pool.chip) == (row.site, row.chip)]
    return row.chips / (sum(pool.replicas * pool.chips_per_replica for pool in here) * thin)


def struck(row: Row, pool: Pool, fleet: Fleet, thin: int) -> tuple[float, int]:
    """Return how many of a pool's simulated replicas an event strikes: exactly, and as it is simulated."""
    if pool.kind == "api":
        return 0.0, 0
    match row:
        case Reclaim() | LateTranche():
            share = share_held(row, pool)
        case Curtailment() if pool.site == row.site:
            powered = share_powered(row, fleet, thin)
            return pool.replicas * (1.0 - powered), pool.replicas - left(pool, powered, thin)
        case Training() if (pool.site, pool.chip) == (row.site, row.chip):
            share = share_trained(row, fleet, thin)
        case SlowReplica() if pool.name == row.pool:
            exact = pool.replicas * row.share if row.share is not None else (row.count or 0) / thin
            return min(exact, pool.replicas), slow_count(pool, row, thin)
        case _:
            share = 0.0
    return pool.replicas * share, taken(pool, share, thin)
