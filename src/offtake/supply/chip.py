"""Tell what a chip draws at a site.

Comes in: rows of `chips` and `sites`. Goes out: kW at the site's meter. It must never know a plan.
"""

from __future__ import annotations

from offtake.schema.tables import ChipRow, SiteRow


def kw_at_site(chip: ChipRow, site: SiteRow) -> float:
    """Return the kW that one busy chip draws at the meter: its facility power times the site's PUE."""
    return chip.facility_kw * site.pue
