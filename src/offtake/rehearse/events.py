"""Read the events of a rehearsal; in this form, sites that are lost for some hours.

At the loss every request at the site without a first token is routed again at once, through the policy, as a live
router would before the first byte; one that has begun to answer fails, because it cannot be tried again unseen. The
site's replicas come back empty when the loss ends, with no warm-up.

Comes in: ``SITE@HOUR+HOURS`` or a TOML file of ``[[lost_site]]`` tables with ``site``, ``start_hour`` and ``hours``;
hours count from the first instant of the trace. Goes out: losses, checked against the fleet's sites.
This module must never know a request.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path

import msgspec

from offtake.errors import Fault, InputError
from offtake.units import NS_PER_HOUR

FLAG = re.compile(r"(?P<site>.+)@(?P<start>\d+(\.\d+)?)\+(?P<hours>\d+(\.\d+)?)")
MEND = "Write SITE@HOUR+HOURS, for example --lose columbus@12+6."


class Loss(msgspec.Struct, frozen=True):
    """Describe a lost site: from ``start_ns`` (included) to ``end_ns``."""

    site: str
    start_ns: int
    end_ns: int


class LostSite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe a lost site as a user writes it."""

    site: str
    start_hour: float
    hours: float


class EventFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe the file of events."""

    lost_site: list[LostSite] = []


def parse_loss(text: str, sites: list[str]) -> Loss:
    """Read one ``SITE@HOUR+HOURS``.

    Raises
    ------
    InputError
        If it does not read so, or names an unknown site.
    """
    match = FLAG.fullmatch(text.strip())
    if match is None:
        raise InputError([Fault("--lose", "this is not a lost site", MEND, value=text)])
    lost = LostSite(site=match["site"], start_hour=float(match["start"]), hours=float(match["hours"]))
    return _checked([lost], sites, "--lose")[0]


def read_events(path: Path, sites: list[str]) -> list[Loss]:
    """Read a TOML file of events.

    Raises
    ------
    InputError
        With every fault of the file.
    """
    try:
        events = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), EventFile)
    except OSError as error:
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", "Check the path.")]) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        mend = "Write [[lost_site]] tables with site, start_hour and hours."
        raise InputError([Fault(str(path), f"the file is not a list of events: {error}", mend)]) from None
    return _checked(events.lost_site, sites, str(path))


def _checked(events: list[LostSite], sites: list[str], file: str) -> list[Loss]:
    """Return the losses, or raise every fault in them."""
    faults = []
    for index, event in enumerate(events):
        row = f"lost_site[{index}]"
        if event.site not in sites:
            near = difflib.get_close_matches(event.site, sites, n=1)
            mend = f"Did you mean {near[0]}?" if near else f"The fleet's sites are {', '.join(sites)}."
            faults.append(Fault(file, "no site of the fleet has this name", mend, row=row, value=event.site))
        if event.hours <= 0 or event.start_hour < 0:
            faults.append(Fault(file, "a loss must last some hours and not begin before the trace", MEND, row=row))
    if faults:
        raise InputError(faults)
    return [
        Loss(event.site, round(event.start_hour * NS_PER_HOUR), round((event.start_hour + event.hours) * NS_PER_HOUR))
        for event in events
    ]


def switches(losses: list[Loss], sites: list[str]) -> list[tuple[int, int, int]]:
    """Return (ns, site, 0 down or 1 up) in order of time; losses of one site that overlap are one."""
    found: list[tuple[int, int, int]] = []
    for index, site in enumerate(sites):
        end_ns = -1
        for loss in sorted((loss for loss in losses if loss.site == site), key=lambda loss: loss.start_ns):
            if loss.start_ns > end_ns:
                found += [(loss.start_ns, index, 0), (loss.end_ns, index, 1)]
            elif loss.end_ns > end_ns:
                found[-1] = (loss.end_ns, index, 1)
            end_ns = max(end_ns, loss.end_ns)
    return sorted(found)
