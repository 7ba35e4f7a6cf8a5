"""Make the choices of a decider again from its log, with the policy as the rehearsal compiles it.

Comes in: the fleet and a log. Goes out: every choice that comes out otherwise; none, or the seam is broken. This module
loads the compiler, so nothing on the request path may import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.policy.build import live_view
from offtake.policy.doors import decide, update
from offtake.policy.view import Choice, Event, View
from offtake.route.decisions import FORMAT, Asked, Entry, Header, Learned, entries_of


class Difference(NamedTuple):
    """Hold a decision that was made otherwise: the live choice, and the one made again."""

    asked: Asked
    again: Choice


def replay(fleet: Fleet, log: bytes, folder: Path | None = None) -> list[Difference]:
    """Return the choices of ``log`` that the policy makes otherwise; ``folder`` holds tables of one's own.

    Raises
    ------
    InputError
        If the log does not begin as one, or is of another fleet.
    """
    entries = entries_of(log)
    header = next(entries, None)
    mend = "Give the fleet file that the router had, and the whole log."
    if not isinstance(header, Header) or header.format != FORMAT:
        raise InputError([Fault("decisions", "this is not a log of decisions", mend)])
    if (header.fleet, header.week) != (fleet.name, fleet.week):
        raise InputError(
            [Fault("decisions", "the log is of another fleet", mend, value=f"{header.fleet} {header.week}")]
        )
    view = live_view(fleet, header.start_hour, folder)
    found = []
    for entry in entries:
        if isinstance(entry, Asked):
            found += _differences(view, header, entry)
        else:
            _apply(view, entry)
    return found


def _differences(view: View, header: Header, asked: Asked) -> list[Difference]:
    """Decide again, without the pools that were passed over."""
    up = view.pools["replicas_up"].copy()
    view.pools["replicas_up"][list(asked.without)] = 0
    pairs = [(header.policy, asked.choice)]
    if header.shadow is not None and asked.other is not None:
        pairs.append((header.shadow, asked.other))
    again = [(choice, decide(view, policy, asked.request, asked.now_ns, asked.u)) for policy, choice in pairs]
    view.pools["replicas_up"] = up
    return [Difference(asked, made) for choice, made in again if made != choice]


def _apply(view: View, entry: Entry) -> None:
    """Let the view learn what the decider's learned."""
    if isinstance(entry, Event):
        update(view, entry)
    elif isinstance(entry, Learned):
        for name, value in entry.values.items():
            view.pools[name][entry.pool] = value
