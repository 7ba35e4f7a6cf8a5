"""Read the events of a rehearsal: a TOML file of tables, and flags.

Comes in: ``SITE@HOUR+HOURS`` or a file whose tables ``timeline`` lists. Goes out: a ``Timeline`` that names only what
the fleet has, or one ``InputError`` with every fault: an unknown table, field or name gets the nearest known one.
This module must never know a request or an engine.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from offtake.errors import Fault, InputError
from offtake.fleet import Fleet
from offtake.rehearse.timeline import (
    SINGLE,
    TABLES,
    Autoscale,
    ChipFailures,
    Curtailment,
    LateTranche,
    Loading,
    LostSite,
    Reclaim,
    Scale,
    SlowReplica,
    Timeline,
    Training,
)
from offtake.schema.read import make, nearest
from offtake.schema.tables import Row

FLAG = re.compile(r"(?P<site>.+)@(?P<start>\d+(\.\d+)?)\+(?P<hours>\d+(\.\d+)?)")
MEND = "Write SITE@HOUR+HOURS, for example --lose columbus@12+6."
#: Fields of which exactly one must be given.
EITHER: dict[type[Row], tuple[str, str]] = {
    Reclaim: ("offer", "pool"),
    LateTranche: ("offer", "pool"),
    Curtailment: ("cut_share", "power_kw"),
    SlowReplica: ("count", "share"),
}


def parse_loss(text: str, fleet: Fleet) -> LostSite:
    """Read one ``SITE@HOUR+HOURS``.

    Raises
    ------
    InputError
        If it does not read so, or names an unknown site.
    """
    match = FLAG.fullmatch(text.strip())
    if match is None:
        raise InputError([Fault("--lose", "this is not a lost site", MEND, value=text)])
    faults: list[Fault] = []
    given = {"site": match["site"], "start_hour": float(match["start"]), "hours": float(match["hours"])}
    lost = make(LostSite, given, "--lose", text, faults)
    faults += [] if lost is None else faults_of_names("--lose", text, lost, names_of(fleet))
    if faults or lost is None:
        raise InputError(faults)
    return lost


def read_events(path: Path, fleet: Fleet) -> Timeline:
    """Read a TOML file of events.

    Raises
    ------
    InputError
        With every fault of the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([Fault(str(path), f"the file cannot be read: {error.strerror}", "Check the path.")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        mend = f"Write tables such as {', '.join(f'[[{table}]]' for table in TABLES)}."
        raise InputError([Fault(str(path), f"the file is not TOML: {error}", mend)]) from None
    faults: list[Fault] = []
    found, places = timeline_of(document, str(path), faults)
    names = names_of(fleet)
    for row, place in zip(found.rows, places, strict=True):
        faults += faults_of_names(str(path), place, row, names) + faults_of_sense(str(path), place, row, fleet)
    if faults:
        raise InputError(faults)
    return found


def place_of(table: str, number: int) -> str:
    """Name the place of a table in its file, counted from 1."""
    return f"[[{table}]] {number}"


def timeline_of(document: Mapping[str, Any], file: str, faults: list[Fault]) -> tuple[Timeline, list[str]]:
    """Return the timeline of a parsed file and where each event stands; faulty tables are left out and told."""
    known = [*TABLES, *SINGLE]
    faults += [
        Fault(file, f"there is no kind of event {name!r}", nearest(name, known), row=f"[[{name}]]")
        for name in document
        if name not in known
    ]
    rows: list[tuple[Row, str]] = []
    for table, record in TABLES.items():
        given = document.get(table, [])
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            faults.append(Fault(file, "the table has the wrong form", f"Head it with [[{table}]].", row=table))
            continue
        places = [place_of(table, at + 1) for at in range(len(given))]
        made = [make(record, one, file, place, faults) for one, place in zip(given, places, strict=True)]
        rows += [(row, place) for row, place in zip(made, places, strict=True) if row is not None]
    loading = document.get("loading", {})
    if not isinstance(loading, dict):
        faults.append(Fault(file, "the table has the wrong form", "Head it with [loading].", row="loading"))
        loading = {}
    timing = make(Loading, loading, file, "[loading]", faults) or Loading()
    return Timeline(tuple(row for row, _ in rows), timing), [place for _, place in rows]


def names_of(fleet: Fleet) -> dict[str, list[str]]:
    """Return what an event may name, by kind."""
    chips = [pool for pool in fleet.pools if pool.kind == "chips"]
    return {
        "sites": [site.name for site in fleet.sites],
        "pools": [pool.name for pool in fleet.pools],
        "offers": list(dict.fromkeys(offer for pool in fleet.pools for offer in pool.offers)),
        "chips": list(dict.fromkeys(pool.chip for pool in chips)),
        "workloads": [workload.name for workload in fleet.workloads],
        "regions": list(fleet.regions),
    }


def faults_of_names(file: str, place: str, row: Row, names: Mapping[str, list[str]]) -> list[Fault]:
    """Return a fault for each name of an event that the fleet does not have."""
    faults: list[Fault] = []
    for column, field in type(row).model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        kind = "regions" if column == "regions" else str(extra.get("refers", ""))
        given = getattr(row, column)
        for name in given if isinstance(given, tuple) else (given,):
            if kind in names and name is not None and name not in names[kind]:
                problem = f"the fleet has no {kind.removesuffix('s')} of this name"
                faults.append(Fault(file, problem, nearest(name, names[kind]), place, column, name))
    return faults


def faults_of_sense(file: str, place: str, row: Row, fleet: Fleet) -> list[Fault]:
    """Return a fault for each event that contradicts itself or asks for what the fleet cannot do."""
    found = [*_either(row), *_of_an_api(row, fleet), *_limits(row, fleet)]
    return [Fault(file, problem, mend, place, column) for problem, mend, column in found]


Sense = Iterator[tuple[str, str, str]]  #: problem, mend, field


def _either(row: Row) -> Sense:
    """Yield fields of which exactly one must be given."""
    for one, other in (EITHER[type(row)],) if type(row) in EITHER else ():
        if (getattr(row, one) is None) == (getattr(row, other) is None):
            yield f"one of {one} and {other} is needed", f"Give {one} or {other}, and not both.", one


def _of_an_api(row: Row, fleet: Fleet) -> Sense:
    """Yield what cannot happen to a token-priced API: it has no replicas, and is there or not."""
    apis = {pool.name: pool.offers for pool in fleet.pools if pool.kind == "api"}
    match row:
        case Reclaim() | LateTranche() if row.share < 1:
            for name, offers in apis.items():
                if row.pool == name or row.offer in offers:
                    yield f"{name} is an API, of which there is all or nothing", "Leave share out.", "share"
        case SlowReplica() | Scale() | Autoscale() | ChipFailures() if row.pool in apis:
            yield f"{row.pool} is an API, which has no replicas", "Name a pool of chips.", "pool"
        case _:
            pass


def _limits(row: Row, fleet: Fleet) -> Sense:
    """Yield figures that lie outside what the fleet has."""
    chips = [pool for pool in fleet.pools if pool.kind == "chips"]
    match row:
        case LateTranche() if row.until_hour <= row.start_hour:
            yield "it comes before it is missing", "Give a later until_hour.", "until_hour"
        case Autoscale() if row.replicas_max is not None and row.replicas_max < row.replicas_min:
            yield "replicas_max is below replicas_min", "Exchange them.", "replicas_max"
        case Training():
            there = sum(p.replicas * p.chips_per_replica for p in chips if (p.site, p.chip) == (row.site, row.chip))
            if row.chips > there:
                yield f"the site's pools have {there} of these chips", "Take fewer, or another site.", "chips"
        case Curtailment() if row.power_kw is not None:
            unknown = [pool.name for pool in chips if pool.site == row.site and pool.kw_per_chip <= 0]
            if unknown:
                yield f"the fleet does not say what a chip of {unknown[0]} draws", "Give cut_share instead.", "power_kw"
        case _:
            pass
