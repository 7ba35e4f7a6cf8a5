"""Judge recorded decisions: does the policy of the rehearsal make them again, and what would the shadow have done.

Comes in: a fleet and the logs of its workers. Goes out: counts. It loads the compiler: never import it on the path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.policy.view import NO_POOL, Policy, Reason
from offtake.route.decisions import Asked, Header, entries_of
from offtake.route.replay import replay


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Say what recorded decisions show; ``otherwise`` counts choices of the shadow that differ: live → shadow."""

    policy: str  #: That decided.
    shadow: str  #: Empty: there was none.
    logs: int  #: Of this fleet that were read.
    decisions: int  #: That they hold.
    #: Choices that the rehearsal's policy does not make from the same log; 0, unless the seam is broken.
    not_made_again: int
    asked_of_shadow: int  #: Decisions for which a shadow was asked too.
    otherwise: dict[str, int]  #: Its choices that differ, live → shadow, the most frequent first.


def judge(fleet: Fleet, paths: Iterable[Path], folder: Path | None = None) -> Judged:
    """Judge the logs of ``fleet``; those of other fleets are passed over.

    Raises
    ------
    InputError
        If there is no log of this fleet.
    """
    logs = decisions = lost = asked = 0
    otherwise: Counter[str] = Counter()
    names = ("", "")
    for path in paths:
        data = path.read_bytes()
        entries = entries_of(data)
        header = next(entries, None)
        if not isinstance(header, Header) or (header.fleet, header.week) != (fleet.name, fleet.week):
            continue
        logs += 1
        names = (named(header.policy), named(header.shadow))
        lost += len(replay(fleet, data, folder))
        for entry in entries:
            if isinstance(entry, Asked):
                decisions += 1
                asked += entry.other is not None
                if entry.other is not None and entry.other.pool != entry.choice.pool:
                    otherwise[f"{said(fleet, entry.choice)} → {said(fleet, entry.other)}"] += 1
    if not logs:
        mend = 'Run the router with --shadow POLICY, or set decisions = "FOLDER" in its file.'
        raise InputError([Fault("decisions", "no decision of this fleet was written down", mend)])
    return Judged(
        policy=names[0],
        shadow=names[1],
        logs=logs,
        decisions=decisions,
        not_made_again=lost,
        asked_of_shadow=asked,
        otherwise=dict(otherwise.most_common()),
    )


def named(policy: int | None) -> str:
    """Return the name of a policy; empty for none."""
    return "" if policy is None else Policy(policy).name.lower()


def said(fleet: Fleet, choice: tuple[int, int, float, int]) -> str:
    """Say a choice: its pool, or why there is none."""
    pool, reason = choice[0], choice[1]
    return Reason(reason).name.lower() if pool == NO_POOL else fleet.pools[pool].name
