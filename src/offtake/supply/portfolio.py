"""Look up everything a portfolio supplies by name, and check what only shows when its tables meet.

Comes in: the checked tables. Goes out: a :class:`Portfolio`, or one ``InputError`` with every fault. It must
never know a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from offtake.errors import Fault, InputError
from offtake.schema.check import TOML_NAME, unknown_name, where
from offtake.schema.portfolio import Tables
from offtake.schema.tables import ChipRow, DeploymentRow, LinkRow, ProviderRow, SiteRow, TrancheRow
from offtake.supply.offer import Terms, terms_of
from offtake.supply.provider import groups_of_provider, is_partner
from offtake.supply.site import groups_of_site

EACH_PARTNER = "*"


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """Hold the supply side by name; each mapping keeps the order of its file."""

    tables: Tables
    providers: dict[str, ProviderRow]
    sites: dict[str, SiteRow]
    chips: dict[str, ChipRow]
    links: dict[tuple[str, str], LinkRow]
    deployments: dict[tuple[str, str], DeploymentRow]
    offers: dict[str, Terms]

    def offer(self, name: str) -> Terms:
        """Return the terms of an offer.

        Raises
        ------
        InputError
            Where there is none of that name, with the nearest that there is.
        """
        if name not in self.offers:
            raise InputError([unknown_name("offers.csv", "any row", "offer", name, self.offers)])
        return self.offers[name]

    def groups_of(self, offer: str) -> set[str]:
        """Return the correlated-loss groups of an offer: its partner's, and those of each site and chip of it."""
        terms = self.offers[offer]
        partner = groups_of_provider(self.providers[terms.row.provider])
        return set(partner).union(
            *(
                self.groups_of_tranche(terms, tranche, chip)
                for tranche in terms.tranches
                for chip in (tranche.chip, tranche.substitute_chip or tranche.chip)
            )
        )

    def groups_of_tranche(self, terms: Terms, tranche: TrancheRow, chip: str) -> set[str]:
        """Return the correlated-loss groups of one tranche: its partner's, and those of its site and of its chip."""
        groups = {*groups_of_provider(self.providers[terms.row.provider]), *groups_of_site(self.sites[tranche.site])}
        return groups | {f"chip:{chip}"} if chip else groups

    def partners(self) -> list[str]:
        """Return the ``provider:`` groups of the partners that make an offer, in the order of their file."""
        used = {terms.row.provider for terms in self.offers.values()}
        return [f"provider:{name}" for name, row in self.providers.items() if name in used and is_partner(row)]

    def groups(self) -> list[str]:
        """Return every correlated-loss group that some offer belongs to, in the order of the offers."""
        return list(dict.fromkeys(group for offer in self.offers for group in sorted(self.groups_of(offer))))

    def groups_to_survive(self) -> list[str]:
        """Return the groups whose loss critical work must survive: each partner, and those that the limits name."""
        named = self.tables.limits.survive_groups
        more = [group for word in named for group in self.groups() if is_named(group, word)]
        return list(dict.fromkeys([*self.partners(), *more]))


def is_named(group: str, word: str) -> bool:
    """Tell whether a word of the limits names a group: as it is, or every group of its kind."""
    return group == word or (word.endswith(f":{EACH_PARTNER}") and group.startswith(word[:-1]))


def portfolio_of(tables: Tables) -> Portfolio:
    """Gather a portfolio from its tables, and check it.

    Raises
    ------
    InputError
        With every fault that lies between tables: links that are missing, groups that nobody belongs to.
    """
    portfolio = Portfolio(
        tables=tables,
        providers={row.provider: row for row in tables.providers},
        sites={row.site: row for row in tables.sites},
        chips={row.chip: row for row in tables.chips},
        links={(row.site, row.region): row for row in tables.links},
        deployments={(row.model, row.chip): row for row in tables.deployments},
        offers={row.offer: terms_of(row, tables.tranches, tables.exits) for row in tables.offers},
    )
    faults = missing_links(portfolio) + malformed_groups(tables) + unknown_groups(portfolio)
    if faults:
        raise InputError(faults)
    return portfolio


def missing_links(portfolio: Portfolio) -> list[Fault]:
    """Return a fault for each region that a site serving users cannot reach; a site without links serves none."""
    wanted = {region: None for row in portfolio.tables.workloads for region, share in row.regions.items() if share > 0}
    used = {tranche.site for terms in portfolio.offers.values() for tranche in terms.tranches}
    linked = {site for site, _ in portfolio.links}
    return [
        Fault(
            "links.csv",
            f"site {site!r} serves users and has no link to region {region!r}",
            "Add the row, or take away all links of a site that only trains.",
            portfolio.sites[site].at,
            "region",
        )
        for site in portfolio.sites
        if site in used and site in linked
        for region in wanted
        if (site, region) not in portfolio.links
    ]


def malformed_groups(tables: Tables) -> list[Fault]:
    """Return a fault for each correlated-loss group that is not written ``kind:name``."""
    written = [("providers.csv", row.at, group) for row in tables.providers for group in row.groups]
    written += [("sites.csv", row.at, group) for row in tables.sites for group in row.groups]
    return [
        Fault(file, "the group has no kind", "Write it as kind:name.", at, "groups", group)
        for file, at, group in written
        if not all(group.partition(":"))
    ]


def unknown_groups(portfolio: Portfolio) -> list[Fault]:
    """Return a fault for each limit on a group that no offer belongs to."""
    known = portfolio.groups()
    limits = portfolio.tables.limits
    return [
        unknown_name(TOML_NAME, where("concentration", row), "group", row.group, known)
        for row in portfolio.tables.concentration
        if row.group != EACH_PARTNER and row.group not in known
    ] + [
        unknown_name(TOML_NAME, where("limits", limits), "survive_groups", word, known)
        for word in limits.survive_groups
        if not any(is_named(group, word) for group in known)
    ]


def oddities(portfolio: Portfolio) -> list[str]:
    """Return sentences about terms that are allowed and do nothing."""
    odd = []
    for name, terms in portfolio.offers.items():
        if terms.row.reclaim_per_year > 0 and not any(reading.provider for reading in terms.readings):
            odd.append(f"{name} has a reclaim hazard, but exits.csv gives its provider no way out: it never happens.")
    end = portfolio.tables.settings.end
    odd += [
        f"Training job {job.job} begins on {job.earliest}, after the last day: nothing of it is planned."
        for job in portfolio.tables.training
        if job.earliest > end
    ]
    odd += [
        f"The limit on {row.group} begins on {row.start}, after the last day: it never holds."
        for row in portfolio.tables.concentration
        if row.start is not None and row.start > end
    ]
    linked = {site for site, _ in portfolio.links}
    used = {tranche.site for terms in portfolio.offers.values() for tranche in terms.tranches}
    odd += [
        f"{site} has no links: it trains, and serves no users."
        for site in portfolio.sites
        if site in used and site not in linked
    ]
    return odd
