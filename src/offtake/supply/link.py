"""Tell how far a site is from its users, and how much it can send them.

Comes in: rows of `links`. Goes out: round trips in ms and bandwidth in bytes per second. It must never know a plan.
"""

from __future__ import annotations

from collections.abc import Mapping

from offtake.schema.tables import LinkRow
from offtake.units import BITS_PER_BYTE, BITS_PER_GBIT

Links = Mapping[tuple[str, str], LinkRow]


def bandwidth_bytes_per_s(links: Links, site: str) -> float:
    """Return what a site can send over all its links together, each counted at its expected availability.

    A site without links serves no users: 0.
    """
    gbit_s = sum(row.bandwidth_gbit_s * row.availability for (at, _), row in links.items() if at == site)
    return gbit_s * BITS_PER_GBIT / BITS_PER_BYTE


def rtt_ms(links: Links, site: str, region_share: Mapping[str, float]) -> float | None:
    """Return the median round trip in ms, weighted by the share of requests from each region.

    None where a region that sends requests has no link to the site.
    """
    wanted = {region: share for region, share in region_share.items() if share > 0}
    if any((site, region) not in links for region in wanted):
        return None
    return sum(share * links[site, region].rtt_ms_median for region, share in wanted.items())
