"""Say which correlated-loss groups a partner brings: what it is, who stands behind it, and what the user names.

Comes in: rows of `providers`. Goes out: group names ``kind:name``. It must never know a plan.
"""

from __future__ import annotations

from offtake.schema.tables import ProviderRow

OWN = "own"


def is_partner(provider: ProviderRow) -> bool:
    """Return whether a provider is somebody else: limits on partners leave the buyer's own sites out."""
    return provider.kind != OWN


def groups_of_provider(provider: ProviderRow) -> list[str]:
    """Return the groups of a provider: itself, its guarantor, and those of its row.

    The buyer's own sites are no partner and form no ``provider:`` group.
    """
    own = [f"provider:{provider.provider}"] if is_partner(provider) else []
    guarantor = [f"guarantor:{provider.guarantor}"] if provider.guarantor else []
    return [*own, *guarantor, *provider.groups]
